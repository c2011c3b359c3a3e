package read

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/inetboot/inetboot/blockfs/index"
)

// File is one file of blocks. It is safe for concurrent use.
type File struct {
	b *Blocks
	x *index.Index

	access atomic.Pointer[func(block int)]

	mu      sync.Mutex
	streams [32]stream // of readers that read on from where they were
	clock   uint64
}

// stream is where a sequential reader is.
type stream struct {
	read    int // blocks that it has read
	next    int // block that it wants next
	planned int // blocks before this one have been asked for
	used    uint64
}

// Open returns the file that x describes.
func (b *Blocks) Open(x *index.Index) *File { return &File{b: b, x: x} }

// Size returns the length of the file in bytes.
func (f *File) Size() int64 { return f.x.Size() }

// OnAccess has f called with the number, in the index, of each block that a
// reader asks for; zero blocks are left out. nil ends that.
func (f *File) OnAccess(call func(block int)) {
	if call == nil {
		f.access.Store(nil)
		return
	}
	f.access.Store(&call)
}

// Index returns the file's index.
func (f *File) Index() *index.Index { return f.x }

// Spans is a piece of a file as slices of blocks in memory.
type Spans struct {
	slices  [][]byte
	n       int
	b       *Blocks
	entries []*entry
	had     []int // bytes of each entry
	weight  int64 // of b.flight
}

// Slices returns the bytes, in order. They must not be changed, nor used after
// Release.
func (s *Spans) Slices() [][]byte { return s.slices }

// Zero tells whether a slice is of a zero block.
func (s *Spans) Zero(i int) bool { return &s.slices[i][0] == &zeros[0] }

// Len returns the number of bytes.
func (s *Spans) Len() int { return s.n }

// Release lets the memory go.
func (s *Spans) Release() {
	for i, e := range s.entries {
		had := 0
		if i < len(s.had) {
			had = s.had[i]
		}
		s.b.release(e, had)
	}
	if s.weight > 0 {
		s.b.flight.Release(s.weight)
	}
	s.entries, s.slices, s.had, s.weight = nil, nil, nil, 0
}

// zeros is what zero blocks look like. It is never written to, so it costs
// address space only.
var zeros = make([]byte, 128<<10)

// Spans returns n bytes from off on, fewer at the end of the file, without
// copying them. Fetches of all blocks run side by side. All of it stays in
// memory until Release, so n should be bounded by the caller.
func (f *File) Spans(ctx context.Context, off int64, n int) (*Spans, error) {
	s := &Spans{b: f.b}
	if off < 0 || n < 0 {
		return nil, fmt.Errorf("read %d bytes at %d: negative", n, off)
	}
	if n = int(min(int64(n), f.x.Size()-off)); n <= 0 {
		return s, nil
	}
	first := f.x.Find(off)
	at := f.x.Offset(first)
	last, zeroBytes := first, 0
	for end := at; ; last++ {
		e := f.x.Entry(last)
		if !e.Zero() {
			s.weight += int64(e.PlainLen)
		}
		if end += int64(e.PlainLen); end >= off+int64(n) {
			break
		}
	}
	// Readers that together want more than there is room for take turns.
	s.weight = min(s.weight, int64(f.b.opt.InFlight))
	if s.weight > 0 {
		if err := f.b.board(ctx, s.weight); err != nil {
			return nil, fmt.Errorf("read %d bytes at %d: %w", n, off, err)
		}
	}
	// All are asked for before the first is waited for.
	access := f.access.Load()
	for i := first; i <= last; i++ {
		if e := f.x.Entry(i); !e.Zero() {
			if access != nil {
				(*access)(i)
			}
			s.entries = append(s.entries, f.b.acquire(e))
		}
	}
	f.readAhead(first, last)
	k := 0
	for i := first; i <= last; i++ {
		e := f.x.Entry(i)
		from := int(max(off-at, 0))
		to := int(min(off+int64(n)-at, int64(e.PlainLen)))
		at += int64(e.PlainLen)
		if e.Zero() {
			zeroBytes += to - from
			for rest := to - from; rest > 0; rest -= len(zeros) {
				s.slices = append(s.slices, zeros[:min(rest, len(zeros))])
			}
			continue
		}
		ent := s.entries[k]
		k++
		if err := f.b.wait(ctx, ent); err != nil {
			s.Release()
			return nil, err
		}
		s.slices = append(s.slices, ent.data[from:to])
		s.had = append(s.had, to-from)
	}
	s.n = n
	f.b.mu.Lock()
	f.b.stats.ReadBytes += int64(n)
	f.b.stats.ZeroBytes += int64(zeroBytes)
	f.b.mu.Unlock()
	f.b.changed()
	return s, nil
}

// Ready tells whether the n bytes from off on are in memory now, so that Spans
// need not wait for them.
func (f *File) Ready(off int64, n int) bool {
	if off < 0 || n < 1 || off > f.x.Size()-int64(n) {
		return false
	}
	i := f.x.Find(off)
	end := off + int64(n)
	f.b.mu.Lock()
	defer f.b.mu.Unlock()
	for at := f.x.Offset(i); at < end; i++ {
		e := f.x.Entry(i)
		at += int64(e.PlainLen)
		if e.Zero() {
			continue
		}
		if k := f.b.entries[e.SHA256]; k == nil || k.state != ready {
			return false
		}
	}
	return true
}

// ReadAt reads like io.ReaderAt.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	const piece = 1 << 20
	n := 0
	for n < len(p) {
		s, err := f.Spans(ctx, off+int64(n), min(len(p)-n, piece))
		if err != nil {
			return n, err
		}
		if s.Len() == 0 {
			return n, io.EOF
		}
		for _, b := range s.Slices() {
			n += copy(p[n:], b)
		}
		s.Release()
	}
	return n, nil
}

// ReaderAt returns f as an io.ReaderAt whose reads end with ctx.
func (f *File) ReaderAt(ctx context.Context) io.ReaderAt { return readerAt{ctx, f} }

type readerAt struct {
	ctx context.Context
	f   *File
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r.f.ReadAt(r.ctx, p, off) }

// readAhead asks for the blocks behind last if this looks like a sequential
// reader: half as many as it has read so far. Files lie side by side, and most
// readers end with theirs, so what they leave unread stays small; who reads on
// soon has as many fetches under way as a long line needs.
func (f *File) readAhead(first, last int) {
	depth := f.b.opt.Ahead
	if depth <= 0 {
		return
	}
	f.mu.Lock()
	f.clock++
	oldest := &f.streams[0]
	var s *stream
	for i := range f.streams {
		c := &f.streams[i]
		// The kernel's own read-ahead arrives a little out of order.
		if c.used > 0 && first >= c.next-min(c.read, 8) && first <= max(c.next, min(c.planned, c.next+8)) {
			s = c
			break
		}
		if c.used < oldest.used {
			oldest = c
		}
	}
	if s == nil {
		*oldest = stream{read: last + 1 - first, next: last + 1, planned: last + 1, used: f.clock}
		f.mu.Unlock()
		return
	}
	s.used = f.clock
	s.read += max(0, last+1-max(first, s.next))
	s.next = max(s.next, last+1)
	from := max(s.planned, s.next)
	to := min(s.next+min(depth, s.read/2), f.x.Len())
	s.planned = max(from, to)
	f.mu.Unlock()
	for i := from; i < to; i++ {
		if e := f.x.Entry(i); !e.Zero() {
			if !f.b.prefetch(e, false) {
				f.mu.Lock()
				s.planned = min(s.planned, i) // or a little later
				f.mu.Unlock()
				return
			}
		}
	}
}

// maxPinned bounds, in bytes, what Pin keeps of all files.
const maxPinned = 8 << 20

// Pin fetches the whole file, ahead of anything that is read ahead, and keeps
// it in memory, if it is small: the metadata of a root, without which nothing
// can be found. It tells whether it does.
func (f *File) Pin() bool {
	var all int64
	for i := range f.x.Len() {
		if e := f.x.Entry(i); !e.Zero() {
			all += int64(e.PlainLen)
		}
	}
	f.b.mu.Lock()
	fits := all+int64(f.b.pinned) <= min(maxPinned, int64(f.b.opt.Memory)/2)
	f.b.mu.Unlock()
	if !fits {
		return false
	}
	for i := range f.x.Len() {
		if e := f.x.Entry(i); !e.Zero() {
			f.b.prefetch(e, true)
		}
	}
	return true
}
