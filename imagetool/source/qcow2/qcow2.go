// Package qcow2 reads disk images of QEMU, versions 2 and 3, as the disk that
// they stand for (docs/interop/qcow2.txt in QEMU's source).
//
// Compressed clusters are read, zlib and Zstandard. Images that need another
// file are refused, because such a name may lead anywhere; so are encrypted
// ones, and extended L2 entries. Nothing in an image is believed: tables
// are compared with the length of the file before memory is taken for them.
package qcow2

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/inetboot/inetboot/imagetool/source/lru"
	"github.com/inetboot/inetboot/imagetool/source/pieces"
)

// The reasons for which an image is not read. Errors wrap them.
var (
	ErrFormat      = errors.New("not a qcow2 image")
	ErrDamaged     = errors.New("the qcow2 image is damaged")
	ErrUnsupported = errors.New("the qcow2 image has something that is not supported")
)

// Magic begins every image.
const Magic = "QFI\xfb"

const (
	maxSize    = 1 << 46  // bytes of the disk
	maxL1      = 32 << 20 // bytes of the level 1 table, as QEMU has it
	maxBacking = 1023     // bytes of the backing file's name

	tableCache   = 8 << 20 // bytes of level 2 tables in memory
	clusterCache = 8 << 20 // bytes of decompressed clusters in memory
)

// Compression types.
const (
	compressZlib = 0
	compressZstd = 1
)

var be = binary.BigEndian

// Image is an open image. It is safe for concurrent use.
type Image struct {
	r           io.ReaderAt
	length      int64 // of r
	size        int64 // of the disk
	clusterBits uint
	compression byte
	l1          []byte

	tables   *lru.Cache
	clusters *lru.Cache
	decoders sync.Pool // of *zstd.Decoder
}

// Open reads the header of the image in the length bytes of r.
func Open(r io.ReaderAt, length int64) (*Image, error) {
	var h [112]byte
	n, err := r.ReadAt(h[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the header: %w", err)
	}
	if n < 72 || string(h[:4]) != Magic {
		return nil, ErrFormat
	}
	version := be.Uint32(h[4:])
	if version != 2 && version != 3 {
		return nil, fmt.Errorf("%w: version %d: convert it with qemu-img convert -O qcow2", ErrUnsupported, version)
	}
	m := &Image{r: r, length: length, clusterBits: uint(be.Uint32(h[20:])), size: int64(be.Uint64(h[24:]))}
	if be.Uint64(h[8:]) != 0 {
		return nil, fmt.Errorf("%w: it needs the backing file %s: make it whole with qemu-img convert -O qcow2", ErrUnsupported, backing(r, be.Uint64(h[8:]), be.Uint32(h[16:])))
	}
	if method := be.Uint32(h[32:]); method != 0 {
		return nil, fmt.Errorf("%w: it is encrypted (method %d)", ErrUnsupported, method)
	}
	if version == 3 {
		if n < 104 {
			return nil, fmt.Errorf("%w: the header ends early", ErrDamaged)
		}
		if err := m.features(be.Uint64(h[72:]), be.Uint32(h[100:]), h[104]); err != nil {
			return nil, err
		}
	}
	switch {
	case m.clusterBits < 9 || m.clusterBits > 21:
		return nil, fmt.Errorf("%w: clusters of 2^%d bytes", ErrDamaged, m.clusterBits)
	case m.size < 0 || m.size > maxSize:
		return nil, fmt.Errorf("%w: a disk of %d bytes", ErrDamaged, uint64(m.size))
	}
	// A level 2 table has one cluster of entries of 8 bytes.
	perTable := int64(1) << (2*m.clusterBits - 3)
	need := (m.size + perTable - 1) / perTable
	l1, at := int64(be.Uint32(h[36:])), int64(be.Uint64(h[40:]))
	switch {
	case l1 < need || need*8 > maxL1:
		return nil, fmt.Errorf("%w: a level 1 table of %d entries for %d bytes", ErrDamaged, l1, m.size)
	case at < 0 || at > length || need*8 > length-at:
		return nil, fmt.Errorf("%w: the level 1 table is not within the file", ErrDamaged)
	}
	m.l1 = make([]byte, need*8)
	if _, err := r.ReadAt(m.l1, at); err != nil && (need > 0 || !errors.Is(err, io.EOF)) {
		return nil, fmt.Errorf("read the level 1 table: %w", err)
	}
	cluster := 1 << m.clusterBits
	m.tables = lru.New(max(2, tableCache/cluster))
	m.clusters = lru.New(max(2, clusterCache/cluster))
	return m, nil
}

// features looks at what version 3 says more.
func (m *Image) features(incompatible uint64, headerLength uint32, compression byte) error {
	const dirty, corrupt, dataFile, compressionType, extendedL2 = 1, 2, 4, 8, 16
	switch {
	case incompatible&corrupt != 0:
		return fmt.Errorf("%w: QEMU has marked it as corrupt: repair it with qemu-img check -r all", ErrDamaged)
	case incompatible&dataFile != 0:
		return fmt.Errorf("%w: its data lies in another file: make it whole with qemu-img convert -O qcow2", ErrUnsupported)
	case incompatible&extendedL2 != 0:
		return fmt.Errorf("%w: extended L2 entries: convert it with qemu-img convert -O qcow2", ErrUnsupported)
	case incompatible&^(dirty|compressionType) != 0:
		return fmt.Errorf("%w: incompatible features %#x", ErrUnsupported, incompatible)
	}
	if incompatible&compressionType != 0 && headerLength > 104 {
		m.compression = compression
	}
	if m.compression > compressZstd {
		return fmt.Errorf("%w: compression type %d", ErrUnsupported, m.compression)
	}
	return nil
}

// backing returns the name of the backing file for a message.
func backing(r io.ReaderAt, at uint64, n uint32) string {
	if n == 0 || n > maxBacking || at > 1<<21 {
		return "that is named nowhere"
	}
	b := make([]byte, n)
	if _, err := r.ReadAt(b, int64(at)); err != nil {
		return "that is named nowhere"
	}
	return fmt.Sprintf("%.200q", b)
}

// Size returns the length of the disk in bytes.
func (m *Image) Size() int64 { return m.size }

// ReadAt implements io.ReaderAt for the disk.
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	return pieces.ReadAt(p, off, m.size, 1<<m.clusterBits, m.read)
}

// Masks of table entries.
const (
	offsetMask     = 0x00fffffffffffe00
	entryZero      = 1
	flagCompressed = 1 << 62
)

// read fills p from one cluster of the disk.
func (m *Image) read(p []byte, cluster, skip int64) error {
	entry, err := m.entry(cluster)
	switch {
	case err != nil:
		return err
	case entry&flagCompressed != 0:
		data, err := m.decompressed(entry)
		if err != nil {
			return fmt.Errorf("cluster %d: %w", cluster, err)
		}
		copy(p, data[skip:])
		return nil
	case entry&entryZero != 0 || entry&offsetMask == 0:
		clear(p)
		return nil
	}
	return m.host(p, int64(entry&offsetMask)+skip)
}

// host reads from the file.
func (m *Image) host(p []byte, at int64) error {
	// The last cluster of a file may be cut off; what is missing is zero.
	if at >= m.length {
		return fmt.Errorf("%w: offset %d is not within the file", ErrDamaged, at)
	}
	if n := m.length - at; n < int64(len(p)) {
		clear(p[n:])
		p = p[:n]
	}
	if _, err := m.r.ReadAt(p, at); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the image: %w", err)
	}
	return nil
}

// entry returns the level 2 entry of a cluster.
func (m *Image) entry(cluster int64) (uint64, error) {
	bits := m.clusterBits - 3
	at := int64(be.Uint64(m.l1[cluster>>bits*8:]) & offsetMask)
	if at == 0 {
		return 0, nil
	}
	table, err := m.tables.Get(at, func() ([]byte, error) {
		b := make([]byte, 1<<m.clusterBits)
		return b, m.host(b, at)
	})
	if err != nil {
		return 0, err
	}
	return be.Uint64(table[cluster&(1<<bits-1)*8:]), nil
}

// decompressed returns the content of a compressed cluster.
func (m *Image) decompressed(entry uint64) ([]byte, error) {
	x := 62 - (m.clusterBits - 8)
	at := int64(entry & (1<<x - 1))
	sectors := int64(entry >> x & (1<<(m.clusterBits-8) - 1))
	length := (sectors+1)*512 - at&511
	return m.clusters.Get(at, func() ([]byte, error) {
		if at <= 0 || at >= m.length {
			return nil, fmt.Errorf("%w: offset %d is not within the file", ErrDamaged, at)
		}
		packed := make([]byte, min(length, m.length-at))
		if err := m.host(packed, at); err != nil {
			return nil, err
		}
		out := make([]byte, 1<<m.clusterBits)
		if err := m.inflate(out, packed); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		return out, nil
	})
}

// inflate fills out from packed, which has more bytes than belong to it.
func (m *Image) inflate(out, packed []byte) error {
	if m.compression == compressZlib {
		r := flate.NewReader(bytes.NewReader(packed))
		defer r.Close()
		_, err := io.ReadFull(r, out)
		return err
	}
	r, ok := m.decoders.Get().(*zstd.Decoder)
	if !ok {
		var err error
		// Without goroutines of its own it needs no Close.
		r, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		if err != nil {
			return err
		}
	}
	defer m.decoders.Put(r)
	if err := r.Reset(bytes.NewReader(packed)); err != nil {
		return err
	}
	_, err := io.ReadFull(r, out)
	return err
}
