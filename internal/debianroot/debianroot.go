// Package debianroot makes the Debian 12 systems that the demonstration, the
// boot tests and the benchmarks publish. The one that [Tarball] returns has
// systemd, its own kernel, sshd, Python and a compiler, about 1 GB; the smaller
// ones of [Systems] come up and go down in other ways. Nothing in them is
// prepared for InetBoot.
package debianroot

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Suite is the Debian release.
const Suite = "bookworm"

// Version is the release's number, for the image's version.
const Version = "12"

// Password is root's password in the system. It is for demonstrations only.
const Password = "inetboot"

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
func Tarball(ctx context.Context, log io.Writer) (string, error) { return full().Tarball(ctx, log) }
