package cachedisk

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// ErrHangs is wrapped when a disk did not answer in time.
var ErrHangs = errors.New("the disk does not answer")

// within calls f, which may hang beyond the reach of any signal, and waits for
// it no longer than limit. If f returns without an error after it was
// abandoned, undo gets its result. what says what f does.
func within[T any](ctx context.Context, limit time.Duration, what string, f func() (T, error), undo func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	var decided atomic.Bool // who sets it first decides what becomes of the result
	go func() {
		v, err := f()
		switch {
		case decided.CompareAndSwap(false, true):
			done <- result{v, err}
		case err == nil:
			undo(v)
		}
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	var err error
	select {
	case r := <-done:
		return r.v, r.err
	case <-t.C:
		err = fmt.Errorf("%s: %w (waited %v)", what, ErrHangs, limit)
	case <-ctx.Done():
		err = fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if !decided.CompareAndSwap(false, true) { // it came at the last moment
		r := <-done
		return r.v, r.err
	}
	var none T
	return none, err
}
