// Package root writes a tree as an EROFS root in two files: meta (inodes,
// directories, chunk indexes) and data (the contents of files, each
// beginning on a page, uncompressed), as the kernel's documentation
// (Documentation/filesystems/erofs.rst, multiple devices) has it.
//
// The same tree always gives the same bytes: contents stand in the order of
// the tree, the build time is fixed, the UUID is zero.
package root

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/inetboot/inetboot/imagetool/source"
)

// PageSize is the alignment of contents and the block size of the
// filesystem, in bytes.
const PageSize = 4096

// maxData is what 32-bit block numbers reach, in bytes.
const maxData = 1 << 44

// ErrTooLarge is wrapped when a tree does not fit into EROFS.
var ErrTooLarge = errors.New("too large for EROFS")

// Plan says where in the data file the contents of a tree lie.
type Plan struct {
	tree    *source.Tree
	files   []*source.Entry         // with content, in order
	offsets map[*source.Entry]int64 // by first name
	size    int64
}

// NewPlan lays the contents of t out.
func NewPlan(t *source.Tree) (*Plan, error) {
	p := &Plan{tree: t, offsets: make(map[*source.Entry]int64)}
	for _, e := range t.Entries() {
		if !e.IsRegular() || e.Size == 0 || e.First != nil {
			continue
		}
		p.files = append(p.files, e)
		p.offsets[e] = p.size
		p.size += pages(e.Size) * PageSize
		if p.size > maxData || p.size < 0 {
			return nil, fmt.Errorf("the contents of the tree are %w: at most %d TiB", ErrTooLarge, int64(maxData)>>40)
		}
	}
	return p, nil
}

func pages(size int64) int64 { return (size + PageSize - 1) / PageSize }

// DataSize returns the length of the data file in bytes. It is 0 for a tree
// without any content.
func (p *Plan) DataSize() int64 { return p.size }

// Files returns how many files have content.
func (p *Plan) Files() int { return len(p.files) }

// readAhead is how many buffers of readBuffer bytes Data keeps filled.
const (
	readAhead  = 6
	readBuffer = 1 << 20
)

// Data returns the data file as a stream that a goroutine reads ahead.
// Closing it ends the goroutine.
func (p *Plan) Data(ctx context.Context) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{
		full: make(chan []byte, readAhead), free: make(chan []byte, readAhead),
		cancel: cancel, done: make(chan struct{}),
	}
	for range readAhead {
		s.free <- make([]byte, readBuffer)
	}
	go func() {
		defer close(s.done)
		defer close(s.full)
		s.err = p.produce(ctx, s)
	}()
	return s
}

// produce fills buffers with the contents of the files.
func (p *Plan) produce(ctx context.Context, s *stream) error {
	var buf []byte
	used := 0
	next := func() error { // hands buf over and takes a free one
		if used > 0 {
			select {
			case s.full <- buf[:used]:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case buf = <-s.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		buf, used = buf[:cap(buf)], 0
		return nil
	}
	if err := next(); err != nil {
		return err
	}
	copyFile := func(e *source.Entry) error {
		r, err := p.tree.Open(e)
		if err != nil {
			return err
		}
		defer r.Close()
		left := e.Size
		for left > 0 {
			if used == len(buf) {
				if err := next(); err != nil {
					return err
				}
			}
			n, err := r.Read(buf[used:min(int64(len(buf)), int64(used)+left)])
			used += n
			left -= int64(n)
			if err != nil && left > 0 {
				return source.ReadError(e, err)
			}
		}
		// Buffers are whole pages, so the rest of a page is in one buffer.
		pad := int(pages(e.Size)*PageSize - e.Size)
		clear(buf[used : used+pad])
		used += pad
		return nil
	}
	for _, e := range p.files {
		if err := copyFile(e); err != nil {
			return err
		}
	}
	if used > 0 {
		select {
		case s.full <- buf[:used]:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// stream hands filled buffers to its reader.
type stream struct {
	full, free chan []byte
	cancel     context.CancelFunc
	done       chan struct{}
	err        error // set before full is closed

	buf, rest []byte
	once      sync.Once
}

func (s *stream) Read(b []byte) (int, error) {
	if len(s.rest) == 0 {
		if s.buf != nil {
			s.free <- s.buf // never blocks: there are as many places as buffers
			s.buf = nil
		}
		buf, ok := <-s.full
		if !ok {
			if s.err != nil {
				return 0, s.err
			}
			return 0, io.EOF
		}
		s.buf, s.rest = buf, buf
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) Close() error {
	s.once.Do(func() {
		s.cancel()
		<-s.done
	})
	return nil
}
