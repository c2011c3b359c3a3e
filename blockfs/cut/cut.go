// Package cut divides a file into blocks where its content says so, so that
// the same content gives the same blocks again when something before it has
// become longer or shorter.
//
// Blocks have [Min] to [Max] bytes, about [Average] on average; the block
// before a run of zero bytes and the last one may be shorter. Runs of [Min] or
// more zero bytes are reported apart, so that holes are never stored.
//
// Where the cuts are is part of what a publisher's store looks like: another
// rule would upload everything anew. So it is fixed, and a test compares it
// with known cuts.
package cut

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

// Lengths of blocks, in bytes.
const (
	Min     = 64 << 10
	Average = 256 << 10
	Max     = 1 << 20

	page = 4 << 10
)

// Chunk is a piece of the file: either Data or a run of Zero zero bytes.
type Chunk struct {
	Data []byte
	Zero int64
}

// ZeroSkipper is a reader that knows of long runs of zero bytes, such as the
// holes of sparse files, without reading them.
type ZeroSkipper interface {
	// SkipZeros moves over zero bytes that come next, a multiple of align of
	// them, and returns how many. It may leave zeros for Read.
	SkipZeros(align int) int64
}

// Cutter cuts what a reader returns. If the reader is a [ZeroSkipper], the
// pieces are the same and long runs of zeros cost nothing.
type Cutter struct {
	r     io.Reader
	find  func(b []byte) int
	align int
	buf   []byte
	from  int // buf[from:to] is read and not yet returned
	to    int
	err   error
}

// Pages returns a Cutter that cuts only at multiples of 4 KiB: for files whose
// content begins on pages, such as the data of an EROFS root. A hash of each
// page decides whether a block ends behind it.
func Pages(r io.Reader) *Cutter { return newCutter(r, findPage, page) }

// Bytes returns a Cutter that cuts at any byte: for files that are compressed
// inside. A rolling hash of the last 64 bytes decides (FastCDC's gear hash
// with normalised chunking; Xia et al., USENIX ATC 2016).
func Bytes(r io.Reader) *Cutter { return newCutter(r, findByte, 1) }

func newCutter(r io.Reader, find func([]byte) int, align int) *Cutter {
	// A block and the zero run behind it have to be in sight.
	return &Cutter{r: r, find: find, align: align, buf: make([]byte, 4*Max)}
}

// fill sees to it that n bytes are in the buffer, or all that there are.
func (c *Cutter) fill(n int) {
	if c.to-c.from >= n || c.err != nil {
		return
	}
	if len(c.buf)-c.from < n {
		c.to = copy(c.buf, c.buf[c.from:c.to])
		c.from = 0
	}
	for idle := 0; c.to-c.from < n && c.err == nil; idle++ {
		if idle == 1<<20 {
			c.err = io.ErrNoProgress
			return
		}
		var k int
		k, c.err = c.r.Read(c.buf[c.to:])
		if c.to += k; k > 0 {
			idle = 0
		}
	}
}

// Next returns the next piece. Its Data is appended to dst[:0]: with a
// capacity of Max nothing is allocated. After the last piece the error is
// io.EOF; other errors are the reader's.
func (c *Cutter) Next(dst []byte) (Chunk, error) {
	c.fill(Max + Min)
	if c.from == c.to || c.err != nil && !errors.Is(c.err, io.EOF) {
		return Chunk{}, c.err
	}
	win := c.buf[c.from:min(c.to, c.from+Max+Min)]
	start, zeros := c.zeroRun(win)
	if start == 0 && zeros > 0 {
		return Chunk{Zero: c.takeZeros()}, nil
	}
	end := min(start, Max)
	n := end
	if end > Min {
		n = c.find(win[:end])
	}
	c.from += n
	return Chunk{Data: append(dst[:0], win[:n]...)}, nil
}

// zeroRun returns where in win the first run of zeros begins that is to be
// reported, or len(win) and 0.
func (c *Cutter) zeroRun(win []byte) (start, length int) {
	if len(win) < Min { // the end of the file
		if zeroPrefix(win) == len(win) {
			return 0, len(win)
		}
		return len(win), 0
	}
	// A run of Min bytes covers at least one of the places looked at.
	for at := 0; at < len(win); {
		if win[at] != 0 {
			at += Min / 2
			continue
		}
		s := at
		for s > 0 && win[s-1] == 0 {
			s--
		}
		s = (s + c.align - 1) / c.align * c.align
		if s >= len(win) {
			break
		}
		n := zeroPrefix(win[s:]) / c.align * c.align
		if n >= Min {
			return s, n
		}
		at = max(s+n, at) + Min/2
	}
	return len(win), 0
}

// takeZeros consumes the zeros that come next, as many as there are.
func (c *Cutter) takeZeros() int64 {
	total := int64(0)
	skipper, _ := c.r.(ZeroSkipper)
	for {
		if skipper != nil && c.from == c.to && c.err == nil {
			total += skipper.SkipZeros(c.align)
		}
		c.fill(Max)
		win := c.buf[c.from:c.to]
		n := zeroPrefix(win)
		more := n == len(win) && c.err == nil
		if n < len(win) || more {
			n -= n % c.align
		}
		c.from += n
		total += int64(n)
		if !more {
			return total
		}
	}
}

// zeroPrefix returns the number of zero bytes that b begins with.
func zeroPrefix(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if binary.LittleEndian.Uint64(b[i:]) != 0 {
			break
		}
	}
	for i < len(b) && b[i] == 0 {
		i++
	}
	return i
}

// How likely a cut is at a page: less so before the average length than after
// it, which keeps lengths near the average.
const (
	pageEarly = 1 << 32 / 80
	pageLate  = 1 << 32 / 24
	byteEarly = 1 << 32 / (80 * page / (1 << 10)) << 22
	byteLate  = 1 << 32 / (24 * page / (1 << 10)) << 22
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// findPage returns the length of the block that b begins with. b has more than
// Min bytes.
func findPage(b []byte) int {
	for at := Min - page; at+page <= len(b); at += page {
		// The multiplication spreads the CRC's linear bits.
		h := crc32.Checksum(b[at:at+page], castagnoli) * 0x9E3779B1
		limit := uint32(pageEarly)
		if at >= Average {
			limit = pageLate
		}
		if h < limit {
			return at + page
		}
	}
	return len(b)
}

// findByte returns the length of the block that b begins with. b has more than
// Min bytes.
func findByte(b []byte) int {
	const warm = 64 // bytes that the hash depends on
	h := uint64(0)
	for _, v := range b[Min-warm : Min] {
		h = h<<1 + gear[v]
	}
	early := b[:min(len(b), Average)]
	for i := Min; i < len(early); i++ {
		h = h<<1 + gear[early[i]]
		if h < byteEarly {
			return i + 1
		}
	}
	for i := len(early); i < len(b); i++ {
		h = h<<1 + gear[b[i]]
		if h < byteLate {
			return i + 1
		}
	}
	return len(b)
}

// gear holds 256 random numbers: splitmix64 (Steele, Lea, Flood, OOPSLA 2014)
// from seed 0.
var gear = func() (t [256]uint64) {
	x := uint64(0)
	for i := range t {
		x += 0x9E3779B97F4A7C15
		z := x
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		t[i] = z ^ z>>31
	}
	return t
}()
