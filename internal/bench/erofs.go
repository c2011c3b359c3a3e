package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// erofsMount is an EROFS mounted from files over loop devices, as a target
// whose kernel cannot mount files does it.
type erofsMount struct {
	dir   string
	loops []string
}

// mountEROFS mounts files, the first of which has the metadata, at dir, which
// is made. The others are read with direct I/O if direct is set, as on a
// target. If ctx ends while the mount waits for a filesystem, somebody else has
// to abort that one.
func (b *bench) mountEROFS(ctx context.Context, dir string, files []string, direct bool) (_ *erofsMount, err error) {
	m := &erofsMount{dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for i, f := range files {
		args := []string{"--show", "-r", "-f", f}
		if direct && i > 0 {
			args = append([]string{"--direct-io=on"}, args...)
		}
		out, err := exec.CommandContext(ctx, "losetup", args...).Output()
		if err != nil {
			return nil, fmt.Errorf("loop device for %s: %w", f, err)
		}
		m.loops = append(m.loops, strings.TrimSpace(string(out)))
	}
	return m, m.mount()
}

func (m *erofsMount) mount() error {
	var options []string
	for _, d := range m.loops[1:] {
		options = append(options, "device="+d)
	}
	if err := unix.Mount(m.loops[0], m.dir, "erofs", unix.MS_RDONLY, strings.Join(options, ",")); err != nil {
		return fmt.Errorf("mount EROFS: %w", err)
	}
	return nil
}

// forget drops what the kernel has cached of the EROFS, but not of the files
// below the loop devices.
func (m *erofsMount) forget() error {
	if err := unix.Unmount(m.dir, 0); err != nil {
		return fmt.Errorf("unmount EROFS: %w", err)
	}
	return m.mount()
}

// close unmounts, whatever still uses it, and frees the loop devices.
func (m *erofsMount) close() error {
	var errs []error
	if err := unix.Unmount(m.dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		errs = append(errs, fmt.Errorf("unmount EROFS: %w", err))
	}
	for _, d := range m.loops {
		if out, err := exec.Command("losetup", "-d", d).CombinedOutput(); err != nil {
			errs = append(errs, fmt.Errorf("free %s: %w: %s", d, err, out))
		}
	}
	m.loops = nil
	return errors.Join(errs...)
}
