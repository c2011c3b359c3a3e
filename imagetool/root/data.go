package root

import (
	"context"
	"io"
	"sync"

	"github.com/inetboot/inetboot/blockfs/cut"
	"github.com/inetboot/inetboot/imagetool/source"
)

// readAhead is how many buffers of readBuffer bytes Data keeps filled.
const (
	readAhead  = 6
	readBuffer = 1 << 20 // whole pages
	minHole    = 16 * PageSize
)

// Data returns the data file as a stream that a goroutine reads ahead. Holes
// of the files are not read: the stream is a [cut.ZeroSkipper]. Closing it
// ends the goroutine.
func (p *Plan) Data(ctx context.Context) io.ReadCloser {
	ctx, cancel := context.WithCancel(ctx)
	s := &stream{
		full: make(chan piece, readAhead), free: make(chan []byte, readAhead),
		cancel: cancel, done: make(chan struct{}),
	}
	for range readAhead {
		s.free <- make([]byte, readBuffer)
	}
	go func() {
		defer close(s.done)
		defer close(s.full)
		f := &filler{ctx: ctx, s: s}
		for _, e := range p.files {
			if s.err = f.file(p.tree, e); s.err != nil {
				return
			}
		}
		s.err = f.flush()
	}()
	return s
}

// piece is a part of the data file: the bytes of buf, or zeros.
type piece struct {
	buf   []byte
	zeros int64
}

// filler fills buffers with the contents of files.
type filler struct {
	ctx  context.Context
	s    *stream
	buf  []byte
	used int
}

// flush hands over what is in the buffer.
func (f *filler) flush() error {
	if f.used == 0 {
		return nil
	}
	p := piece{buf: f.buf[:f.used]}
	f.buf, f.used = nil, 0
	return f.send(p)
}

func (f *filler) send(p piece) error {
	select {
	case f.s.full <- p:
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// room sees to it that there is room in the buffer.
func (f *filler) room() error {
	if f.used < len(f.buf) {
		return nil
	}
	if err := f.flush(); err != nil {
		return err
	}
	select {
	case f.buf = <-f.s.free:
		f.buf = f.buf[:cap(f.buf)]
		return nil
	case <-f.ctx.Done():
		return f.ctx.Err()
	}
}

// zeros adds n zero bytes by writing them.
func (f *filler) zeros(n int64) error {
	for n > 0 {
		if err := f.room(); err != nil {
			return err
		}
		k := int(min(n, int64(len(f.buf)-f.used)))
		clear(f.buf[f.used : f.used+k])
		f.used += k
		n -= int64(k)
	}
	return nil
}

// hole adds n zero bytes. Those that fill many pages are not written.
func (f *filler) hole(n int64) error {
	head := min(int64(-f.used&(PageSize-1)), n)
	if err := f.zeros(head); err != nil {
		return err
	}
	whole := (n - head) &^ (PageSize - 1)
	if whole < minHole {
		return f.zeros(n - head)
	}
	if err := f.flush(); err != nil {
		return err
	}
	if err := f.send(piece{zeros: whole}); err != nil {
		return err
	}
	return f.zeros(n - head - whole)
}

// file adds the content of e, filled up to whole pages.
func (f *filler) file(t *source.Tree, e *source.Entry) error {
	r, err := t.Open(e)
	if err != nil {
		return err
	}
	defer r.Close()
	holes, _ := r.(source.HoleSkipper)
	pad := pages(e.Size)*PageSize - e.Size
	for left := e.Size; left > 0; {
		if holes != nil {
			n, err := holes.SkipHole()
			if err != nil {
				return source.ReadError(e, err)
			}
			n = min(n, left)
			if n == left {
				return f.hole(n + pad)
			}
			if err := f.hole(n); err != nil {
				return err
			}
			left -= n
		}
		if err := f.room(); err != nil {
			return err
		}
		n, err := r.Read(f.buf[f.used:min(int64(len(f.buf)), int64(f.used)+left)])
		f.used += n
		left -= int64(n)
		if err != nil && left > 0 {
			return source.ReadError(e, err)
		}
	}
	return f.zeros(pad)
}

// stream hands pieces to its reader.
type stream struct {
	full   chan piece
	free   chan []byte
	cancel context.CancelFunc
	done   chan struct{}
	err    error // set before full is closed

	buf, rest []byte
	hole      int64 // zeros that come next
	once      sync.Once
}

var _ cut.ZeroSkipper = (*stream)(nil)

// next gets a piece, unless there is still something of the last one.
func (s *stream) next() error {
	if len(s.rest) > 0 || s.hole > 0 {
		return nil
	}
	if s.buf != nil {
		s.free <- s.buf // never blocks: there are as many places as buffers
		s.buf = nil
	}
	p, ok := <-s.full
	if !ok {
		if s.err != nil {
			return s.err
		}
		return io.EOF
	}
	s.buf, s.rest, s.hole = p.buf, p.buf, p.zeros
	return nil
}

func (s *stream) Read(b []byte) (int, error) {
	if err := s.next(); err != nil {
		return 0, err
	}
	if s.hole > 0 {
		n := int(min(s.hole, int64(len(b))))
		clear(b[:n])
		s.hole -= int64(n)
		return n, nil
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// SkipZeros implements [cut.ZeroSkipper].
func (s *stream) SkipZeros(align int) int64 {
	n := int64(0)
	for s.next() == nil && s.hole > 0 {
		k := s.hole / int64(align) * int64(align)
		if k == 0 {
			break
		}
		s.hole -= k
		n += k
	}
	return n
}

func (s *stream) Close() error {
	s.once.Do(func() {
		s.cancel()
		<-s.done
	})
	return nil
}
