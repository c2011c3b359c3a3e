package read

import (
	"context"
	"errors"
	"fmt"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
)

type mirrorStore struct {
	c    *mirror.Client
	keep Keep
	bufs buffers
}

var _ Store = (*mirrorStore)(nil)

// Mirror returns the Store behind c. A client for a Blocks should give up
// after one attempt: Blocks waits between attempts without holding a
// connection, and says so.
func Mirror(c *mirror.Client) Store { return KeepingMirror(c, nil) }

// KeepingMirror is Mirror with somebody who is told of every block.
func KeepingMirror(c *mirror.Client, keep Keep) Store {
	return &mirrorStore{c: c, keep: keep, bufs: buffers{limit: 4 << 20}}
}

func (s *mirrorStore) Block(ctx context.Context, e index.Entry, dst []byte) ([]byte, error) {
	hint := e.StoredLen
	if hint <= 0 || hint > block.MaxStored(e.PlainLen) {
		hint = block.MaxStored(e.PlainLen)
	}
	buf := s.bufs.get(hint)
	defer s.bufs.put(buf)
	var plain []byte
	_, err := s.c.Read(ctx, storepath.Block(e.SHA256), buf, int64(block.MaxStored(e.PlainLen)), func(stored []byte) error {
		var err error
		plain, err = block.Decode(dst, stored, e.PlainLen, e.SHA256)
		if err == nil && s.keep != nil {
			s.keep(e, stored)
		}
		return err
	})
	if err != nil {
		return nil, classify(ctx, "block "+e.SHA256.Short(), err)
	}
	return plain, nil
}

func (s *mirrorStore) Index(ctx context.Context, what string, want digest.Blob) (*index.Index, error) {
	limit := want.Size
	if limit == 0 {
		limit = index.MaxBytes
	}
	var x *index.Index
	_, err := s.c.Read(ctx, storepath.Index(want.SHA256), nil, limit, func(b []byte) error {
		var err error
		x, err = parseIndex(what, want, b)
		return err
	})
	if err != nil {
		return nil, classify(ctx, what, err)
	}
	return x, nil
}

func parseIndex(what string, want digest.Blob, b []byte) (*index.Index, error) {
	if want.Size != 0 && int64(len(b)) != want.Size {
		return nil, fmt.Errorf("%s has %d bytes, but %d are listed: %w", what, len(b), want.Size, digest.ErrMismatch)
	}
	if err := want.SHA256.Check(what, b); err != nil {
		return nil, err
	}
	x, err := index.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return x, nil
}

// classify sorts errors of a mirror client into those that may pass and others.
// If one of several mirrors may come back, all of it may pass.
func classify(ctx context.Context, what string, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, mirror.ErrUnavailable):
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	case errors.Is(err, mirror.ErrNotFound) && !errors.Is(err, digest.ErrMismatch):
		return fmt.Errorf("%s: %w: %w", what, ErrNotFound, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
