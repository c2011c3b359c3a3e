package root

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
)

// FillStatus is how far the background fill is.
type FillStatus struct {
	State  string `json:"state"`  // off, waiting, running, complete, stopped
	Blocks int    `json:"blocks"` // that the cache has
	Total  int    `json:"total"`  // that it shall have
	Error  string `json:"error,omitempty"`
}

// FillOptions is how a cache is filled.
type FillOptions struct {
	Delay   time.Duration       // up to as much is waited first, so that a room of machines does not begin at once
	Workers int                 // blocks at once; 0: 4
	Files   []handoff.StoreFile // of the store, that starting this image takes beside its blocks

	// Here returns one of Files that is here already. nil: none is.
	Here func(handoff.StoreFile) ([]byte, error)
}

// ErrNoRoom is wrapped when the cache is too small for the whole image.
var ErrNoRoom = errors.New("the cache has no room for all of the image")

func (r *Root) setFill(change func(*FillStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.fill)
}

// Fill brings all that is needed to start and run this image without a network
// into the cache, behind everything else. It returns nil when the cache has
// it, and has been told to write it down.
func (r *Root) Fill(ctx context.Context, o FillOptions) error {
	err := r.fillAll(ctx, o)
	r.setFill(func(f *FillStatus) {
		f.State = "complete"
		if err != nil {
			f.State, f.Error = "stopped", err.Error()
		}
	})
	return err
}

func (r *Root) fillAll(ctx context.Context, o FillOptions) error {
	if r.o.Cache == nil {
		return errors.New("there is no cache to fill")
	}
	r.setFill(func(f *FillStatus) { f.State = "waiting" })
	if o.Delay > 0 {
		if err := sleep(ctx, rand.N(o.Delay)); err != nil {
			return err
		}
	}
	r.setFill(func(f *FillStatus) { f.State = "running" })
	if err := r.fillFiles(ctx, o); err != nil {
		return err
	}
	return r.fillBlocks(ctx, o)
}

// fillFiles puts what is not a block into the cache.
func (r *Root) fillFiles(ctx context.Context, o FillOptions) error {
	keep := make([]string, len(o.Files))
	for i, f := range o.Files {
		keep[i] = f.Path
	}
	r.o.Cache.Keep(keep...)
	for _, f := range o.Files {
		if r.o.Cache.HasFile(f.Path, f.Size) {
			if r.verify(ctx, f) == nil {
				continue
			}
			// The timestamp is replaced in one step: what a machine has seen
			// must not get lost.
			if f.Path != storepath.Timestamp {
				if err := r.o.Cache.RemoveFile(ctx, f.Path); err != nil {
					return err
				}
			}
		}
		if err := r.fillFile(ctx, f, o.Here); err != nil {
			return fmt.Errorf("cache %s: %w", f.Path, err)
		}
	}
	return nil
}

// verify reads a file of the cache and compares its hash: a damaged kernel
// would be found when there is no network to get another one.
func (r *Root) verify(ctx context.Context, want handoff.StoreFile) error {
	f, size, err := r.o.Cache.OpenFile(want.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if size != want.Size {
		return digest.ErrMismatch
	}
	h := sha256.New()
	for ctx.Err() == nil {
		_, err := io.CopyN(h, f, 1<<20)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if digest.SHA256(h.Sum(nil)) != want.SHA256 {
		return digest.ErrMismatch
	}
	return ctx.Err()
}

func (r *Root) fillFile(ctx context.Context, f handoff.StoreFile, here func(handoff.StoreFile) ([]byte, error)) error {
	if here != nil {
		if data, err := here(f); err == nil && f.SHA256.Check("the file", data) == nil {
			return r.o.Cache.PutFile(ctx, f.Path, int64(len(data)), bytes.NewReader(data))
		}
	}
	if r.o.Mirrors == nil {
		return mirror.ErrNotFound
	}
	if kind, _, _ := storepath.Parse(f.Path); !kind.Immutable() && !storepath.Versioned(f.Path) {
		return nil // a newer one by now, which nobody here has verified
	}
	// Straight from the network onto the disk: a kernel need not fit into memory.
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := r.o.Mirrors.Download(ctx, f.Path, f.Blob, &pipeAt{w: pw}, nil)
		pw.CloseWithError(err)
		done <- err
	}()
	err := r.o.Cache.PutFile(ctx, f.Path, f.Size, pr)
	pr.CloseWithError(errors.New("nobody writes it down"))
	return errors.Join(err, <-done)
}

// pipeAt is an io.WriterAt for a download that never goes back.
type pipeAt struct {
	w  *io.PipeWriter
	at int64
}

var errWentBack = errors.New("the transfer began anew")

func (p *pipeAt) WriteAt(b []byte, off int64) (int, error) {
	if off != p.at {
		return 0, errWentBack
	}
	n, err := p.w.Write(b)
	p.at += int64(n)
	return n, err
}

// fillBlocks asks for each block that the cache lacks.
func (r *Root) fillBlocks(ctx context.Context, o FillOptions) error {
	if o.Workers <= 0 {
		o.Workers = 4
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	total := 0
	for _, x := range r.indexes {
		total += x.Blocks()
	}
	r.setFill(func(f *FillStatus) { f.Total, f.Blocks = total, 0 })
	todo := make(chan index.Entry)
	var wg sync.WaitGroup
	for range o.Workers {
		wg.Go(func() {
			for e := range todo {
				if err := r.fillBlock(ctx, e); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	before := r.o.Cache.Stats().Evicted
	err := r.eachBlock(func(e index.Entry) error {
		if r.o.Cache.Has(e.SHA256) {
			r.setFill(func(f *FillStatus) { f.Blocks++ })
			return nil
		}
		if r.o.Cache.Stats().Evicted > before {
			return ErrNoRoom // it would only push out what it has just brought
		}
		select {
		case todo <- e:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(todo)
	wg.Wait()
	if cause := context.Cause(ctx); err == nil && cause != nil {
		err = cause
	}
	if err != nil {
		return err
	}
	if err := r.o.Cache.Flush(ctx); err != nil {
		return err
	}
	// What was written may have been refused, or have pushed something out.
	return r.eachBlock(func(e index.Entry) error {
		if !r.o.Cache.Has(e.SHA256) {
			return ErrNoRoom
		}
		return nil
	})
}

func (r *Root) eachBlock(f func(index.Entry) error) error {
	for _, x := range r.indexes {
		for i := range x.Len() {
			if e := x.Entry(i); !e.Zero() {
				if err := f(e); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// fillBlock has one block fetched, again and again until it is there.
func (r *Root) fillBlock(ctx context.Context, e index.Entry) error {
	for n := 0; ; n++ {
		err := r.blocks.Fill(ctx, e)
		if err == nil && !r.o.Cache.Has(e.SHA256) {
			// The queue was full, or the block was in memory from before the cache.
			if err = r.o.Cache.Flush(ctx); err == nil && n > 0 && !r.o.Cache.Has(e.SHA256) {
				return ErrNoRoom
			}
		}
		if err == nil && r.o.Cache.Has(e.SHA256) {
			r.setFill(func(f *FillStatus) { f.Blocks++ })
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := sleep(ctx, min(time.Minute, time.Second<<min(n, 6))); err != nil {
			return err
		}
	}
}

// local returns the index of a file if it is here, beside the handoff or in
// the cache, and nil otherwise.
func (r *Root) local(ctx context.Context, what string, f File) *index.Index {
	if r.o.Local != nil {
		if raw, err := r.o.Local(f.Index.SHA256); err == nil {
			if x, err := parse(what, f.Index, raw); err == nil {
				return x
			}
		}
	}
	if r.o.Cache == nil {
		return nil
	}
	file, size, err := r.o.Cache.OpenFile(storepath.Index(f.Index.SHA256))
	if err != nil {
		return nil // it is fetched
	}
	defer file.Close()
	if size > index.MaxBytes {
		return nil
	}
	raw := make([]byte, size)
	if _, err := io.ReadFull(file, raw); err != nil {
		return nil
	}
	x, err := parse(what, f.Index, raw)
	if err != nil {
		if err := r.o.Cache.RemoveFile(ctx, storepath.Index(f.Index.SHA256)); err != nil {
			r.log.Debug("a damaged index stays in the cache", "error", err)
		}
		return nil
	}
	return x
}

func parse(what string, want digest.Blob, raw []byte) (*index.Index, error) {
	if err := want.SHA256.Check(what, raw); err != nil {
		return nil, err
	}
	return index.Parse(raw)
}
