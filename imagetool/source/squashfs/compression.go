package squashfs

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/therootcompany/xz"
)

// errLong is returned for a block that is longer than blocks are.
var errLong = errors.New("it has more bytes than a block")

// decompressor returns a function that fills out and returns how many bytes
// there were; it may be used by several goroutines at once.
func decompressor(id uint16) (func(out, in []byte) (int, error), error) {
	switch id {
	case 1:
		return func(out, in []byte) (int, error) {
			r, err := zlib.NewReader(bytes.NewReader(in))
			if err != nil {
				return 0, err
			}
			defer r.Close()
			return fill(out, r)
		}, nil
	case 3:
		return func(out, in []byte) (int, error) { return lzo.Decompress(in, out) }, nil
	case 4:
		return func(out, in []byte) (int, error) {
			r, err := xz.NewReader(bytes.NewReader(in), 1<<maxBlockLog+64<<10)
			if err != nil {
				return 0, err
			}
			return fill(out, r)
		}, nil
	case 5:
		return func(out, in []byte) (int, error) { return lz4.UncompressBlock(in, out) }, nil
	case 6:
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(8<<20))
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return func(out, in []byte) (int, error) {
			b, err := z.DecodeAll(in, out[:0])
			if err == nil && len(b) > len(out) {
				err = errLong
			}
			return len(b), err
		}, nil
	}
	name, ok := map[uint16]string{2: "LZMA compression, which Linux does not mount either"}[id]
	if !ok {
		name = fmt.Sprintf("compression %d", id)
	}
	return nil, fmt.Errorf("%w: %s", ErrFeature, name)
}

// fill reads r to its end into out.
func fill(out []byte, r io.Reader) (int, error) {
	n, err := io.ReadFull(r, out)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return n, nil
	case err != nil:
		return n, err
	}
	var one [1]byte
	if m, err := io.ReadFull(r, one[:]); m > 0 || !errors.Is(err, io.EOF) {
		if err == nil {
			err = errLong
		}
		return n, err
	}
	return n, nil
}
