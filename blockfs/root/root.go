// Package root puts together what stands between a store and the files of a
// root: mirrors, the cache on a disk, blocks in memory, the boot pack, the
// recording of a boot, the background fill, and what there is to tell about
// all of it.
//
// # Deadlocks
//
// A Root may serve the filesystem of the machine that it runs on. Nothing here
// opens a path after Open, but through files and folders that are open
// already, and nothing here waits for anything that the machine runs.
package root

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inetboot/inetboot/blockfs/cache"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/mount"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
)

// File is a file of a root, and its index.
type File struct {
	Name  string
	Index digest.Blob
	Size  int64 // plain bytes; 0: whatever the index says
}

// Options is what a Root consists of.
type Options struct {
	Files   []File
	Mirrors *mirror.Client // where the blocks are; the Root does not close it
	Folder  string         // or a folder that is a store
	Cache   *cache.Cache   // on a disk; nil: none. The Root does not close it

	// Local returns an index that is here already; it is checked. nil: none is.
	Local func(digest.SHA256) ([]byte, error)

	Read   read.Options // Cache and Keep are the Root's
	Logger *slog.Logger // nil: silent

	// Wrap, unless nil, is put around the store.
	Wrap func(read.Store) read.Store

	Image handoff.Image // for messages, packs and reports
}

// Root is an open root. Close it.
type Root struct {
	o       Options
	log     *slog.Logger
	store   read.Store
	blocks  *read.Blocks
	files   []mount.File
	indexes []*index.Index
	rec     *pack.Recorder
	booting atomic.Bool
	opened  time.Time
	proc    *os.File // /proc/self/status; nil where there is none

	cachedAtStart int64 // blocks in the cache

	mu    sync.Mutex
	pack  PackStatus
	fill  FillStatus
	steps []handoff.Stage
	over  bool
}

// Open loads the indexes and opens the files. Indexes that have to be fetched
// are waited for, for as long as ctx lasts.
func Open(ctx context.Context, o Options) (*Root, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Root{o: o, log: o.Logger, opened: time.Now(), pack: PackStatus{State: "none"}, fill: FillStatus{State: "off"}}
	r.booting.Store(true)
	switch {
	case o.Mirrors != nil:
		r.store = read.KeepingMirror(o.Mirrors, r.keep)
	case o.Folder != "":
		r.store = read.Dir(o.Folder)
	default:
		return nil, errors.New("open a root: no store is named")
	}
	if o.Wrap != nil {
		r.store = o.Wrap(r.store)
	}
	ro := o.Read
	ro.Logger = o.Logger
	if o.Cache != nil {
		ro.Cache, ro.Keep = o.Cache, r.keep
		r.cachedAtStart = int64(o.Cache.Stats().Blocks)
	}
	r.blocks = read.New(r.store, ro)
	if f, err := os.Open("/proc/self/status"); err == nil {
		r.proc = f
	}
	var lens []int
	for _, f := range o.Files {
		x, err := r.index(ctx, f)
		if err != nil {
			r.Close()
			return nil, err
		}
		file := r.blocks.Open(x)
		r.indexes = append(r.indexes, x)
		r.files = append(r.files, mount.File{Name: f.Name, File: file})
		lens = append(lens, x.Len())
	}
	r.rec = pack.NewRecorder(lens...)
	for i, f := range r.files {
		f.File.OnAccess(func(block int) { r.rec.Access(i, block) })
	}
	return r, nil
}

// keep gives a block to the cache, or to memory where there is none.
func (r *Root) keep(e index.Entry, stored []byte) bool {
	if r.o.Cache == nil {
		r.blocks.Retain(e, stored)
		return false
	}
	return r.o.Cache.Put(e.SHA256, stored, r.booting.Load())
}

// Files returns the files to mount.
func (r *Root) Files() []mount.File { return r.files }

// Blocks returns what reads them.
func (r *Root) Blocks() *read.Blocks { return r.blocks }

// Close ends all reads.
func (r *Root) Close() {
	r.blocks.Close()
	if r.proc != nil {
		r.proc.Close()
	}
}

// PinMetadata fetches the metadata of a root whose metadata is a file of its
// own, in one go, and keeps it: without it nothing can be found on a root.
func (r *Root) PinMetadata() {
	if len(r.files) > 1 {
		r.files[0].File.Pin()
	}
}

// index returns the index of a file: from here, from the cache, or from the
// store. It waits for a store that cannot be reached, and says so.
func (r *Root) index(ctx context.Context, f File) (*index.Index, error) {
	what := "index of " + f.Name
	x := r.local(ctx, what, f)
	for n := 0; x == nil; n++ {
		var err error
		if x, err = r.store.Index(ctx, what, f.Index); err == nil {
			if n > 1 {
				r.log.Info("the store answers: going on")
			}
			break
		}
		if !errors.Is(err, read.ErrUnavailable) || ctx.Err() != nil || r.o.Read.Patience >= 0 && time.Since(r.opened) > r.o.Read.Patience {
			return nil, err
		}
		if n == 1 {
			r.log.Warn("the store cannot be reached: waiting for it; check the cable, the network and the server", "error", err)
		}
		if err := sleep(ctx, min(5*time.Second, 200*time.Millisecond<<min(n, 5))); err != nil {
			return nil, err
		}
	}
	if f.Size != 0 && x.Size() != f.Size {
		return nil, fmt.Errorf("%s describes a file of %d bytes, but %d are listed: %w", what, x.Size(), f.Size, digest.ErrMismatch)
	}
	return x, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
