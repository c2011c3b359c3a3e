package mirror

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Stream returns the file at path as it arrives, and its size, -1 if the
// mirror does not say. More than limit bytes are an error (ErrTooLarge), also
// in the midst of reading. It is for files that nobody vouches for: which
// bytes come is for the caller to judge.
//
// Mirrors are tried like in Read until one begins to answer well. An answer
// that breaks off, stalls, or is too slow while there is another mirror ends
// with an error that wraps ErrUnavailable; it is not resumed, but another
// Stream will ask another mirror. The caller closes the reader.
func (c *Client) Stream(ctx context.Context, path string, limit int64) (io.ReadCloser, int64, error) {
	var s *stream
	err := c.rounds(ctx, path, func(_ *search, a attempt) (bool, error) {
		began := time.Now()
		resp, err := c.request(ctx, &a, path, 0)
		if err != nil {
			return false, err
		}
		if resp.ContentLength > limit {
			resp.Body.Close()
			return false, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, resp.ContentLength, limit)
		}
		s = &stream{ReadCloser: resp.Body, c: c, peer: a.peer, ctx: ctx, began: began, left: limit, size: resp.ContentLength}
		return true, nil
	})
	if err != nil {
		return nil, 0, err
	}
	return s, s.size, nil
}

// stream is the body of a Stream.
type stream struct {
	io.ReadCloser
	c     *Client
	peer  *peer
	ctx   context.Context
	began time.Time
	left  int64
	size  int64
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if s.left -= int64(n); s.left < 0 {
		return n, fmt.Errorf("%w: more than announced or allowed", ErrTooLarge)
	}
	if err != nil && err != io.EOF && s.ctx.Err() == nil {
		s.c.fail(s.peer, err, s.began)
	}
	return n, err
}
