package tftp

import (
	"strconv"
	"time"
)

// Bounds of options: RFC 2348, 2349, 7440.
const (
	defaultBlock = 512
	minBlock     = 8
	maxBlock     = 65464
	maxTimeout   = 255 // seconds
)

// maxWindowBytes bounds what is under way without an acknowledgement, whatever
// window a client asks for, and so the memory of a transfer.
const maxWindowBytes = 128 << 10

// terms are what client and server agree on.
type terms struct {
	block    int           // bytes in a block
	window   int           // blocks to an acknowledgement
	timeout  time.Duration // until the first retransmission; 0: as measured
	rollover uint16        // the number behind block 65535
	answer   []option      // for the OACK; none: none is sent
}

// negotiate takes a client's options as far as they can be met. An option that
// is unknown, or that has a value that the RFCs do not allow, is left out of
// the answer, by which the client knows that it is not in force (RFC 2347).
// size is the file's, in bytes, or less than 0 if that is not known.
func negotiate(options []option, size int64) terms {
	t := terms{block: defaultBlock, window: 1}
	window := 0
	seen := map[string]bool{}
	for _, o := range options {
		if seen[o.name] { // each may be there once
			continue
		}
		seen[o.name] = true
		n, err := strconv.ParseUint(o.value, 10, 32)
		if err != nil {
			continue
		}
		agree := func(v int64) { t.answer = append(t.answer, option{o.name, strconv.FormatInt(v, 10)}) }
		switch o.name {
		case "blksize":
			if n >= minBlock {
				t.block = int(min(n, maxBlock))
				agree(int64(t.block))
			}
		case "tsize":
			if size > 0 { // curl takes 0 for an error
				agree(size)
			}
		case "timeout":
			if n >= 1 && n <= maxTimeout {
				t.timeout = time.Duration(n) * time.Second
				agree(int64(n))
			}
		case "rollover": // not of an RFC; tftp-hpa and U-Boot know it
			if n <= 1 {
				t.rollover = uint16(n)
				agree(int64(n))
			}
		case "windowsize":
			if n >= 1 && n <= 65535 {
				window = int(n)
				agree(int64(n)) // set below, as the block's size may come after it
			}
		}
	}
	if window > 0 {
		t.window = min(window, max(1, maxWindowBytes/t.block))
		for i := range t.answer {
			if t.answer[i].name == "windowsize" {
				t.answer[i].value = strconv.Itoa(t.window)
			}
		}
	}
	return t
}

// number returns the 16 bits that stand for block n, counted from 1; 0 is the
// options' acknowledgement.
func (t *terms) number(n int64) uint16 {
	if t.rollover == 0 || n == 0 {
		return uint16(n)
	}
	return uint16((n-1)%65535 + 1)
}

// acknowledged returns which of the blocks from base to sent an ACK means, the
// newest one with that number; false for none of them.
func (t *terms) acknowledged(number uint16, base, sent int64) (int64, bool) {
	for n := sent; n >= base && n >= 0; n-- {
		if t.number(n) == number {
			return n, true
		}
	}
	return 0, false
}
