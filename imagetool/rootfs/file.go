// Package rootfs reads the roots of published images: files out of verified
// blocks, and the tree in them.
package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/storepath"
)

const (
	// keep is how many blocks of a file stay in memory: at most 48 MiB.
	keep = 48
	// ahead is how many blocks behind the one that is wanted are fetched, if
	// the reader went on to it from the one before.
	ahead = 12
)

// File is a file of a root. It fetches blocks as they are needed, and is safe
// for concurrent use.
type File struct {
	ctx context.Context
	src catalog.Source
	x   *index.Index

	mu     sync.Mutex
	blocks map[int]*fetch
	order  []int // of blocks, the oldest first
	last   int
}

var _ io.ReaderAt = (*File)(nil)

// fetch is a block in memory or on the way there.
type fetch struct {
	done chan struct{}
	data []byte
	err  error
}

// NewFile returns the file that an index lists. It reads until ctx ends.
func NewFile(ctx context.Context, src catalog.Source, x *index.Index) *File {
	return &File{ctx: ctx, src: src, x: x, blocks: make(map[int]*fetch), last: -2}
}

// Size returns the length in bytes.
func (f *File) Size() int64 { return f.x.Size() }

// ReadAt implements io.ReaderAt.
func (f *File) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("read a root: negative offset")
	}
	for n < len(p) {
		if off+int64(n) >= f.x.Size() {
			return n, io.EOF
		}
		i := f.x.Find(off + int64(n))
		e := f.x.Entry(i)
		within := off + int64(n) - f.x.Offset(i)
		if e.Zero() {
			k := min(int64(len(p)-n), int64(e.PlainLen)-within)
			clear(p[n : n+int(k)])
			n += int(k)
			continue
		}
		data, err := f.block(i)
		if err != nil {
			return n, err
		}
		n += copy(p[n:], data[within:])
	}
	return n, nil
}

// block returns the content of block i.
func (f *File) block(i int) ([]byte, error) {
	f.mu.Lock()
	b := f.start(i)
	if i == f.last+1 {
		for k := i + 1; k <= i+ahead && k < f.x.Len(); k++ {
			if !f.x.Entry(k).Zero() {
				f.start(k)
			}
		}
	}
	f.last = i
	f.mu.Unlock()
	select {
	case <-b.done:
		return b.data, b.err
	case <-f.ctx.Done():
		return nil, f.ctx.Err()
	}
}

// start begins to fetch a block, unless that has been done. The caller holds
// mu.
func (f *File) start(i int) *fetch {
	if b := f.blocks[i]; b != nil {
		return b
	}
	for len(f.order) >= keep {
		delete(f.blocks, f.order[0])
		f.order = f.order[1:]
	}
	b := &fetch{done: make(chan struct{})}
	f.blocks[i] = b
	f.order = append(f.order, i)
	go func() {
		defer close(b.done)
		b.data, b.err = f.fetch(i)
		if b.err != nil { // the next reader tries again
			f.mu.Lock()
			if f.blocks[i] == b {
				delete(f.blocks, i)
				for k, o := range f.order {
					if o == i {
						f.order = append(f.order[:k:k], f.order[k+1:]...)
						break
					}
				}
			}
			f.mu.Unlock()
		}
	}()
	return b
}

func (f *File) fetch(i int) (plain []byte, err error) {
	e := f.x.Entry(i)
	_, err = f.src.Read(f.ctx, storepath.Block(e.SHA256), nil, int64(block.MaxStored(e.PlainLen)), func(stored []byte) error {
		plain, err = block.Decode(nil, stored, e.PlainLen, e.SHA256)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read block %s: %w", e.SHA256.Short(), err)
	}
	return plain, nil
}
