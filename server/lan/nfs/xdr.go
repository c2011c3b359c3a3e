package nfs

import "encoding/binary"

// decoder reads XDR (RFC 4506). After the first thing that does not fit bad is
// set, and what is read is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

func (d *decoder) uint32() uint32 {
	if p := d.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if p := d.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// opaque returns bytes of variable length, at most limit. They are part of
// what is decoded.
func (d *decoder) opaque(limit int) []byte {
	n := d.uint32()
	if n > uint32(limit) {
		d.bad = true
	}
	p := d.take(int(n))
	d.take(-int(n) & 3)
	if d.bad {
		return nil
	}
	return p
}

// encoder writes XDR.
type encoder struct{ b []byte }

func (e *encoder) uint32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }
func (e *encoder) uint64(v uint64) { e.b = binary.BigEndian.AppendUint64(e.b, v) }

func (e *encoder) bool(v bool) {
	if v {
		e.uint32(1)
	} else {
		e.uint32(0)
	}
}

func (e *encoder) opaque(p []byte) {
	e.uint32(uint32(len(p)))
	e.b = append(e.b, p...)
	e.b = append(e.b, make([]byte, -len(p)&3)...)
}

func (e *encoder) string(s string) {
	e.uint32(uint32(len(s)))
	e.b = append(e.b, s...)
	e.b = append(e.b, make([]byte, -len(s)&3)...)
}
