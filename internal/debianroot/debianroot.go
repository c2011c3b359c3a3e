// Package debianroot makes the Debian 12 system that the demonstration, the
// boot tests and the benchmarks publish: systemd, its own kernel, sshd,
// Python and a compiler, about 1 GB. Nothing in it is prepared for InetBoot.
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

// Suite is the Debian release.
const Suite = "bookworm"

// Version is the release's number, for the image's version.
const Version = "12"

// Password is root's password in the system. It is for demonstrations only.
const Password = "inetboot"

func packages() []string {
	return []string{
		"linux-image-amd64", "systemd-sysv", "dbus", "udev", "kmod", "openssh-server", "python3",
		"build-essential", "git", "vim", "less", "iproute2", "iputils-ping", "procps", "curl", "ca-certificates",
		"man-db", "rsync", "file", "strace", "python3-dev",
	}
}

// customize runs outside of the new root, whose path is $1.
const customize = `set -eu
echo debian > "$1/etc/hostname"
: > "$1/etc/machine-id"
echo 'root:` + Password + `' | chroot "$1" chpasswd
# An ordinary network set-up: any Ethernet link by DHCP.
printf '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n' > "$1/etc/systemd/network/80-dhcp.network"
chroot "$1" systemctl enable systemd-networkd.service
rm -f "$1"/etc/resolv.conf "$1"/var/lib/apt/lists/*_* "$1"/var/cache/apt/*.bin "$1"/var/log/*.log
`

// key changes when the result would; Debian's updates within a release do not
// count, so that tests run on the same bytes for as long as the cache lives.
func key() string {
	h := sha256.Sum256([]byte(Suite + "\n" + strings.Join(packages(), "\n") + "\n" + customize))
	return hex.EncodeToString(h[:6])
}

// CacheDir is where slow artefacts are kept.
func CacheDir() (string, error) {
	c, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(c, "inetboot"), nil
}

// Tarball returns the path of the system as an uncompressed tar archive,
// making it with mmdebstrap if it is not in the cache yet. What goes on is
// written to log.
func Tarball(ctx context.Context, log io.Writer) (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "debian-"+Suite+"-"+key()+".tar")
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
	if _, err := hook.WriteString(customize); err != nil {
		return "", fmt.Errorf("write mmdebstrap's hook: %w", err)
	}
	if err := hook.Close(); err != nil {
		return "", fmt.Errorf("write mmdebstrap's hook: %w", err)
	}
	fmt.Fprintf(log, "debian: making a Debian %s system of about 1 GB with mmdebstrap; this takes some minutes, once\n", Version)
	start := time.Now()
	partial := path + ".partial"
	cmd := exec.CommandContext(ctx, "mmdebstrap", "--variant=minbase", "--components=main", "--format=tar",
		"--include="+strings.Join(packages(), ","),
		"--customize-hook=sh "+hook.Name()+` "$1"`,
		Suite, partial)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "SOURCE_DATE_EPOCH=1700000000")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // lets it unmount
	cmd.WaitDelay = 30 * time.Second
	if err := cmd.Run(); err != nil {
		os.Remove(partial)
		return "", fmt.Errorf("make the Debian system with mmdebstrap (run `make deps` if it is not installed): %w", err)
	}
	if err := os.Rename(partial, path); err != nil {
		return "", fmt.Errorf("keep the Debian system: %w", err)
	}
	fmt.Fprintf(log, "debian: done in %.0f s: %s\n", time.Since(start).Seconds(), path)
	return path, nil
}
