// Package squashfs reads the tree of a squashfs 4.0 filesystem, without the
// kernel and without root (fs/squashfs/squashfs_fs.h in Linux's source).
//
// All of its compressions are read but LZMA, which Linux does not read
// either: gzip, LZO, xz with its filters for machine code, LZ4, Zstandard.
// Nothing in the image is believed: what is decompressed is bounded, each
// directory is read once, and tables are compared with the length of the image.
package squashfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/lru"
)

// The reasons for which a filesystem is not read. Errors wrap them.
var (
	ErrFormat  = errors.New("not a squashfs filesystem")
	ErrFeature = errors.New("the squashfs has something that is not supported")
)

// Magic begins every squashfs.
const Magic = "hsqs"

var le = binary.LittleEndian

const (
	superSize    = 96
	metadataSize = 8192 // plain bytes of a metadata block
	maxBlockLog  = 20
	noTable      = 0xffffffffffffffff
	maxIDs       = 65536
	maxFragments = 1 << 28

	metadataCache = 512 // blocks
	dataCache     = 24  // blocks of data and fragments, each of up to 1 MiB
)

// filesystem is an open squashfs.
type filesystem struct {
	r         io.ReaderAt
	size      int64
	blockSize int64
	unpack    func(out, in []byte) (int, error)
	root      uint64
	inodes    uint32
	fragments uint32

	inodeTable, dirTable, fragmentTable, idTable, xattrTable uint64

	ids      []uint32
	xattrIDs uint32
	xattrAt  uint64 // of the first metadata block with names and values

	metadata *lru.Cache
	data     *lru.Cache
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: squashfs: %w", source.ErrRefused, fmt.Errorf(format, args...))
}

func open(r io.ReaderAt, size int64) (*filesystem, error) {
	var sb [superSize]byte
	if size < superSize {
		return nil, ErrFormat
	}
	if _, err := r.ReadAt(sb[:], 0); err != nil {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	if string(sb[:4]) != Magic {
		return nil, ErrFormat
	}
	if major, minor := le.Uint16(sb[28:]), le.Uint16(sb[30:]); major != 4 || minor != 0 {
		return nil, fmt.Errorf("%w: version %d.%d", ErrFeature, major, minor)
	}
	f := &filesystem{
		r: r, size: size,
		inodes:        le.Uint32(sb[4:]),
		blockSize:     int64(le.Uint32(sb[12:])),
		fragments:     le.Uint32(sb[16:]),
		root:          le.Uint64(sb[32:]),
		idTable:       le.Uint64(sb[48:]),
		xattrTable:    le.Uint64(sb[56:]),
		inodeTable:    le.Uint64(sb[64:]),
		dirTable:      le.Uint64(sb[72:]),
		fragmentTable: le.Uint64(sb[80:]),
		metadata:      lru.New(metadataCache),
		data:          lru.New(dataCache),
	}
	log := le.Uint16(sb[22:])
	switch used := le.Uint64(sb[40:]); {
	case log < 12 || log > maxBlockLog || f.blockSize != 1<<log:
		return nil, bad("blocks of %d bytes", f.blockSize)
	case used > uint64(size):
		return nil, bad("it has %d bytes, but there are only %d: it was cut off", used, size)
	case f.inodeTable >= f.dirTable || f.dirTable > used || f.idTable > used:
		return nil, bad("its tables are not in order")
	case f.fragments > maxFragments:
		return nil, bad("%d fragments", f.fragments)
	}
	var err error
	if f.unpack, err = decompressor(le.Uint16(sb[20:])); err != nil {
		return nil, err
	}
	if f.ids, err = f.readIDs(int(le.Uint16(sb[26:]))); err != nil {
		return nil, err
	}
	if f.xattrTable != noTable {
		var h [16]byte
		if err := f.readAt(h[:], f.xattrTable); err != nil {
			return nil, fmt.Errorf("table of extended attributes: %w", err)
		}
		f.xattrAt, f.xattrIDs = le.Uint64(h[0:]), le.Uint32(h[8:])
	}
	return f, nil
}

// readAt reads bytes of the image as they are.
func (f *filesystem) readAt(p []byte, at uint64) error {
	if at > uint64(f.size) || uint64(len(p)) > uint64(f.size)-at {
		return bad("offset %d is not within the image", at)
	}
	if _, err := f.r.ReadAt(p, int64(at)); err != nil {
		return fmt.Errorf("read the squashfs: %w", err)
	}
	return nil
}

// metadataBlock returns the plain bytes of the metadata block at offset at,
// and where the next one begins.
func (f *filesystem) metadataBlock(at uint64) (data []byte, next uint64, err error) {
	if at > uint64(f.size) {
		return nil, 0, bad("offset %d is not within the image", at)
	}
	// The length of the packed block is kept in front of the plain bytes.
	b, err := f.metadata.Get(int64(at), func() ([]byte, error) {
		var h [2]byte
		if err := f.readAt(h[:], at); err != nil {
			return nil, err
		}
		header := le.Uint16(h[:])
		length := int(header & 0x7fff)
		if length == 0 || length > metadataSize {
			return nil, bad("a metadata block of %d bytes", length)
		}
		packed := make([]byte, length)
		if err := f.readAt(packed, at+2); err != nil {
			return nil, err
		}
		if header&0x8000 != 0 {
			return append(h[:], packed...), nil
		}
		out := make([]byte, 2+metadataSize)
		n, err := f.unpack(out[2:], packed)
		if err != nil {
			return nil, bad("metadata block at %d: %w", at, err)
		}
		copy(out, h[:])
		return out[:2+n], nil
	})
	if err != nil {
		return nil, 0, err
	}
	return b[2:], at + 2 + uint64(le.Uint16(b)&0x7fff), nil
}

// stream reads metadata from a place on.
type stream struct {
	f    *filesystem
	at   uint64 // of the block that rest is from
	next uint64
	rest []byte
}

// stream returns the metadata at ref: the offset of a block behind start in
// the upper 48 bits, that of a byte in the block in the lower 16.
func (f *filesystem) stream(start, ref uint64) (*stream, error) {
	block, offset := start+ref>>16, int(ref&0xffff)
	if block < start {
		return nil, bad("reference %#x", ref)
	}
	data, next, err := f.metadataBlock(block)
	if err != nil {
		return nil, err
	}
	if offset > len(data) {
		return nil, bad("offset %d in a metadata block of %d bytes", offset, len(data))
	}
	return &stream{f: f, at: block, next: next, rest: data[offset:]}, nil
}

// read fills p.
func (s *stream) read(p []byte) error {
	for len(p) > 0 {
		if len(s.rest) == 0 {
			data, next, err := s.f.metadataBlock(s.next)
			if err != nil {
				return err
			}
			if len(data) == 0 {
				return bad("an empty metadata block")
			}
			s.at, s.next, s.rest = s.next, next, data
		}
		n := copy(p, s.rest)
		p, s.rest = p[n:], s.rest[n:]
	}
	return nil
}

// bytes returns the next n bytes.
func (s *stream) bytes(n int) ([]byte, error) {
	b := make([]byte, n)
	return b, s.read(b)
}

// lookup reads entry number n, of size bytes, of a table whose metadata
// blocks are listed at list.
func (f *filesystem) lookup(list uint64, n uint32, size int, out []byte) error {
	perBlock := metadataSize / size
	var p [8]byte
	if err := f.readAt(p[:], list+uint64(int(n)/perBlock)*8); err != nil {
		return err
	}
	data, _, err := f.metadataBlock(le.Uint64(p[:]))
	if err != nil {
		return err
	}
	at := int(n) % perBlock * size
	if at+size > len(data) {
		return bad("entry %d of a table is missing", n)
	}
	copy(out, data[at:at+size])
	return nil
}

func (f *filesystem) readIDs(n int) ([]uint32, error) {
	if n == 0 || n > maxIDs {
		return nil, bad("%d owners", n)
	}
	out := make([]uint32, n)
	for i := range out {
		var b [4]byte
		if err := f.lookup(f.idTable, uint32(i), 4, b[:]); err != nil {
			return nil, fmt.Errorf("table of owners: %w", err)
		}
		out[i] = le.Uint32(b[:])
	}
	return out, nil
}
