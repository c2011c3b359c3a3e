package slowline

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// connection relays one connection. As behind a handshake of three packets,
// what the client sends first is at the target after one and a half round
// trips, and the target does not know of the connection before.
func (l *Line) connection(ctx context.Context, client net.Conn, dial func(context.Context) (net.Conn, error)) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	defer client.Close()
	stopClient := context.AfterFunc(ctx, func() { client.Close() })
	defer stopClient()

	accepted := time.Now()
	up, down := l.newHalf(&l.up, &l.upN), l.newHalf(&l.down, &l.downN)
	wg.Go(func() {
		if sleepUntil(ctx, accepted.Add(l.c.RTT)) == nil {
			up.read(ctx, client)
		}
	})
	if sleepUntil(ctx, accepted.Add(l.c.RTT+l.c.RTT/2)) != nil {
		return
	}
	target, err := dial(ctx)
	if err != nil {
		reset(client)
		return
	}
	defer target.Close()
	stopTarget := context.AfterFunc(ctx, func() { target.Close() })
	defer stopTarget()
	wg.Go(func() { down.read(ctx, target) })
	var writers sync.WaitGroup
	for _, w := range []struct {
		h  *half
		to net.Conn
	}{{up, target}, {down, client}} {
		writers.Go(func() {
			if w.h.write(ctx, w.to) != nil {
				// Nobody reads any more: the connection is over in both directions.
				reset(client)
				reset(target)
				cancel()
			}
		})
	}
	writers.Wait()
}

// reset closes a connection so that the other side sees a reset, if it can.
func reset(c net.Conn) {
	if t, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = t.SetLinger(0) // only changes how it closes
	}
	c.Close()
}

// half is one direction of a connection: a bounded queue of what is under way.
type half struct {
	line   *Line
	out    *serialiser
	count  *atomic.Int64
	window *semaphore.Weighted // bytes
	queue  chan segment
}

// segment is what one read has brought, or the end of the stream.
type segment struct {
	due  time.Time // when it is at the other end
	data []byte
	full *[]byte // the pooled buffer that data lies in, if it does
	err  error   // instead of data: io.EOF, or how the source failed
}

func (l *Line) newHalf(out *serialiser, count *atomic.Int64) *half {
	return &half{line: l, out: out, count: count, window: semaphore.NewWeighted(int64(l.window)), queue: make(chan segment, maxSegments)}
}

// read puts what comes from c on the line until it ends or ctx does.
func (h *half) read(ctx context.Context, c net.Conn) {
	for {
		buf := h.line.chunks.Get().(*[]byte)
		n, err := c.Read(*buf)
		now := time.Now()
		if n > 0 {
			s := segment{data: (*buf)[:n], full: buf}
			if n < len(*buf)/2 { // keeps only what it needs
				s.data, s.full = append([]byte(nil), s.data...), nil
				h.line.chunks.Put(buf)
			}
			gone := h.out.reserve(now, n)
			s.due = gone.Add(h.line.c.RTT / 2)
			if h.window.Acquire(ctx, int64(n)) != nil || !h.put(ctx, s) || sleepUntil(ctx, gone.Add(-lead)) != nil {
				return
			}
		} else {
			h.line.chunks.Put(buf)
		}
		if err != nil {
			h.put(ctx, segment{due: now.Add(h.line.c.RTT / 2), err: err})
			return
		}
	}
}

func (h *half) put(ctx context.Context, s segment) bool {
	select {
	case h.queue <- s:
		return true
	case <-ctx.Done():
		return false
	}
}

// write gives what is on the line to c when it is due. The error is nil after
// an orderly end of the stream.
func (h *half) write(ctx context.Context, c net.Conn) error {
	for {
		var s segment
		select {
		case s = <-h.queue:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := sleepUntil(ctx, s.due); err != nil {
			return err
		}
		if s.err != nil {
			if !errors.Is(s.err, io.EOF) {
				return s.err
			}
			if t, ok := c.(interface{ CloseWrite() error }); ok {
				return t.CloseWrite()
			}
			return c.Close()
		}
		n, err := c.Write(s.data)
		h.count.Add(int64(n))
		h.window.Release(int64(len(s.data)))
		if s.full != nil {
			h.line.chunks.Put(s.full)
		}
		if err != nil {
			return err
		}
	}
}

// serialiser is the narrow end of one direction: what comes in leaves one
// after the other at the rate.
type serialiser struct {
	rate int64 // bytes per second; 0: no limit
	mu   sync.Mutex
	free time.Time // when all that has come in is through
}

// reserve returns when n bytes that come in now are through.
func (s *serialiser) reserve(now time.Time, n int) time.Time {
	if s.rate == 0 {
		return now
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Duration(float64(n) / float64(s.rate) * float64(time.Second)))
	return s.free
}

// sleepUntil returns at t, or with ctx's error when that ends first.
func sleepUntil(ctx context.Context, t time.Time) error {
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
