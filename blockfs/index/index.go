// Package index is the list of one file's blocks, format version 1 as
// described in docs/formats.md: for each block its length, its SHA-256 and how
// many bytes it had in the store when it was pushed.
//
// An index is trusted as far as its own hash is listed in something trusted.
// [Parse] refuses indexes whose lengths do not add up, overflow or exceed the
// limits before it allocates anything for them.
package index

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/internal/digest"
)

// Limits of the format.
const (
	MaxEntries   = 16_777_216
	MaxSize      = 1 << 46 // plain bytes of a file
	MaxZero      = 1 << 30 // plain bytes of one zero block
	HeaderLength = 64
	EntryLength  = 40
)

// MaxBytes is the length of the longest index, in bytes.
const MaxBytes = HeaderLength + EntryLength*MaxEntries

const (
	magic   = "IBindex\n"
	version = 1
)

// ErrInvalid is wrapped by every error of Parse.
var ErrInvalid = errors.New("invalid index")

// Cutting says how a file was cut into blocks, for people and statistics.
type Cutting uint32

// The ways to cut a file.
const (
	CutUnknown Cutting = 0
	CutBytes   Cutting = 1 // content-defined, at any byte
	CutPages   Cutting = 2 // content-defined, at 4 KiB pages
	CutFixed   Cutting = 3 // all blocks of one size
)

// String returns a word for c.
func (c Cutting) String() string {
	switch c {
	case CutUnknown:
		return "unknown"
	case CutBytes:
		return "bytes"
	case CutPages:
		return "pages"
	case CutFixed:
		return "fixed"
	}
	return fmt.Sprintf("cutting-%d", uint32(c))
}

// Entry is one block of a file.
type Entry struct {
	PlainLen  int           // bytes of content
	StoredLen int           // bytes in the store when it was first pushed, a hint; 0 for a zero block
	SHA256    digest.SHA256 // of the content; unset for a zero block
}

// Zero tells whether the block is nothing but zero bytes, never stored.
func (e Entry) Zero() bool { return e.StoredLen == 0 }

// Index is a parsed index. It is immutable and safe for concurrent use.
//
// It keeps the bytes that it was parsed from and one offset for every stride
// entries, so millions of blocks cost little more than their hashes.
type Index struct {
	raw     []byte // the entries
	marks   []int64
	size    int64
	stored  int64
	blocks  int
	largest int
	cutting Cutting
}

const stride = 64

// Parse checks data and returns it as an Index, which keeps using data: the
// caller must not change it. Errors wrap ErrInvalid.
func Parse(data []byte) (*Index, error) {
	bad := func(format string, args ...any) (*Index, error) {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
	}
	le := binary.LittleEndian
	if len(data) < HeaderLength {
		return bad("%d bytes are too few for a header", len(data))
	}
	if string(data[:8]) != magic {
		return bad("it does not begin with the magic bytes")
	}
	if v := le.Uint16(data[8:]); v != version {
		return bad("version %d, this program reads version %d", v, version)
	}
	if n := le.Uint16(data[10:]); n != HeaderLength {
		return bad("header of %d bytes, want %d", n, HeaderLength)
	}
	if f := le.Uint32(data[12:]); f != 0 {
		return bad("it needs features %#x, which this program lacks: use a newer one", f)
	}
	n := le.Uint32(data[20:])
	size := le.Uint64(data[24:])
	largest := le.Uint32(data[32:])
	switch {
	case n > MaxEntries:
		return bad("%d entries, at most %d are allowed", n, MaxEntries)
	case len(data) != HeaderLength+EntryLength*int(n):
		return bad("%d bytes with %d entries, want %d", len(data), n, HeaderLength+EntryLength*int(n))
	case size > MaxSize:
		return bad("file of %d bytes, at most %d are allowed", size, int64(MaxSize))
	case largest > block.MaxPlain:
		return bad("blocks of up to %d bytes, at most %d are allowed", largest, block.MaxPlain)
	}
	for _, b := range data[40:HeaderLength] {
		if b != 0 {
			return bad("bytes 40 to 63 are not zero")
		}
	}
	x := &Index{raw: data[HeaderLength:], size: int64(size), largest: int(largest), cutting: Cutting(le.Uint32(data[36:]))}

	// First pass: nothing is allocated for lengths that do not add up. The sum
	// cannot overflow: 2^24 entries of at most 2^30 bytes.
	sum := uint64(0)
	for i := range int(n) {
		e := x.raw[i*EntryLength:][:EntryLength]
		plain, stored := le.Uint32(e), le.Uint32(e[4:])
		if stored == 0 {
			if plain < 1 || plain > MaxZero {
				return bad("entry %d: zero block of %d bytes, want 1 to %d", i, plain, MaxZero)
			}
			if digest.SHA256(e[8:]) != (digest.SHA256{}) {
				return bad("entry %d: zero block with a hash", i)
			}
		} else {
			if plain < 1 || plain > largest {
				return bad("entry %d: block of %d bytes, want 1 to %d", i, plain, largest)
			}
			if stored > uint32(block.MaxStored(int(plain))) {
				return bad("entry %d: %d stored for %d plain bytes, at most %d are allowed", i, stored, plain, block.MaxStored(int(plain)))
			}
			if digest.SHA256(e[8:]) == (digest.SHA256{}) {
				return bad("entry %d: block without a hash", i)
			}
			x.stored += int64(stored)
			x.blocks++
		}
		sum += uint64(plain)
	}
	if sum != size {
		return bad("its blocks add up to %d bytes, the file has %d", sum, size)
	}
	x.marks = make([]int64, 0, int(n)/stride+1)
	off := int64(0)
	for i := range int(n) {
		if i%stride == 0 {
			x.marks = append(x.marks, off)
		}
		off += x.plain(i)
	}
	return x, nil
}

func (x *Index) plain(i int) int64 {
	return int64(binary.LittleEndian.Uint32(x.raw[i*EntryLength:]))
}

// Len returns the number of entries, zero blocks included.
func (x *Index) Len() int { return len(x.raw) / EntryLength }

// Size returns the length of the file in plain bytes.
func (x *Index) Size() int64 { return x.size }

// StoredSize returns how many bytes the file's blocks had in the store when
// they were pushed; a block that stands twice counts twice.
func (x *Index) StoredSize() int64 { return x.stored }

// Blocks returns the number of entries that are not zero blocks.
func (x *Index) Blocks() int { return x.blocks }

// Largest returns the bound of the plain length of stored blocks.
func (x *Index) Largest() int { return x.largest }

// Cutting returns how the file was cut.
func (x *Index) Cutting() Cutting { return x.cutting }

// Entry returns block i, 0 <= i < Len().
func (x *Index) Entry(i int) Entry {
	e := x.raw[i*EntryLength:][:EntryLength]
	return Entry{
		PlainLen:  int(binary.LittleEndian.Uint32(e)),
		StoredLen: int(binary.LittleEndian.Uint32(e[4:])),
		SHA256:    digest.SHA256(e[8:]),
	}
}

// Offset returns where block i begins in the file; Offset(Len()) is Size().
func (x *Index) Offset(i int) int64 {
	if i == x.Len() {
		return x.size
	}
	off := x.marks[i/stride]
	for j := i - i%stride; j < i; j++ {
		off += x.plain(j)
	}
	return off
}

// Find returns the block that holds the byte at off, 0 <= off < Size().
func (x *Index) Find(off int64) int {
	m := sort.Search(len(x.marks), func(k int) bool { return x.marks[k] > off }) - 1
	i, at := m*stride, x.marks[m]
	for {
		n := x.plain(i)
		if off < at+n {
			return i
		}
		at += n
		i++
	}
}

// Builder puts an index together, in the order of the file. The zero value is
// ready to use.
type Builder struct {
	Cutting Cutting

	entries  []byte
	size     int64
	largest  int
	zeroTail int // bytes of the last entry if it is a zero block
	err      error
}

func (b *Builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
	}
}

// Add appends a block of plainLen bytes that has storedLen bytes in the store.
// What cannot be in an index is reported by Bytes.
func (b *Builder) Add(plainLen, storedLen int, sum digest.SHA256) {
	switch {
	case plainLen < 1 || plainLen > block.MaxPlain:
		b.fail("block %s of %d bytes", sum.Short(), plainLen)
	case storedLen < 1 || storedLen > block.MaxStored(plainLen):
		b.fail("block %s of %d bytes has %d stored bytes", sum.Short(), plainLen, storedLen)
	case sum.IsZero():
		b.fail("block of %d bytes without a hash", plainLen)
	default:
		b.append(plainLen, storedLen, sum)
		b.largest = max(b.largest, plainLen)
		b.zeroTail = 0
	}
}

// AddZero appends n zero bytes. Runs are joined, and split as the format wants.
func (b *Builder) AddZero(n int64) {
	if n < 0 || n > MaxSize {
		b.fail("%d zero bytes", n)
		return
	}
	for n > 0 && b.err == nil {
		if b.zeroTail == 0 || b.zeroTail == MaxZero {
			b.zeroTail = int(min(n, MaxZero))
			b.append(b.zeroTail, 0, digest.SHA256{})
			n -= int64(b.zeroTail)
			continue
		}
		add := int(min(n, int64(MaxZero-b.zeroTail)))
		b.zeroTail += add
		b.size += int64(add)
		binary.LittleEndian.PutUint32(b.entries[len(b.entries)-EntryLength:], uint32(b.zeroTail))
		n -= int64(add)
	}
}

func (b *Builder) append(plainLen, storedLen int, sum digest.SHA256) {
	b.entries = binary.LittleEndian.AppendUint32(b.entries, uint32(plainLen))
	b.entries = binary.LittleEndian.AppendUint32(b.entries, uint32(storedLen))
	b.entries = append(b.entries, sum[:]...)
	b.size += int64(plainLen)
	if n := len(b.entries) / EntryLength; n > MaxEntries {
		b.fail("more than %d blocks", MaxEntries)
	}
	if b.size > MaxSize {
		b.fail("file of more than %d bytes", int64(MaxSize))
	}
}

// Bytes returns the index. The error is about the first Add or AddZero that
// the format does not allow, and wraps ErrInvalid.
func (b *Builder) Bytes() ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	le := binary.LittleEndian
	out := make([]byte, HeaderLength, HeaderLength+len(b.entries))
	copy(out, magic)
	le.PutUint16(out[8:], version)
	le.PutUint16(out[10:], HeaderLength)
	le.PutUint32(out[20:], uint32(len(b.entries)/EntryLength))
	le.PutUint64(out[24:], uint64(b.size))
	le.PutUint32(out[32:], uint32(b.largest))
	le.PutUint32(out[36:], uint32(b.Cutting))
	return append(out, b.entries...), nil
}
