package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/cut"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

const (
	// sendLimit bounds the compressed bytes that wait for the network.
	sendLimit = 48 << 20
	// askLimit is how many blocks one question to the store is about.
	askLimit = 500
)

// uploader cuts files into blocks and sends those that the store lacks.
// Reading, cutting, hashing, compressing and sending overlap: one goroutine
// reads and cuts, some hash and compress, some send.
type uploader struct {
	store store.Store
	enc   *block.Encoder
	add   func(n int64) // progress in plain bytes

	mu     sync.Mutex
	blocks map[digest.SHA256]*stored // all that were seen

	waiting *semaphore.Weighted // of sendLimit

	sent      atomic.Int64 // blocks that were uploaded
	sentBytes atomic.Int64
}

// stored is a block in the store, or on the way there.
type stored struct {
	length  int  // as stored; set before the uploader's file returns
	present bool // was in the store before
}

func newUploader(st store.Store, level int, add func(int64)) (*uploader, error) {
	enc, err := block.NewEncoder(level, 0)
	if err != nil {
		return nil, fmt.Errorf("compress blocks: %w", err)
	}
	return &uploader{
		store: st, enc: enc, add: add, blocks: make(map[digest.SHA256]*stored),
		waiting: semaphore.NewWeighted(sendLimit),
	}, nil
}

// known tells of a block that is in the store already.
func (u *uploader) known(sum digest.SHA256, length int) {
	u.blocks[sum] = &stored{length: length, present: true}
}

// piece is one entry of an index in the making.
type piece struct {
	zero  int64
	plain int
	sum   digest.SHA256
	block *stored
}

// outgoing is a compressed block on its way.
type outgoing struct {
	sum  digest.SHA256
	data []byte
}

// file cuts what r returns, sends the blocks and returns the file's index.
// When it returns without error, all blocks are in the store.
func (u *uploader) file(ctx context.Context, name string, c *cut.Cutter, cutting index.Cutting) (*fileResult, error) {
	g, ctx := errgroup.WithContext(ctx)
	workers := runtime.GOMAXPROCS(0)
	buffers := make(chan []byte, workers+4) // bounds the plain bytes in memory
	for range cap(buffers) {
		buffers <- make([]byte, 0, cut.Max)
	}
	type job struct {
		p    *piece
		data []byte
	}
	jobs := make(chan job, cap(buffers))
	out := make(chan outgoing, askLimit)

	var pieces []*piece
	g.Go(func() error {
		defer close(jobs)
		for {
			var buf []byte
			select {
			case buf = <-buffers:
			case <-ctx.Done():
				return ctx.Err()
			}
			chunk, err := c.Next(buf)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("read the root's %s: %w", name, err)
			}
			if chunk.Zero > 0 {
				pieces = append(pieces, &piece{zero: chunk.Zero})
				u.add(chunk.Zero)
				buffers <- buf
				continue
			}
			p := &piece{plain: len(chunk.Data)}
			pieces = append(pieces, p)
			jobs <- job{p, chunk.Data} // never blocks: there are as many places as buffers
		}
	})

	compress, cctx := errgroup.WithContext(ctx)
	for range workers {
		compress.Go(func() error {
			var scratch []byte
			for j := range jobs {
				if err := cctx.Err(); err != nil {
					return err
				}
				j.p.sum = digest.Of(j.data)
				b, isNew := u.claim(j.p.sum)
				j.p.block = b
				if isNew {
					scratch = u.enc.Encode(scratch[:0], j.data)
					b.length = len(scratch)
				}
				buffers <- j.data
				if isNew {
					if err := u.waiting.Acquire(cctx, int64(len(scratch))); err != nil {
						return err
					}
					select {
					case out <- outgoing{j.p.sum, bytes.Clone(scratch)}:
					case <-cctx.Done():
						return cctx.Err()
					}
				}
				u.add(int64(j.p.plain))
			}
			return nil
		})
	}
	g.Go(func() error {
		defer close(out)
		return compress.Wait()
	})
	g.Go(func() error { return u.send(ctx, out) })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return makeIndex(name, pieces, cutting)
}

// claim returns the block, and whether the caller is the first to see it and
// has to send it.
func (u *uploader) claim(sum digest.SHA256) (*stored, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if b, ok := u.blocks[sum]; ok {
		return b, false
	}
	b := &stored{}
	u.blocks[sum] = b
	return b, true
}

// send takes blocks as they come, asks the store in one question about all
// that wait, and uploads what it lacks.
func (u *uploader) send(ctx context.Context, in <-chan outgoing) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(u.store.Parallel())
	err := func() error {
		for {
			batch, ok := collect(ctx, in)
			if len(batch) > 0 {
				if err := u.sendBatch(ctx, g, batch); err != nil {
					return err
				}
			}
			if !ok {
				return ctx.Err()
			}
		}
	}()
	// The group's error is the cause if sending was the first to fail.
	if werr := g.Wait(); werr != nil {
		return werr
	}
	return err
}

// collect waits for a block and takes what else is there.
func collect(ctx context.Context, in <-chan outgoing) (batch []outgoing, ok bool) {
	select {
	case o, ok := <-in:
		if !ok {
			return nil, false
		}
		batch = append(batch, o)
	case <-ctx.Done():
		return nil, false
	}
	for len(batch) < askLimit {
		select {
		case o, ok := <-in:
			if !ok {
				return batch, false
			}
			batch = append(batch, o)
		default:
			return batch, true
		}
	}
	return batch, true
}

func (u *uploader) sendBatch(ctx context.Context, g *errgroup.Group, batch []outgoing) error {
	paths := make([]string, len(batch))
	for i, o := range batch {
		paths[i] = storepath.Block(o.sum)
	}
	missing, err := u.store.Missing(ctx, paths)
	if err != nil {
		return err
	}
	lacks := make(map[string]bool, len(missing))
	for _, p := range missing {
		lacks[p] = true
	}
	for i, o := range batch {
		size := int64(len(o.data))
		if !lacks[paths[i]] {
			u.waiting.Release(size)
			continue
		}
		path, data := paths[i], o.data
		g.Go(func() error {
			defer u.waiting.Release(size)
			if err := u.store.Put(ctx, path, bytes.NewReader(data), size); err != nil {
				return err
			}
			u.sent.Add(1)
			u.sentBytes.Add(size)
			return nil
		})
	}
	return nil
}

// fileResult is a file of a root whose blocks are in the store.
type fileResult struct {
	name   string
	index  []byte
	size   int64
	stored int64 // bytes of all different blocks
	blocks int   // different blocks
}

// newFileResult tells of a file from its index, which raw holds.
func newFileResult(name string, raw []byte, x *index.Index) *fileResult {
	r := &fileResult{name: name, index: raw, size: x.Size()}
	seen := make(map[digest.SHA256]bool)
	for i := range x.Len() {
		if e := x.Entry(i); !e.Zero() && !seen[e.SHA256] {
			seen[e.SHA256] = true
			r.blocks++
			r.stored += int64(e.StoredLen)
		}
	}
	return r
}

func makeIndex(name string, pieces []*piece, cutting index.Cutting) (*fileResult, error) {
	b := index.Builder{Cutting: cutting}
	for _, p := range pieces {
		if p.zero > 0 {
			b.AddZero(p.zero)
			continue
		}
		b.Add(p.plain, p.block.length, p.sum)
	}
	data, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("index of the root's %s: %w", name, err)
	}
	x, err := index.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("index of the root's %s: %w", name, err)
	}
	return newFileResult(name, data, x), nil
}
