// Package extract writes trees as directories and as tar archives.
package extract

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
)

// ErrNotEmpty is wrapped when a directory has something in it already.
var ErrNotEmpty = errors.New("the directory is not empty")

// page is the length from which zeros become holes.
const page = 4096

// Dir writes the tree into the directory to, which must be empty or missing.
// Owners, devices, and attributes that only root may set are left out for
// others; skipped says how many entries that are. add is told of bytes.
func Dir(ctx context.Context, t *source.Tree, to string, add func(int64)) (skipped int, err error) {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return 0, fmt.Errorf("extract: %w", err)
	}
	there, err := os.ReadDir(to)
	if err != nil {
		return 0, fmt.Errorf("extract: %w", err)
	}
	if len(there) > 0 {
		return 0, fmt.Errorf("extract into %s: %w", to, ErrNotEmpty)
	}
	w := &dirWriter{ctx: ctx, tree: t, to: to, root: os.Geteuid() == 0, add: add}
	entries := t.Entries()
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := w.entry(e); err != nil {
			return 0, fmt.Errorf("extract /%s: %w", e.Path, err)
		}
	}
	// Directories last and from below: what is put into them changes their
	// times, and some cannot be written to.
	for _, e := range slices.Backward(entries) {
		if e.IsDir() {
			if err := w.finish(e, w.path(e)); err != nil {
				return 0, fmt.Errorf("extract /%s: %w", e.Path, err)
			}
		}
	}
	return w.skipped, nil
}

type dirWriter struct {
	ctx     context.Context
	tree    *source.Tree
	to      string
	root    bool
	add     func(int64)
	skipped int
}

func (w *dirWriter) path(e *source.Entry) string {
	return filepath.Join(w.to, filepath.FromSlash(e.Path))
}

// entry makes an entry. Its parents are directories that were made before,
// so no link can lead elsewhere.
func (w *dirWriter) entry(e *source.Entry) error {
	name := w.path(e)
	if e.First != nil {
		if err := os.Link(w.path(e.First), name); err != nil && (w.root || !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
		return nil
	}
	switch e.Type() {
	case source.TypeDir:
		if e.Path == "" {
			return nil
		}
		return os.Mkdir(name, 0o700)
	case source.TypeRegular:
		if err := w.regular(e, name); err != nil {
			return err
		}
	case source.TypeSymlink:
		if err := os.Symlink(e.Target, name); err != nil {
			return err
		}
	default:
		if !w.root && e.Type() != source.TypeFIFO && e.Type() != source.TypeSocket {
			w.skipped++
			return nil
		}
		if err := unix.Mknod(name, e.Mode, int(e.Rdev)); err != nil {
			return err
		}
	}
	return w.finish(e, name)
}

// regular writes a file. Pages of zeros become holes.
func (w *dirWriter) regular(e *source.Entry, name string) error {
	in, err := w.tree.Open(e)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	buf := make([]byte, 1<<20)
	var at int64
	for at < e.Size {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(in, buf[:min(int64(len(buf)), e.Size-at)])
		if err != nil {
			return source.ReadError(e, err)
		}
		if err := writeSparse(out, buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
		w.add(int64(n))
	}
	if err := out.Truncate(e.Size); err != nil {
		return err
	}
	return out.Close()
}

// writeSparse writes those pages of b that are not all zero.
func writeSparse(out io.WriterAt, b []byte, at int64) error {
	for from := 0; from < len(b); {
		to := from
		for to < len(b) && !zero(b[to:min(to+page, len(b))]) {
			to = min(to+page, len(b))
		}
		if to > from {
			if _, err := out.WriteAt(b[from:to], at+int64(from)); err != nil {
				return err
			}
		}
		from = to
		for from < len(b) && zero(b[from:min(from+page, len(b))]) {
			from = min(from+page, len(b))
		}
	}
	return nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// finish sets owner, mode, attributes and times.
func (w *dirWriter) finish(e *source.Entry, name string) error {
	if w.root {
		if err := os.Lchown(name, int(e.UID), int(e.GID)); err != nil {
			return err
		}
	}
	left := false
	for attr, value := range e.Xattrs {
		if err := unix.Lsetxattr(name, attr, []byte(value), 0); err != nil {
			if !w.root && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)) || errors.Is(err, unix.ENOTSUP) {
				left = true
				continue
			}
			return fmt.Errorf("attribute %s: %w", attr, err)
		}
	}
	if left {
		w.skipped++
	}
	if e.Type() != source.TypeSymlink {
		// After the owner, whose change takes setuid away.
		if err := unix.Chmod(name, e.Mode&0o7777); err != nil {
			return err
		}
	}
	ts := []unix.Timespec{{Nsec: unix.UTIME_NOW}, unix.NsecToTimespec(time.Unix(e.Sec, int64(e.Nsec)).UnixNano())}
	return unix.UtimesNanoAt(unix.AT_FDCWD, name, ts, unix.AT_SYMLINK_NOFOLLOW)
}
