package nbd

import (
	"context"
	"encoding/binary"
	"io"
	"time"

	"github.com/inetboot/inetboot/blockfs/read"
)

// headRoom is for the header before the data of an answer, in one buffer with
// them: the larger one is a chunk's, 20 bytes and the offset.
const headRoom = 28

// send writes an answer, or a part of one if the lock is to be kept for more.
// The lock is held.
func (c *conn) send(b []byte) error {
	if c.bad == nil {
		_ = c.c.SetWriteDeadline(time.Now().Add(stalled))
		_, c.bad = c.c.Write(b)
	}
	return c.bad
}

func appendChunk(b []byte, q *request, flags, kind uint16, length int) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, magicChunk)
	b = be.AppendUint16(b, flags)
	b = be.AppendUint16(b, kind)
	b = be.AppendUint64(b, q.cookie)
	return be.AppendUint32(b, uint32(length))
}

func appendSimple(b []byte, q *request, code uint32) []byte {
	be := binary.BigEndian
	b = be.AppendUint32(b, magicSimple)
	b = be.AppendUint32(b, code)
	return be.AppendUint64(b, q.cookie)
}

// done says that a request without an answer of its own has succeeded.
func (c *conn) done(q *request) error { return c.fail(q, 0) }

// fail answers with an error number of the protocol.
func (c *conn) fail(q *request, code uint32) error {
	var b []byte
	if c.structured && q.kind == cmdRead {
		b = appendChunk(nil, q, chunkDone, chunkError, 6)
		b = binary.BigEndian.AppendUint32(b, code)
		b = binary.BigEndian.AppendUint16(b, 0) // without a message
	} else {
		b = appendSimple(nil, q, code)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.send(b)
}

// fetch reads the next piece of q, at most as much as buf takes, behind the
// room for a header; nil with an error, which is logged.
func (c *conn) fetch(ctx context.Context, e *Export, q *request, buf []byte, at uint32) ([]byte, error) {
	b := buf[headRoom:][:min(int(q.length-at), len(buf)-headRoom)]
	n, err := e.Disk.ReadAt(ctx, b, int64(q.offset)+int64(at))
	if n == len(b) {
		return b, nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	if ctx.Err() == nil {
		c.log.Error("NBD read", "export", e.Name, "offset", q.offset+uint64(at), "bytes", len(b), "error", err)
	}
	return nil, err
}

// readChunks answers a read with structured replies, which can fail at any
// piece.
func (c *conn) readChunks(ctx context.Context, e *Export, q *request, buf []byte) error {
	for at := uint32(0); at < q.length; {
		n, err := c.readChunk(ctx, e, q, buf, at)
		if err != nil {
			return err
		}
		if n == 0 {
			return c.fail(q, errIO)
		}
		at += n
	}
	return nil
}

// readChunk answers a piece of a read and returns its length, 0 if it could not
// be read. An error means that the connection cannot be used any more.
func (c *conn) readChunk(ctx context.Context, e *Export, q *request, buf []byte, at uint32) (uint32, error) {
	if q.flags&cmdFlagDF == 0 {
		s, err := c.spans(ctx, e, q, at)
		if s != nil {
			n := uint32(s.Len())
			parts := chunks(q, at, s)
			if c.mu.LockSoon() {
				defer c.mu.Unlock()
				return n, c.push(parts, s, buf)
			}
			// Who has the lock waits for the client.
			b := gather(buf, parts)
			s.Release()
			c.mu.Lock()
			defer c.mu.Unlock()
			return n, c.send(b)
		}
		if err != nil {
			return 0, ended(ctx, err)
		}
	}
	data, err := c.fetch(ctx, e, q, buf, at)
	if data == nil {
		return 0, ended(ctx, err)
	}
	flags := uint16(0)
	if at+uint32(len(data)) == q.length {
		flags = chunkDone
	}
	head := appendChunk(buf[:0], q, flags, chunkData, 8+len(data))
	binary.BigEndian.AppendUint64(head, q.offset+uint64(at))
	c.mu.Lock()
	defer c.mu.Unlock()
	return uint32(len(data)), c.send(buf[:headRoom+len(data)])
}

// ended returns the error of a read that failed because ctx has ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return nil
	}
	return err
}

// readSimple answers a read in one go. An error behind the first piece can
// only be told by hanging up.
func (c *conn) readSimple(ctx context.Context, e *Export, q *request, buf []byte) error {
	// next returns a piece, in one of two ways.
	next := func(at uint32) ([]byte, *read.Spans, error) {
		s, err := c.spans(ctx, e, q, at)
		if s != nil || err != nil {
			return nil, s, err
		}
		data, err := c.fetch(ctx, e, q, buf, at)
		return data, nil, err
	}
	data, s, err := next(0)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return c.fail(q, errIO)
	}
	if !c.mu.LockSoon() { // who has the lock waits for the client
		if s != nil {
			data = gather(buf[headRoom:], s.Slices())
			s.Release()
			s = nil
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	const length = 16
	head := buf[headRoom-length : headRoom]
	appendSimple(head[:0], q, 0)
	for at := uint32(0); ; {
		n := len(data)
		if s != nil {
			n = s.Len()
			err = c.push(append([][]byte{head}, s.Slices()...), s, buf)
		} else {
			err = c.send(buf[headRoom-len(head) : headRoom+n])
		}
		if err != nil {
			return err
		}
		head = nil
		if at += uint32(n); at == q.length {
			return nil
		}
		if data, s, err = next(at); err != nil {
			c.bad = err // the answer is cut off
			return err
		}
	}
}
