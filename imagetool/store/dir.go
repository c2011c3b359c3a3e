package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// tempDir holds files that are being written. It is inside of the store, so
// that renaming them does not cross filesystems.
const tempDir = ".tmp"

// lockFile is locked while a file is replaced, by the server as well.
const lockFile = "catalog/.lock"

// staleAfter is the age at which a file in tempDir belongs to a writer that
// died.
const staleAfter = 24 * time.Hour

// Dir is a store in a directory.
type Dir struct{ root string }

var _ Store = (*Dir)(nil)

// NewDir returns the store in the directory root.
func NewDir(root string, create bool) (*Dir, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("store %s: %w", root, err)
	}
	d := &Dir{root: abs}
	if create {
		if err := os.MkdirAll(abs, 0o755); err != nil {
			return nil, fmt.Errorf("make the store: %w", full(err))
		}
	}
	if fi, err := os.Stat(abs); err != nil {
		return nil, fmt.Errorf("open the store: %w (run imagetool init --to %s first)", err, root)
	} else if !fi.IsDir() {
		return nil, fmt.Errorf("open the store: %s is not a directory", abs)
	}
	d.sweep()
	return d, nil
}

// sweep removes what writers that died left in tempDir. Failures do not
// matter: the files are in nobody's way.
func (d *Dir) sweep() {
	entries, err := os.ReadDir(d.file(tempDir))
	if err != nil {
		return
	}
	for _, e := range entries {
		if fi, err := e.Info(); err == nil && time.Since(fi.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(d.file(tempDir), e.Name()))
		}
	}
}

func (d *Dir) file(path string) string { return filepath.Join(d.root, filepath.FromSlash(path)) }

// String returns the directory.
func (d *Dir) String() string { return d.root }

// Parallel implements Store: writing to a disk gains from a few writers only.
func (d *Dir) Parallel() int { return runtime.GOMAXPROCS(0) + 1 }

// Missing implements Store. Files without content count as missing: they are
// what some filesystems leave behind when the power fails.
func (d *Dir) Missing(ctx context.Context, paths []string) ([]string, error) {
	var missing []string
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		fi, err := os.Stat(d.file(p))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			missing = append(missing, p)
		case err != nil:
			return nil, fmt.Errorf("look into the store: %w", err)
		case fi.Size() == 0:
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// Put implements Store.
func (d *Dir) Put(ctx context.Context, path string, body io.ReaderAt, size int64) error {
	kind, sum, ok := storepath.Parse(path)
	if !ok || !kind.Immutable() {
		return fmt.Errorf("store %s: %w: no such place", path, ErrRejected)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	final := d.file(path)
	if fi, err := os.Stat(final); err == nil && fi.Size() > 0 {
		return nil
	}
	// Blocks are named by their plain bytes, which their writer has hashed.
	if kind != storepath.KindBlock {
		if err := checkHash(path, sum, io.NewSectionReader(body, 0, size)); err != nil {
			return err
		}
	}
	tmp, err := d.writeTemp(io.NewSectionReader(body, 0, size), false)
	if err != nil {
		return fmt.Errorf("store %s: %w", path, full(err))
	}
	if err := d.moveNew(tmp, final); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("store %s: %w", path, full(err))
	}
	return nil
}

// writeTemp writes r into a new temporary file and returns its name.
func (d *Dir) writeTemp(r io.Reader, sync bool) (name string, err error) {
	f, err := os.CreateTemp(d.file(tempDir), "put-*")
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(d.file(tempDir), 0o700); err != nil {
			return "", err
		}
		f, err = os.CreateTemp(d.file(tempDir), "put-*")
	}
	if err != nil {
		return "", err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, r); err != nil {
		return "", err
	}
	if err := f.Chmod(0o644); err != nil {
		return "", err
	}
	if sync {
		if err := f.Sync(); err != nil {
			return "", err
		}
	}
	return f.Name(), nil
}

// moveNew renames tmp to final unless final exists with content, in which
// case it removes tmp.
func (d *Dir) moveNew(tmp, final string) error {
	rename := func() error {
		err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, final, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
			// Network filesystems lack the flag. Two writers of one name
			// write equal bytes, so replacing is harmless there.
			err = os.Rename(tmp, final)
		}
		return err
	}
	err := rename()
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
			return err
		}
		err = rename()
	}
	if errors.Is(err, fs.ErrExist) {
		if fi, serr := os.Stat(final); serr == nil && fi.Size() == 0 {
			return os.Rename(tmp, final)
		}
		return os.Remove(tmp)
	}
	return err
}

// Load implements Store. The tag is the hash of the file.
func (d *Dir) Load(ctx context.Context, path string, limit int64) ([]byte, string, error) {
	if err := ctx.Err(); err != nil {
		return nil, "", err
	}
	data, err := d.read(path, limit)
	if err != nil {
		return nil, "", err
	}
	return data, digest.Of(data).String(), nil
}

func (d *Dir) read(path string, limit int64) ([]byte, error) {
	if _, _, ok := storepath.Parse(path); !ok {
		return nil, fmt.Errorf("%s: %w", path, ErrNotExist)
	}
	f, err := os.Open(d.file(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w %s", path, ErrNotExist, d.root)
	}
	if err != nil {
		return nil, fmt.Errorf("read from the store: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read from the store: %w", err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read from the store: %s has more than %d bytes", path, limit)
	}
	return data, nil
}

// Read implements Store.
func (d *Dir) Read(ctx context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, _, err := d.Load(ctx, path, limit)
	if err != nil {
		return nil, err
	}
	if accept != nil {
		if err := accept(data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// Create implements Store.
func (d *Dir) Create(ctx context.Context, path string, data []byte, _ string) error {
	if err := creatable(path); err != nil {
		return err
	}
	return d.Replace(ctx, path, data, "")
}

// Replace implements Store.
func (d *Dir) Replace(ctx context.Context, path string, data []byte, tag string) (err error) {
	if err := replaceable(path, tag); err != nil {
		return err
	}
	kind, _, _ := storepath.Parse(path)
	final := d.file(path)
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return fmt.Errorf("replace %s: %w", path, full(err))
	}
	unlock, err := d.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	now := ""
	if old, err := os.ReadFile(final); err == nil {
		now = digest.Of(old).String()
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	if now != tag {
		return fmt.Errorf("replace %s: %w", path, ErrConflict)
	}
	// Marks are about work under way, of which a crash leaves nothing.
	lasting := kind != storepath.KindMark
	tmp, err := d.writeTemp(newReader(data), lasting)
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, full(err))
	}
	// One sync of the whole filesystem instead of one for each block: what
	// the new catalog names has to be on the disk before the catalog.
	if lasting {
		if err := d.syncAll(); err != nil {
			_ = os.Remove(tmp)
			return fmt.Errorf("replace %s: %w", path, full(err))
		}
	}
	if err := os.Rename(tmp, final); err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("replace %s: %w", path, full(err))
	}
	if !lasting {
		return nil
	}
	return syncDir(filepath.Dir(final))
}

// lock takes the store's lock, waiting for other publishers.
func (d *Dir) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(d.file(lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(d.file(lockFile)), 0o755); err == nil {
			f, err = os.OpenFile(d.file(lockFile), os.O_CREATE|os.O_RDWR, 0o644)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock the store: %w", full(err))
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock the store: %w", err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, fmt.Errorf("lock the store: another publisher holds it: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *Dir) syncAll() error {
	f, err := os.Open(d.root)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// full adds ErrFull to errors that mean it.
func full(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
