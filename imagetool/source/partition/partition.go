// Package partition reads the tables of partitions of a disk: GPT (UEFI
// specification 2.10, chapter 5) and MBR with extended partitions.
//
// A table that contradicts itself is refused: partitions outside of the disk,
// overlapping ones, chains that do not end.
package partition

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
)

// The reasons for which no table is read. Errors wrap them.
var (
	ErrNone    = errors.New("no table of partitions")
	ErrRefused = errors.New("the table of partitions is refused")
)

const (
	maxPartitions = 1024
	maxEntrySize  = 4096
)

var le = binary.LittleEndian

// Partition is one part of a disk.
type Partition struct {
	Number int    // as Linux counts
	Start  int64  // in bytes
	Size   int64  // in bytes
	Type   string // GPT: the type's GUID in lower case; MBR: "0x83"
	UUID   string // as PARTUUID= in fstab(5), lower case
	Name   string // of GPT; printable
}

// Table is what a disk says about its partitions.
type Table struct {
	Kind       string // "gpt" or "mbr"
	Partitions []Partition
}

// Read reads the table of the disk r of the given size in bytes. Errors wrap
// ErrNone or ErrRefused, or are those of reading.
func Read(r io.ReaderAt, size int64) (*Table, error) {
	var mbr [512]byte
	if size < 1024 {
		return nil, ErrNone
	}
	if _, err := r.ReadAt(mbr[:], 0); err != nil {
		return nil, fmt.Errorf("read the first sector: %w", err)
	}
	if mbr[510] != 0x55 || mbr[511] != 0xAA {
		return nil, ErrNone
	}
	gpt := false
	for i := range 4 {
		gpt = gpt || mbr[446+16*i+4] == 0xEE
	}
	var t *Table
	var err error
	if gpt {
		t, err = readGPT(r, size)
	} else {
		t, err = readMBR(r, size, mbr[:])
	}
	if err != nil {
		return nil, err
	}
	return t, t.check(size)
}

func refused(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRefused, fmt.Errorf(format, args...))
}

// check refuses partitions that are not within the disk, or overlap.
func (t *Table) check(size int64) error {
	byStart := slices.Clone(t.Partitions)
	slices.SortFunc(byStart, func(a, b Partition) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return a.Number - b.Number
	})
	for i, p := range byStart {
		switch {
		case p.Start <= 0 || p.Size <= 0 || p.Start > size || p.Size > size-p.Start:
			return refused("partition %d is not within the disk of %d bytes", p.Number, size)
		case i > 0 && byStart[i-1].Start+byStart[i-1].Size > p.Start:
			return refused("partitions %d and %d overlap", byStart[i-1].Number, p.Number)
		}
	}
	return nil
}

// bytesOf returns n sectors in bytes, or -1 if that is more than a disk has.
func bytesOf(n uint64, sector int64) int64 {
	if n > 1<<50 {
		return -1
	}
	return int64(n) * sector
}

func readMBR(r io.ReaderAt, size int64, mbr []byte) (*Table, error) {
	const sector = 512
	t := &Table{Kind: "mbr"}
	disk := le.Uint32(mbr[440:])
	id := func(n int) string { return fmt.Sprintf("%08x-%02x", disk, n) }
	var extended int64
	for i := range 4 {
		e := mbr[446+16*i:]
		if e[0]&0x7f != 0 {
			return nil, ErrNone // the boot sector of a filesystem
		}
		kind, start, n := e[4], int64(le.Uint32(e[8:])), int64(le.Uint32(e[12:]))
		switch {
		case kind == 0 || n == 0:
		case kind == 0x05 || kind == 0x0f || kind == 0x85:
			if extended != 0 {
				return nil, refused("two extended partitions")
			}
			extended = start * sector
		default:
			t.Partitions = append(t.Partitions, Partition{Number: i + 1, Start: start * sector, Size: n * sector, Type: fmt.Sprintf("0x%02x", kind), UUID: id(i + 1)})
		}
	}
	// Each logical partition has a table of its own, with itself and the next one.
	for at, number := extended, 5; at != 0; number++ {
		if number > 4+maxPartitions {
			return nil, refused("more than %d logical partitions", maxPartitions)
		}
		var b [512]byte
		if at < 0 || at > size-512 {
			return nil, refused("logical partition %d is not within the disk", number)
		}
		if _, err := r.ReadAt(b[:], at); err != nil {
			return nil, fmt.Errorf("read the table of logical partition %d: %w", number, err)
		}
		if b[510] != 0x55 || b[511] != 0xAA {
			return nil, refused("logical partition %d has no table", number)
		}
		first, second := b[446:462], b[462:478]
		if n := int64(le.Uint32(first[12:])); first[4] != 0 && n != 0 {
			t.Partitions = append(t.Partitions, Partition{
				Number: number, Start: at + int64(le.Uint32(first[8:]))*sector, Size: n * sector,
				Type: fmt.Sprintf("0x%02x", first[4]), UUID: id(number),
			})
		}
		next := int64(0)
		if second[4] != 0 && le.Uint32(second[12:]) != 0 {
			next = extended + int64(le.Uint32(second[8:]))*sector
			if next <= at {
				return nil, refused("the chain of logical partitions leads back")
			}
		}
		at = next
	}
	if len(t.Partitions) == 0 {
		return nil, ErrNone
	}
	return t, nil
}

func readGPT(r io.ReaderAt, size int64) (*Table, error) {
	var first error
	for _, sector := range []int64{512, 4096} {
		for _, at := range []int64{sector, size/sector*sector - sector} {
			t, err := readHeader(r, size, sector, at)
			if err == nil {
				return t, nil
			}
			if first == nil || errors.Is(first, errNoHeader) {
				first = err
			}
		}
	}
	return nil, first
}

var errNoHeader = fmt.Errorf("%w: it has a protective MBR, but no GPT", ErrRefused)

// readHeader reads the header at offset at, and its table.
func readHeader(r io.ReaderAt, size, sector, at int64) (*Table, error) {
	var h [512]byte
	if at < 0 || at > size-int64(len(h)) {
		return nil, errNoHeader
	}
	if _, err := r.ReadAt(h[:], at); err != nil {
		return nil, fmt.Errorf("read the GPT: %w", err)
	}
	if string(h[:8]) != "EFI PART" {
		return nil, errNoHeader
	}
	length := le.Uint32(h[12:])
	if length < 92 || int(length) > len(h) {
		return nil, refused("a GPT header of %d bytes", length)
	}
	sum := le.Uint32(h[16:])
	clear(h[16:20])
	if crc32.ChecksumIEEE(h[:length]) != sum {
		return nil, refused("the checksum of the GPT header is wrong")
	}
	table, count, entry := bytesOf(le.Uint64(h[72:]), sector), le.Uint32(h[80:]), le.Uint32(h[84:])
	total := int64(count) * int64(entry)
	switch {
	case entry < 128 || entry > maxEntrySize || entry%8 != 0 || count > maxPartitions:
		return nil, refused("a GPT of %d entries of %d bytes", count, entry)
	case table < 0 || table > size || total > size-table:
		return nil, refused("the GPT is not within the disk")
	}
	b := make([]byte, total)
	if _, err := r.ReadAt(b, table); err != nil {
		return nil, fmt.Errorf("read the GPT: %w", err)
	}
	if crc32.ChecksumIEEE(b) != le.Uint32(h[88:]) {
		return nil, refused("the checksum of the GPT is wrong")
	}
	t := &Table{Kind: "gpt"}
	for i := range int(count) {
		e := b[i*int(entry) : (i+1)*int(entry)]
		if bytes.Equal(e[:16], make([]byte, 16)) {
			continue
		}
		from, to := le.Uint64(e[32:]), le.Uint64(e[40:])
		if to < from {
			return nil, refused("partition %d ends before it begins", i+1)
		}
		t.Partitions = append(t.Partitions, Partition{
			Number: i + 1, Start: bytesOf(from, sector), Size: bytesOf(to-from+1, sector),
			Type: guid(e[:16]), UUID: guid(e[16:32]), Name: label(e[56:128]),
		})
	}
	return t, nil
}

// guid writes a GUID as UEFI stores it: the first three parts little-endian.
func guid(b []byte) string {
	var g [16]byte
	be := binary.BigEndian
	be.PutUint32(g[0:], le.Uint32(b[0:]))
	be.PutUint16(g[4:], le.Uint16(b[4:]))
	be.PutUint16(g[6:], le.Uint16(b[6:]))
	copy(g[8:], b[8:])
	s := hex.EncodeToString(g[:])
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}

// label reads a name in UTF-16.
func label(b []byte) string {
	var u []uint16
	for ; len(b) >= 2 && le.Uint16(b) != 0; b = b[2:] {
		u = append(u, le.Uint16(b))
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(utf16.Decode(u)))
}
