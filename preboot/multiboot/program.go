package multiboot

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
)

// Program is a program that has been read and checked.
type Program struct {
	entry uint32
	parts []part
}

// part is a piece of a program with its place in memory.
type part struct {
	at   uint64
	data []byte
	size uint64 // in memory; zeros follow data
}

// ReadProgram reads a program, which may be compressed by gzip. r has size
// bytes.
func ReadProgram(r io.ReaderAt, size int64) (*Program, error) {
	var in io.Reader = io.NewSectionReader(r, 0, size)
	var magic [2]byte
	if n, _ := r.ReadAt(magic[:], 0); n == 2 && magic == [2]byte{0x1f, 0x8b} {
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fmt.Errorf("%w: decompress it: %w", ErrFormat, err)
		}
		in = z
	}
	data, err := io.ReadAll(io.LimitReader(in, maxProgram+1))
	if err != nil {
		return nil, fmt.Errorf("%w: read it: %w", ErrFormat, err)
	}
	if len(data) > maxProgram {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrFormat, maxProgram)
	}
	return ParseProgram(data)
}

// ParseProgram reads a program without compression. The result refers to data.
func ParseProgram(data []byte) (*Program, error) {
	if err := checkHeader(data); err != nil {
		return nil, err
	}
	return parseELF(data)
}

// checkHeader looks for the header (section 3.1.1), and for tags in it that ask
// for what is not done here.
func checkHeader(data []byte) error {
	le := binary.LittleEndian
	limit := min(len(data), searchLength)
	for at := 0; at+16 <= limit; at += 8 {
		h := data[at:]
		if le.Uint32(h) != headerMagic || le.Uint32(h)+le.Uint32(h[4:])+le.Uint32(h[8:])+le.Uint32(h[12:]) != 0 {
			continue
		}
		if arch := le.Uint32(h[4:]); arch != 0 {
			return fmt.Errorf("%w: its header is for architecture %d", ErrFormat, arch)
		}
		length := le.Uint32(h[8:])
		if length < 16 || uint64(length) > uint64(limit-at) {
			return fmt.Errorf("%w: its header has %d bytes", ErrFormat, length)
		}
		return checkTags(h[16:length])
	}
	return fmt.Errorf("%w: it has no Multiboot2 header", ErrFormat)
}

// Tags of the header (section 3.1.3).
const (
	tagEnd         = 0
	tagRequest     = 1
	tagConsole     = 4
	tagFramebuffer = 5
	tagAlign       = 6
	tagServices    = 7
	tagEntryEFI32  = 8
	tagEntryEFI64  = 9
	tagRelocatable = 10
)

func checkTags(tags []byte) error {
	le := binary.LittleEndian
	for len(tags) >= 8 {
		kind, flags, size := le.Uint16(tags), le.Uint16(tags[2:]), le.Uint32(tags[4:])
		if kind == tagEnd {
			return nil
		}
		if size < 8 || uint64(size) > uint64(len(tags)) {
			return fmt.Errorf("%w: tag %d of its header has %d bytes", ErrFormat, kind, size)
		}
		optional := flags&1 != 0
		switch kind {
		case tagRequest:
			for w := tags[8:size]; len(w) >= 4 && !optional; w = w[4:] {
				if !informs(le.Uint32(w)) {
					return fmt.Errorf("%w: it needs boot information of type %d", ErrFormat, le.Uint32(w))
				}
			}
		case tagConsole, tagFramebuffer, tagAlign, tagServices, tagEntryEFI32, tagEntryEFI64, tagRelocatable:
			// Wishes, or for the case that firmware's services still run.
		default:
			if !optional {
				return fmt.Errorf("%w: its header has the tag %d", ErrFormat, kind)
			}
		}
		next := (uint64(size) + 7) &^ 7
		tags = tags[min(next, uint64(len(tags))):]
	}
	return fmt.Errorf("%w: its header has no end", ErrFormat)
}

// Constants of ELF files (System V ABI, edition 4.1).
const (
	elfCurrent   = 1
	elfLittle    = 1
	machine386   = 3
	machineAMD64 = 62
	typeLoad     = 1
)

// parseELF reads what is to be loaded, by physical addresses.
func parseELF(data []byte) (*Program, error) {
	le := binary.LittleEndian
	bad := func(format string, args ...any) (*Program, error) {
		return nil, fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
	if len(data) < 64 || !bytes.Equal(data[:4], []byte("\x7fELF")) || data[5] != elfLittle || data[6] != elfCurrent {
		return bad("it is no little-endian ELF file")
	}
	if m := le.Uint16(data[18:]); m != machine386 && m != machineAMD64 {
		return bad("it is for machine %d", m)
	}
	var entry, table uint64
	var each, count uint16
	least := uint16(32)
	wide := data[4] == 2
	switch {
	case wide:
		entry, table, each, count, least = le.Uint64(data[24:]), le.Uint64(data[32:]), le.Uint16(data[54:]), le.Uint16(data[56:]), 56
	case data[4] == 1:
		entry, table, each, count = uint64(le.Uint32(data[24:])), uint64(le.Uint32(data[28:])), le.Uint16(data[42:]), le.Uint16(data[44:])
	default:
		return bad("it is of class %d", data[4])
	}
	if each < least || count > maxSegments || table > uint64(len(data)) || uint64(each)*uint64(count) > uint64(len(data))-table {
		return bad("its %d segments are not where it says", count)
	}
	p := &Program{}
	var sum uint64
	enters := false
	for i := range uint64(count) {
		h := data[table+i*uint64(each):]
		if le.Uint32(h) != typeLoad {
			continue
		}
		var off, virtual, at, stored, size uint64
		if wide {
			off, virtual, at, stored, size = le.Uint64(h[8:]), le.Uint64(h[16:]), le.Uint64(h[24:]), le.Uint64(h[32:]), le.Uint64(h[40:])
		} else {
			off, virtual, at, stored, size = uint64(le.Uint32(h[4:])), uint64(le.Uint32(h[8:])), uint64(le.Uint32(h[12:])), uint64(le.Uint32(h[16:])), uint64(le.Uint32(h[20:]))
		}
		if size == 0 {
			continue
		}
		if off > uint64(len(data)) || stored > uint64(len(data))-off || stored > size || size > maxLoaded || at > 1<<32-maxLoaded {
			return bad("segment %d is not where it says", i)
		}
		if sum += size; sum > maxLoaded {
			return bad("it takes more than %d bytes", maxLoaded)
		}
		// The entry is a physical address, or one in the segment's virtual ones.
		switch {
		case enters:
		case entry >= at && entry < at+size:
			p.entry, enters = uint32(entry), true
		case entry >= virtual && entry-virtual < size:
			p.entry, enters = uint32(at+(entry-virtual)), true
		}
		p.parts = append(p.parts, part{at, data[off : off+stored], size})
	}
	if !enters {
		return bad("its entry at %#x is in no segment", entry)
	}
	return p, nil
}
