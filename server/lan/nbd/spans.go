package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/read"
)

// SpanDisk is a Disk that has its content in memory where it can be sent from
// without a copy.
type SpanDisk interface {
	Disk
	// Spans returns n bytes from off on, all inside of the export; nil without
	// an error where only ReadAt has them.
	Spans(ctx context.Context, off int64, n int) (*read.Spans, error)
	// Ready tells whether Spans returns them without having to wait.
	Ready(off int64, n int) bool
}

// ready tells whether a request can be answered at once: it is then not worth a
// goroutine.
func (e *Export) ready(q *request) bool {
	d, ok := e.Disk.(SpanDisk)
	return ok && q.kind == cmdRead && q.length <= piece && e.inside(q) && d.Ready(int64(q.offset), int(q.length))
}

// maxSpans bounds how many slices are sent by one system call.
const maxSpans = 64

// leastHole is from how many bytes on zeros are told of and not sent. What a
// hole saves has to be more than the headers that it costs: then all of a piece fits into a worker's buffer.
const leastHole = 4 << 10

// spans returns the next piece of q without copying it, nil if that cannot be.
// Without an error the caller may still read it.
func (c *conn) spans(ctx context.Context, e *Export, q *request, at uint32) (*read.Spans, error) {
	d, ok := e.Disk.(SpanDisk)
	if !ok {
		return nil, nil
	}
	n := min(int(q.length-at), piece)
	s, err := d.Spans(ctx, int64(q.offset)+int64(at), n)
	if s == nil || err != nil {
		if err != nil && ctx.Err() == nil {
			c.log.Error("NBD read", "export", e.Name, "offset", q.offset+uint64(at), "bytes", n, "error", err)
		}
		return nil, err
	}
	if s.Len() != n || len(s.Slices()) > maxSpans {
		s.Release()
		return nil, nil
	}
	return s, nil
}

// chunks returns the chunks of a structured reply for a piece of q: its data,
// and where they are zeros the message that they are.
func chunks(q *request, at uint32, s *read.Spans) [][]byte {
	be := binary.BigEndian
	off := q.offset + uint64(at)
	heads := make([]byte, 0, (len(s.Slices())+1)*(headRoom+4))
	out := make([][]byte, 0, 2*len(s.Slices())+1)
	head := func(kind uint16, length, n int) {
		flags := uint16(0)
		if off+uint64(n) == q.offset+uint64(q.length) {
			flags = chunkDone
		}
		from := len(heads)
		heads = appendChunk(heads, q, flags, kind, length)
		heads = be.AppendUint64(heads, off)
		if kind == chunkHole {
			heads = be.AppendUint32(heads, uint32(n))
		}
		out = append(out, heads[from:])
		off += uint64(n)
	}
	slices := s.Slices()
	// run returns how many slices from i on are alike, and their bytes.
	run := func(i int, zero bool) (k, n int) {
		for k = i; k < len(slices) && s.Zero(k) == zero; k++ {
			n += len(slices[k])
		}
		return k, n
	}
	for i := 0; i < len(slices); {
		if s.Zero(i) {
			if k, n := run(i, true); n >= leastHole {
				head(chunkHole, 12, n)
				i = k
				continue
			}
		}
		first, n := i, 0
		for i < len(slices) {
			k, m := run(i, s.Zero(i))
			if s.Zero(i) && m >= leastHole {
				break
			}
			i, n = k, n+m
		}
		head(chunkData, 8+n, n)
		out = append(out, slices[first:i]...)
	}
	return out
}

// push writes parts, which are headers and the slices of s, and releases s. A
// client that does not take all of it soon holds no blocks up: the rest is
// copied into buf, where it fits. The lock is held.
func (c *conn) push(parts [][]byte, s *read.Spans, buf []byte) error {
	if c.bad != nil {
		s.Release()
		return c.bad
	}
	parts, err := c.sendSoon(parts)
	rest := gather(buf, parts)
	s.Release()
	switch {
	case err != nil:
		c.bad = err
		return err
	case len(rest) > 0:
		return c.send(rest)
	}
	return nil
}

// soon is for how long a client may hold blocks up: one that reads as fast as
// it can takes a piece in less.
const soon = 2 * time.Millisecond

// lock is a sync.Locker that can also be waited for only so long.
type lock chan struct{}

func newLock() lock { return make(lock, 1) }

func (l lock) Lock()   { l <- struct{}{} }
func (l lock) Unlock() { <-l }

// LockSoon locks if that can be done soon, and tells whether it has.
func (l lock) LockSoon() bool {
	select {
	case l <- struct{}{}:
		return true
	default:
	}
	t := time.NewTimer(soon)
	defer t.Stop()
	select {
	case l <- struct{}{}:
		return true
	case <-t.C:
		return false
	}
}

// sendSoon writes what the client takes soon, and returns the rest of parts.
// The lock is held.
func (c *conn) sendSoon(parts [][]byte) ([][]byte, error) {
	nc := c.c
	if k, ok := nc.(*keptConn); ok {
		nc = k.Conn
	}
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return parts, nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return parts, err
	}
	_ = c.c.SetWriteDeadline(time.Now().Add(soon))
	var werr error
	err = raw.Write(func(fd uintptr) bool {
		for len(parts) > 0 {
			var n int
			n, werr = unix.Writev(int(fd), parts)
			switch {
			case errors.Is(werr, unix.EAGAIN):
				werr = nil
				return false // and again when there is room
			case errors.Is(werr, unix.EINTR):
				werr = nil
			case werr != nil:
				return true
			default:
				parts = skip(parts, n)
			}
		}
		return true
	})
	if err == nil {
		err = werr
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return parts, err
}

// gather copies parts into buf one after another.
func gather(buf []byte, parts [][]byte) []byte {
	b := buf[:0]
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

// skip returns parts without their first n bytes.
func skip(parts [][]byte, n int) [][]byte {
	for len(parts) > 0 && n >= len(parts[0]) {
		n -= len(parts[0])
		parts = parts[1:]
	}
	if n > 0 {
		parts[0] = parts[0][n:]
	}
	return parts
}
