// Package read reads files of verified blocks: an index says which blocks, a
// [Source] has them, a [Blocks] keeps a bounded number of them in memory,
// fetches each only once however many wait for it, and fetches ahead of
// sequential readers.
//
// # Order
//
// What a reader waits for goes first. Blocks of a boot pack arrive on a
// connection of their own (see Offer) and cost no fetch. Read-ahead comes
// next, within its own share of the fetches, so that a demand never waits for
// a place. The background (see Fill) runs only while no reader waits.
//
// # Failures
//
// A read returns the bytes that the index lists or an error, never others.
// How long reads wait for a store that does not answer is a matter of
// [Options.Patience]: tools give up, the root filesystem of a running machine
// never does. Each outage is logged once when it begins and once when it ends.
// A cache that fails or lies is only a cache that does not have the block.
//
// # Memory
//
// Contents lie in buffers that are counted and used again. Blocks that a
// reader is looking at cannot be thrown out, so the bound is Options.Memory
// plus Options.InFlight, plus Options.Held for what is kept as stored.
package read

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// Options is how a Blocks works. The zero value is usable.
type Options struct {
	Memory   int           // bytes of contents to keep, about; 0: 48 MiB
	InFlight int           // bytes of blocks that readers wait for or look at, at once; 0: 24 MiB
	Held     int           // bytes, as stored, of a pack's blocks that nobody has asked for yet, and of what Retain keeps; 0: 16 MiB
	Parallel int           // most blocks being fetched at once; 0: 16
	Ahead    int           // most blocks fetched ahead of a sequential reader; 0: 32; below 0: none
	Patience time.Duration // see SetPatience; 0: 30 s
	Shared   bool          // other readers will read the same, as clients of a file server do; see rest
	Cache    Cache         // asked before the Source; nil: none
	Keep     Keep          // told of blocks that came in a pack and are right; nil: nobody
	Logger   *slog.Logger  // nil: silent

	// Grace is how long a read still waits after its context has ended. The
	// FUSE mount sets it, because a signal that does not kill its receiver
	// interrupts reads as well. 0: not at all.
	Grace time.Duration
}

// Cache has stored blocks nearby: on a disk, as a rule. It is safe for
// concurrent use. What it returns is not trusted.
type Cache interface {
	// Has tells, quickly, whether Get is worth a try.
	Has(sum digest.SHA256) bool
	// Get returns the block as stored, in buf's memory if it fits.
	Get(ctx context.Context, sum digest.SHA256, buf []byte) (stored []byte, ok bool)
	// Drop says that what Get returned was not the block.
	Drop(sum digest.SHA256)
}

// Keep is told of a block as stored that has come over the network and is
// right, such as by a cache that wants to have it. It must not wait, nor use
// the bytes after it has returned. It tells whether it has taken them.
type Keep func(e index.Entry, stored []byte) bool

// Blocks reads blocks from a Source for any number of files. It is safe for
// concurrent use.
type Blocks struct {
	src    Source
	opt    Options
	log    *slog.Logger
	bufs   buffers
	change chan struct{} // see Changed
	ctx    context.Context
	stop   context.CancelCauseFunc
	flight *semaphore.Weighted
	// waits is what readers have spent waiting.
	waits waitCounter

	// mu is held for bookkeeping only, never while waiting or copying.
	mu       sync.Mutex
	entries  map[digest.SHA256]*entry
	idle     entry // head of the ring of ready entries without readers, oldest first
	used     int   // bytes of entries' buffers
	pinned   int   // those of used that stay
	early    int   // plain bytes that were fetched ahead, or will be, and that nobody has read yet
	running  int   // fetches from the Source
	fetching int   // those of running that a reader waits for
	demand   []*entry
	ahead    []*entry
	held     held
	spare    spare
	patience time.Duration
	stats    Stats
	downAt   time.Time
	downSaid bool      // people were told that the store is away
	busyAt   time.Time // when a reader last waited for a fetch
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
	from     Origin
	pin      bool // stays in memory
	early    bool // counted in Blocks.early
	fill     bool // nobody asked for it: only the cache shall have it
	near     bool // its fetch tries the cache and what came in a pack
	refs     int  // readers
	seen     int  // bytes that readers have had
	whole    bool // they have had all of it
	data     []byte
	err      error
	done     chan struct{} // closed when state is ready or failed
	cancel   context.CancelFunc
	failures int
	began    time.Time // the first fetch
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
	if o.InFlight <= 0 {
		o.InFlight = 24 << 20
	}
	if o.Held <= 0 {
		o.Held = 16 << 20
	}
	if o.Parallel <= 0 {
		o.Parallel = 16
	}
	if o.Ahead == 0 {
		o.Ahead = 32
	}
	if o.Patience == 0 {
		o.Patience = 30 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Blocks{
		src: src, opt: o, log: o.Logger, patience: o.Patience, entries: make(map[digest.SHA256]*entry),
		flight: semaphore.NewWeighted(int64(o.InFlight)), change: make(chan struct{}, 1),
	}
	b.bufs.limit = 8 << 20
	b.idle.prev, b.idle.next = &b.idle, &b.idle
	b.held.init()
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
	b.held.clear()
	b.spare.shrink(0)
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
		b.ask(e)
	case e.state == ready:
		b.stats.Memory.add(blk.PlainLen)
		b.noLongerEarly(e)
		if e.linked() {
			e.unlink()
		}
	default:
		b.stats.SharedBlocks++
		b.noLongerEarly(e)
		e.fill = false
		if !e.wanted {
			e.wanted = true
			switch e.state {
			case queued:
				b.ask(e)
			case running:
				b.fetching++
			}
		}
	}
	e.refs++
	b.start()
	return e
}

// ask puts an entry that a reader wants where it is fetched soonest. b.mu is held.
func (b *Blocks) ask(e *entry) {
	if e.state != queued {
		return
	}
	if b.isNear(e) {
		b.local(e)
		return
	}
	b.demand = append(b.demand, e)
}

// prefetch asks for a block that nobody waits for yet. It returns false if
// there is no room for more of that: half of the memory, so that what was
// fetched ahead for some readers is still there when they come for it.
func (b *Blocks) prefetch(blk index.Entry, pin bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[blk.SHA256]; e != nil {
		if pin {
			b.keep(e)
		}
		return true
	}
	if b.ctx.Err() != nil || !pin && (b.held.has(blk.SHA256) || b.spare.has(blk.SHA256)) {
		return true
	}
	if !pin && b.early > 0 && b.early+blk.PlainLen > b.opt.Memory/2 {
		return false
	}
	e := b.add(blk)
	e.pin = pin
	if !pin {
		e.early = true
		b.early += blk.PlainLen
	}
	b.ahead = append(b.ahead, e)
	b.start()
	return true
}

// noLongerEarly takes note that a block that was fetched ahead is read, or
// gone. b.mu is held.
func (b *Blocks) noLongerEarly(e *entry) {
	if e.early {
		e.early = false
		b.early -= e.block.PlainLen
	}
}

// keep pins an entry that is there or on its way. b.mu is held.
func (b *Blocks) keep(e *entry) {
	if e.pin {
		return
	}
	e.pin = true
	if e.state == ready {
		b.pinned += cap(e.data)
		if e.linked() {
			e.unlink()
		}
	}
}

func (b *Blocks) add(blk index.Entry) *entry {
	e := &entry{block: blk, done: make(chan struct{}), near: true}
	b.entries[blk.SHA256] = e
	if b.ctx.Err() != nil {
		b.fail(e, ErrClosed)
	}
	return e
}

// release ends a reader's use of e, which has had n bytes of it.
func (b *Blocks) release(e *entry, n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.seen += n
	if e.refs--; e.refs > 0 {
		return
	}
	switch e.state {
	case ready:
		b.rest(e)
		b.evict()
	case queued, pausing:
		b.fail(e, context.Canceled) // nobody waits for it any more
	}
}

// start begins fetches while there is room for them. b.mu is held.
func (b *Blocks) start() {
	for b.running < b.opt.Parallel && b.ctx.Err() == nil {
		e := pop(&b.demand, func(e *entry) bool { return e.state == queued })
		// A quarter of the places is for demands only.
		if e == nil && b.used < b.opt.Memory && b.running < max(1, b.opt.Parallel-b.opt.Parallel/4) {
			e = pop(&b.ahead, func(e *entry) bool { return e.state == queued && !e.wanted })
		}
		if e == nil {
			return
		}
		b.fetch(e)
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

// rest puts a ready entry without readers where eviction finds it: blocks that
// were read to their end go first, since the kernel has their contents.
//
// With Options.Shared nobody has them. Of the blocks that have been read once
// half go first: so a reader of more than there is room for leaves most of what
// is there, and what several readers have read replaces what nobody reads any
// more. Blocks that are read again go last. b.mu is held.
func (b *Blocks) rest(e *entry) {
	if e.pin || e.linked() {
		return
	}
	at := &b.idle // newest
	if e.seen >= e.block.PlainLen {
		if !b.opt.Shared || !e.whole && rand.N(2) == 0 {
			at = b.idle.next // oldest
		}
		e.whole = true
	}
	e.prev, e.next = at.prev, at
	e.prev.next, e.next.prev = e, e
}

func (e *entry) linked() bool { return e.next != nil }

func (e *entry) unlink() {
	e.prev.next, e.next.prev = e.next, e.prev
	e.prev, e.next = nil, nil
}

// evict throws out the blocks that were not used for the longest time until
// the rest fits. b.mu is held.
func (b *Blocks) evict() {
	for b.used > b.opt.Memory && b.idle.next != &b.idle {
		b.drop(b.idle.next)
	}
}

// drop throws out a ready entry without readers. b.mu is held.
func (b *Blocks) drop(e *entry) {
	if e.linked() {
		e.unlink()
	}
	delete(b.entries, e.block.SHA256)
	b.noLongerEarly(e)
	b.used -= cap(e.data)
	b.bufs.put(e.data)
	e.data = nil
}

// waitCounter adds up how long readers waited.
type waitCounter struct{ n, ns, longest atomic.Int64 }

func (w *waitCounter) add(d time.Duration) {
	w.n.Add(1)
	w.ns.Add(int64(d))
	for m := w.longest.Load(); int64(d) > m && !w.longest.CompareAndSwap(m, int64(d)); m = w.longest.Load() {
	}
}
