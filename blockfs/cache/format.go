package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/internal/digest"
)

// The format of segments: see docs/formats.md, "Cache folder".
const (
	pageSize   = 4096
	headerLen  = 64
	entryLen   = 48
	trailerLen = 64
	version    = 1

	recordMagic  = "IBcache\n"
	trailerMagic = "IBsealed"

	flagBoot = 1 // the block was read by a boot

	// maxSegment bounds the files that are taken for segments.
	maxSegment = 256 << 20

	// maxSession leaves room above; larger ones are nobody's honest count.
	maxSession = 1 << 30
)

// kind says what a record holds.
type kind uint8

const (
	kindBlock kind = 1 // a block as stored, named by the hash of its plain bytes
	kindBoot  kind = 2 // keys of blocks that a boot read, named by the hash of these bytes
)

// maxPayload is the largest number of bytes behind a header.
var maxPayload = block.MaxStored(block.MaxPlain)

// errFormat is wrapped by the errors of parsing.
var errFormat = errors.New("malformed cache record")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// header stands before each record.
type header struct {
	kind    kind
	boot    bool
	length  int // of the payload
	sum     digest.SHA256
	session uint32 // counts the times that the cache was opened
	segment uint32
}

// put writes h to the first headerLen bytes of b.
func (h *header) put(b []byte) {
	b = b[:headerLen]
	clear(b)
	le := binary.LittleEndian
	copy(b, recordMagic)
	b[8], b[9] = version, byte(h.kind)
	if h.boot {
		le.PutUint16(b[10:], flagBoot)
	}
	le.PutUint32(b[12:], uint32(h.length))
	copy(b[16:], h.sum[:])
	le.PutUint32(b[48:], h.session)
	le.PutUint32(b[52:], h.segment)
	le.PutUint32(b[60:], crc(b[:60]))
}

// parseHeader reads the header at the beginning of b.
func parseHeader(b []byte) (header, error) {
	le := binary.LittleEndian
	if len(b) < headerLen || string(b[:8]) != recordMagic {
		return header{}, fmt.Errorf("%w: no header", errFormat)
	}
	if le.Uint32(b[60:]) != crc(b[:60]) {
		return header{}, fmt.Errorf("%w: checksum of the header", errFormat)
	}
	h := header{
		kind:    kind(b[9]),
		boot:    le.Uint16(b[10:])&flagBoot != 0,
		session: le.Uint32(b[48:]),
		segment: le.Uint32(b[52:]),
	}
	copy(h.sum[:], b[16:48])
	length := le.Uint32(b[12:])
	if b[8] != version || !h.kind.valid() || length == 0 || length > uint32(maxPayload) || h.session > maxSession {
		return header{}, fmt.Errorf("%w: version %d, kind %d, %d bytes", errFormat, b[8], h.kind, length)
	}
	h.length = int(length)
	return h, nil
}

func (k kind) valid() bool { return k == kindBlock || k == kindBoot }

// recordLen is how many bytes of a segment a record with a payload of n bytes takes.
func recordLen(n int) int64 { return roundUp(int64(headerLen + n)) }

func roundUp(n int64) int64 { return (n + pageSize - 1) &^ (pageSize - 1) }

// entry is a record in the table at the end of a sealed segment.
type entry struct {
	header
	page uint32 // offset of the record in units of pageSize
}

func (e *entry) put(b []byte) {
	le := binary.LittleEndian
	copy(b, e.sum[:])
	le.PutUint32(b[32:], e.page)
	le.PutUint32(b[36:], uint32(e.length))
	b[40], b[41], b[42], b[43] = byte(e.kind), 0, 0, 0
	if e.boot {
		b[41] = flagBoot
	}
	le.PutUint32(b[44:], e.session)
}

// footerLen is the length of the footer for n records.
func footerLen(n int) int64 { return roundUp(int64(n*entryLen + trailerLen)) }

// appendFooter returns the footer of a segment whose records end at offset end.
func appendFooter(dst []byte, segment uint32, end int64, entries []entry) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, footerLen(len(entries)))...)
	b := dst[start:]
	for i := range entries {
		entries[i].put(b[i*entryLen:])
	}
	le := binary.LittleEndian
	t := b[len(b)-trailerLen:]
	copy(t, trailerMagic)
	le.PutUint32(t[8:], version)
	le.PutUint32(t[12:], uint32(len(entries)))
	le.PutUint64(t[16:], uint64(end))
	le.PutUint32(t[24:], segment)
	le.PutUint32(t[28:], crc(b[:len(entries)*entryLen]))
	le.PutUint32(t[60:], crc(t[:60]))
	return dst
}

// trailer is the end of a footer.
type trailer struct {
	count int
	table int64 // offset of the table, which is where the records end
	crc   uint32
}

// parseTrailer reads the last trailerLen bytes of a segment of size bytes.
func parseTrailer(b []byte, segment uint32, size int64) (trailer, error) {
	le := binary.LittleEndian
	if len(b) != trailerLen || string(b[:8]) != trailerMagic || le.Uint32(b[60:]) != crc(b[:60]) {
		return trailer{}, fmt.Errorf("%w: no footer", errFormat)
	}
	count, table := le.Uint32(b[12:]), le.Uint64(b[16:])
	if le.Uint32(b[8:]) != version || le.Uint32(b[24:]) != segment || table > maxSegment || table%pageSize != 0 ||
		int64(count) > int64(table)/pageSize || int64(table)+footerLen(int(count)) != size {
		return trailer{}, fmt.Errorf("%w: footer of segment %d with %d records that end at %d", errFormat, le.Uint32(b[24:]), count, table)
	}
	return trailer{count: int(count), table: int64(table), crc: le.Uint32(b[28:])}, nil
}

// parseTable reads the table that a trailer describes.
func parseTable(b []byte, segment uint32, t trailer) ([]entry, error) {
	if len(b) != t.count*entryLen || crc(b) != t.crc {
		return nil, fmt.Errorf("%w: checksum of the table", errFormat)
	}
	le := binary.LittleEndian
	if t.count == 0 {
		return nil, nil
	}
	entries := make([]entry, t.count)
	var end int64
	for i := range entries {
		r, e := b[i*entryLen:], &entries[i]
		copy(e.sum[:], r)
		e.page, e.kind, e.boot, e.session, e.segment = le.Uint32(r[32:]), kind(r[40]), r[41]&flagBoot != 0, le.Uint32(r[44:]), segment
		length := le.Uint32(r[36:])
		if !e.kind.valid() || length == 0 || length > uint32(maxPayload) || e.session > maxSession {
			return nil, fmt.Errorf("%w: entry %d of the table", errFormat, i)
		}
		e.length = int(length)
		if e.offset() < end || e.offset()+recordLen(e.length) > t.table {
			return nil, fmt.Errorf("%w: entry %d of the table lies at %d", errFormat, i, e.offset())
		}
		end = e.offset() + recordLen(e.length)
	}
	return entries, nil
}

func (e *entry) offset() int64 { return int64(e.page) * pageSize }

// key is how the index names a block: the beginning of its hash. Two blocks
// with the same one are found out when the record is read.
type key [16]byte

func keyOf(d digest.SHA256) key { return key(d[:16]) }
