package read

import (
	"container/list"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// spare keeps blocks that have been read, as stored: a third of the memory
// that their contents take, so most of what falls out of memory need not be
// fetched again. It lives in what is left of Options.Held beside the pack, and
// throws out what was not used for the longest time.
type spare struct {
	at    map[digest.SHA256]*list.Element // of *spareBlock
	order list.List                       // oldest first
	bytes int
}

type spareBlock struct {
	sum    digest.SHA256
	stored []byte
}

func (s *spare) has(sum digest.SHA256) bool { return s.at[sum] != nil }

// get returns a block, nil if it is not there. The bytes are never changed.
func (s *spare) get(sum digest.SHA256) []byte {
	e := s.at[sum]
	if e == nil {
		return nil
	}
	s.order.MoveToBack(e)
	return e.Value.(*spareBlock).stored
}

func (s *spare) add(sum digest.SHA256, stored []byte) {
	if s.has(sum) {
		return
	}
	if s.at == nil {
		s.at = make(map[digest.SHA256]*list.Element)
	}
	s.at[sum] = s.order.PushBack(&spareBlock{sum, stored})
	s.bytes += len(stored)
}

func (s *spare) remove(sum digest.SHA256) {
	if e := s.at[sum]; e != nil {
		s.order.Remove(e)
		delete(s.at, sum)
		s.bytes -= len(e.Value.(*spareBlock).stored)
	}
}

// shrink throws out the oldest until at most n bytes are left.
func (s *spare) shrink(n int) {
	for s.bytes > max(n, 0) {
		s.remove(s.order.Front().Value.(*spareBlock).sum)
	}
}

// Retain keeps a right block, as stored, while there is room for it: for who
// has no cache that keeps it. stored may be used again after it has returned.
func (b *Blocks) Retain(e index.Entry, stored []byte) {
	b.mu.Lock()
	pointless := b.spare.has(e.SHA256) || len(stored) > b.opt.Held-b.held.bytes
	b.mu.Unlock()
	if pointless {
		return
	}
	stored = append(make([]byte, 0, len(stored)), stored...)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retain(e.SHA256, stored)
}

// retain is Retain for bytes that are not used again. b.mu is held.
func (b *Blocks) retain(sum digest.SHA256, stored []byte) {
	if room := b.opt.Held - b.held.bytes; len(stored) <= room && b.ctx.Err() == nil {
		b.spare.shrink(room - len(stored))
		b.spare.add(sum, stored)
	}
}
