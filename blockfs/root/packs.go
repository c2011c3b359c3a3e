package root

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
)

// PackStatus is what became of the boot pack.
type PackStatus struct {
	State   string `json:"state"`   // none, streaming, done, failed, cached
	Records int    `json:"records"` // that it announces
	Read    int    `json:"read"`    // that have come
	Foreign int    `json:"foreign"` // of these, those that are not of this root
	Bytes   int64  `json:"bytes"`   // that have come
	Error   string `json:"error,omitempty"`
}

func (r *Root) setPack(change func(*PackStatus)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.pack)
}

// Pack streams the boot pack, if the store has one, and gives its blocks to
// readers. Nothing depends on it: whatever is wrong with a pack, only its
// bytes are lost. It returns when the pack is over, or ctx. What nobody has
// wanted yet stays until EndBoot, or ReleasePack.
func (r *Root) Pack(ctx context.Context) {
	if r.o.Mirrors == nil || r.o.Image.Manifest.IsZero() {
		return
	}
	err := r.streamPack(ctx)
	r.setPack(func(p *PackStatus) {
		switch {
		case err == nil:
			p.State = "done"
		case errors.Is(err, mirror.ErrNotFound):
			p.State = "none"
		case errors.Is(err, errCached):
			p.State = "cached"
		default:
			p.State, p.Error = "failed", err.Error()
		}
	})
	switch {
	case errors.Is(err, mirror.ErrNotFound):
		r.log.Debug("the store has no boot pack for this image")
	case errors.Is(err, errCached):
		r.log.Debug("the cache has what the boot pack brings")
	case err != nil && ctx.Err() == nil:
		r.log.Warn("the boot pack is of no use: blocks are fetched one by one", "error", err)
	}
}

// ReleasePack lets go of what the pack brought and nobody wanted.
func (r *Root) ReleasePack() { r.blocks.Release() }

// errCached ends a pack whose blocks are in the cache on the disk.
var errCached = errors.New("the cache has it")

// sample is how many records at a pack's beginning show whether the cache has
// the pack, which then is not worth the line.
const sample = 32

func (r *Root) streamPack(ctx context.Context) error {
	body, _, err := r.o.Mirrors.Stream(ctx, storepath.Pack(r.o.Image.Manifest), pack.MaxBytes)
	if err != nil {
		return err
	}
	defer body.Close()
	count := &counter{r: body, add: func(n int) { r.setPack(func(p *PackStatus) { p.Bytes += int64(n) }) }}
	pr, err := pack.NewReader(count, r.o.Image.Manifest, 0)
	if err != nil {
		return err
	}
	find := r.byHash()
	r.setPack(func(p *PackStatus) { p.State, p.Records = "streaming", pr.Header().Records })
	// A cache that has been filled in this boot only knows what the readers
	// had already; the pack's other blocks are wanted.
	filled := r.cachedAtStart >= int64(pr.Header().Records)
	var buf []byte
	for n, known := 0, 0; ; n++ {
		if filled && n == sample && known >= sample-1 {
			return errCached
		}
		rec, err := pr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e, ok := find(rec.SHA256)
		r.setPack(func(p *PackStatus) {
			p.Read++
			if !ok {
				p.Foreign++
			}
		})
		if !ok || rec.StoredLen > block.MaxStored(e.PlainLen) {
			continue
		}
		if r.o.Cache != nil && r.o.Cache.Has(rec.SHA256) {
			known++
		}
		if cap(buf) < rec.StoredLen {
			buf = make([]byte, max(rec.StoredLen, 256<<10))
		}
		stored, err := pr.Stored(buf)
		if err != nil {
			return err
		}
		if err := r.blocks.Offer(ctx, e, stored); err != nil {
			return err
		}
	}
}

// byHash returns a look-up of the root's blocks by their hash. It takes 8
// bytes for each block, for as long as it is used.
func (r *Root) byHash() func(digest.SHA256) (index.Entry, bool) {
	type place struct{ file, block uint32 }
	var places []place
	at := func(p place) index.Entry { return r.indexes[p.file].Entry(int(p.block)) }
	for f, x := range r.indexes {
		for i := range x.Len() {
			if !x.Entry(i).Zero() {
				places = append(places, place{uint32(f), uint32(i)})
			}
		}
	}
	slices.SortFunc(places, func(a, b place) int {
		x, y := at(a).SHA256, at(b).SHA256
		return bytes.Compare(x[:], y[:])
	})
	return func(sum digest.SHA256) (index.Entry, bool) {
		i, ok := slices.BinarySearchFunc(places, sum, func(p place, sum digest.SHA256) int {
			x := at(p).SHA256
			return bytes.Compare(x[:], sum[:])
		})
		if !ok {
			return index.Entry{}, false
		}
		return at(places[i]), true
	}
}

// counter tells how many bytes are read.
type counter struct {
	r   io.Reader
	add func(int)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.add(n)
	return n, err
}

// bootClock turns moments into milliseconds since 1970 by the clock as it
// stood when the root was opened, so that setting the clock in mid-boot
// does not tear the timeline apart.
func (r *Root) bootClock(t time.Time) int64 {
	return r.opened.UnixMilli() + t.Sub(r.opened).Milliseconds()
}
