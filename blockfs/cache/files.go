package cache

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// file is a plain file below store/. Guarded by Cache.mu.
type file struct {
	size    int64 // that it takes, as far as it is written
	lastUse int64
	busy    bool // is being written
	whole   bool // is there to be read
}

// Errors of files.
var (
	// ErrNotCached: the file is not in the cache.
	ErrNotCached = errors.New("not in the cache")

	// ErrNoRoom: the quota or the filesystem has no room for it.
	ErrNoRoom = errors.New("no room in the cache")
)

const partSuffix = ".part"

// loadFiles lists the files below store/, and deletes what was not finished.
func (c *Cache) loadFiles() error {
	seen := 0
	return fs.WalkDir(c.root.FS(), storeDir, func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				c.log.Warn("a folder of the cache cannot be read", "error", err)
			}
			return nil
		}
		if seen++; seen > 4*maxFiles || len(c.files) >= maxFiles {
			c.log.Warn("the cache has more files than are looked at", "limit", maxFiles)
			return fs.SkipAll
		}
		if !e.Type().IsRegular() {
			return nil
		}
		rel := strings.TrimPrefix(name, storeDir+"/")
		if strings.HasSuffix(name, partSuffix) {
			if c.state == StateOK {
				c.root.Remove(name) // an unfinished file; if it stays it is found again
			}
			return nil
		}
		st, err := e.Info()
		if _, _, ok := storepath.Parse(rel); !ok || err != nil {
			return nil
		}
		f := &file{size: st.Size(), lastUse: min(st.ModTime().UnixMilli(), maxTime), whole: true}
		c.files[rel] = f
		c.fileBytes += roundUp(f.size)
		c.base = max(c.base, f.lastUse+1)
		return nil
	})
}

// PutFile keeps a file of the store: kernels, initrds, indexes, the catalog and
// its targets, but not blocks. p is its path in the store, size its length;
// exactly that many bytes are read from r. Where the name has the hash of the
// content, it is checked. A file that is there already is replaced at the end,
// all at once.
//
// PutFile takes as long as the disk and r take. Errors wrap ErrReadOnly,
// ErrNoRoom, digest.ErrMismatch, or those of r.
func (c *Cache) PutFile(ctx context.Context, p string, size int64, r io.Reader) error {
	fail := func(err error) error { return fmt.Errorf("cache %s: %w", p, err) }
	kind, sum, ok := storepath.Parse(p)
	if !ok || kind == storepath.KindBlock || size < 0 {
		return fail(fmt.Errorf("%w: not a file of a store", fs.ErrInvalid))
	}
	if !kind.Immutable() { // its name says nothing about its content
		sum = digest.SHA256{}
	}
	c.mu.Lock()
	old := c.files[p]
	var err error
	switch {
	case c.state != StateOK || c.closing:
		err = fmt.Errorf("%w: %s", ErrReadOnly, c.stats.Reason)
	case size > c.quota/4*3:
		err = fmt.Errorf("%w: %d MB, with a quota of %d MB", ErrNoRoom, size>>20, c.quota>>20)
	case old != nil && old.busy:
		err = fmt.Errorf("%w: it is being written already", fs.ErrExist)
	case old == nil && len(c.files) >= maxFiles:
		err = fmt.Errorf("%w: %d files", ErrNoRoom, len(c.files))
	}
	if err != nil {
		c.mu.Unlock()
		return fail(err)
	}
	f := old
	if f == nil {
		f = &file{}
		c.files[p] = f
	}
	f.busy = true
	c.mu.Unlock()

	w := &fileWriter{c: c, ctx: ctx, name: storeDir + "/" + p}
	err = w.copy(size, sum, r)
	if err == nil {
		err = w.commit()
	}
	if err != nil {
		w.abort()
	}
	c.mu.Lock()
	f.busy = false
	if err == nil {
		c.fileBytes -= roundUp(f.size) // of the one that was there
		f.size, f.lastUse, f.whole = size, c.clock(), true
	} else if !f.whole {
		delete(c.files, p)
	}
	c.mu.Unlock()
	if err != nil {
		return fail(err)
	}
	return nil
}

// fileWriter writes one file under another name first.
type fileWriter struct {
	c       *Cache
	ctx     context.Context
	name    string
	f       *os.File
	written int64 // counted in fileBytes, in pages
	end     int64
	pushed  int64 // up to where its bytes are on their way to the disk
	waited  int64 // up to where they are there
}

// locked calls f while nobody else writes, unless the context ends first.
func (w *fileWriter) locked(f func() error) error {
	select {
	case w.c.writing <- struct{}{}:
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
	defer func() { <-w.c.writing }()
	if err := w.c.ok(); err != nil {
		return err
	}
	err := f()
	switch {
	case err == nil, errors.Is(err, ErrReadOnly):
	case errors.Is(err, errNoRoom), full(err):
		err = fmt.Errorf("%w: %w", ErrNoRoom, err)
	default:
		w.c.writeFailed(err)
	}
	return err
}

func (w *fileWriter) copy(size int64, sum digest.SHA256, r io.Reader) error {
	err := w.locked(func() error {
		if err := w.c.root.MkdirAll(path.Dir(w.name), 0o700); err != nil {
			return err
		}
		var err error
		w.f, err = w.c.root.OpenFile(w.name+partSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	h := sha256.New()
	buf := make([]byte, 256<<10)
	for w.end < size {
		b := buf[:min(int64(len(buf)), size-w.end)]
		n, err := io.ReadFull(r, b)
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", w.end+int64(n), size, err)
		}
		h.Write(b)
		if err := w.locked(func() error { return w.write(b) }); err != nil {
			return err
		}
	}
	return checkHash(h, sum)
}

func checkHash(h hash.Hash, sum digest.SHA256) error {
	if got := digest.SHA256(h.Sum(nil)); !sum.IsZero() && got != sum {
		return &digest.MismatchError{What: "file", Want: sum, Got: got}
	}
	return nil
}

// write appends b. When the disk is full, more room is made.
func (w *fileWriter) write(b []byte) error {
	c := w.c
	need := roundUp(w.end+int64(len(b))) - w.written
	if err := c.makeRoom(need); err != nil {
		return err
	}
	for try := 0; ; try++ {
		_, err := w.f.WriteAt(b, w.end)
		if err == nil {
			break
		}
		if !full(err) || try == 3 {
			return err
		}
		if _, ok := c.evictOne(); !ok {
			return err
		}
	}
	w.end += int64(len(b))
	w.written += need
	c.w.free -= need
	c.w.asked -= need
	c.mu.Lock()
	c.fileBytes += need
	c.mu.Unlock()
	if w.end-w.pushed >= pushEvery {
		if err := c.disk.push(w.f, w.waited, w.pushed, w.end); err != nil {
			return err
		}
		w.waited, w.pushed = w.pushed, w.end
	}
	return nil
}

// commit gives the file its name.
func (w *fileWriter) commit() error {
	// Others may write while the disk takes it.
	if err := w.c.disk.sync(w.f); err != nil {
		w.c.writeFailed(err)
		return err
	}
	return w.locked(func() error {
		err := w.f.Close()
		w.f = nil
		if err != nil {
			return err
		}
		if err := w.c.root.Rename(w.name+partSuffix, w.name); err != nil {
			return err
		}
		return w.c.disk.syncDir(path.Dir(w.name))
	})
}

func (w *fileWriter) abort() {
	if w.f != nil {
		w.f.Close()
	}
	w.c.root.Remove(w.name + partSuffix) // if it stays, the next Open removes it
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	w.c.fileBytes -= w.written
}

// OpenFile opens a file of the store for reading, by its path in the store. Its
// content is NOT verified. Reading hangs if the disk does.
func (c *Cache) OpenFile(p string) (*os.File, int64, error) {
	c.mu.Lock()
	f := c.files[p]
	there := f != nil && f.whole && c.state != StateFailed
	c.mu.Unlock()
	if !there {
		return nil, 0, fmt.Errorf("%s: %w", p, ErrNotCached)
	}
	o, size, err := openFile(c.root, storeDir+"/"+p, os.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, fmt.Errorf("%s: %w", p, ErrNotCached)
	}
	if err != nil {
		return nil, 0, err
	}
	return o, size, nil
}

// HasFile tells whether the cache has a file of that size.
func (c *Cache) HasFile(p string, size int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.files[p]
	return f != nil && f.whole && f.size == size && c.state != StateFailed
}

// RemoveFile deletes a file, as Drop does with a block.
func (c *Cache) RemoveFile(ctx context.Context, p string) error {
	w := &fileWriter{c: c, ctx: ctx}
	if err := w.locked(func() error { return c.removeFile(p) }); err != nil {
		return fmt.Errorf("remove %s from the cache: %w", p, err)
	}
	return nil
}

// removeFile deletes a file that is not being written.
func (c *Cache) removeFile(p string) error {
	c.mu.Lock()
	f := c.files[p]
	if f == nil || f.busy {
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	if err := c.unlink(storeDir + "/" + p); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fileBytes -= roundUp(f.size)
	f.size, f.whole = 0, false
	if !f.busy {
		delete(c.files, p)
	}
	return nil
}

// Keep says which files, by their paths in the store, are needed by the images
// that matter. From the first call on all others may be thrown out to make
// room, those that were not used for the longest time first. The newest catalog
// always stays. Files that are kept count as used now.
func (c *Cache) Keep(paths ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep = map[string]bool{storepath.Timestamp: true}
	for _, p := range paths {
		c.keep[p] = true
		if f := c.files[p]; f != nil && f.whole && c.state == StateOK {
			f.lastUse = c.clock()
			c.usedFiles = append(c.usedFiles, p)
		}
	}
	if len(c.usedFiles) > 0 {
		c.touched = true
		c.poke()
	}
}
