package read

import (
	"context"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
)

// quietTime is how long no reader may have waited for the network before the
// background goes on.
const quietTime = 300 * time.Millisecond

// Fill fetches a block that nobody has asked for, so that the Source's
// bystanders (a cache on a disk) get to know it. It waits until readers leave
// the line alone. The block does not stay in memory.
//
// An error means that the block could not be had now, or that ctx has ended.
func (b *Blocks) Fill(ctx context.Context, blk index.Entry) error {
	for {
		wait, err := b.quiet()
		if err != nil {
			return err
		}
		if wait == 0 {
			break
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	b.mu.Lock()
	e := b.entries[blk.SHA256]
	switch {
	case e == nil:
		e = b.add(blk)
		if e.state == queued {
			e.fill = true
			b.fetch(e)
		}
	case e.state == ready:
		// Its fetch is over: the bystanders did not take it then.
		b.mu.Unlock()
		return b.again(ctx, blk)
	}
	b.mu.Unlock()
	select {
	case <-e.done:
		if e.err != nil {
			return fmt.Errorf("fill: %w", e.err)
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// again fetches a block that is in memory.
func (b *Blocks) again(ctx context.Context, blk index.Entry) error {
	buf := b.bufs.get(blk.PlainLen)
	data, err := b.src.Block(ctx, blk, buf)
	if err != nil {
		b.bufs.put(buf)
		return fmt.Errorf("fill: %w", err)
	}
	b.bufs.put(data)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stats.By[FromFill].add(blk.PlainLen)
	b.stats.StoredBytes += int64(blk.StoredLen)
	b.changed()
	return nil
}

// quiet returns how long to wait before looking again, 0 if nobody waits for
// the network.
func (b *Blocks) quiet() (time.Duration, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx.Err() != nil {
		return 0, ErrClosed
	}
	if b.fetching > 0 || len(b.demand) > 0 || b.running >= b.opt.Parallel || b.stats.Down {
		return quietTime, nil
	}
	if since := time.Since(b.busyAt); since < quietTime {
		return quietTime - since, nil
	}
	return 0, nil
}
