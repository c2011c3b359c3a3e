package read

import (
	"container/list"
	"sync"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// spare keeps blocks that have been read, as stored: a third of the memory
// that their contents take, so most of what falls out of memory need not be
// fetched again. It lives in what is left of Options.Held beside the pack, and
// throws out what was not used for the longest time.
//
// Blocks lie in chunks that are used again, so that what comes and goes is no
// work for the garbage collector.
type spare struct {
	mu    sync.Mutex
	at    map[digest.SHA256]*list.Element // of *spareBlock
	order list.List                       // oldest first
	used  int                             // bytes of chunks that blocks lie in
	free  [][]byte                        // chunks
}

// chunk is the size of a chunk in bytes: half of one is lost for each block.
const chunk = 16 << 10

type spareBlock struct {
	sum    digest.SHA256
	size   int
	chunks [][]byte
}

// has tells whether a block is there.
func (s *spare) has(sum digest.SHA256) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at[sum] != nil
}

// bytes returns how much memory is taken.
func (s *spare) bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used + chunk*len(s.free)
}

// get appends a block to buf, which get has got for it from bufs. ok is false
// if it is not there.
func (s *spare) get(sum digest.SHA256, bufs *buffers) (buf []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.at[sum]
	if e == nil {
		return nil, false
	}
	s.order.MoveToBack(e)
	b := e.Value.(*spareBlock)
	buf = bufs.get(b.size)
	for _, c := range b.chunks {
		buf = append(buf, c[:min(chunk, b.size-len(buf))]...)
	}
	return buf, true
}

// add keeps a block, and as much else as fits into room bytes with it.
func (s *spare) add(sum digest.SHA256, stored []byte, room int) {
	n := (len(stored) + chunk - 1) / chunk
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at[sum] != nil || n*chunk > room {
		return
	}
	for s.used+n*chunk > room {
		s.drop(s.order.Front())
	}
	b := &spareBlock{sum: sum, size: len(stored)}
	for len(stored) > 0 {
		var c []byte
		if l := len(s.free); l > 0 {
			c, s.free[l-1] = s.free[l-1], nil
			s.free = s.free[:l-1]
		} else {
			c = make([]byte, chunk)
		}
		stored = stored[copy(c, stored):]
		b.chunks = append(b.chunks, c)
	}
	if s.at == nil {
		s.at = make(map[digest.SHA256]*list.Element)
	}
	s.at[sum] = s.order.PushBack(b)
	s.used += n * chunk
}

// remove throws a block out.
func (s *spare) remove(sum digest.SHA256) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.at[sum]; e != nil {
		s.drop(e)
	}
}

// drop throws a block out. s.mu is held.
func (s *spare) drop(e *list.Element) {
	b := s.order.Remove(e).(*spareBlock)
	delete(s.at, b.sum)
	s.used -= chunk * len(b.chunks)
	s.free = append(s.free, b.chunks...)
}

// shrink lets go of what is over room bytes.
func (s *spare) shrink(room int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.used > max(room, 0) {
		s.drop(s.order.Front())
	}
	keep := max(room-s.used, 0) / chunk
	if keep < len(s.free) {
		clear(s.free[keep:])
		s.free = s.free[:keep]
	}
}

// Retain keeps a right block, as stored, while there is room for it: for who
// has no cache that keeps it. stored may be used again after it has returned.
func (b *Blocks) Retain(e index.Entry, stored []byte) {
	b.mu.Lock()
	room := b.opt.Held - b.held.bytes
	if b.ctx.Err() != nil {
		room = 0
	}
	b.mu.Unlock()
	b.spare.add(e.SHA256, stored, room)
}
