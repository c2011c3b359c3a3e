package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
)

// ErrReadOnly is wrapped when nothing can be written, now or any more.
var ErrReadOnly = errors.New("cache cannot be written")

// item is a block that waits to be written.
type item struct {
	sum   digest.SHA256
	rec   []byte // room for the header, payload, padding
	n     int    // length of the payload
	boot  bool
	ready bool // has its payload
}

func (it *item) payload() []byte { return it.rec[headerLen : headerLen+it.n] }

// operation is what the writer does next: one of these.
type operation struct {
	block *item
	flush chan error // gets the result of bringing to the disk what was written before
}

// Put gives a block to the cache: its stored bytes, which the caller has
// verified. They are copied to the queue and written in the background. boot
// says that the machine's boot needs the block, see MarkBoot. Put never waits
// for the disk; false means that the block was not taken: the queue is full, or
// the cache cannot be written.
func (c *Cache) Put(sum digest.SHA256, stored []byte, boot bool) bool {
	if len(stored) == 0 || len(stored) > maxPayload {
		return false
	}
	k, n := keyOf(sum), int(recordLen(len(stored)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != StateOK || c.closing {
		c.stats.Refused++
		return false
	}
	if it := c.pending[k]; it != nil {
		it.boot = it.boot || boot
		return true
	}
	if _, ok := c.index[k]; ok {
		if boot {
			c.markBoot([]key{k})
		}
		return true
	}
	if c.queued+n > c.opt.Queue && c.queued > 0 {
		c.stats.Refused++
		return false
	}
	it := &item{sum: sum, n: len(stored), boot: boot}
	c.pending[k] = it
	c.queued += n
	c.mu.Unlock()

	rec := c.bufs.get(n)
	copy(rec[headerLen:], stored)
	clear(rec[headerLen+len(stored):])

	c.mu.Lock()
	it.rec, it.ready = rec, true
	c.push(operation{block: it})
	return true
}

// WaitRoom waits until the queue takes n more bytes, for those who have time:
// what is fetched in the background should not be fetched in vain. It returns
// an error that wraps ErrReadOnly when nothing is taken any more, ErrNoRoom
// when nothing is taken for some time because there is no room, and that of ctx
// when it ends.
func (c *Cache) WaitRoom(ctx context.Context, n int) error {
	for {
		c.mu.Lock()
		if c.state != StateOK || c.closing {
			reason := c.stats.Reason
			c.mu.Unlock()
			return fmt.Errorf("cache: %w: %s", ErrReadOnly, reason)
		}
		if time.Now().Before(c.paused) {
			c.mu.Unlock()
			return ErrNoRoom
		}
		if c.queued == 0 || c.queued+int(recordLen(n)) <= c.opt.Queue {
			c.mu.Unlock()
			return nil
		}
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// MarkBoot notes that the boot of this session needs these blocks. Making room,
// the cache saves the blocks of boots, as long as they take no more than half
// of the quota; those of the oldest boot go first. Blocks that are not in the
// cache are passed over.
func (c *Cache) MarkBoot(sums ...digest.SHA256) {
	keys := make([]key, len(sums))
	for i, sum := range sums {
		keys[i] = keyOf(sum)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range keys {
		if it := c.pending[k]; it != nil {
			it.boot = true
		}
	}
	c.markBoot(keys)
}

// markBoot notes in the index that this session's boot needs the blocks, and
// has those written down, some time later, of which that is new. c.mu is held.
func (c *Cache) markBoot(keys []key) {
	first := len(c.marks) == 0
	for _, k := range keys {
		if l, ok := c.index[k]; ok && l.boot != c.session {
			c.setBoot(k, c.session)
			if c.state == StateOK {
				c.marks = append(c.marks, k)
			}
		}
	}
	if first && len(c.marks) > 0 {
		c.poke()
	}
}

// Flush waits until all that Put and MarkBoot were given is on the disk. It
// fails when something of that could not be written.
func (c *Cache) Flush(ctx context.Context) error {
	result := make(chan error, 1)
	c.mu.Lock()
	if c.state != StateOK || c.closing {
		reason := c.stats.Reason
		c.mu.Unlock()
		return fmt.Errorf("flush the cache: %w: %s", ErrReadOnly, reason)
	}
	c.push(operation{flush: result})
	c.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("flush the cache: %w", context.Cause(ctx))
	}
}

// push appends to the queue. c.mu is held.
func (c *Cache) push(op operation) {
	c.queue = append(c.queue, op)
	c.poke()
}

// poke wakes the writer.
func (c *Cache) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// took says that n bytes have left the queue. c.mu is held.
func (c *Cache) took(n int) {
	c.queued -= n
	close(c.room)
	c.room = make(chan struct{})
}
