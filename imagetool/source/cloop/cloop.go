// Package cloop reads images of Knoppix' compressed loop device, formats V2.0
// and V4.0, as the disk that they stand for (cloop.h of the kernel module
// cloop 4.12).
//
// Nothing in an image is believed: the index is compared with the length of the
// file before memory is taken for it.
package cloop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source/decompress"
	"github.com/inetboot/inetboot/imagetool/source/lru"
	"github.com/inetboot/inetboot/imagetool/source/pieces"
)

// The reasons for which an image is not read. Errors wrap them.
var (
	ErrFormat      = errors.New("not a cloop image")
	ErrDamaged     = errors.New("the cloop image is damaged")
	ErrUnsupported = errors.New("the cloop image has something that is not supported")
)

const (
	headerSize  = 128 + 4 + 4
	maxBlock    = 16 << 20 // bytes of a block
	maxIndex    = 64 << 20 // bytes of the index: 1 TiB in blocks of 128 KiB
	versionAt   = 0x0b
	offsetMask  = 1<<60 - 1
	maxDict     = 64 << 20 // of xz -9
	blockCache  = 8 << 20  // bytes of plain blocks in memory
	maxBlocks   = 256      // in memory, if they are small
	packedBound = 1 << 16  // bytes that a compressed block may be longer than a plain one
)

// How blocks are compressed: the upper 4 bits of their offsets.
const (
	packedZlib = iota
	packedNone
	packedXZ
	packedLZ4
	packedLZO
)

var be = binary.BigEndian

// Image is an open image. It is safe for concurrent use.
type Image struct {
	r         io.ReaderAt
	flags     bool // the offsets have them
	blockSize int64
	size      int64    // of the disk
	index     []uint64 // one more than there are blocks
	blocks    *lru.Cache
}

// header finds the header. last tells that it was at the end.
func header(r io.ReaderAt, length int64) (h []byte, version string, last bool, err error) {
	h = make([]byte, headerSize)
	for _, at := range []int64{0, length - headerSize} {
		if at < 0 || length < headerSize {
			break
		}
		if _, err := r.ReadAt(h, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, "", false, fmt.Errorf("read the header: %w", err)
		}
		if string(h[:versionAt]) != "#!/bin/sh\n#" || h[versionAt] != 'V' {
			continue
		}
		switch v := string(h[versionAt : versionAt+4]); v {
		case "V2.0", "V4.0":
			return h, v, at > 0, nil
		default:
			return nil, "", false, fmt.Errorf("%w: format %q; V2.0 and V4.0 are read", ErrUnsupported, v)
		}
	}
	return nil, "", false, ErrFormat
}

// Open reads the header and the index of the image in the length bytes of r.
func Open(r io.ReaderAt, length int64) (*Image, error) {
	h, version, last, err := header(r, length)
	if err != nil {
		return nil, err
	}
	m := &Image{r: r, flags: version == "V4.0", blockSize: int64(be.Uint32(h[128:]))}
	n := int64(be.Uint32(h[132:]))
	indexSize := (n + 1) * 8
	switch {
	case m.blockSize == 0 || m.blockSize%512 != 0 || m.blockSize > maxBlock:
		return nil, fmt.Errorf("%w: blocks of %d bytes", ErrDamaged, m.blockSize)
	case indexSize > maxIndex || indexSize > length-headerSize:
		return nil, fmt.Errorf("%w: %d blocks in a file of %d bytes", ErrDamaged, n, length)
	}
	// Where the index begins, and where blocks may lie.
	at, from, to := int64(headerSize), headerSize+indexSize, length
	if last {
		at = length - headerSize - indexSize
		from, to = 0, at
	}
	b := make([]byte, indexSize)
	if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the index: %w", err)
	}
	m.index = make([]uint64, n+1)
	before := from
	for i := range m.index {
		m.index[i] = be.Uint64(b[8*i:])
		at := m.offset(i)
		switch {
		case at < before || at > to:
			return nil, fmt.Errorf("%w: offset %d of block %d is not within the file of %d bytes: it was cut off", ErrDamaged, at, i, length)
		case i > 0 && at-before > m.blockSize+m.blockSize/8+packedBound:
			return nil, fmt.Errorf("%w: block %d has %d bytes", ErrDamaged, i-1, at-before)
		}
		before = at
	}
	m.blocks = lru.New(int(min(maxBlocks, max(2, blockCache/m.blockSize))))
	m.size = n * m.blockSize
	return m, nil
}

// offset returns where block i begins. Index values are unsigned: one that does not
// fit is negative.
func (m *Image) offset(i int) int64 {
	if m.flags {
		return int64(m.index[i] & offsetMask)
	}
	return int64(m.index[i])
}

// Size returns the length of the disk in bytes.
func (m *Image) Size() int64 { return m.size }

// ReadAt implements io.ReaderAt for the disk.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	return pieces.ReadAt(p, off, m.size, m.blockSize, func(part []byte, i, skip int64) error {
		data, err := m.block(int(i))
		if err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		copy(part, data[skip:])
		return nil
	})
}

// block returns the plain bytes of a block.
func (m *Image) block(i int) ([]byte, error) {
	return m.blocks.Get(int64(i), func() ([]byte, error) {
		at := m.offset(i)
		packed := make([]byte, m.offset(i+1)-at)
		if _, err := m.r.ReadAt(packed, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("read the image: %w", err)
		}
		kind := uint64(packedZlib)
		if m.flags {
			kind = m.index[i] >> 60
		}
		out := make([]byte, m.blockSize)
		n, err := unpack(kind, out, packed)
		switch {
		case errors.Is(err, ErrUnsupported):
			return nil, err
		case err != nil:
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		case n == len(out):
		// The last one may be shorter, what is missing is zero.
		case i < len(m.index)-2 || n == 0:
			return nil, fmt.Errorf("%w: it has %d bytes of %d", ErrDamaged, n, len(out))
		}
		clear(out[n:])
		return out, nil
	})
}

// unpack fills out from a block of a kind, and returns how many bytes there were.
func unpack(kind uint64, out, packed []byte) (int, error) {
	switch kind {
	case packedZlib:
		return decompress.Zlib(out, packed)
	case packedNone:
		if len(packed) > len(out) {
			return 0, decompress.ErrLong
		}
		return copy(out, packed), nil
	case packedXZ:
		return decompress.XZ(out, packed, maxDict)
	case packedLZ4:
		return decompress.LZ4(out, packed)
	case packedLZO:
		return decompress.LZO(out, packed)
	}
	return 0, fmt.Errorf("%w: compression %d", ErrUnsupported, kind)
}
