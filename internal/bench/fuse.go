package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// fuseMount is a mounted FUSE filesystem of some program.
type fuseMount struct {
	dir   string
	abort string // file that ends all waiting with an error when written to
}

// mountControl mounts the control filesystem of FUSE, of which there is one
// for all connections, where nobody else minds.
func (b *bench) mountControl() error {
	b.control = filepath.Join(b.dir, "fusectl")
	if err := os.Mkdir(b.control, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("fusectl", b.control, "fusectl", 0, ""); err != nil {
		return fmt.Errorf("mount FUSE's control filesystem: %w", err)
	}
	return nil
}

// fuse waits until a program has mounted a FUSE filesystem at dir. Nothing is
// asked of the filesystem itself, which may not answer.
func (b *bench) fuse(ctx context.Context, dir string, p *process) (*fuseMount, error) {
	m := &fuseMount{dir: dir}
	err := waitFor(ctx, "a filesystem at "+dir, p, func() bool {
		minor := mountMinor(dir)
		m.abort = filepath.Join(b.control, minor, "abort")
		return minor != ""
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// mountMinor returns the minor number of the device of what is mounted at dir,
// "" if nothing is, from /proc/self/mountinfo, see proc(5).
func mountMinor(dir string) string {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	found := ""
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 4 && f[4] == dir {
			_, found, _ = strings.Cut(f[2], ":")
		}
	}
	return found
}

// end makes everybody who waits for the filesystem go on with an error.
func (m *fuseMount) end() {
	_ = os.WriteFile(m.abort, []byte("1"), 0) // no file: it has gone by itself
}

// unmount takes the filesystem out of the tree, whatever still uses it.
func (m *fuseMount) unmount() error {
	if err := unix.Unmount(m.dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount %s: %w", m.dir, err)
	}
	return nil
}
