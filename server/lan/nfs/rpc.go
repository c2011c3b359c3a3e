package nfs

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/inetboot/inetboot/server/lan/tcpserve"
)

// ONC RPC, RFC 5531.
const (
	rpcVersion    = 2
	msgCall       = 0
	msgReply      = 1
	replyAccepted = 0
	replyDenied   = 1
	rpcMismatch   = 0
	authError     = 1
	authRejected  = 2 // AUTH_REJECTEDCRED
	authNone      = 0
	authSys       = 1
	maxAuth       = 400
	maxGroups     = 16

	acceptSuccess      = 0
	acceptProgUnavail  = 1
	acceptProgMismatch = 2
	acceptProcUnavail  = 3
	acceptGarbage      = 4
	acceptSystemErr    = 5
)

const (
	maxCall   = 80 << 10         // bytes of a call: a write of maxWrite, which is refused politely
	lastPiece = 1 << 31          // in a fragment's header, section 11
	stalled   = 60 * time.Second // time to take a piece of an answer, or to send a call
	workers   = 8                // calls of one connection under way at once
	piece     = 128 << 10        // bytes of a file that are read at once
	room      = 1 << 10          // for everything before a file's content in an answer
)

// call is a procedure that is called, with whose rights.
type call struct {
	xid           uint32
	program       uint32
	version, proc uint32
	uid, gid      uint32
	groups        []uint32
	args          decoder
	client        netip.Addr
}

// stream is what follows an answer: the content of a file.
type stream struct {
	length int // of all of it
	// read fills p from an offset in the stream on.
	read func(ctx context.Context, p []byte, off int) error
}

// program answers calls of one program. It appends the results to e and
// returns how the call went; s is more results.
type program func(ctx context.Context, c *call, e *encoder) (accept uint32, s *stream)

// programs are by number and version.
type programs map[uint32]map[uint32]program

// errNoCall says that there is nothing to answer.
var errNoCall = errors.New("not an RPC call")

// answer answers a call in e, which is empty.
func (ps programs) answer(ctx context.Context, msg []byte, client netip.Addr, e *encoder) (*stream, error) {
	d := decoder{b: msg}
	c := &call{xid: d.uint32(), client: client, uid: nobody, gid: nobody}
	if d.uint32() != msgCall || d.bad {
		return nil, errNoCall
	}
	version := d.uint32()
	c.program, c.version, c.proc = d.uint32(), d.uint32(), d.uint32()
	flavor := d.uint32()
	cred := decoder{b: d.opaque(maxAuth)}
	d.uint32()
	d.opaque(maxAuth)
	if d.bad {
		return nil, errNoCall
	}
	e.uint32(c.xid)
	e.uint32(msgReply)
	if version != rpcVersion {
		e.uint32(replyDenied)
		e.uint32(rpcMismatch)
		e.uint32(rpcVersion)
		e.uint32(rpcVersion)
		return nil, nil
	}
	if flavor == authSys {
		c.credentials(&cred)
	}
	if flavor > authSys || cred.bad {
		e.uint32(replyDenied)
		e.uint32(authError)
		e.uint32(authRejected)
		return nil, nil
	}
	e.uint32(replyAccepted)
	e.uint32(authNone)
	e.uint32(0)
	at := len(e.b)
	e.uint32(acceptSuccess)
	versions, ok := ps[c.program]
	if !ok {
		binary.BigEndian.PutUint32(e.b[at:], acceptProgUnavail)
		return nil, nil
	}
	f, ok := versions[c.version]
	if !ok {
		low, high := ^uint32(0), uint32(0)
		for v := range versions {
			low, high = min(low, v), max(high, v)
		}
		binary.BigEndian.PutUint32(e.b[at:], acceptProgMismatch)
		e.uint32(low)
		e.uint32(high)
		return nil, nil
	}
	c.args = d
	accept, s := f(ctx, c, e)
	if accept == acceptSuccess && c.args.bad {
		accept, s = acceptGarbage, nil
	}
	if accept != acceptSuccess {
		e.b = e.b[:at]
		e.uint32(accept)
		return nil, nil
	}
	return s, nil
}

// nobody has no rights but those of everybody.
const nobody = 65534

// credentials reads AUTH_SYS, RFC 5531 appendix A.
func (c *call) credentials(d *decoder) {
	d.uint32() // stamp
	d.opaque(255)
	uid, gid := d.uint32(), d.uint32()
	n := d.uint32()
	if n > maxGroups {
		d.bad = true
		return
	}
	for range n {
		c.groups = append(c.groups, d.uint32())
	}
	if !d.bad {
		c.uid, c.gid = uid, gid
	}
}

// conn is a TCP connection with calls.
type conn struct {
	ps      programs
	c       net.Conn
	client  netip.Addr
	mu      sync.Mutex // of writing
	broken  bool
	buffers chan []byte
}

// serveConn answers the calls of a connection.
func (ps programs) serveConn(ctx context.Context, nc net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &conn{ps: ps, c: nc, client: tcpserve.Client(nc.RemoteAddr()), buffers: make(chan []byte, workers)}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	r := bufio.NewReaderSize(nc, 4<<10)
	slots := make(chan struct{}, workers)
	for {
		msg, err := c.record(r)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := c.handle(ctx, msg); err != nil {
				_ = nc.Close() // which ends the reader above
			}
		})
	}
}

// record reads one record, section 11.
func (c *conn) record(r *bufio.Reader) ([]byte, error) {
	var msg []byte
	for fragments := 0; ; fragments++ {
		if fragments == 0 {
			_ = c.c.SetReadDeadline(time.Time{}) // a client may be silent between calls
		}
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, err
		}
		head := binary.BigEndian.Uint32(b[:])
		n := int(head &^ lastPiece)
		if n+len(msg) > maxCall || fragments > 64 {
			return nil, fmt.Errorf("a call of %d bytes or more, at most %d are taken", n+len(msg), maxCall)
		}
		_ = c.c.SetReadDeadline(time.Now().Add(stalled))
		at := len(msg)
		msg = append(msg, make([]byte, n)...)
		if _, err := io.ReadFull(r, msg[at:]); err != nil {
			return nil, err
		}
		if head&lastPiece != 0 {
			return msg, nil
		}
	}
}

// handle answers a call. An error ends the connection.
func (c *conn) handle(ctx context.Context, msg []byte) error {
	var buf []byte
	select {
	case buf = <-c.buffers:
	default:
		buf = make([]byte, 0, room+piece)
	}
	defer func() { c.buffers <- buf }()
	e := &encoder{b: append(buf, 0, 0, 0, 0)} // room for the record's header
	s, err := c.ps.answer(ctx, msg, c.client, e)
	if err != nil {
		return err
	}
	length := len(e.b) - 4
	out, first := e.b, 0
	if s != nil {
		length += s.length + -s.length&3
		first = min(s.length, piece)
		at := len(out)
		out = slices.Grow(out, first+3)[:at+first]
		if err := s.read(ctx, out[at:], 0); err != nil {
			return err
		}
		if first == s.length {
			out = append(out, make([]byte, -s.length&3)...)
		}
	}
	binary.BigEndian.PutUint32(out, uint32(length)|lastPiece)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.send(out); err != nil {
		return err
	}
	for s != nil && first < s.length {
		b := buf[:min(s.length-first, piece)]
		if err := s.read(ctx, b, first); err != nil {
			c.broken = true // the answer is cut off
			return err
		}
		if first += len(b); first == s.length {
			b = append(b, make([]byte, -s.length&3)...)
		}
		if err := c.send(b); err != nil {
			return err
		}
	}
	return nil
}

// send writes a part of an answer. The lock is held.
func (c *conn) send(b []byte) error {
	if c.broken {
		return net.ErrClosed
	}
	_ = c.c.SetWriteDeadline(time.Now().Add(stalled))
	if _, err := c.c.Write(b); err != nil {
		c.broken = true
		return err
	}
	return nil
}

// servePackets answers calls that come as datagrams, until pc is closed.
func (ps programs) servePackets(ctx context.Context, pc net.PacketConn, limits *tcpserve.Limits) error {
	stop := context.AfterFunc(ctx, func() { _ = pc.Close() })
	defer stop()
	buf := make([]byte, 2048)
	for {
		n, from, err := pc.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // about an earlier answer
		}
		client := tcpserve.Client(from)
		if !limits.Allows(client) {
			continue
		}
		e := &encoder{}
		if _, err := ps.answer(ctx, buf[:n], client, e); err == nil {
			_, _ = pc.WriteTo(e.b, from)
		}
	}
}
