// Package pack is boot packs: the blocks of a root that a boot reads, in the
// order of first access, in one file, so that one request brings them at the
// rate of the line. It has the format (docs/formats.md, Pack), the recording
// of what a boot reads, the report of a boot, and the merging of several
// reports into the next pack.
//
// A pack is a hint. Nothing in it is trusted: who reads one looks each record
// up in an index, by its hash, and decodes the stored bytes as the index says.
// What does not fit is left out; a useless pack costs its bytes, no more.
package pack

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/internal/digest"
)

// Limits of the format.
const (
	MaxRecords   = 65_536
	MaxStored    = 512 << 20 // bytes of all stored blocks
	HeaderLength = 64
	RecordLength = 40 // before the stored bytes
)

// MaxBytes is the length of the longest pack, in bytes.
const MaxBytes = HeaderLength + MaxRecords*RecordLength + MaxStored

const (
	magic   = "IB-pack\n"
	version = 1
)

// ErrInvalid is wrapped by errors about bytes that are no pack, or none that
// the reader can use.
var ErrInvalid = errors.New("invalid boot pack")

// ErrEmpty is wrapped when a pack would have no block.
var ErrEmpty = errors.New("no block to pack")

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// Header is what a pack says of itself.
type Header struct {
	Manifest digest.SHA256 // of the image that it is for
	Records  int
	Bytes    int64 // of the whole pack
}

// parseHeader checks what can be checked without the rest. limit bounds the
// length of the pack.
func parseHeader(b *[HeaderLength]byte, limit int64) (Header, error) {
	le := binary.LittleEndian
	var h Header
	if string(b[:8]) != magic {
		return h, invalid("it does not begin with the magic bytes")
	}
	if v := le.Uint16(b[8:]); v != version {
		return h, invalid("version %d, this program reads version %d", v, version)
	}
	if n := le.Uint16(b[10:]); n != HeaderLength {
		return h, invalid("header of %d bytes, want %d", n, HeaderLength)
	}
	if f := le.Uint32(b[12:]); f != 0 {
		return h, invalid("it needs features %#x, which this program lacks", f)
	}
	n, total := le.Uint32(b[20:]), le.Uint64(b[24:])
	if n < 1 || n > MaxRecords {
		return h, invalid("%d records, want 1 to %d", n, MaxRecords)
	}
	if total > uint64(min(limit, MaxBytes)) {
		return h, invalid("%d bytes, at most %d are allowed", total, min(limit, MaxBytes))
	}
	if least := uint64(HeaderLength) + uint64(n)*(RecordLength+1); total < least {
		return h, invalid("%d bytes with %d records, want at least %d", total, n, least)
	}
	return Header{Manifest: digest.SHA256(b[32:]), Records: int(n), Bytes: int64(total)}, nil
}

func (h Header) encode() []byte {
	b := make([]byte, 0, HeaderLength)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, HeaderLength)
	b = append(b, make([]byte, 8)...) // features
	b = binary.LittleEndian.AppendUint32(b, uint32(h.Records))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.Bytes))
	return append(b, h.Manifest[:]...)
}

// Record is what a pack says of one of its blocks. It is not to be trusted:
// the index has the block of this hash, or the record is of no use.
type Record struct {
	PlainLen  int
	StoredLen int
	SHA256    digest.SHA256 // of the plain bytes
}

func parseRecord(b *[RecordLength]byte) (Record, error) {
	plain, stored := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:])
	if plain < 1 || plain > block.MaxPlain {
		return Record{}, invalid("block of %d bytes, want 1 to %d", plain, block.MaxPlain)
	}
	if stored < 1 || stored > uint32(block.MaxStored(int(plain))) {
		return Record{}, invalid("%d stored for %d plain bytes, want 1 to %d", stored, plain, block.MaxStored(int(plain)))
	}
	return Record{PlainLen: int(plain), StoredLen: int(stored), SHA256: digest.SHA256(b[8:])}, nil
}

func (r Record) encode() []byte {
	b := make([]byte, 0, RecordLength)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.PlainLen))
	b = binary.LittleEndian.AppendUint32(b, uint32(r.StoredLen))
	return append(b, r.SHA256[:]...)
}
