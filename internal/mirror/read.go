package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Read returns the file at path, at most limit bytes of it: a longer file is
// an error. The result uses buf's memory if that is large enough. accept
// judges the bytes; if it returns an error the next mirror is asked. A nil
// accept takes anything.
//
// The error wraps what the mirrors did (see [Error]): ErrNotFound,
// ErrTooLarge, ErrUnavailable, or ErrRejected together with accept's error.
func (c *Client) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	var out []byte
	err := c.rounds(ctx, path, func(base string) (bool, error) {
		resp, err := c.request(ctx, base, path, 0)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		if resp.ContentLength > limit {
			return false, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, resp.ContentLength, limit)
		}
		b, err := readAll(resp.Body, buf, resp.ContentLength, limit)
		if err != nil {
			return false, err
		}
		if accept != nil {
			if err := accept(b); err != nil {
				return false, fmt.Errorf("%w: %w", ErrRejected, err)
			}
		}
		out = b
		return true, nil
	})
	return out, err
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
