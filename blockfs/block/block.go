// Package block is the codec of blocks: what lies in a store below blocks/.
//
// A stored block is one Zstandard frame (RFC 8878) of 1 to [MaxPlain] plain
// bytes with the content size in its header, without dictionary and without
// checksum. Its name is the SHA-256 of the plain bytes, so the stored bytes
// may be replaced by a better compression of the same content at any time.
//
// Stored bytes come from anywhere. [Decode] allocates nothing that they ask
// for: the caller says how long the content has to be, and knows it from an
// index that it trusts.
package block

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/inetboot/inetboot/internal/digest"
)

// MaxPlain is the largest content of a block, in bytes.
const MaxPlain = 1 << 20

// MaxStored returns the largest number of bytes that a block with plainLen
// bytes of content may have in a store. A reader stops there.
func MaxStored(plainLen int) int { return plainLen + plainLen/128 + 512 }

// ErrFormat is wrapped by errors of Decode about bytes that are not a block of
// the expected length. Wrong content wraps digest.ErrMismatch instead.
var ErrFormat = errors.New("malformed block")

// Encoder compresses blocks. It is safe for concurrent use.
type Encoder struct{ enc *zstd.Encoder }

// DefaultLevel is a good balance of speed and size for a push: level 3 makes
// blocks of a Debian some 3 % smaller and takes 1.7 times as long.
const DefaultLevel = 1

// NewEncoder returns an Encoder for a level as of the zstd program, 1 to 22
// (levels are rounded to the four that the library has). Up to concurrency
// blocks are compressed at once, further calls wait; 0 means one for each CPU.
func NewEncoder(level, concurrency int) (*Encoder, error) {
	if level < 1 || level > 22 {
		return nil, fmt.Errorf("compression level %d: want 1 to 22", level)
	}
	if concurrency <= 0 {
		concurrency = runtime.GOMAXPROCS(0)
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)),
		zstd.WithEncoderConcurrency(concurrency),
		zstd.WithEncoderCRC(false),
		zstd.WithSingleSegment(true),
		zstd.WithAllLitEntropyCompression(true),
		zstd.WithWindowSize(MaxPlain),
	)
	if err != nil {
		return nil, fmt.Errorf("set up compression: %w", err)
	}
	return &Encoder{enc: enc}, nil
}

// Encode appends the block with the given content to dst and returns the
// result: at most MaxStored(len(plain)) more bytes. Where compression saves
// less than 1/128 the frame consists of raw blocks, which readers copy faster
// than they could decompress. It panics if plain is empty or longer than MaxPlain.
func (e *Encoder) Encode(dst, plain []byte) []byte {
	if len(plain) == 0 || len(plain) > MaxPlain {
		panic(fmt.Sprintf("block: content of %d bytes", len(plain)))
	}
	start := len(dst)
	dst = e.enc.EncodeAll(plain, dst)
	if n := len(dst) - start; n > len(plain)-len(plain)/128 {
		dst = appendRaw(dst[:start], plain)
	}
	return dst
}

// appendRaw appends a frame of raw blocks, RFC 8878 section 3.1.1.
func appendRaw(dst, plain []byte) []byte {
	dst = append(dst, 0x28, 0xb5, 0x2f, 0xfd)
	const single = 1 << 5
	switch n := len(plain); {
	case n < 256:
		dst = append(dst, single|0<<6, byte(n))
	case n < 65536+256:
		dst = append(dst, single|1<<6)
		dst = binary.LittleEndian.AppendUint16(dst, uint16(n-256))
	default:
		dst = append(dst, single|2<<6)
		dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	}
	const most = 128 << 10 // Block_Maximum_Size
	for {
		n := min(len(plain), most)
		head := uint32(n) << 3
		if n == len(plain) {
			head |= 1
		}
		dst = append(dst, byte(head), byte(head>>8), byte(head>>16))
		dst = append(dst, plain[:n]...)
		if plain = plain[n:]; len(plain) == 0 {
			return dst
		}
	}
}

// decoder holds working memory for as many blocks as there are CPUs.
var decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(min(runtime.NumCPU(), 8)),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(MaxPlain),
	)
})

// Slack is by how many bytes the capacity of a buffer should exceed a block's
// plain length to decode fastest.
const Slack = 64

// Decode returns the content of a stored block, which must have plainLen bytes
// that hash to want. The result uses dst's memory if cap(dst) is large enough
// (plainLen + Slack is best); the bytes in dst are overwritten. It is safe for
// concurrent use.
//
// Errors wrap ErrFormat or digest.ErrMismatch; no bytes are returned with them.
func Decode(dst, stored []byte, plainLen int, want digest.SHA256) ([]byte, error) {
	bad := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("block %s: %w: %w", want.Short(), ErrFormat, fmt.Errorf(format, args...))
	}
	if plainLen < 1 || plainLen > MaxPlain {
		return bad("content of %d bytes, want 1 to %d", plainLen, MaxPlain)
	}
	if len(stored) > MaxStored(plainLen) {
		return bad("%d stored bytes, at most %d are allowed", len(stored), MaxStored(plainLen))
	}
	var h zstd.Header
	if err := h.Decode(stored); err != nil {
		return bad("frame header: %w", err)
	}
	switch {
	case h.Skippable:
		return bad("skippable frame")
	case h.DictionaryID != 0:
		return bad("needs dictionary %d", h.DictionaryID)
	case !h.HasFCS:
		return bad("frame header without content size")
	case h.FrameContentSize != uint64(plainLen):
		return bad("content of %d bytes, but %d are listed", h.FrameContentSize, plainLen)
	}
	dec, err := decoder()
	if err != nil {
		return nil, fmt.Errorf("set up decompression: %w", err)
	}
	if cap(dst) < plainLen {
		dst = make([]byte, 0, plainLen+Slack)
	}
	out, err := dec.DecodeAll(stored, dst[:0])
	if err != nil {
		return bad("decompress: %w", err)
	}
	if len(out) != plainLen {
		return bad("decompresses to %d bytes, but %d are listed", len(out), plainLen)
	}
	if err := want.Check("block", out); err != nil {
		return nil, err
	}
	return out, nil
}
