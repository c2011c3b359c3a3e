package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path"
	"slices"
	"strings"
	"time"
)

// nfsClient reads files by NFS version 3 (RFC 1813) over one TCP connection, as
// much as a server's answers are needed for: it does no more than any client
// has to, so it shows what the server can do.
type nfsClient struct {
	c   net.Conn
	r   *bufio.Reader
	xid uint32
	buf []byte // of the last reply
}

// Programs, procedures and sizes of NFS version 3.
const (
	nfsProgram, nfsMount     = 100003, 100005
	nfsRead, nfsReaddirplus  = 6, 17
	nfsRegular, nfsDirectory = 1, 2
	nfsAttributes            = 84 // bytes
	nfsPiece                 = 256 << 10
	nfsOutstanding           = 8 // calls, as a client that reads ahead has
	nfsReplyMost             = nfsPiece + 4096
)

// nfsFile is a regular file on a server.
type nfsFile struct {
	name   string
	handle []byte
	size   int64
}

func newNFSClient(c net.Conn) *nfsClient {
	return &nfsClient{c: c, r: bufio.NewReaderSize(c, 256<<10), buf: make([]byte, nfsReplyMost)}
}

func xdrOpaque(b, p []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
	b = append(b, p...)
	return append(b, make([]byte, -len(p)&3)...)
}

// send sends a call.
func (c *nfsClient) send(program, procedure uint32, args []byte) error {
	c.xid++
	b := make([]byte, 4, 128+len(args))
	for _, v := range []uint32{c.xid, 0, 2, program, 3, procedure, 1, 28, 0, 5} { // AUTH_SYS, as root
		b = binary.BigEndian.AppendUint32(b, v)
	}
	b = append(b, "bench\x00\x00\x00"...)
	for range 3 { // uid, gid, no other groups
		b = binary.BigEndian.AppendUint32(b, 0)
	}
	b = binary.BigEndian.AppendUint64(b, 0) // no verifier
	b = append(b, args...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4)|1<<31)
	_, err := c.c.Write(b)
	return err
}

// xdr reads a reply. After the first thing that is not there all is zero and
// short is set.
type xdr struct {
	b     []byte
	short bool
}

func (x *xdr) take(n int) []byte {
	if n < 0 || n > len(x.b) {
		x.short, x.b = true, nil
		return make([]byte, 8)
	}
	p := x.b[:n]
	x.b = x.b[n:]
	return p
}

func (x *xdr) uint32() uint32 { return binary.BigEndian.Uint32(x.take(4)) }
func (x *xdr) uint64() uint64 { return binary.BigEndian.Uint64(x.take(8)) }

func (x *xdr) opaque() []byte {
	n := int(x.uint32())
	p := x.take(n)
	x.take(-n & 3)
	return p
}

// attributes returns type and length of a file, if they are there.
func (x *xdr) attributes() (kind uint32, size int64) {
	if x.uint32() == 0 {
		return 0, 0
	}
	p := x.take(nfsAttributes)
	if x.short {
		return 0, 0
	}
	return binary.BigEndian.Uint32(p), int64(binary.BigEndian.Uint64(p[20:]))
}

// receive returns the results of the next reply, which last until the next
// call of it, and which call it is for.
func (c *nfsClient) receive() (*xdr, uint32, error) {
	n := 0
	for last := false; !last; {
		var head [4]byte
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return nil, 0, err
		}
		h := binary.BigEndian.Uint32(head[:])
		last = h>>31 == 1
		k := int(h &^ (1 << 31))
		if n+k > len(c.buf) {
			return nil, 0, fmt.Errorf("a reply of %d bytes or more", n+k)
		}
		if _, err := io.ReadFull(c.r, c.buf[n:n+k]); err != nil {
			return nil, 0, err
		}
		n += k
	}
	x := &xdr{b: c.buf[:n]}
	xid := x.uint32()
	kind, denied := x.uint32(), x.uint32()
	x.uint32()
	x.opaque() // verifier
	if accept := x.uint32(); x.short || kind != 1 || denied != 0 || accept != 0 {
		return nil, 0, fmt.Errorf("reply %d, denied %d, accepted as %d", kind, denied, accept)
	}
	return x, xid, nil
}

// call is one call alone; the status has to be 0.
func (c *nfsClient) call(program, procedure uint32, args []byte) (*xdr, error) {
	if err := c.send(program, procedure, args); err != nil {
		return nil, err
	}
	x, _, err := c.receive()
	if err != nil {
		return nil, err
	}
	if status := x.uint32(); status != 0 || x.short {
		return nil, fmt.Errorf("procedure %d of %d: status %d", procedure, program, status)
	}
	return x, nil
}

// nfsMounted asks for the handle of an export, at the mount service's port.
func nfsMounted(c net.Conn, export string) ([]byte, error) {
	x, err := newNFSClient(c).call(nfsMount, 1, xdrOpaque(nil, []byte(export)))
	if err != nil {
		return nil, fmt.Errorf("mount %s: %w", export, err)
	}
	return bytes.Clone(x.opaque()), nil
}

// files lists the regular files below a directory, by their names.
func (c *nfsClient) files(ctx context.Context, root []byte) ([]nfsFile, error) {
	type dir struct {
		name   string
		handle []byte
	}
	var out []nfsFile
	for dirs := []dir{{"", root}}; len(dirs) > 0; {
		d := dirs[0]
		dirs = dirs[1:]
		cookie, verifier := uint64(0), make([]byte, 8)
		for end := false; !end; {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			args := xdrOpaque(nil, d.handle)
			args = binary.BigEndian.AppendUint64(args, cookie)
			args = append(args, verifier...)
			args = binary.BigEndian.AppendUint32(args, 32<<10)
			args = binary.BigEndian.AppendUint32(args, 64<<10)
			x, err := c.call(nfsProgram, nfsReaddirplus, args)
			if err != nil {
				return nil, fmt.Errorf("list /%s: %w", d.name, err)
			}
			x.attributes()
			verifier = bytes.Clone(x.take(8))
			for x.uint32() == 1 {
				x.uint64() // number
				name := string(x.opaque())
				cookie = x.uint64()
				kind, size := x.attributes()
				var handle []byte
				if x.uint32() == 1 {
					handle = bytes.Clone(x.opaque())
				}
				if x.short {
					return nil, fmt.Errorf("list /%s: %w", d.name, io.ErrUnexpectedEOF)
				}
				full := path.Join(d.name, name)
				switch {
				case name == "." || name == "..":
				case kind == nfsDirectory:
					dirs = append(dirs, dir{full, handle})
				case kind == nfsRegular:
					out = append(out, nfsFile{full, handle, size})
				}
			}
			end = x.uint32() == 1
		}
	}
	slices.SortFunc(out, func(a, b nfsFile) int { return strings.Compare(a.name, b.name) })
	return out, nil
}

// read reads files one after another, with some calls under way, as a client
// that reads ahead has. It returns how many bytes came and how long it took.
func (c *nfsClient) read(ctx context.Context, files []nfsFile) (n int64, took time.Duration, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer func() { err = errors.Join(err, ctx.Err()) }()
	start := time.Now()
	want := make(map[uint32]int) // bytes, by call
	for i, off := 0, int64(0); i < len(files) || len(want) > 0; {
		for len(want) < nfsOutstanding && i < len(files) {
			f := files[i]
			if off >= f.size {
				i, off = i+1, 0
				continue
			}
			k := min(f.size-off, nfsPiece)
			args := xdrOpaque(nil, f.handle)
			args = binary.BigEndian.AppendUint64(args, uint64(off))
			args = binary.BigEndian.AppendUint32(args, uint32(k))
			if err := c.send(nfsProgram, nfsRead, args); err != nil {
				return n, 0, err
			}
			want[c.xid] = int(k)
			off += k
		}
		if len(want) == 0 {
			break
		}
		x, xid, err := c.receive()
		if err != nil {
			return n, 0, err
		}
		status := x.uint32()
		x.attributes()
		x.uint32() // count
		x.uint32() // end
		data := x.opaque()
		k, ok := want[xid]
		if status != 0 || x.short || !ok || len(data) != k {
			return n, 0, fmt.Errorf("read: status %d, %d bytes of %d", status, len(data), k)
		}
		delete(want, xid)
		n += int64(k)
	}
	return n, time.Since(start), nil
}
