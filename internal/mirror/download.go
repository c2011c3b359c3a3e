package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
)

// Download writes the file at path to w, from offset 0 on, and compares its
// length and hash with want while it arrives. A transfer that breaks is
// resumed, at the next mirror if need be. progress, unless nil, is told the
// number of bytes in place; the number goes back to 0 if bytes turn out to be
// wrong and the file is fetched anew.
//
// The contents of w are good only if Download returns nil. An error wraps
// digest.ErrMismatch if every mirror that answered sent other bytes; errors
// of w end the download at once.
func (c *Client) Download(ctx context.Context, path string, want digest.Blob, w io.WriterAt, progress func(int64)) error {
	d := &download{c: c, path: path, want: want, w: w, sum: sha256.New(), progress: progress}
	// Errors of w are not the mirrors' fault, so they leave rounds by the context.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return c.rounds(ctx, path, func(_ *search, a attempt) (bool, error) {
		before := d.done
		err := d.from(ctx, a)
		var local *localError
		if errors.As(err, &local) {
			cancel(local.err)
		}
		if d.done > before {
			d.last, d.told = time.Now(), false
		}
		waits := d.waits(err)
		if waits && !d.told && c.waiting != nil && c.alone(a.peer) {
			d.told = true
			c.waiting(a.peer.url, err)
		}
		return d.done > before || waits, err
	})
}

type download struct {
	c        *Client
	path     string
	want     digest.Blob
	w        io.WriterAt
	sum      hash.Hash
	done     int64
	source   *peer // the one mirror that all bytes so far are from; nil if several
	progress func(int64)
	last     time.Time // when bytes came last
	told     bool      // that it waits
	buf      [128 << 10]byte
}

// waits tells whether a download that has begun goes on after err, although
// nothing new came: the mirror cannot be asked, and that may be over soon.
func (d *download) waits(err error) bool {
	var unasked *url.Error
	return d.done > 0 && errors.As(err, &unasked) && time.Since(d.last) < d.c.resume
}

type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

func (d *download) restart() {
	d.sum.Reset()
	d.done, d.source = 0, nil
	d.report()
}

func (d *download) report() {
	if d.progress != nil {
		d.progress(d.done)
	}
}

func (d *download) from(ctx context.Context, a attempt) error {
	mixed := d.done > 0 && d.source != a.peer
	err := d.once(ctx, a)
	if errors.Is(err, digest.ErrMismatch) {
		d.restart()
		if mixed {
			// Another mirror may have spoiled the beginning.
			if err = d.once(ctx, a); errors.Is(err, digest.ErrMismatch) {
				d.restart()
			}
		}
	}
	return err
}

func (d *download) once(ctx context.Context, a attempt) error {
	resp, err := d.c.request(ctx, &a, d.path, d.done)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if d.done == 0 {
		d.source = a.peer
	} else if d.source != a.peer {
		d.source = nil
	}
	skip := int64(0)
	if resp.StatusCode == 200 {
		skip = d.done // no ranges here: what is in place comes again
	}
	if n := resp.ContentLength; n >= 0 && d.done-skip+n != d.want.Size {
		return fmt.Errorf("%w: the file has %d bytes there, want %d: %w", ErrRejected, d.done-skip+n, d.want.Size, digest.ErrMismatch)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, skip); err != nil {
		return err
	}
	for {
		n, err := resp.Body.Read(d.buf[:])
		if d.done+int64(n) > d.want.Size {
			return fmt.Errorf("%w: more than the %d bytes that are listed: %w", ErrRejected, d.want.Size, digest.ErrMismatch)
		}
		if n > 0 {
			if _, err := d.w.WriteAt(d.buf[:n], d.done); err != nil {
				return &localError{fmt.Errorf("store %s: %w", d.path, err)}
			}
			d.sum.Write(d.buf[:n])
			d.done += int64(n)
			d.report()
		}
		switch {
		case errors.Is(err, io.EOF) && d.done == d.want.Size:
			var got digest.SHA256
			d.sum.Sum(got[:0])
			if got != d.want.SHA256 {
				return fmt.Errorf("%w: %w", ErrRejected, &digest.MismatchError{What: d.path, Want: d.want.SHA256, Got: got})
			}
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: the answer ends after %d of %d bytes", ErrUnavailable, d.done, d.want.Size)
		case err != nil:
			return err
		}
	}
}
