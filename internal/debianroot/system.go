package debianroot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// System is a Debian system that mmdebstrap makes.
type System struct {
	Name string // of the file in the cache
	Size string // about, for people who wait for it

	variant   string // of mmdebstrap
	packages  []string
	customize string // runs outside of the new root, whose path is $1
}

// key changes when the result would; Debian's updates within a release do not
// count, so that tests run on the same bytes for as long as the cache lives.
func (s System) key() string {
	inputs := Suite + "\n" + strings.Join(s.packages, "\n") + "\n" + s.customize
	if s.variant != minbase {
		inputs += "\n" + s.variant
	}
	h := sha256.Sum256([]byte(inputs))
	return hex.EncodeToString(h[:6])
}

// hook returns the option for the hook that runs last: packages that are only
// extracted are never customized.
func (s System) hook() string {
	if s.variant == extract {
		return "--extract-hook"
	}
	return "--customize-hook"
}

// Tarball returns the path of the system as an uncompressed tar archive,
// making it with mmdebstrap if it is not in the cache yet. What goes on is
// written to log.
func (s System) Tarball(ctx context.Context, log io.Writer) (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, s.Name+"-"+Suite+"-"+s.key()+".tar")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	hook, err := os.CreateTemp("", "inetboot-debian-*.sh")
	if err != nil {
		return "", fmt.Errorf("write mmdebstrap's hook: %w", err)
	}
	defer os.Remove(hook.Name())
	if _, err := hook.WriteString(s.customize); err != nil {
		return "", fmt.Errorf("write mmdebstrap's hook: %w", err)
	}
	if err := hook.Close(); err != nil {
		return "", fmt.Errorf("write mmdebstrap's hook: %w", err)
	}
	fmt.Fprintf(log, "%s: making a Debian %s system of about %s with mmdebstrap; this takes some minutes, once\n", s.Name, Version, s.Size)
	start := time.Now()
	partial := path + ".partial"
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--variant="+s.variant, "--components=main", "--format=tar",
		"--include="+strings.Join(s.packages, ","),
		s.hook()+"=sh "+hook.Name()+` "$1"`,
		Suite, partial)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=1700000000")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // lets it unmount
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		os.Remove(partial)
		return "", fmt.Errorf("make the Debian system %s with mmdebstrap (run `make deps` if it is not installed): %w", s.Name, err)
	}
	if err := os.Rename(partial, path); err != nil {
		return "", fmt.Errorf("keep the Debian system: %w", err)
	}
	fmt.Fprintf(log, "%s: done in %.0f s: %s\n", s.Name, time.Since(start).Seconds(), path)
	return path, nil
}
