package multiboot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
)

// Module is a file that a program finds in memory.
type Module struct {
	Data    []byte
	Cmdline string // its first word is a name
}

// Segment is memory as kexec_load takes it: Data, and zeros up to Size, at At.
// At and Size are multiples of a page.
type Segment struct {
	Data []byte
	At   uint64
	Size uint64
}

// Layout is a program with everything that it needs, and where each piece goes.
type Layout struct {
	Entry    uint64 // in 64-bit mode
	Segments []Segment
}

// maxPieces is how many segments kexec_load takes (KEXEC_SEGMENT_MAX of Linux,
// include/linux/kexec.h).
const maxPieces = 16

const (
	lowest  = 16 << 20 // what is placed freely lies above this, out of the way of old habits
	highest = 1 << 32
)

// Plan lays out a program with its command line, whose first word is a name,
// and its modules in the RAM of memory.
func Plan(p *Program, cmdline string, modules []Module, memory []Range) (*Layout, error) {
	l := &Layout{}
	for _, s := range p.parts {
		// Pages are placed whole, so a part may begin within one.
		first := s.at &^ (page - 1)
		data := s.data
		if gap := s.at - first; gap > 0 {
			data = append(make([]byte, gap), data...)
		}
		if err := l.put(memory, data, first, s.at+s.size-first); err != nil {
			return nil, err
		}
	}
	var places []place
	for _, m := range modules {
		at, err := l.place(memory, m.Data, uint64(len(m.Data)))
		if err != nil {
			return nil, err
		}
		places = append(places, place{uint32(at), uint32(at) + uint32(len(m.Data)), m.Cmdline})
	}
	b, err := information(cmdline, places, memory)
	if err != nil {
		return nil, err
	}
	info, err := l.place(memory, b, uint64(len(b)))
	if err != nil {
		return nil, err
	}
	// The address is known only after the place, whose size it does not change.
	way, err := l.place(memory, nil, page)
	if err != nil {
		return nil, err
	}
	l.Segments[len(l.Segments)-1].Data = trampoline(uint32(way), uint32(info), p.entry)
	l.Entry = way
	if len(l.Segments) > maxPieces {
		return nil, fmt.Errorf("the program and its modules are %d pieces of memory, Linux takes at most %d: give it fewer modules", len(l.Segments), maxPieces)
	}
	return l, nil
}

func round(n uint64) uint64 { return (n + page - 1) &^ (page - 1) }

// put takes a fixed place.
func (l *Layout) put(memory []Range, data []byte, at, size uint64) error {
	size = round(size)
	if other := l.overlaps(at, size); other != nil {
		return fmt.Errorf("%w: two of its segments are at %#x", ErrFormat, at)
	}
	for _, r := range memory {
		if r.Kind == RAM && at >= r.First && at+size <= r.End {
			l.Segments = append(l.Segments, Segment{data, at, size})
			return nil
		}
	}
	return fmt.Errorf("%w: the program wants %#x to %#x, which is no RAM of this machine", ErrMemory, at, at+size)
}

// place finds the lowest place that is free.
func (l *Layout) place(memory []Range, data []byte, size uint64) (uint64, error) {
	size = max(round(size), page)
	for _, r := range memory {
		if r.Kind != RAM {
			continue
		}
		at := max(round(r.First), lowest)
		for at+size <= min(r.End, highest) {
			other := l.overlaps(at, size)
			if other == nil {
				l.Segments = append(l.Segments, Segment{data, at, size})
				return at, nil
			}
			at = other.At + other.Size
		}
	}
	return 0, fmt.Errorf("%w: %d MiB are needed in one piece", ErrMemory, (size+1<<20-1)>>20)
}

func (l *Layout) overlaps(at, size uint64) *Segment {
	for i := range l.Segments {
		if s := &l.Segments[i]; at < s.At+s.Size && s.At < at+size {
			return s
		}
	}
	return nil
}

// place of a module.
type place struct {
	first, end uint32
	cmdline    string
}

// Types of boot information (section 3.6) that are given.
const (
	infoEnd     = 0
	infoCmdline = 1
	infoLoader  = 2
	infoModule  = 3
	infoMemory  = 4
	infoMap     = 6
)

// informs tells whether a type of boot information is given.
func informs(kind uint32) bool {
	switch kind {
	case infoCmdline, infoLoader, infoModule, infoMemory, infoMap:
		return true
	}
	return false
}

// loaderName is no name of GRUB's: so programs skip the first word of command
// lines, which is a file's name.
const loaderName = "InetBoot"

// information returns the boot information (section 3.6).
func information(cmdline string, modules []place, memory []Range) ([]byte, error) {
	le := binary.LittleEndian
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	tag := func(kind uint32, content []byte) {
		b.Write(le.AppendUint32(le.AppendUint32(nil, kind), uint32(8+len(content))))
		b.Write(content)
		b.Write(make([]byte, -b.Len()&7))
	}
	text := func(prefix []byte, s string) ([]byte, error) {
		if strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("the command line %q has a zero in it", s)
		}
		return append(append(prefix, s...), 0), nil
	}
	line, err := text(nil, cmdline)
	if err != nil {
		return nil, err
	}
	tag(infoCmdline, line)
	tag(infoLoader, []byte(loaderName+"\x00"))
	for _, m := range modules {
		c, err := text(le.AppendUint32(le.AppendUint32(nil, m.first), m.end), m.cmdline)
		if err != nil {
			return nil, err
		}
		tag(infoModule, c)
	}
	low, high := uint64(0), uint64(0) // KiB below 640 KiB, and from 1 MiB up to the first hole
	entries := le.AppendUint32(le.AppendUint32(nil, 24), 0)
	for _, r := range memory {
		if r.Kind == RAM && r.First < 640<<10 {
			low = max(low, min(r.End, 640<<10)>>10)
		}
		if r.Kind == RAM && r.First <= 1<<20 && r.End > 1<<20 {
			high = (min(r.End, highest) - 1<<20) >> 10
		}
		entries = le.AppendUint64(entries, r.First)
		entries = le.AppendUint64(entries, r.End-r.First)
		entries = le.AppendUint32(le.AppendUint32(entries, uint32(r.Kind)), 0)
	}
	tag(infoMemory, le.AppendUint32(le.AppendUint32(nil, uint32(low)), uint32(high)))
	tag(infoMap, entries)
	tag(infoEnd, nil)
	le.PutUint32(b.Bytes(), uint32(b.Len()))
	return b.Bytes(), nil
}
