package read

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

type dirStore struct {
	dir  string
	bufs buffers
}

var _ Store = (*dirStore)(nil)

// Dir returns the Store in a folder.
func Dir(dir string) Store { return &dirStore{dir: dir, bufs: buffers{limit: 4 << 20}} }

func (s *dirStore) Block(ctx context.Context, e index.Entry, dst []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	limit := block.MaxStored(e.PlainLen)
	buf := s.bufs.get(limit)
	defer s.bufs.put(buf)
	stored, err := s.read(storepath.Block(e.SHA256), buf, int64(limit))
	if err != nil {
		return nil, fmt.Errorf("block %s: %w", e.SHA256.Short(), err)
	}
	return block.Decode(dst, stored, e.PlainLen, e.SHA256)
}

func (s *dirStore) Index(ctx context.Context, what string, want digest.Blob) (*index.Index, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	limit := want.Size
	if limit == 0 {
		limit = index.MaxBytes
	}
	b, err := s.read(storepath.Index(want.SHA256), nil, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return parseIndex(what, want, b)
}

// read returns the file's bytes, in buf's memory if they fit.
func (s *dirStore) read(path string, buf []byte, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(s.dir, filepath.FromSlash(path)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n := st.Size()
	if n > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed: %w", f.Name(), n, limit, block.ErrFormat)
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(f, buf); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return buf, nil
}
