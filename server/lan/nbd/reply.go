package nbd

import (
	"context"
	"encoding/binary"
	"time"
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
// room for a header.
func (c *conn) fetch(ctx context.Context, e *Export, q *request, buf []byte, at uint32) ([]byte, error) {
	b := buf[headRoom:][:min(int(q.length-at), len(buf)-headRoom)]
	n, err := e.Disk.ReadAt(ctx, b, int64(q.offset)+int64(at))
	if n == len(b) {
		return b, nil
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
		data, err := c.fetch(ctx, e, q, buf, at)
		if data == nil {
			if ctx.Err() != nil {
				return err
			}
			return c.fail(q, errIO)
		}
		flags := uint16(0)
		if at+uint32(len(data)) == q.length {
			flags = chunkDone
		}
		head := appendChunk(buf[:0], q, flags, chunkData, 8+len(data))
		binary.BigEndian.AppendUint64(head, q.offset+uint64(at))
		c.mu.Lock()
		err = c.send(buf[:headRoom+len(data)])
		c.mu.Unlock()
		if err != nil {
			return err
		}
		at += uint32(len(data))
	}
	return nil
}

// readSimple answers a read in one go. An error behind the first piece can
// only be told by hanging up.
func (c *conn) readSimple(ctx context.Context, e *Export, q *request, buf []byte) error {
	data, err := c.fetch(ctx, e, q, buf, 0)
	if data == nil {
		if ctx.Err() != nil {
			return err
		}
		return c.fail(q, errIO)
	}
	const length = 16
	appendSimple(buf[:headRoom-length], q, 0)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.send(buf[headRoom-length : headRoom+len(data)]); err != nil {
		return err
	}
	for at := uint32(len(data)); at < q.length; at += uint32(len(data)) {
		if data, err = c.fetch(ctx, e, q, buf, at); data == nil {
			c.bad = err // the answer is cut off
			return err
		}
		if err := c.send(data); err != nil {
			return err
		}
	}
	return nil
}
