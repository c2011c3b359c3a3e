package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// body is an answer's. It ends a request on which nothing arrives, or too
// little while there is another mirror. Time in which nobody reads does not
// count.
type body struct {
	body   io.ReadCloser
	c      *Client
	a      *attempt
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   func()

	mu     sync.Mutex
	timer  *time.Timer
	since  time.Time     // when the Read under way began; zero: none
	waited time.Duration // in this window
	got    int64         // bytes in this window
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	b.since = time.Now()
	wait := min(b.c.idle, max(slowWindow-b.waited, time.Millisecond))
	if b.timer == nil {
		b.timer = time.AfterFunc(wait, b.watch)
	} else {
		b.timer.Reset(wait)
	}
	b.mu.Unlock()

	n, err := b.body.Read(p)

	b.mu.Lock()
	b.timer.Stop()
	b.waited += time.Since(b.since)
	b.since = time.Time{}
	b.got += int64(n)
	waited, got := b.waited, b.got
	if waited >= slowWindow {
		b.waited, b.got = 0, 0
	}
	b.mu.Unlock()
	b.c.received(b.a, n)

	switch {
	case err == io.EOF:
	case err != nil:
		if cause := context.Cause(b.ctx); errors.Is(cause, errIdle) {
			err = fmt.Errorf("%w: %w (%v)", ErrUnavailable, errIdle, b.c.idle)
		} else if ours(cause) {
			err = fmt.Errorf("%w: %w", ErrUnavailable, cause)
		} else {
			err = fmt.Errorf("%w: the answer broke off: %w", ErrUnavailable, err)
		}
	case waited >= slowWindow:
		if b.c.tooSlow(b.a.peer, got, waited) {
			b.cancel(errSlow)
			return n, fmt.Errorf("%w: %w", ErrUnavailable, errSlow)
		}
		b.c.sample(b.a.peer, got, waited)
	}
	return n, err
}

// watch is called while a Read lasts long.
func (b *body) watch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.since.IsZero() {
		return
	}
	in := time.Since(b.since)
	slow := false
	switch {
	case in >= b.c.idle:
		b.cancel(errIdle)
		return
	case in >= slowWindow:
		slow = b.c.tooSlow(b.a.peer, 0, in)
	case b.waited+in >= slowWindow:
		slow = b.c.tooSlow(b.a.peer, b.got, b.waited+in)
	}
	if slow {
		b.cancel(errSlow)
		return
	}
	wait := b.c.idle - in
	if in < slowWindow {
		wait = min(wait, slowWindow-in)
	} else {
		wait = min(wait, time.Second) // another mirror may come back
	}
	b.timer.Reset(wait)
}

func (b *body) Close() error {
	b.mu.Lock()
	if b.timer != nil {
		b.timer.Stop()
	}
	got, waited := b.got, b.waited
	b.got = 0
	b.mu.Unlock()
	if got >= 64<<10 {
		b.c.sample(b.a.peer, got, waited)
	}
	err := b.body.Close()
	b.done()
	return err
}
