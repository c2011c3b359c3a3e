// Package slowline is a long, narrow line for TCP connections: a relay that
// delays both directions by half of a round trip and lets all its connections
// share one rate. It is for benchmarks and tests on machines whose kernel has
// no netem.
//
// What it is: each byte leaves the relay half a round trip after it has passed
// a serialiser, of which there is one for each direction, however many
// connections use the line. A new connection costs one round trip before its
// first byte moves. A connection's window is larger than what the line holds,
// so one connection can fill the line; behind that, a sender is held up.
//
// What it is not: there are no lost packets, no slow start and no headers. The
// rate is that of the payload. Who opens connections often, or loses packets,
// is better off here than outside.
package slowline

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a line is like.
type Config struct {
	RTT  time.Duration // there and back, 0 or more
	Rate int64         // payload bytes per second in each direction; 0: no limit
}

// Line is one line. Several listeners may share it.
type Line struct {
	c          Config
	up, down   serialiser
	upN, downN atomic.Int64
	chunk      int // bytes of one read
	window     int // bytes of a connection in one direction that the line holds
	chunks     sync.Pool
}

// lead is how far ahead of the clock a connection may queue at the serialiser,
// so that a reader that the scheduler wakes late leaves no gap.
const lead = 5 * time.Millisecond

// The bounds of a connection's buffers, in bytes.
const (
	minChunk, maxChunk = 4 << 10, 64 << 10
	slack              = 256 << 10 // window beyond what the line holds in flight
	freeWindow         = 8 << 20   // window of a line without a rate
	maxSegments        = 1024      // of a window, however small they are
)

// New returns a line.
func New(c Config) (*Line, error) {
	if c.RTT < 0 || c.Rate < 0 || c.RTT > time.Minute || c.Rate > 1<<40 {
		return nil, fmt.Errorf("slow line: round trip of %v at %d bytes/s", c.RTT, c.Rate)
	}
	l := &Line{c: c, up: serialiser{rate: c.Rate}, down: serialiser{rate: c.Rate}, chunk: maxChunk, window: freeWindow}
	if c.Rate > 0 {
		// A piece takes about 2 ms, so that connections take turns often and
		// the processor is woken seldom.
		l.chunk = int(min(max(c.Rate/500, minChunk), maxChunk))
		l.window = int(min(c.Rate*int64(c.RTT/time.Microsecond)/1e6, 1<<30)) + slack
	}
	l.chunks.New = func() any { b := make([]byte, l.chunk); return &b }
	return l, nil
}

// Up and Down return the bytes that clients have sent and received so far.
func (l *Line) Up() int64   { return l.upN.Load() }
func (l *Line) Down() int64 { return l.downN.Load() }

// Serve relays the connections that ln accepts to those that dial opens, until
// ctx ends or ln fails. It closes ln, and returns when all its connections
// are closed. Its error is nil if ctx has ended.
func (l *Line) Serve(ctx context.Context, ln net.Listener, dial func(context.Context) (net.Conn, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		c, err := ln.Accept()
		if err != nil {
			ended := ctx.Err() != nil
			ln.Close()
			if ended {
				return nil
			}
			return fmt.Errorf("slow line: %w", err)
		}
		wg.Go(func() { l.connection(ctx, c, dial) })
	}
}

// Listen relays connections to target, which is host:port. Its address is on
// 127.0.0.1; end closes the relay and waits for its connections to go.
func (l *Line) Listen(ctx context.Context, target string) (address string, end func(), err error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("slow line: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer cancel()
		// An error is one of Accept; clients see that nobody answers.
		_ = l.Serve(ctx, ln, func(ctx context.Context) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", target)
		})
	}()
	return ln.Addr().String(), func() { cancel(); <-done }, nil
}
