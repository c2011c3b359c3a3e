package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/cachedisk"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// storeDir is where a cache folder has its files in a store's layout
// (docs/formats.md).
const storeDir = "store"

var (
	// ErrNotCached is wrapped when the cache does not have a file.
	ErrNotCached = error(notCached{})

	// ErrHangs is wrapped when a disk does not answer. It is not asked again.
	ErrHangs = errors.New("the cache's disk does not answer")
)

// notCached is also fs.ErrNotExist, as readers of the catalog expect.
type notCached struct{}

func (notCached) Error() string        { return "not in the cache" }
func (notCached) Is(target error) bool { return target == fs.ErrNotExist }

// Disk is a cache on a mounted disk. It is safe for concurrent use.
type Disk struct {
	found *cachedisk.Found
	root  string // the folder with the layout of a store
	state cachedisk.State
	limit time.Duration // how long one step on the disk may take
	hangs atomic.Bool
}

// stepLimit is how long opening a file or reading a piece of it may take: a
// disk that was asleep has been woken by the search.
const stepLimit = 10 * time.Second

func open(ctx context.Context, found *cachedisk.Found, log func(string)) *Disk {
	d := &Disk{found: found, root: filepath.Join(found.Folder, storeDir), limit: stepLimit}
	st, err := within(ctx, d, func() (cachedisk.State, error) { return cachedisk.LoadState(found.Folder) })
	if err != nil {
		log(fmt.Sprintf("the state of the cache on %s is not used: %v", found.Name, err))
	}
	d.state = st
	return d
}

// within calls f, which asks the disk, and waits for it no longer than d's
// limit. A disk that does not answer in time is not asked again.
func within[T any](ctx context.Context, d *Disk, f func() (T, error)) (T, error) {
	var none T
	if d.hangs.Load() {
		return none, ErrHangs
	}
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := f()
		done <- result{v, err}
	}()
	late := time.NewTimer(d.limit)
	defer late.Stop()
	select {
	case r := <-done:
		return r.v, r.err
	case <-late.C:
		d.hangs.Store(true)
		return none, ErrHangs
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

// UUID returns the UUID of the cache's filesystem.
func (d *Disk) UUID() string { return d.found.UUID }

// Device returns the name of the device, such as "sda1".
func (d *Disk) Device() string { return d.found.Name }

// Type returns the type of the filesystem, such as "vfat".
func (d *Disk) Type() string { return d.found.Type }

// State returns what the machine remembered. All of it is hints.
func (d *Disk) State() cachedisk.State { return d.state }

// openFile opens a file of the store with the length it shall have; size below
// 0: any. It may hang.
func (d *Disk) openFile(path string, size int64) (*os.File, int64, error) {
	if _, _, ok := storepath.Parse(path); !ok {
		return nil, 0, fmt.Errorf("%s is %w: no path of a store", path, ErrNotCached)
	}
	// A link would lead out of the disk, and a pipe would be waited for.
	f, err := os.OpenFile(filepath.Join(d.root, filepath.FromSlash(path)), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%s is %w", path, ErrNotCached)
	}
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	switch {
	case err != nil:
	case !st.Mode().IsRegular():
		err = fmt.Errorf("%s is %w: no regular file", path, ErrNotCached)
	case size >= 0 && st.Size() != size:
		err = fmt.Errorf("%s is %w: it has %d bytes there, want %d", path, ErrNotCached, st.Size(), size)
	default:
		return f, st.Size(), nil
	}
	f.Close()
	return nil, 0, err
}

// Has tells whether the cache has a file of the right length. What is in it
// shows when it is read.
func (d *Disk) Has(ctx context.Context, path string, size int64) bool {
	ok, err := within(ctx, d, func() (bool, error) {
		f, _, err := d.openFile(path, size)
		if err != nil {
			return false, err
		}
		return true, f.Close()
	})
	return ok && err == nil
}

// Read returns a file, at most limit bytes of it. accept judges the bytes and
// may be nil. It implements catalog.Source; buf is not used, because a read
// that hangs would go on using it.
func (d *Disk) Read(ctx context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, err := within(ctx, d, func() ([]byte, error) {
		f, size, err := d.openFile(path, -1)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if size > limit {
			return nil, fmt.Errorf("%s has %d bytes in the cache, at most %d are allowed", path, size, limit)
		}
		b := make([]byte, size)
		_, err = io.ReadFull(f, b)
		return b, err
	})
	if err == nil && accept != nil {
		err = accept(data)
	}
	if err != nil {
		return nil, fmt.Errorf("read from the cache: %w", err)
	}
	return data, nil
}

var _ catalog.Source = (*Disk)(nil)

// piece is how much of a file is read at once, in bytes.
const piece = 1 << 20

// Download copies a file into w, from offset 0 on, and compares its length and
// hash with want on the way. What is in w is good only if Download returns
// nil; nothing is written to w after it has returned.
func (d *Disk) Download(ctx context.Context, path string, want digest.Blob, w io.WriterAt, progress func(int64)) error {
	f, err := within(ctx, d, func() (*os.File, error) {
		f, _, err := d.openFile(path, want.Size)
		return f, err
	})
	if err != nil {
		return fmt.Errorf("copy from the cache: %w", err)
	}
	h := sha256.New()
	for at := int64(0); at < want.Size; {
		// A buffer for each piece: one that hangs goes on using its own.
		b, err := within(ctx, d, func() ([]byte, error) {
			b := make([]byte, min(piece, want.Size-at))
			_, err := f.ReadAt(b, at)
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return b, err
		})
		if err == nil {
			h.Write(b)
			_, err = w.WriteAt(b, at)
		}
		if err != nil {
			if !d.hangs.Load() && ctx.Err() == nil {
				f.Close()
			}
			return fmt.Errorf("copy %s from the cache: %w", path, err)
		}
		if at += int64(len(b)); progress != nil {
			progress(at)
		}
	}
	f.Close()
	if got := digest.SHA256(h.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("copy from the cache: %w", &digest.MismatchError{What: path, Want: want.SHA256, Got: got})
	}
	return nil
}

// Complete tells whether the cache has all of an image: kernel, initrd and
// indexes of the right length are there, and the state says that the blocks
// are, too.
func (d *Disk) Complete(ctx context.Context, img *catalog.Image) bool {
	if !d.Listed(img.Digest()) {
		return false
	}
	man := img.Manifest()
	for _, f := range man.Files() {
		if !d.Has(ctx, storepath.File(f.SHA256), f.Size) {
			return false
		}
	}
	for _, f := range man.Root.Files {
		if !d.Has(ctx, storepath.Index(f.Index.SHA256), f.Index.Size) {
			return false
		}
	}
	return true
}

// Listed tells whether the state says that the cache has all of an image.
func (d *Disk) Listed(manifest digest.SHA256) bool {
	for _, c := range d.state.Complete {
		if c.Manifest == manifest {
			return true
		}
	}
	return false
}
