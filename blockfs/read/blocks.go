// Package read reads files of verified blocks: an index says which blocks, a
// [Source] has them, a [Blocks] keeps a bounded number of them in memory,
// fetches each only once however many wait for it, and fetches ahead of
// sequential readers.
//
// # Failures
//
// A read returns the bytes that the index lists or an error, never others.
// How long reads wait for a store that does not answer is a matter of
// [Options.Patience]: tools give up, the root filesystem of a running machine
// never does. Each outage is logged once when it begins and once when it ends.
//
// # Memory
//
// Contents lie in buffers that are counted and used again. Blocks that a
// reader is looking at cannot be thrown out, so the bound is Options.Memory
// plus what is being read at the moment.
package read

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// Options is how a Blocks works. The zero value is usable.
type Options struct {
	Memory   int           // bytes of contents to keep, about; 0: 48 MiB
	Parallel int           // most blocks being fetched at once; 0: 16
	Ahead    int           // most blocks fetched ahead of a sequential reader; 0: 8; below 0: none
	Patience time.Duration // see SetPatience; 0: 30 s
	Logger   *slog.Logger  // nil: silent

	// Grace is how long a read still waits after its context has ended. The
	// FUSE mount sets it, because a signal that does not kill its receiver
	// interrupts reads as well. 0: not at all.
	Grace time.Duration
}

// Stats counts what a Blocks has done.
type Stats struct {
	MemoryBlocks  int64 // blocks that were there when a reader wanted them
	SharedBlocks  int64 // blocks that were already on the way when a reader wanted them
	FetchedBlocks int64 // blocks that the Source delivered
	FetchedBytes  int64 // their plain bytes
	StoredBytes   int64 // their bytes in the store, as the index says
	AheadBlocks   int64 // those of FetchedBlocks that were fetched ahead
	ZeroBytes     int64 // bytes read from zero blocks
	ReadBytes     int64 // bytes read, zeros included
	Retries       int64 // attempts that failed and were repeated
	Refused       int64 // attempts that brought wrong bytes or nothing at all
	Waiting       int64 // blocks that wait for the store to come back, now
	HeldBytes     int64 // memory for contents, now
	Down          bool  // the store cannot be reached, now
}

// Blocks reads blocks from a Source for any number of files. It is safe for
// concurrent use.
type Blocks struct {
	src  Source
	opt  Options
	log  *slog.Logger
	bufs buffers
	ctx  context.Context
	stop context.CancelCauseFunc

	// mu is held for bookkeeping only, never while waiting or copying.
	mu       sync.Mutex
	entries  map[digest.SHA256]*entry
	idle     entry // head of the ring of ready entries without readers, oldest first
	used     int   // bytes of entries' buffers
	running  int
	demand   []*entry
	ahead    []*entry
	patience time.Duration
	stats    Stats
	downAt   time.Time
	wg       sync.WaitGroup
}

type state uint8

const (
	queued state = iota
	running
	pausing
	ready
	failed
)

// entry is a block in memory or on its way there.
type entry struct {
	block    index.Entry
	state    state
	wanted   bool // a reader asked for it, so it is or was in the demand queue
	ahead    bool // its fetch began before a reader asked for it
	refs     int  // readers
	data     []byte
	err      error
	done     chan struct{} // closed when state is ready or failed
	failures int
	first    time.Time // of failures
	refusal  bool      // was logged
	prev     *entry
	next     *entry
}

// New returns a Blocks that reads from src. Close it after use.
func New(src Source, o Options) *Blocks {
	if o.Memory <= 0 {
		o.Memory = 48 << 20
	}
	if o.Parallel <= 0 {
		o.Parallel = 16
	}
	if o.Ahead == 0 {
		o.Ahead = 8
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Blocks{src: src, opt: o, log: o.Logger, patience: o.Patience, entries: make(map[digest.SHA256]*entry)}
	b.bufs.limit = 8 << 20
	b.idle.prev, b.idle.next = &b.idle, &b.idle
	b.ctx, b.stop = context.WithCancelCause(context.Background())
	return b
}

// SetPatience says how long reads wait for a store that cannot be reached.
// Below 0 means for ever, and then wrong and missing blocks are waited for as
// well; otherwise these fail the read at once.
func (b *Blocks) SetPatience(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.patience = d
}

// Stats returns the counters.
func (b *Blocks) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.stats
	s.HeldBytes = int64(b.used)
	return s
}

// Close ends all reads with ErrClosed and waits for fetches to end.
func (b *Blocks) Close() {
	b.stop(ErrClosed)
	b.mu.Lock()
	for _, e := range b.entries {
		if e.state == queued || e.state == pausing {
			b.fail(e, ErrClosed)
		}
	}
	b.demand, b.ahead = nil, nil
	b.mu.Unlock()
	b.wg.Wait()
}

// acquire returns the entry of a block for a reader, who must release it.
func (b *Blocks) acquire(blk index.Entry) *entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[blk.SHA256]
	switch {
	case e == nil:
		e = b.add(blk)
		e.wanted = true
		b.demand = append(b.demand, e)
	case e.state == ready:
		b.stats.MemoryBlocks++
		if e.refs == 0 {
			e.unlink()
		}
	default:
		b.stats.SharedBlocks++
		if !e.wanted {
			e.wanted = true
			if e.state == queued {
				b.demand = append(b.demand, e)
			}
		}
	}
	e.refs++
	b.start()
	return e
}

// prefetch asks for a block that nobody waits for yet.
func (b *Blocks) prefetch(blk index.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries[blk.SHA256] != nil || len(b.ahead) >= 4*b.opt.Parallel || b.ctx.Err() != nil {
		return
	}
	b.ahead = append(b.ahead, b.add(blk))
	b.start()
}

func (b *Blocks) add(blk index.Entry) *entry {
	e := &entry{block: blk, done: make(chan struct{})}
	b.entries[blk.SHA256] = e
	if b.ctx.Err() != nil {
		b.fail(e, ErrClosed)
	}
	return e
}

// release ends a reader's use of e.
func (b *Blocks) release(e *entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.refs--; e.refs > 0 {
		return
	}
	switch e.state {
	case ready:
		b.linkIdle(e)
		b.evict()
	case queued, pausing:
		b.fail(e, context.Canceled) // nobody waits for it any more
	}
}

// wait returns when e is there. The caller has acquired it.
func (b *Blocks) wait(ctx context.Context, e *entry) error {
	select {
	case <-e.done:
		return e.err
	default:
	}
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
	}
	if b.opt.Grace > 0 {
		t := time.NewTimer(b.opt.Grace)
		defer t.Stop()
		select {
		case <-e.done:
			return e.err
		case <-t.C:
		}
	}
	return fmt.Errorf("block %s: %w", e.block.SHA256.Short(), context.Cause(ctx))
}

// start begins fetches while there is room for them. b.mu is held.
func (b *Blocks) start() {
	for b.running < b.opt.Parallel && b.ctx.Err() == nil {
		e := pop(&b.demand, func(e *entry) bool { return e.state == queued })
		if e == nil && b.used < b.opt.Memory {
			e = pop(&b.ahead, func(e *entry) bool { return e.state == queued && !e.wanted })
		}
		if e == nil {
			return
		}
		e.state, e.ahead = running, !e.wanted
		b.running++
		b.wg.Go(func() { b.fetch(e) })
	}
}

func pop(queue *[]*entry, ok func(*entry) bool) *entry {
	for len(*queue) > 0 {
		e := (*queue)[0]
		(*queue)[0] = nil
		if *queue = (*queue)[1:]; len(*queue) == 0 {
			*queue = nil
		}
		if ok(e) {
			return e
		}
	}
	return nil
}

func (b *Blocks) fetch(e *entry) {
	buf := b.bufs.get(e.block.PlainLen)
	b.mu.Lock()
	b.used += cap(buf)
	b.evict()
	b.mu.Unlock()

	data, err := b.src.Block(b.ctx, e.block, buf)
	if err == nil && len(data) != e.block.PlainLen {
		err = fmt.Errorf("block %s: the source returned %d bytes, want %d: %w", e.block.SHA256.Short(), len(data), e.block.PlainLen, digest.ErrMismatch)
	}

	b.mu.Lock()
	defer b.mu.Unlock()
	b.running--
	defer b.start()
	b.used -= cap(buf)
	if err != nil {
		b.bufs.put(buf)
		b.failedOnce(e, err)
		return
	}
	if cap(data) == 0 || &data[:1][0] != &buf[:1][0] {
		b.bufs.put(buf)
	}
	b.used += cap(data)
	b.stats.FetchedBlocks++
	b.stats.FetchedBytes += int64(len(data))
	b.stats.StoredBytes += int64(e.block.StoredLen)
	if e.ahead {
		b.stats.AheadBlocks++
	}
	if b.stats.Down {
		b.stats.Down = false
		b.log.Info("the store is back: reads go on", "away", time.Since(b.downAt).Round(100*time.Millisecond))
	}
	if e.refusal {
		b.log.Info("block is good now", "block", e.block.SHA256)
	}
	e.state, e.data = ready, data
	close(e.done)
	if e.refs == 0 {
		b.linkIdle(e)
	}
	b.evict()
}

// failedOnce decides what becomes of an entry whose fetch failed. b.mu is held.
func (b *Blocks) failedOnce(e *entry, err error) {
	now := time.Now()
	temporary := errors.Is(err, ErrUnavailable)
	if !temporary && b.ctx.Err() == nil {
		b.stats.Refused++
	}
	if e.failures++; e.failures == 1 {
		e.first = now
	}
	switch {
	case b.ctx.Err() != nil:
		b.fail(e, ErrClosed)
		return
	case e.refs == 0: // fetched ahead, or its readers have gone
		b.fail(e, err)
		return
	case b.patience >= 0 && (!temporary || now.Sub(e.first) >= b.patience):
		b.fail(e, err)
		return
	}
	b.stats.Retries++
	b.stats.Waiting++
	e.state = pausing
	if !temporary && !e.refusal {
		e.refusal = true
		b.log.Error("a block is refused: waiting for a good one; repair the store or its mirrors", "block", e.block.SHA256, "error", err)
	}
	if temporary && e.failures >= 2 && !b.stats.Down {
		b.stats.Down, b.downAt = true, e.first
		b.log.Warn("the store cannot be reached: reads wait until it is back; check the cable, the network and the server", "error", err)
	}
	// Spread, so that a room of machines does not come back at the same moment.
	pause := min(5*time.Second, 100*time.Millisecond<<min(e.failures, 8))
	if b.patience >= 0 {
		pause = min(pause, max(b.patience-now.Sub(e.first), time.Millisecond))
	}
	time.AfterFunc(pause/2+rand.N(pause/2+1), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if e.state == pausing {
			b.stats.Waiting--
			e.state = queued
			b.demand = append(b.demand, e)
			b.start()
		}
	})
}

// fail gives an entry up. b.mu is held.
func (b *Blocks) fail(e *entry, err error) {
	if e.state == pausing {
		b.stats.Waiting--
	}
	e.state, e.err = failed, err
	close(e.done)
	if b.entries[e.block.SHA256] == e {
		delete(b.entries, e.block.SHA256)
	}
}

func (b *Blocks) linkIdle(e *entry) {
	e.prev, e.next = b.idle.prev, &b.idle
	e.prev.next, e.next.prev = e, e
}

func (e *entry) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

// evict throws out the blocks that were not used for the longest time until
// the rest fits. b.mu is held.
func (b *Blocks) evict() {
	for b.used > b.opt.Memory && b.idle.next != &b.idle {
		e := b.idle.next
		e.unlink()
		delete(b.entries, e.block.SHA256)
		b.used -= cap(e.data)
		b.bufs.put(e.data)
		e.data = nil
	}
}
