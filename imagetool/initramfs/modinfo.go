package initramfs

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxModule bounds a module, in bytes, also when it is unpacked.
const maxModule = 256 << 20

// ErrIndex and ErrModule are wrapped by errors about files that are not what
// they should be.
var (
	ErrIndex  = errors.New("malformed module index")
	ErrModule = errors.New("malformed module")
)

// Unpack returns the module that data holds: as it is, or compressed with
// gzip, xz or Zstandard.
func Unpack(data []byte) ([]byte, error) {
	var r io.Reader
	var err error
	switch {
	case bytes.HasPrefix(data, []byte("\x7fELF")):
		return data, nil
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		r, err = gzip.NewReader(bytes.NewReader(data))
	case bytes.HasPrefix(data, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		r, err = xz.NewReader(bytes.NewReader(data))
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var d *zstd.Decoder
		d, err = zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxModule))
		if d != nil {
			defer d.Close()
		}
		r = d
	default:
		return nil, fmt.Errorf("%w: neither ELF nor compressed in a known way", ErrModule)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	if len(out) > maxModule || !bytes.HasPrefix(out, []byte("\x7fELF")) {
		return nil, fmt.Errorf("%w: no ELF inside, or too large", ErrModule)
	}
	return out, nil
}

// ModInfo returns the values of key in the .modinfo section of an unpacked
// module, in their order.
func ModInfo(module []byte, key string) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	s := f.Section(".modinfo")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return nil, nil
	}
	if s.FileSize > uint64(len(module)) || s.Size > uint64(len(module)) {
		return nil, fmt.Errorf("%w: .modinfo of %d bytes", ErrModule, s.Size)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%w: .modinfo: %w", ErrModule, err)
	}
	return parseModInfo(data, key), nil
}

func parseModInfo(data []byte, key string) []string {
	var out []string
	for item := range bytes.SplitSeq(data, []byte{0}) {
		if v, ok := strings.CutPrefix(string(item), key+"="); ok {
			out = append(out, v)
		}
	}
	return out
}
