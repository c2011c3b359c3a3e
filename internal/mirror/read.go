package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Second requests.
const (
	hedgePatience = time.Second // how long an answer may take before another mirror is asked too, or headTimes what the mirror usually takes
	hedgeStart    = 2           // that may be sent from the start
	hedgeShare    = 0.125       // that may be sent for each Read
	hedgeMost     = 4           // that may be saved up
	hedgeLargest  = 8 << 20     // bytes of a file that may be read twice
)

// Read returns the file at path, at most limit bytes of it: a longer file is
// an error. The result uses buf's memory if that is large enough. accept
// judges the bytes; if it returns an error the next mirror is asked. A nil
// accept takes anything. It is not called by two goroutines at once, and
// not again after it has accepted.
//
// When the answer is late or trickles, another mirror is asked too, for one
// Read in eight at most, and the first good answer counts.
//
// The error wraps what the mirrors did (see [Error]): ErrNotFound,
// ErrTooLarge, ErrUnavailable, or ErrRejected together with accept's error.
func (c *Client) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	c.mu.Lock()
	c.hedges = min(hedgeMost, c.hedges+hedgeShare)
	c.mu.Unlock()
	r := &race{c: c, path: path, limit: limit, accept: accept}
	err := c.rounds(ctx, path, func(s *search, a attempt) (bool, error) {
		err := r.run(ctx, s, &a, buf)
		return err == nil, err
	})
	return r.out, err
}

// race is one file that is read from a mirror, and perhaps from a second one.
type race struct {
	c      *Client
	path   string
	limit  int64
	accept func([]byte) error

	mu  sync.Mutex
	won *peer
	out []byte
}

// run reads the file from a's mirror, and starts a second request if need be.
func (r *race) run(ctx context.Context, s *search, a *attempt, buf []byte) error {
	if a.last || r.limit > hedgeLargest || !r.c.hasOther(a.peer) {
		return r.read(ctx, a, buf)
	}
	fctx, fcancel := context.WithCancelCause(ctx)
	defer fcancel(nil)
	sctx, scancel := context.WithCancel(ctx)
	defer scancel()
	h := &hedge{}
	h.mu.Lock()
	h.timer = time.AfterFunc(r.c.hedgeWait(a), func() {
		h.mu.Lock()
		if h.over {
			h.mu.Unlock()
			return
		}
		if wait := r.c.hedgeWait(a); wait > 0 {
			h.timer.Reset(wait)
			h.mu.Unlock()
			return
		}
		h.a = r.c.second(s, a.peer)
		if h.a == nil {
			if r.c.resting(a.peer) {
				fcancel(errAbandoned)
			}
			h.timer.Reset(hedgePatience)
			h.mu.Unlock()
			return
		}
		h.done = make(chan struct{})
		h.mu.Unlock()
		defer close(h.done)
		h.began = time.Now()
		if h.err = r.read(sctx, h.a, nil); h.err == nil {
			fcancel(errOutrun)
		}
	})
	h.mu.Unlock()
	began := time.Now()
	err := r.read(fctx, a, buf)

	h.mu.Lock()
	h.over = true
	h.timer.Stop()
	h.mu.Unlock()
	if h.done == nil {
		return err
	}
	if err == nil {
		scancel()
	}
	<-h.done
	switch {
	case err == nil:
		return nil
	case h.err == nil:
		// What the first one did by itself until then counts against it.
		if errors.Is(err, errOutrun) {
			r.c.strike(a.peer, began)
		} else {
			r.c.fail(a.peer, err, began)
		}
		s.by = h.a.peer
		r.c.succeed(h.a.peer, h.began)
		return nil
	case ctx.Err() == nil && !errors.Is(h.err, errPassed):
		if !permanent(h.err) {
			r.c.fail(h.a.peer, h.err, h.began)
		}
		s.note(h.a.peer, h.began, h.err, permanent(h.err) && r.c.attempts >= 0)
	}
	return err
}

// hedge is the second request of a race. mu guards over and the start; what
// it did may be read when done is closed.
type hedge struct {
	mu    sync.Mutex
	over  bool // the first request has ended
	timer *time.Timer
	a     *attempt
	began time.Time
	err   error
	done  chan struct{} // nil: no second request was sent
}

func (c *Client) hasOther(p *peer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.other(p) != nil
}

// resting tells whether p rests while another mirror can be asked.
func (c *Client) resting(p *peer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !p.usable() && c.other(p) != nil
}

// hedgeWait returns how long to wait before a second request is sent, 0 if a
// is late now: its answer has not begun, or trickles.
func (c *Client) hedgeWait(a *attempt) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	patience := a.peer.patience(hedgePatience)
	if a.start.IsZero() {
		return patience
	}
	if a.answered.IsZero() {
		return max(0, patience-time.Since(a.start))
	}
	if d := time.Since(a.answered); d < hedgePatience {
		return hedgePatience - d
	} else if float64(a.bytes) >= slowFloor*d.Seconds() {
		return hedgePatience
	}
	return 0
}

// second returns a request to another mirror than p, nil if none may be sent.
func (c *Client) second(s *search, p *peer) *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hedges < 1 {
		return nil
	}
	for _, q := range c.ranked() {
		if q != p && q.sound() && s.open(q) {
			c.hedges--
			return &attempt{peer: q, second: true}
		}
	}
	return nil
}

// read reads the file by one request and has it judged.
func (r *race) read(ctx context.Context, a *attempt, buf []byte) error {
	resp, err := r.c.request(ctx, a, r.path, 0)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.ContentLength > r.limit {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, resp.ContentLength, r.limit)
	}
	b, err := readAll(resp.Body, buf, resp.ContentLength, r.limit)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.won != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, errOutrun)
	}
	if r.accept != nil {
		if err := r.accept(b); err != nil {
			return fmt.Errorf("%w: %w", ErrRejected, err)
		}
	}
	r.won, r.out = a.peer, b
	return nil
}

// readAll reads up to limit bytes; length is what was announced, or -1.
func readAll(r io.Reader, buf []byte, length, limit int64) ([]byte, error) {
	if length >= 0 {
		if int64(cap(buf)) < length {
			buf = make([]byte, length)
		}
		buf = buf[:length]
		if _, err := io.ReadFull(r, buf); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = fmt.Errorf("%w: the answer is shorter than the %d bytes it announced", ErrUnavailable, length)
			}
			return nil, err
		}
		return buf, nil
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		room := buf[len(buf):cap(buf)]
		n, err := r.Read(room)
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > limit {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
		}
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
