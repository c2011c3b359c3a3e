// Package store keeps the files of a store in a folder. Files come in under a
// temporary name, are compared with the hash in their name, and are renamed
// into place; nothing is ever overwritten but the timestamp, whose purpose it
// is. Metadata of the catalog is taken only if it verifies.
package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// The reasons for which a file is not taken.
var (
	ErrNoPlace  = errors.New("no such place in a store")
	ErrTooLarge = errors.New("larger than allowed")
	ErrConflict = errors.New("changed in the meantime")
	ErrFull     = errors.New("the disk is full")
	ErrBroken   = errors.New("the upload broke off")
)

// Limits bounds uploads, in bytes.
type Limits struct {
	File, Index, Target int64
}

// DefaultLimits are generous: 4 GiB for kernels and initrds, 128 MiB for an
// index (of some 800 GB).
func DefaultLimits() Limits { return Limits{File: 4 << 30, Index: 128 << 20, Target: 4 << 20} }

// Dir is a store in a folder.
type Dir struct {
	root    *os.Root // of the store
	tmp     string   // on the same file system
	limits  Limits
	replace sync.Mutex // held while metadata is written
	online  publish.Signers
	mark    mark
	listed  atomic.Pointer[listed]
	menu    atomic.Pointer[shown]
}

// Open opens the store in the folder, making it if need be. Unfinished uploads
// of an earlier process are removed, and so are blocks that a crash of the
// machine may have left half written. No other process may have the store
// open for writing. online are the server's keys for snapshot and timestamp.
func Open(dir, tmp string, limits Limits, online ...publish.Signer) (*Dir, error) {
	if err := removeUploads(tmp); err != nil {
		return nil, fmt.Errorf("remove unfinished uploads: %w", err)
	}
	for _, d := range []string{dir, tmp} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("open the store: %w", err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	d := &Dir{root: root, tmp: tmp, limits: limits, online: online, mark: mark{file: filepath.Join(tmp, markName)}}
	if err := d.recover(); err != nil {
		root.Close()
		return nil, err
	}
	return d, nil
}

// removeUploads empties the folder of uploads under way, but for the mark.
func removeUploads(tmp string) error {
	entries, err := os.ReadDir(tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if e.Name() != markName {
			err = errors.Join(err, os.RemoveAll(filepath.Join(tmp, e.Name())))
		}
	}
	return err
}

// Close forces what was stored to the disk and closes the store.
func (d *Dir) Close() error { return errors.Join(d.mark.clear(d.sync), d.root.Close()) }

// sync forces everything on the store's file system to the disk.
func (d *Dir) sync() error {
	f, err := d.root.Open(".")
	if err != nil {
		return err
	}
	defer f.Close()
	return syncFS(f)
}

// Get opens a file. Paths that are not of a store's form, and symbolic links
// that leave the folder, give fs.ErrNotExist.
func (d *Dir) Get(p string) (*os.File, storepath.Kind, digest.SHA256, error) {
	kind, sum, ok := storepath.Parse(p)
	if !ok {
		return nil, "", sum, fmt.Errorf("%s: %w", p, fs.ErrNotExist)
	}
	f, err := d.root.Open(p)
	if err != nil {
		return nil, kind, sum, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil, kind, sum, errors.Join(err, fmt.Errorf("%s: %w", p, fs.ErrNotExist))
	}
	return f, kind, sum, nil
}

// Has tells whether a file is there.
func (d *Dir) Has(p string) bool {
	if _, _, ok := storepath.Parse(p); !ok {
		return false
	}
	info, err := d.root.Stat(p)
	return err == nil && info.Mode().IsRegular()
}

// Read returns a small file, at most limit bytes.
func (d *Dir) Read(p string, limit int64) ([]byte, error) {
	f, _, _, err := d.Get(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: %w: at most %d bytes", p, ErrTooLarge, limit)
	}
	return data, err
}

// Writable tells why nothing can be stored, if so.
func (d *Dir) Writable() error {
	f, err := os.CreateTemp(d.tmp, "probe-*")
	if err != nil {
		return fmt.Errorf("store a file: %w", err)
	}
	_, err = f.WriteString("x")
	return errors.Join(err, f.Close(), os.Remove(f.Name()))
}

// Limit returns how many bytes the file at p may have.
func (d *Dir) Limit(kind storepath.Kind) int64 {
	switch kind {
	case storepath.KindBlock:
		return maxStoredBlock
	case storepath.KindIndex:
		return d.limits.Index
	case storepath.KindFile:
		return d.limits.File
	case storepath.KindPack:
		return pack.MaxBytes
	case storepath.KindMetadata:
		return maxMetadata
	}
	return d.limits.Target
}

// Put stores the file that body brings at p, an immutable place. created is
// false if it was there already; body is then not read. Errors wrap
// digest.ErrMismatch or one of this package's.
func (d *Dir) Put(ctx context.Context, p string, body io.Reader) (created bool, err error) {
	kind, sum, ok := storepath.Parse(p)
	if !ok || !kind.Immutable() {
		return false, fmt.Errorf("%s: %w", p, ErrNoPlace)
	}
	if d.Has(p) {
		return false, nil
	}
	limited := &limitedReader{ctx: ctx, r: body, left: d.Limit(kind)}
	tmp, err := os.CreateTemp(d.tmp, "upload-*")
	if err != nil {
		return false, diskError(p, err)
	}
	defer func() {
		tmp.Close()
		if !created {
			os.Remove(tmp.Name())
		}
	}()
	switch kind {
	case storepath.KindBlock, storepath.KindIndex:
		data, err := io.ReadAll(limited)
		if err != nil {
			return false, fmt.Errorf("%s: %w", p, err)
		}
		if err := check(kind, p, sum, data); err != nil {
			return false, err
		}
		if _, err := tmp.Write(data); err != nil {
			return false, diskError(p, err)
		}
	default:
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(tmp, h), limited); err != nil {
			return false, diskError(p, err)
		}
		if got := digest.SHA256(h.Sum(nil)); got != sum {
			return false, &digest.MismatchError{What: p, Want: sum, Got: got}
		}
	}
	if err := tmp.Chmod(0o644); err != nil {
		return false, diskError(p, err)
	}
	if kind == storepath.KindBlock {
		// Blocks are many: one sync before the catalog is replaced covers
		// them all, and the mark tells of those that are not covered yet.
		done, err := d.mark.set()
		if err != nil {
			return false, diskError(p, err)
		}
		defer done()
	} else if err := tmp.Sync(); err != nil {
		return false, diskError(p, err)
	}
	if err := d.place(tmp.Name(), p); err != nil {
		return false, err
	}
	return true, nil
}

// place renames a finished file into the store. A second upload of the same
// bytes may win the race; that does no harm.
func (d *Dir) place(tmp, p string) error {
	if err := d.root.MkdirAll(path.Dir(p), 0o755); err != nil {
		return diskError(p, err)
	}
	if err := os.Rename(tmp, filepath.Join(d.root.Name(), filepath.FromSlash(p))); err != nil {
		return diskError(p, err)
	}
	return nil
}

// locked calls f while nobody else can write metadata.
func (d *Dir) locked(p string, f func() error) error {
	d.replace.Lock()
	defer d.replace.Unlock()
	unlock, err := d.lock(p)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// present returns what is at p, nil for nothing. The error wraps ErrConflict
// if it does not have the hash old; a zero hash means that there must be
// nothing.
func (d *Dir) present(p string, old digest.SHA256) ([]byte, error) {
	present, err := d.Read(p, maxMetadata)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if !old.IsZero() {
			return nil, fmt.Errorf("%s: %w: it is gone", p, ErrConflict)
		}
		return nil, nil
	case err != nil:
		return nil, err
	case digest.Of(present) != old:
		return present, fmt.Errorf("%s: %w: read it again and repeat the change", p, ErrConflict)
	}
	return present, nil
}

// write stores a file over the one that is there. Blocks and everything else
// are forced to the disk first. The lock is held.
func (d *Dir) write(p string, data []byte) error {
	tmp, err := os.CreateTemp(d.tmp, "replace-*")
	if err != nil {
		return diskError(p, err)
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if _, err := tmp.Write(data); err != nil {
		return diskError(p, err)
	}
	if err := tmp.Chmod(0o644); err != nil {
		return diskError(p, err)
	}
	if kind, _, _ := storepath.Parse(p); kind == storepath.KindMark { // about work under way, of which a crash leaves nothing
		return d.place(tmp.Name(), p)
	}
	// One sync for all blocks that came before, and for this file.
	if err := errors.Join(tmp.Sync(), d.mark.clear(d.sync)); err != nil {
		return diskError(p, err)
	}
	if err := d.place(tmp.Name(), p); err != nil {
		return err
	}
	dir, err := d.root.Open(path.Dir(p))
	if err != nil {
		return diskError(p, err)
	}
	defer dir.Close()
	if err := dir.Sync(); err != nil {
		return diskError(p, err)
	}
	return nil
}

// Replace writes a mark, if what is there still has the hash old; a zero hash
// means that there must be nothing. judge is called while nobody else can
// replace. Metadata is for [Dir.Publish].
func (d *Dir) Replace(p string, old digest.SHA256, data []byte, judge func(old []byte) error) error {
	if kind, _, ok := storepath.Parse(p); !ok || kind != storepath.KindMark {
		return fmt.Errorf("%s: %w", p, ErrNoPlace)
	}
	return d.locked(p, func() error {
		present, err := d.present(p, old)
		if err == nil {
			err = judge(present)
		}
		if err == nil {
			err = d.write(p, data)
		}
		return err
	})
}

// lock takes the lock that publishers who write into the folder themselves
// take, too.
func (d *Dir) lock(p string) (unlock func(), err error) {
	const lockFile = "catalog/.lock"
	if err := d.root.MkdirAll(path.Dir(lockFile), 0o755); err != nil {
		return nil, diskError(p, err)
	}
	f, err := d.root.OpenFile(lockFile, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, diskError(p, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", p, err)
	}
	return func() { f.Close() }, nil
}

func diskError(p string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("store %s: %w: %w", p, ErrFull, err)
	}
	return fmt.Errorf("store %s: %w", p, err)
}

// limitedReader fails, instead of ending, where the limit is passed, and tells
// a broken upload from a full disk.
type limitedReader struct {
	ctx  context.Context
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		return 0, ErrTooLarge
	}
	if err != nil && err != io.EOF {
		err = fmt.Errorf("%w: %w", ErrBroken, errors.Join(err, l.ctx.Err()))
	}
	return n, err
}
