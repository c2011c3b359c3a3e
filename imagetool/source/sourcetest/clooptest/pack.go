// Package clooptest writes cloop images for tests.
package clooptest

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"io"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// Kind is how a block is compressed.
type Kind uint64

// The kinds, with the numbers that cloop.h gives them.
const (
	Zlib Kind = iota
	None
	XZ
	LZ4
	LZO
)

// Options says how an image is written.
type Options struct {
	Version   string // "V2.0" or "V4.0"
	BlockSize int
	Kinds     []Kind // of the blocks, in turn; none: Zlib
	Last      bool   // the header and the index stand at the end
}

// Pack returns a cloop image of a disk. The last block is filled with zeros.
func Pack(t testing.TB, disk []byte, o Options) []byte {
	t.Helper()
	if len(o.Kinds) == 0 {
		o.Kinds = []Kind{Zlib}
	}
	n := (len(disk) + o.BlockSize - 1) / o.BlockSize
	header := make([]byte, 128)
	copy(header, "#!/bin/sh\n#"+o.Version+" Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n")
	be := binary.BigEndian
	header = be.AppendUint32(header, uint32(o.BlockSize))
	header = be.AppendUint32(header, uint32(n))
	at := 0
	if !o.Last {
		at = len(header) + 8*(n+1)
	}
	var index, blocks []byte
	for i := range n {
		block := make([]byte, o.BlockSize)
		copy(block, disk[i*o.BlockSize:])
		kind, packed := pack(t, o.Kinds[i%len(o.Kinds)], block)
		index = be.AppendUint64(index, uint64(kind)<<60|uint64(at+len(blocks)))
		blocks = append(blocks, packed...)
	}
	index = be.AppendUint64(index, uint64(at+len(blocks)))
	if o.Last {
		return append(append(blocks, index...), header...)
	}
	return append(append(header, index...), blocks...)
}

// pack compresses a block, unless that makes it longer.
func pack(t testing.TB, kind Kind, block []byte) (Kind, []byte) {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case None:
		return None, block
	case Zlib:
		w = zlib.NewWriter(&b)
	case XZ:
		z, err := xz.WriterConfig{DictCap: 1 << 20, CheckSum: xz.CRC32}.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	case LZ4:
		out := make([]byte, lz4.CompressBlockBound(len(block)))
		n, err := lz4.CompressBlock(block, out, nil)
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return None, block
		}
		return LZ4, out[:n]
	case LZO:
		return LZO, literals(block)
	default:
		t.Fatalf("no compressor for kind %d", kind)
	}
	if _, err := w.Write(block); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return kind, b.Bytes()
}

// literals returns a block of LZO1X that has one run of plain bytes and the end
// mark (the kernel's Documentation/staging/lzo.rst).
func literals(block []byte) []byte {
	var out []byte
	if n := len(block); n <= 238 {
		out = append(out, byte(n+17))
	} else {
		out = append(out, 0)
		rest := n - 18
		for ; rest > 255; rest -= 255 {
			out = append(out, 0)
		}
		out = append(out, byte(rest))
	}
	out = append(out, block...)
	return append(out, 0x11, 0, 0)
}
