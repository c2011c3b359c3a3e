package read

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/internal/digest"
)

// isNear tells whether an entry can be had without the network. b.mu is held.
func (b *Blocks) isNear(e *entry) bool {
	return e.near && (b.held.has(e.block.SHA256) || b.spare.has(e.block.SHA256) || b.opt.Cache != nil && b.opt.Cache.Has(e.block.SHA256))
}

// local gets an entry from nearby, without taking a place from fetches; if
// that fails it is queued for the network. b.mu is held.
func (b *Blocks) local(e *entry) {
	e.state, e.near = running, false
	b.wg.Go(func() {
		buf := b.buffer(e)
		data, from, ok := b.nearby(b.ctx, e, buf)
		b.mu.Lock()
		defer b.mu.Unlock()
		defer b.start()
		b.used -= cap(buf)
		switch {
		case e.state != running: // a pack was quicker
			b.bufs.put(buf)
		case ok:
			b.arrived(e, buf, data, from)
		case e.refs == 0 && e.wanted || b.ctx.Err() != nil:
			b.bufs.put(buf)
			b.fail(e, context.Canceled)
		default:
			b.bufs.put(buf)
			e.state = queued
			b.demand = append(b.demand, e)
		}
	})
}

// buffer returns memory for an entry's content, counted in b.used.
func (b *Blocks) buffer(e *entry) []byte {
	buf := b.bufs.get(e.block.PlainLen)
	b.mu.Lock()
	b.used += cap(buf)
	b.evict()
	b.mu.Unlock()
	return buf
}

// nearby takes a block out of a pack, out of what is kept as stored, or the
// cache.
func (b *Blocks) nearby(ctx context.Context, e *entry, buf []byte) ([]byte, Origin, bool) {
	sum := e.block.SHA256
	b.mu.Lock()
	stored := b.held.take(sum)
	b.mu.Unlock()
	if stored != nil {
		if data, err := block.Decode(buf, stored, e.block.PlainLen, sum); err == nil {
			if b.opt.Keep != nil {
				b.opt.Keep(e.block, stored)
			} else {
				b.Retain(e.block, stored)
			}
			return data, FromPack, true
		}
		b.mu.Lock()
		b.stats.PackRefused++
		b.mu.Unlock()
	}
	if stored, ok := b.spare.get(sum, &b.bufs); ok {
		data, err := block.Decode(buf, stored, e.block.PlainLen, sum)
		b.bufs.put(stored)
		if err == nil {
			b.mu.Lock()
			b.stats.Memory.add(len(data))
			b.mu.Unlock()
			return data, FromMemory, true
		}
		b.spare.remove(sum) // memory that forgets, or another index with another length
	}
	if b.opt.Cache == nil || !b.opt.Cache.Has(sum) {
		return nil, 0, false
	}
	tmp := b.bufs.get(min(max(e.block.StoredLen, 1), block.MaxStored(e.block.PlainLen)))
	stored, ok := b.opt.Cache.Get(ctx, sum, tmp)
	if !ok {
		b.bufs.put(tmp)
		return nil, 0, false
	}
	data, err := block.Decode(buf, stored, e.block.PlainLen, sum)
	b.bufs.put(tmp)
	if err != nil {
		b.opt.Cache.Drop(sum)
		b.log.Warn("the cache has a wrong block: it is fetched again", "block", sum, "error", err)
		b.mu.Lock()
		b.stats.CacheRefused++
		b.mu.Unlock()
		return nil, 0, false
	}
	return data, FromDisk, true
}

// fetch begins the fetch of an entry from the Source. b.mu is held.
func (b *Blocks) fetch(e *entry) {
	near := b.isNear(e)
	e.state, e.near = running, false
	if e.failures == 0 {
		e.began = time.Now()
	}
	switch {
	case e.wanted:
		e.from = FromDemand
		b.fetching++
		b.busyAt = time.Now()
	case e.fill:
		e.from = FromFill
	default:
		e.from = FromAhead
	}
	b.running++
	ctx, cancel := context.WithCancel(b.ctx)
	e.cancel = cancel
	from := e.from // a pack may change it while the fetch runs
	b.wg.Go(func() {
		defer cancel()
		buf := b.buffer(e)
		done := false
		var data []byte
		var err error
		if near {
			var o Origin
			if data, o, done = b.nearby(ctx, e, buf); done {
				from = o
			}
		}
		if !done {
			data, err = b.src.Block(ctx, e.block, buf)
			if err == nil && len(data) != e.block.PlainLen {
				err = fmt.Errorf("block %s: the source returned %d bytes, want %d: %w", e.block.SHA256.Short(), len(data), e.block.PlainLen, digest.ErrMismatch)
			}
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		defer b.start()
		b.running--
		if e.wanted {
			b.fetching--
			b.busyAt = time.Now()
		}
		b.used -= cap(buf)
		switch {
		case e.state != running: // a pack was quicker
			b.bufs.put(buf)
		case err != nil:
			b.bufs.put(buf)
			b.failedOnce(e, err)
		default:
			b.arrived(e, buf, data, from)
		}
	})
}

// arrived makes an entry ready. buf is what was given to hold data; it is not
// counted in b.used. b.mu is held.
func (b *Blocks) arrived(e *entry, buf, data []byte, from Origin) {
	if cap(data) == 0 || cap(buf) == 0 || &data[:1][0] != &buf[:1][0] {
		b.bufs.put(buf)
	}
	defer b.changed()
	b.used += cap(data)
	e.from = from
	b.stats.By[from].add(len(data))
	if from >= FromPack {
		b.stats.StoredBytes += int64(e.block.StoredLen)
	}
	if from >= FromDemand && b.stats.Down {
		b.stats.Down = false
		if b.downSaid {
			b.downSaid = false
			b.log.Error("the store is back: reads go on", "away", time.Since(b.downAt).Round(100*time.Millisecond))
		}
	}
	if e.refusal {
		b.log.Info("block is good now", "block", e.block.SHA256)
	}
	if e.state == pausing {
		b.stats.Waiting--
	}
	e.state, e.data = ready, data
	if e.pin {
		b.pinned += cap(data)
	}
	close(e.done)
	switch {
	case e.refs > 0:
	case e.fill:
		b.drop(e)
	default:
		b.rest(e)
	}
	b.evict()
}

// board takes weight bytes of what readers may hold at once; Spans.Release
// gives them back.
func (b *Blocks) board(ctx context.Context, weight int64) error {
	if b.flight.TryAcquire(weight) {
		return nil
	}
	err := b.flight.Acquire(ctx, weight)
	if err == nil || b.opt.Grace == 0 {
		return err
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.opt.Grace)
	defer cancel()
	if b.flight.Acquire(grace, weight) == nil {
		return nil
	}
	return context.Cause(ctx)
}

// wait returns when e is there. The caller has acquired it.
func (b *Blocks) wait(ctx context.Context, e *entry) error {
	select {
	case <-e.done:
		return e.err
	default:
	}
	start := time.Now()
	defer func() { b.waits.add(time.Since(start)) }()
	select {
	case <-e.done:
		return e.err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.opt.Grace)
	defer cancel()
	select {
	case <-e.done:
		return e.err
	case <-grace.Done():
	}
	return fmt.Errorf("block %s: %w", e.block.SHA256.Short(), context.Cause(ctx))
}

// failedOnce decides what becomes of an entry whose fetch failed. b.mu is held.
func (b *Blocks) failedOnce(e *entry, err error) {
	defer b.changed()
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
	if temporary {
		b.away(e, now, err)
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
			b.changed()
			e.state, e.near = queued, true
			b.ask(e)
			b.start()
		}
	})
}

// sayAfter is how long a reader waits for a store that cannot be reached before
// people are told.
const sayAfter = 2 * time.Second

// away notes that the store cannot be reached by e, which a reader waits for.
// A store that hangs is away from the first failure on, since that takes long.
// People are told once, if it lasts; as an error, since a console that is quiet
// shows nothing less, and so that it is told there that it is over, too.
// b.mu is held.
func (b *Blocks) away(e *entry, now time.Time, err error) {
	if !b.stats.Down {
		if e.failures < 2 && now.Sub(e.began) < sayAfter {
			return
		}
		b.stats.Down, b.downAt = true, e.began
	}
	if !b.downSaid && now.Sub(b.downAt) >= sayAfter {
		b.downSaid = true
		b.log.Error("the store cannot be reached: reads wait until it is back; check the cable, the network and the server", "error", err)
	}
}

// fail gives an entry up. b.mu is held.
func (b *Blocks) fail(e *entry, err error) {
	if e.state == pausing {
		b.stats.Waiting--
	}
	e.state, e.err = failed, err
	b.noLongerEarly(e)
	close(e.done)
	if b.entries[e.block.SHA256] == e {
		delete(b.entries, e.block.SHA256)
	}
}
