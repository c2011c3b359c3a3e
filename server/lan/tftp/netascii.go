package tftp

import "io"

// netascii reads text as RFC 1350 section 1 has it (from RFC 764): the end of a
// line is CR LF, a bare CR is CR NUL.
type netascii struct {
	r    io.Reader
	in   []byte // read and not yet given out
	buf  [4096]byte
	next byte // second byte of a pair
	pair bool // next is to be given out
	err  error
}

func (a *netascii) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if a.pair {
			p[n] = a.next
			n++
			a.pair = false
			continue
		}
		if len(a.in) == 0 {
			if a.err != nil {
				break
			}
			var k int
			k, a.err = a.r.Read(a.buf[:])
			a.in = a.buf[:k]
			continue
		}
		c := a.in[0]
		a.in = a.in[1:]
		switch c {
		case '\n':
			c, a.next, a.pair = '\r', '\n', true
		case '\r':
			a.next, a.pair = 0, true
		}
		p[n] = c
		n++
	}
	if n == 0 && len(p) > 0 {
		return 0, a.err
	}
	return n, nil
}
