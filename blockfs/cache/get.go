package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/digest"
)

const (
	// maxOpen bounds the segments whose files are kept open.
	maxOpen = 64

	// maxHangs is how many times in a row, with no good read in between, the disk may
	// not answer within Options.ReadLimit.
	maxHangs = 3

	// maxReadErrors is how many reads in a row may fail.
	maxReadErrors = 16
)

// trouble counts failures since the last success. Guarded by Cache.mu.
type trouble struct {
	hangs  int
	last   time.Time // when the last one that counted was given up
	errors int
}

// Get returns the stored bytes of a block, in buf's memory if its capacity is
// large enough. They are NOT verified: the caller compares the hash of the
// plain bytes with sum, and calls Drop if it is another. false means that the
// block is not there, or cannot be had in time.
func (c *Cache) Get(ctx context.Context, sum digest.SHA256, buf []byte) ([]byte, bool) {
	k := keyOf(sum)
	c.mu.Lock()
	if it := c.pending[k]; it != nil && it.ready && it.sum == sum {
		buf = append(buf[:0], it.payload()...)
		c.hit(nil, len(buf))
		c.mu.Unlock()
		return buf, true
	}
	l, ok := c.index[k]
	if !ok || c.state == StateFailed {
		c.stats.Misses++
		c.mu.Unlock()
		return nil, false
	}
	s := c.segs[l.seg]
	f := s.f
	s.refs++
	c.mu.Unlock()

	n := int(l.length)
	if f != nil && !c.noFast.Load() {
		if cap(buf) < n {
			buf = make([]byte, n)
		}
		buf = buf[:n]
		if hdr, ok := c.readFast(f, l, buf); ok {
			good := matches(hdr[:], sum, l)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.release(s)
			return c.finish(s, k, l, buf, good)
		}
	}
	rec, err := c.readSlow(ctx, s, l)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.readFailed(ctx, k, l, err)
		return nil, false
	}
	good := matches(rec, sum, l)
	if good {
		buf = append(buf[:0], rec[headerLen:]...)
	}
	c.bufs.put(rec)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finish(s, k, l, buf, good)
}

// finish counts what Get has read. c.mu is held.
func (c *Cache) finish(s *segment, k key, l location, buf []byte, good bool) ([]byte, bool) {
	c.trouble = trouble{}
	if !good {
		if c.index[k] == l {
			c.remove(k)
			c.stats.Dropped++
		}
		c.stats.Misses++
		return nil, false
	}
	c.hit(s, len(buf))
	return buf, true
}

func (c *Cache) hit(s *segment, n int) {
	c.stats.Hits++
	c.stats.HitBytes += int64(n)
	if s != nil {
		s.lastUse = c.clock()
		if !s.used {
			s.used = true
			if !c.touched {
				c.touched = true
				c.poke()
			}
		}
	}
}

// matches tells whether the header at the beginning of rec is that of the block.
func matches(rec []byte, sum digest.SHA256, l location) bool {
	h, err := parseHeader(rec)
	return err == nil && h.kind == kindBlock && h.sum == sum && h.length == int(l.length)
}

// readFast reads a record that the kernel has in memory, without waiting, right
// into the caller's buffer.
func (c *Cache) readFast(f *os.File, l location, buf []byte) (hdr [headerLen]byte, ok bool) {
	n, err := unix.Preadv2(int(f.Fd()), [][]byte{hdr[:], buf}, int64(l.page)*pageSize, unix.RWF_NOWAIT)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		c.noFast.Store(true)
	}
	return hdr, err == nil && n == len(hdr)+len(buf)
}

var errHangs = errors.New("the disk does not answer")

// readSlow reads a record, for no longer than the time limit. It releases s,
// if need be whenever the disk answers. The result belongs in c.bufs.
func (c *Cache) readSlow(ctx context.Context, s *segment, l location) ([]byte, error) {
	t := time.NewTimer(c.opt.ReadLimit)
	defer t.Stop()
	releaseNow := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.release(s)
	}
	select {
	case c.slots <- struct{}{}:
	case <-t.C:
		releaseNow()
		return nil, errHangs
	case <-ctx.Done():
		releaseNow()
		return nil, context.Cause(ctx)
	}
	type result struct {
		rec []byte
		err error
	}
	done := make(chan result, 1)
	var decided atomic.Bool
	go func() {
		rec, err := c.readRecord(s, l)
		<-c.slots
		releaseNow()
		if decided.CompareAndSwap(false, true) {
			done <- result{rec, err}
		} else if rec != nil {
			c.bufs.put(rec)
		}
	}()
	var err error
	select {
	case r := <-done:
		return r.rec, r.err
	case <-t.C:
		err = errHangs
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if !decided.CompareAndSwap(false, true) { // at the last moment
		r := <-done
		return r.rec, r.err
	}
	return nil, err
}

// readRecord reads header and payload of a record. It may hang.
func (c *Cache) readRecord(s *segment, l location) ([]byte, error) {
	f, err := c.openSegment(s)
	if err != nil {
		return nil, err
	}
	rec := c.bufs.get(headerLen + int(l.length))
	n, err := f.ReadAt(rec, int64(l.page)*pageSize)
	if n == len(rec) {
		return rec, nil
	}
	if errors.Is(err, io.EOF) { // shorter than the index says: damage, not a failing disk
		clear(rec[n:])
		return rec, nil
	}
	c.bufs.put(rec)
	return nil, fmt.Errorf("read segment %d: %w", s.id, err)
}

// openSegment returns the open file of a segment that the caller has a
// reference to. It may hang.
func (c *Cache) openSegment(s *segment) (*os.File, error) {
	c.mu.Lock()
	if s.f != nil {
		c.opened.MoveToFront(s.elem)
		defer c.mu.Unlock()
		return s.f, nil
	}
	c.mu.Unlock()
	f, _, err := openFile(c.root, segmentName(s.id), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.f != nil {
		c.closes.Go(func() { f.Close() })
		return s.f, nil
	}
	c.adopt(s, f)
	return f, nil
}

// adopt keeps the open file of a segment, and closes another one if there are
// too many. c.mu is held.
func (c *Cache) adopt(s *segment, f *os.File) {
	s.f, s.elem = f, c.opened.PushFront(s)
	for e := c.opened.Back(); e != nil && c.opened.Len() > maxOpen; {
		old, prev := e.Value.(*segment), e.Prev()
		if old.refs == 0 {
			c.closeSegment(old)
		}
		e = prev
	}
}

// closeSegment closes a segment's file, without waiting for the disk. c.mu is
// held.
func (c *Cache) closeSegment(s *segment) {
	f := s.f
	c.closes.Go(func() { f.Close() }) // was only read
	c.opened.Remove(s.elem)
	s.f, s.elem = nil, nil
}

// release gives a reference to a segment back. c.mu is held.
func (c *Cache) release(s *segment) {
	if s.refs--; s.refs == 0 && s.gone && s.f != nil {
		c.closeSegment(s)
	}
}

// readFailed counts a read without success. c.mu is held.
func (c *Cache) readFailed(ctx context.Context, k key, l location, err error) {
	c.stats.Misses++
	switch {
	case errors.Is(err, errHangs):
		c.stats.ReadTimeouts++
		// Reads that waited at the same time count as one.
		if now := time.Now(); now.Sub(c.trouble.last) >= c.opt.ReadLimit*9/10 {
			c.trouble.last = now
			c.trouble.hangs++
		}
		if c.trouble.hangs >= maxHangs {
			c.lower(StateFailed, errHangs.Error())
		}
	case ctx.Err() != nil:
	default:
		c.stats.ReadErrors++
		if c.trouble.errors == 0 && c.state != StateFailed {
			c.log.Warn("the cache cannot be read", "error", err)
		}
		// The place may be bad: the block will be stored at another.
		if c.index[k] == l {
			c.remove(k)
		}
		if c.trouble.errors++; c.trouble.errors >= maxReadErrors {
			c.lower(StateFailed, err.Error())
		}
	}
}
