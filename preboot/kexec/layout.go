package kexec

import "fmt"

// Segment is memory as kexec_load takes it: Data, and zeros up to Size, at At.
// At and Size are multiples of a page.
type Segment struct {
	Data []byte
	At   uint64
	Size uint64
}

// Layout says what lies where when a program starts, and where it is entered.
type Layout struct {
	Memory   []Range // of the machine
	Entry    uint64  // in 64-bit mode
	Segments []Segment
	Copies   []Copy // made when everything is in its place, before the program is entered
}

// Copy copies Size bytes below 4 GiB to where no segment can be, or from what
// can be read only after Linux.
type Copy struct{ From, To, Size uint32 }

// maxSegments is how many segments kexec_load takes (KEXEC_SEGMENT_MAX of Linux,
// include/linux/kexec.h).
const maxSegments = 16

const (
	lowest  = 16 << 20 // what is placed freely lies above this, out of the way of old habits
	highest = 1 << 32
)

func round(n uint64) uint64 { return (n + Page - 1) &^ (Page - 1) }

// Free tells whether size bytes at an address, a multiple of a page, are RAM
// that nothing has taken.
func (l *Layout) Free(at, size uint64) bool {
	size = round(size)
	return l.isRAM(at, size) && l.overlaps(at, size) == nil
}

func (l *Layout) isRAM(at, size uint64) bool {
	for _, r := range l.Memory {
		if r.Kind == RAM && at >= r.First && at <= r.End && size <= r.End-at {
			return true
		}
	}
	return false
}

// Put places data, and zeros up to size, at an address, which may be within a
// page.
func (l *Layout) Put(data []byte, at, size uint64) error {
	// Pages are placed whole.
	first := at &^ (Page - 1)
	if gap := at - first; gap > 0 {
		data = append(make([]byte, gap), data...)
		size += gap
	}
	size = round(size)
	if l.overlaps(first, size) != nil {
		return fmt.Errorf("two pieces are at %#x", at)
	}
	if !l.isRAM(first, size) {
		return fmt.Errorf("%w: the program wants %#x to %#x, which is no RAM of this machine", ErrMemory, first, first+size)
	}
	l.Segments = append(l.Segments, Segment{data, first, size})
	return nil
}

// Place puts data, and zeros up to size, at the lowest free address that is a
// multiple of align, a power of two, and returns it. All of it lies below limit,
// and below 4 GiB.
func (l *Layout) Place(data []byte, size, align, limit uint64) (uint64, error) {
	size, align, limit = max(round(size), Page), max(align, Page), min(limit, highest)
	up := func(n uint64) uint64 { return (n + align - 1) &^ (align - 1) }
	for _, r := range l.Memory {
		if r.Kind != RAM {
			continue
		}
		for at := up(max(r.First, lowest)); at+size <= min(r.End, limit); {
			other := l.overlaps(at, size)
			if other == nil {
				l.Segments = append(l.Segments, Segment{data, at, size})
				return at, nil
			}
			at = up(other.At + other.Size)
		}
	}
	return 0, fmt.Errorf("%w: %d MiB are needed in one piece below %#x", ErrMemory, (size+1<<20-1)>>20, limit)
}

// Enter adds the code that leads to a program's entry.
func (l *Layout) Enter(entry uint32, r Registers) error {
	// The address is known only after the place, whose size it does not change.
	at, err := l.Place(nil, Page, Page, highest)
	if err != nil {
		return err
	}
	if len(l.Copies) > maxCopies {
		return fmt.Errorf("%d pieces are to be copied, at most %d can be", len(l.Copies), maxCopies)
	}
	l.Segments[len(l.Segments)-1].Data = trampoline(uint32(at), entry, r, l.Copies)
	l.Entry = at
	if len(l.Segments) > maxSegments {
		return fmt.Errorf("the program and its modules are %d pieces of memory, Linux takes at most %d: give it fewer modules", len(l.Segments), maxSegments)
	}
	return nil
}

func (l *Layout) overlaps(at, size uint64) *Segment {
	for i := range l.Segments {
		if s := &l.Segments[i]; at < s.At+s.Size && s.At < at+size {
			return s
		}
	}
	return nil
}
