package tarball

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// MagicLength is how many bytes Compression looks at.
const MagicLength = 6

// maxWindow bounds the memory that a compressed stream can ask for, in bytes:
// as zstd(1) does by itself, and twice what xz -9 needs.
const maxWindow = 128 << 20

// Compression tells by its first bytes how a file is compressed: "gzip",
// "bzip2", "xz", "zstd", or "" if it is not, or in another way.
func Compression(magic []byte) string {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return "gzip"
	case bytes.HasPrefix(magic, []byte("BZh")):
		return "bzip2"
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return "xz"
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}),
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], []byte{0x2a, 0x4d, 0x18}): // a skippable frame
		return "zstd"
	}
	return ""
}

// Decompress returns what r holds, decompressed if it is compressed.
func Decompress(r *bufio.Reader) (io.ReadCloser, error) {
	magic, err := r.Peek(MagicLength)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch Compression(magic) {
	case "gzip":
		return gzip.NewReader(r)
	case "bzip2":
		return io.NopCloser(bzip2.NewReader(r)), nil
	case "xz":
		head, err := r.Peek(xzHead)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if n := xzDictionary(head); n > maxWindow {
			return nil, fmt.Errorf("it needs %d MiB of memory to decompress: compress it with a dictionary of at most %d MiB", n>>20, maxWindow>>20)
		}
		z, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(z), nil
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return &zstdReader{z.IOReadCloser()}, nil
	}
	return io.NopCloser(r), nil
}

// zstdReader says what can be done about windows that are too large.
type zstdReader struct{ io.ReadCloser }

func (z *zstdReader) Read(p []byte) (int, error) {
	n, err := z.ReadCloser.Read(p)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		err = fmt.Errorf("it needs more than %d MiB of memory to decompress: compress it without --long above 27: %w", maxWindow>>20, err)
	}
	return n, err
}

// xzHead is how much of a file xzDictionary looks at: the header of the stream
// and of its first block.
const xzHead = 12 + 1024

// xzDictionary returns the size of the dictionary in bytes that the first
// block asks for, as tools use the same for all; 0 if head is of another form
// (The .xz File Format 1.2.1, sections 3.1 and 5.3.1).
func xzDictionary(head []byte) int64 {
	if len(head) < 14 {
		return 0
	}
	b := head[12:]
	b = b[:min(len(b), (int(b[0])+1)*4)]
	if len(b) < 2 {
		return 0
	}
	flags := b[1]
	b = b[2:]
	for _, bit := range []byte{0x40, 0x80} { // compressed and uncompressed size
		if flags&bit != 0 {
			_, b = xzInt(b)
		}
	}
	for range flags&3 + 1 {
		var id, size uint64
		id, b = xzInt(b)
		size, b = xzInt(b)
		if size > uint64(len(b)) {
			return 0
		}
		if id == 0x21 && size == 1 {
			bits := b[0] & 0x3f
			if bits >= 40 {
				return 1<<32 - 1
			}
			return int64(2|bits&1) << (bits/2 + 11)
		}
		b = b[size:]
	}
	return 0
}

// xzInt takes an integer off b (section 1.2).
func xzInt(b []byte) (n uint64, rest []byte) {
	for i := 0; i < min(len(b), 9); i++ {
		n |= uint64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return n, b[i+1:]
		}
	}
	return 0, nil
}
