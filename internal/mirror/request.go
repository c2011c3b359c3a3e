package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// request gets path from a's mirror, beginning at byte offset. The caller
// closes the body, which ends with an error if no byte arrives for the idle
// time, or too few while there is another mirror.
func (c *Client) request(ctx context.Context, a *attempt, path string, offset int64) (*http.Response, error) {
	rng := ""
	if offset > 0 {
		rng = fmt.Sprintf("bytes=%d-", offset)
	}
	resp, _, err := c.get(ctx, a, path, rng)
	if err == nil && resp.StatusCode == http.StatusPartialContent {
		var first int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first != offset {
			resp.Body.Close()
			return nil, fmt.Errorf("%w: asked from byte %d, answer has Content-Range %q", ErrUnavailable, offset, resp.Header.Get("Content-Range"))
		}
	}
	return resp, err
}

// get sends one request for a range of path ("": all of it) and returns a good
// answer, and how long it took to begin.
func (c *Client) get(ctx context.Context, a *attempt, path, rng string) (*http.Response, time.Duration, error) {
	giveBack, err := c.turn(ctx, a)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if !c.begin(a, cancel) {
		cancel(nil)
		giveBack()
		return nil, 0, errPassed
	}
	done := sync.OnceFunc(func() {
		cancel(nil)
		c.end(a)
		giveBack()
	})
	fail := func(err error) (*http.Response, time.Duration, error) {
		done()
		return nil, 0, err
	}

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.peer.url+"/"+path, nil)
	if err != nil {
		return fail(err)
	}
	req.Header.Set("User-Agent", "inetboot")
	if rng != "" {
		req.Header.Set("Range", rng)
	}
	if limit := c.headLimit(a); limit > 0 {
		t := time.AfterFunc(limit, func() {
			if c.headLimit(a) > 0 {
				cancel(errSlow)
			}
		})
		defer t.Stop()
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); ours(cause) {
			err = cause
		}
		return fail(fmt.Errorf("%w: %w", ErrUnavailable, err))
	}
	if err := judge(resp, rng != ""); err != nil {
		resp.Body.Close()
		return fail(err)
	}
	took := c.answer(a)
	resp.Body = &body{body: resp.Body, c: c, a: a, ctx: ctx, cancel: cancel, done: done}
	return resp, took, nil
}

// judge returns an error unless resp is a good answer.
func judge(resp *http.Response, ranged bool) error {
	switch code := resp.StatusCode; {
	case code == http.StatusOK, code == http.StatusPartialContent && ranged:
		return nil
	case code == http.StatusNotFound || code == http.StatusGone:
		return fmt.Errorf("%w (%s)", ErrNotFound, resp.Status)
	case code == http.StatusRequestTimeout || code == http.StatusTooManyRequests || code >= 500:
		return fmt.Errorf("%w: the server answers %s", ErrUnavailable, resp.Status)
	case code == http.StatusProxyAuthRequired:
		return fmt.Errorf("%w: the proxy wants a user and password, or others (%s)", ErrRefused, resp.Status)
	}
	return fmt.Errorf("%w: it answers %s", ErrRefused, resp.Status)
}

// turn waits until a may be sent.
func (c *Client) turn(ctx context.Context, a *attempt) (giveBack func(), err error) {
	if a.probe {
		return func() {}, nil
	}
	slots := c.slots
	if a.second {
		select {
		case c.slots <- struct{}{}:
			return func() { <-c.slots }, nil
		default:
			slots = c.spare
		}
	}
	select {
	case slots <- struct{}{}:
		return func() { <-slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// ours tells whether a request was ended from here because of its mirror.
func ours(cause error) bool {
	for _, e := range []error{errIdle, errSlow, errAbandoned, errOutrun} {
		if errors.Is(cause, e) {
			return true
		}
	}
	return false
}
