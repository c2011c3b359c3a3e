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
	out, err := decompress(data, maxModule)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	if !bytes.HasPrefix(out, []byte("\x7fELF")) {
		return nil, fmt.Errorf("%w: neither ELF nor compressed in a known way", ErrModule)
	}
	return out, nil
}

// decompress returns what data holds, which is known by its first bytes; what
// is not compressed with gzip, xz or Zstandard is returned as it is.
func decompress(data []byte, limit int64) ([]byte, error) {
	var r io.Reader
	var err error
	switch {
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		r, err = gzip.NewReader(bytes.NewReader(data))
	case bytes.HasPrefix(data, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		r, err = xz.NewReader(bytes.NewReader(data))
	case bytes.HasPrefix(data, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		var d *zstd.Decoder
		d, err = zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)))
		if d != nil {
			defer d.Close()
		}
		r = d
	default:
		return data, nil
	}
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(out)) > limit {
		return nil, fmt.Errorf("more than %d bytes when unpacked", limit)
	}
	return out, nil
}

// Info is what a module says about itself in its .modinfo section: a list of
// values for each key.
type Info map[string][]string

// ModInfo reads the .modinfo section of an unpacked module.
func ModInfo(module []byte) (Info, error) {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModule, err)
	}
	s := f.Section(".modinfo")
	if s == nil || s.Type == elf.SHT_NOBITS {
		return Info{}, nil
	}
	if s.FileSize > uint64(len(module)) || s.Size > uint64(len(module)) {
		return nil, fmt.Errorf("%w: .modinfo of %d bytes", ErrModule, s.Size)
	}
	data, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf("%w: .modinfo: %w", ErrModule, err)
	}
	info := make(Info)
	for item := range bytes.SplitSeq(data, []byte{0}) {
		if key, value, ok := strings.Cut(string(item), "="); ok {
			info[key] = append(info[key], value)
		}
	}
	return info, nil
}

// Depends returns the names of the modules that this one needs.
func (i Info) Depends() []string {
	var out []string
	for _, list := range i["depends"] {
		for n := range strings.SplitSeq(list, ",") {
			if n = strings.TrimSpace(n); n != "" {
				out = append(out, n)
			}
		}
	}
	return out
}

// words returns the words of all values of a key.
func (i Info) words(key string) []string {
	var out []string
	for _, v := range i[key] {
		out = append(out, strings.Fields(v)...)
	}
	return out
}

// builtinFirmware reads modules.builtin.modinfo, "module.key=value" with a
// zero byte behind each, and returns the firmware that modules which are built
// in ask for, by their names.
func builtinFirmware(data []byte) map[string][]string {
	out := make(map[string][]string)
	for item := range bytes.SplitSeq(data, []byte{0}) {
		key, value, ok := strings.Cut(string(item), "=")
		if name, isFirmware := strings.CutSuffix(key, ".firmware"); ok && isFirmware {
			out[ModuleName(name)] = append(out[ModuleName(name)], value)
		}
	}
	return out
}
