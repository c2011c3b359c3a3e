package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// ErrOffline is wrapped when a file is not in the cache and there is no
// network to get it from.
var ErrOffline = errors.New("there is no network")

// Store is where the files of a store come from. *mirror.Client is one.
type Store interface {
	catalog.Source
	Download(ctx context.Context, path string, want digest.Blob, w io.WriterAt, progress func(int64)) error
}

// Source is the cache in front of the network. What the newest catalog is
// comes from the network alone; everything else, which has a hash or a version
// in its name, from the cache if it is there and right, else from the network.
//
// It remembers the targets that it has read, for handing them on.
type Source struct {
	Disk   func() *Disk // the cache, nil as long as there is none
	Remote Store        // nil: no network
	Log    func(string) // told about files of the cache that are not used

	cached atomic.Int64

	mu   sync.Mutex
	read map[string][]byte
}

// Cached returns how many bytes of kernels and initrds have been taken from
// the cache.
func (s *Source) Cached() int64 { return s.cached.Load() }

// Read implements catalog.Source.
func (s *Source) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	kind, _, _ := storepath.Parse(path)
	data, err := []byte(nil), error(ErrNotCached)
	if d := s.Disk(); d != nil && (kind.Immutable() || storepath.Versioned(path) || s.Remote == nil) {
		if data, err = d.Read(ctx, path, nil, limit, accept); err != nil {
			s.passOver(path, err)
		}
	}
	switch {
	case err == nil:
	case s.Remote == nil:
		return nil, fmt.Errorf("%w: %w", ErrOffline, err)
	default:
		if data, err = s.Remote.Read(ctx, path, buf, limit, accept); err != nil {
			return nil, err
		}
	}
	if kind == storepath.KindTarget {
		s.keep(path, data)
	}
	return data, nil
}

// keep remembers a file.
func (s *Source) keep(path string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read == nil {
		s.read = make(map[string][]byte)
	}
	s.read[path] = append([]byte(nil), data...)
}

// Kept returns a file that was read before, or nil.
func (s *Source) Kept(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read[path]
}

// Download implements download.Source.
func (s *Source) Download(ctx context.Context, path string, want digest.Blob, w io.WriterAt, progress func(int64)) error {
	err := error(ErrNotCached)
	if d := s.Disk(); d != nil {
		if err = d.Download(ctx, path, want, w, progress); err == nil {
			if kind, _, _ := storepath.Parse(path); kind == storepath.KindFile {
				s.cached.Add(want.Size)
			}
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.passOver(path, err)
		if progress != nil {
			progress(0)
		}
	}
	if s.Remote == nil {
		return fmt.Errorf("%w: %w", ErrOffline, err)
	}
	return s.Remote.Download(ctx, path, want, w, progress)
}

// passOver says that a file of the cache is not used, unless it just is not
// there.
func (s *Source) passOver(path string, err error) {
	if s.Log != nil && !errors.Is(err, ErrNotCached) && !errors.Is(err, context.Canceled) {
		s.Log(fmt.Sprintf("%s in the cache is not used: %v", path, err))
	}
}

var _ catalog.Source = (*Source)(nil)
