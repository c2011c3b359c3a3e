package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// request gets path from base, beginning at byte offset. The caller closes
// the body, which ends with an error if no byte arrives for the idle time.
func (c *Client) request(ctx context.Context, base, path string, offset int64) (*http.Response, error) {
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	release := func() { cancel(nil); <-c.slots }

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/"+path, nil)
	if err != nil {
		release()
		return nil, err
	}
	req.Header.Set("User-Agent", "inetboot")
	if offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		release()
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	fail := func(err error) (*http.Response, error) {
		resp.Body.Close()
		release()
		return nil, err
	}
	switch {
	case resp.StatusCode == http.StatusOK:
	case resp.StatusCode == http.StatusPartialContent && offset > 0:
		var first int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first != offset {
			return fail(fmt.Errorf("%w: asked from byte %d, answer has Content-Range %q", ErrUnavailable, offset, resp.Header.Get("Content-Range")))
		}
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		return fail(fmt.Errorf("%w (%s)", ErrNotFound, resp.Status))
	case resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		return fail(fmt.Errorf("%w: the server answers %s", ErrUnavailable, resp.Status))
	default:
		return fail(fmt.Errorf("%w: it answers %s", ErrRefused, resp.Status))
	}
	resp.Body = &watchedBody{body: resp.Body, idle: c.idle, cancel: cancel, release: release,
		timer: time.AfterFunc(c.idle, func() { cancel(errIdle) }), ctx: ctx}
	return resp, nil
}

var errIdle = errors.New("no byte arrived in time")

// watchedBody ends a request on which nothing arrives, and gives its slot back.
type watchedBody struct {
	body    io.ReadCloser
	idle    time.Duration
	timer   *time.Timer
	ctx     context.Context
	cancel  context.CancelCauseFunc
	release func()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if n > 0 {
		b.timer.Reset(b.idle)
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(b.ctx); errors.Is(cause, errIdle) {
			err = fmt.Errorf("%w: %w (%v)", ErrUnavailable, errIdle, b.idle)
		} else {
			err = fmt.Errorf("%w: the answer broke off: %w", ErrUnavailable, err)
		}
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	err := b.body.Close()
	if b.release != nil {
		b.release()
		b.release = nil
	}
	return err
}
