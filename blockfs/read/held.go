package read

import (
	"context"
	"time"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// held keeps blocks of a boot pack, as stored, until a reader wants them.
type held struct {
	at    map[digest.SHA256]*heldBlock
	old   *heldBlock // came first
	young *heldBlock
	bytes int
	freed chan struct{} // has room for one: something was taken
}

type heldBlock struct {
	block      index.Entry
	stored     []byte
	prev, next *heldBlock
}

func (h *held) init() {
	h.at = make(map[digest.SHA256]*heldBlock)
	h.freed = make(chan struct{}, 1)
}

func (h *held) has(sum digest.SHA256) bool { return h.at[sum] != nil }

func (h *held) add(e index.Entry, stored []byte) {
	k := &heldBlock{block: e, stored: stored, prev: h.young}
	if h.young != nil {
		h.young.next = k
	} else {
		h.old = k
	}
	h.young = k
	h.at[e.SHA256] = k
	h.bytes += len(stored)
}

// take removes and returns a block, nil if it is not there.
func (h *held) take(sum digest.SHA256) []byte {
	k := h.at[sum]
	if k == nil {
		return nil
	}
	delete(h.at, sum)
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		h.old = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	} else {
		h.young = k.prev
	}
	h.bytes -= len(k.stored)
	select {
	case h.freed <- struct{}{}:
	default:
	}
	return k.stored
}

func (h *held) clear() {
	for h.old != nil {
		h.take(h.old.block.SHA256)
	}
}

// holdTime is how long a pack waits for readers to take something before the
// oldest of its blocks is thrown away as not wanted.
const holdTime = 500 * time.Millisecond

// Offer takes a stored block out of a boot pack: readers who wait for it get
// it at once, later ones find it in memory. Nothing is believed: e is from an
// index, and the bytes are compared with its hash before anybody sees them.
//
// Offer waits while too much is held that nobody has asked for, which holds
// the pack's connection up. It returns an error only if ctx or the Blocks has
// ended. stored may be used again after it has returned.
func (b *Blocks) Offer(ctx context.Context, e index.Entry, stored []byte) error {
	if e.Zero() || len(stored) == 0 || len(stored) > block.MaxStored(e.PlainLen) {
		b.mu.Lock()
		b.stats.PackRefused++
		b.mu.Unlock()
		return nil
	}
	for {
		b.mu.Lock()
		if b.ctx.Err() != nil {
			b.mu.Unlock()
			return ErrClosed
		}
		if w := b.entries[e.SHA256]; w != nil {
			awaited := w.state == queued || w.state == pausing || w.state == running
			if !awaited {
				b.stats.PackUnused++
			}
			b.mu.Unlock()
			if awaited {
				b.deliver(w, stored)
			}
			return nil
		}
		if b.held.has(e.SHA256) || b.spare.has(e.SHA256) {
			b.stats.PackUnused++
			b.mu.Unlock()
			return nil
		}
		if b.held.bytes+len(stored) <= b.opt.Held || b.held.old == nil {
			b.spare.shrink(b.opt.Held - b.held.bytes - len(stored))
			b.held.add(e, append([]byte(nil), stored...))
			b.mu.Unlock()
			return nil
		}
		b.mu.Unlock()
		if b.passOn() {
			continue
		}
		t := time.NewTimer(holdTime)
		select {
		case <-b.held.freed:
		case <-t.C:
			b.mu.Lock()
			if b.held.old != nil {
				b.held.take(b.held.old.block.SHA256)
				b.stats.PackUnused++
			}
			b.mu.Unlock()
		case <-ctx.Done():
		case <-b.ctx.Done():
		}
		t.Stop()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// passOn makes room by giving the oldest held block to whoever keeps blocks,
// where a reader will find it. It tells whether it did.
func (b *Blocks) passOn() bool {
	if b.opt.Keep == nil {
		return false
	}
	b.mu.Lock()
	k := b.held.old
	b.mu.Unlock()
	if k == nil || !b.kept(k.block, k.stored) {
		return false
	}
	b.mu.Lock()
	b.held.take(k.block.SHA256) // unless a reader was quicker
	b.mu.Unlock()
	return true
}

// kept checks a block of a pack that nobody has read, and tells whether
// somebody keeps it.
func (b *Blocks) kept(e index.Entry, stored []byte) bool {
	buf := b.bufs.get(e.PlainLen)
	data, err := block.Decode(buf, stored, e.PlainLen, e.SHA256)
	if err == nil {
		b.bufs.put(data)
		return b.opt.Keep(e, stored)
	}
	b.bufs.put(buf)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held.take(e.SHA256) != nil {
		b.stats.PackRefused++
	}
	return false
}

// deliver completes an entry that is on its way with what came in a pack.
func (b *Blocks) deliver(e *entry, stored []byte) {
	buf := b.bufs.get(e.block.PlainLen)
	data, err := block.Decode(buf, stored, e.block.PlainLen, e.block.SHA256)
	switch {
	case err != nil:
	case b.opt.Keep != nil:
		b.opt.Keep(e.block, stored)
	default:
		b.Retain(e.block, stored)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		b.bufs.put(buf)
		b.stats.PackRefused++
	case e.state == ready || e.state == failed:
		b.bufs.put(buf)
		b.stats.PackUnused++
	default:
		cancel := e.cancel
		b.arrived(e, buf, data, FromPack)
		if cancel != nil {
			cancel() // the fetch that is under way
		}
	}
}

// Release lets go of what a pack brought and nobody wanted.
func (b *Blocks) Release() {
	for b.passOn() {
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.PackUnused += int64(len(b.held.at))
	b.held.clear()
}
