package squashfs

import (
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/inetboot/inetboot/imagetool/source/decompress"
)

// decompressor returns a function that fills out and returns how many bytes
// there were; it may be used by several goroutines at once.
func decompressor(id uint16) (func(out, in []byte) (int, error), error) {
	switch id {
	case 1:
		return decompress.Zlib, nil
	case 3:
		return decompress.LZO, nil
	case 4:
		return func(out, in []byte) (int, error) { return decompress.XZ(out, in, 1<<maxBlockLog+64<<10) }, nil
	case 5:
		return decompress.LZ4, nil
	case 6:
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(8<<20))
		if err != nil {
			return nil, fmt.Errorf("decompress: %w", err)
		}
		return func(out, in []byte) (int, error) {
			b, err := z.DecodeAll(in, out[:0])
			if err == nil && len(b) > len(out) {
				err = decompress.ErrLong
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
