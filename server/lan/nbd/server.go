// Package nbd exports disks over NBD: fixed newstyle negotiation, structured
// replies, several connections for one disk. It holds about 1 MiB for
// each connection that is busy, whatever the client asks for.
//
// A client that stops reading its answers is cut off, as is one that does not
// come to an end with the negotiation. A client that is merely silent stays:
// that is what a machine looks like whose disk is idle.
package nbd

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/inetboot/inetboot/server/lan/tcpserve"
)

// DefaultPort is the port that IANA has registered for NBD.
const DefaultPort = 10809

// The reasons for which a client gets no export.
var (
	ErrUnknown = errors.New("no such export")
	ErrDenied  = errors.New("this client may not have the export")
)

// Disk is what an export reads from. It is safe for concurrent use.
type Disk interface {
	// ReadAt fills p from off on. All of p lies inside of the export.
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// WritableDisk is a Disk that clients may write to.
type WritableDisk interface {
	Disk
	WriteAt(p []byte, off int64) (int, error)
	// Trim says that nobody needs the content any more.
	Trim(off, n int64) error
	// Sync returns when everything that was written will last.
	Sync() error
}

// Export is a disk with a name, opened for one connection.
type Export struct {
	Name string
	Size int64
	Disk Disk // a WritableDisk can be written to
	// Close is called when the connection ends; nil: nothing to do.
	Close func() error
	// ID is for Resume: at most 100 letters, digits and signs but comma and
	// colon. "": clients cannot be kept.
	ID string
}

func (e *Export) close() error {
	if e.Close == nil {
		return nil
	}
	return e.Close()
}

func (e *Export) flags(structured bool) uint16 {
	f := uint16(sendFlags)
	if structured {
		f |= sendDF
	}
	if _, ok := e.Disk.(WritableDisk); ok {
		return f | sendFlush | sendFUA | sendTrim
	}
	return f | sendReadOnly | sendMultiConn
}

// Server exports disks.
type Server struct {
	// Find opens the export with a name for a client; "" is the default one.
	// Errors wrap ErrUnknown or ErrDenied and are told to the client.
	Find func(ctx context.Context, client netip.Addr, name string) (*Export, error)
	// List returns the names that a client can find.
	List   func(ctx context.Context, client netip.Addr) ([]string, error)
	Limits tcpserve.Limits
	Logger *slog.Logger

	// Keep takes a client that uses an export over when the server ends, for
	// the next one, and does not close its connection; nil: there will be none.
	// The kernel's client does not connect again, and loses its disk with
	// the connection.
	Keep func(Kept) error
	// Kept are clients of an earlier server.
	Kept []Kept
	// Resume opens an export of an earlier server by its ID.
	Resume func(ctx context.Context, client netip.Addr, id string) (*Export, error)
}

const (
	negotiation = 30 * time.Second // time for all of it
	stalled     = 60 * time.Second // time to take a piece of an answer
	piece       = 256 << 10        // bytes that are read at once, unless the client forbids it: what most ask for
	workers     = 4                // requests of one connection under way at once
	maxWhole    = 2 << 20          // bytes of a read that must not come in pieces
)

// Serve answers clients until ctx ends. ln is closed.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	l := s.Limits
	l.Patient = true
	return tcpserve.Serve(ctx, &withKept{Listener: ln, kept: s.Kept}, l, s.Logger, s.serve)
}

type conn struct {
	s          *Server
	c          net.Conn
	r          *bufio.Reader
	client     netip.Addr
	log        *slog.Logger
	structured bool

	mu  lock  // of writing
	bad error // the first error of writing

	leaving leaving
}

func (s *Server) serve(ctx context.Context, nc net.Conn) {
	c := &conn{s: s, c: nc, mu: newLock(), r: bufio.NewReaderSize(nc, 64<<10), client: tcpserve.Client(nc.RemoteAddr())}
	c.log = s.Logger.With("client", c.client.String())
	stop := context.AfterFunc(ctx, func() { _ = nc.Close() })
	defer stop()
	e, err := c.begin(ctx)
	if err != nil {
		return
	}
	err = c.transmit(ctx, e, stop)
	if cerr := e.close(); cerr != nil {
		c.log.Error("NBD export not closed cleanly", "export", e.Name, "error", cerr)
	}
	if errors.Is(err, errLeft) && c.bad == nil {
		if err = c.keep(e); err == nil {
			c.log.Info("NBD client kept for the next server", "export", e.Name)
			return
		}
	} else if ctx.Err() != nil {
		err = nil
	}
	c.log.Info("NBD export closed", "export", e.Name, "error", err)
}

// begin finds the export that the client wants, or has.
func (c *conn) begin(ctx context.Context) (*Export, error) {
	if k, ok := c.c.(*keptConn); ok {
		e, err := c.resume(ctx, k.state)
		if err != nil {
			c.log.Error("NBD client of an earlier server lost", "error", err)
			return nil, err
		}
		c.log.Info("NBD client of an earlier server goes on", "export", e.Name, "bytes", e.Size)
		return e, nil
	}
	_ = c.c.SetDeadline(time.Now().Add(negotiation))
	e, err := c.negotiate(ctx)
	if err != nil {
		c.log.Debug("NBD negotiation ended", "error", err)
		return nil, err
	}
	_ = c.c.SetDeadline(time.Time{})
	c.log.Info("NBD export opened", "export", e.Name, "bytes", e.Size)
	return e, nil
}

// write sends b during the negotiation.
func (c *conn) write(b []byte) error {
	_, err := c.c.Write(b)
	return err
}

// transmit answers commands until the client leaves or ctx ends, which stop
// keeps from closing the connection. It returns errLeft if the client can be
// kept.
func (c *conn) transmit(ctx context.Context, e *Export, stop func() bool) error {
	if c.s.Keep != nil && e.ID != "" && stop() {
		work, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(ctx, func() { c.leave(cancel) })()
		ctx = work
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, workers)
	buffers := make(chan []byte, workers)
	var b [28]byte
	be := binary.BigEndian
	for {
		if n, err := io.ReadFull(c.r, b[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			if c.leaving.left() && errors.Is(err, os.ErrDeadlineExceeded) {
				c.leaving.rest = append(c.leaving.rest, b[:n]...)
				return errLeft
			}
			return err
		}
		if m := be.Uint32(b[:]); m != magicRequest {
			return fmt.Errorf("a request begins with %#x", m)
		}
		q := request{
			flags: be.Uint16(b[4:]), kind: be.Uint16(b[6:]), cookie: be.Uint64(b[8:]),
			offset: be.Uint64(b[16:]), length: be.Uint32(b[24:]),
		}
		if q.kind == cmdDisc {
			return nil
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		var buf []byte
		select {
		case buf = <-buffers:
		default:
			buf = make([]byte, headRoom+piece)
		}
		if q.kind == cmdWrite {
			// Its data have to be read before the next request can be.
			err := c.takeWrite(ctx, e, &q, buf)
			buffers <- buf
			<-slots
			if err != nil {
				return err
			}
			continue
		}
		if e.ready(&q) {
			err := c.handle(ctx, e, &q, buf)
			buffers <- buf
			<-slots
			if err != nil {
				return err
			}
			continue
		}
		wg.Go(func() {
			defer func() { buffers <- buf; <-slots }()
			if err := c.handle(ctx, e, &q, buf); err != nil {
				_ = c.c.Close() // which ends the reader above
			}
		})
	}
}

// inside tells whether a request lies inside of the export.
func (e *Export) inside(q *request) bool {
	return q.offset <= uint64(e.Size) && uint64(q.length) <= uint64(e.Size)-q.offset
}

// handle answers a request without data. An error means that the connection
// cannot be used any more.
func (c *conn) handle(ctx context.Context, e *Export, q *request, buf []byte) error {
	w, writable := e.Disk.(WritableDisk)
	switch q.kind {
	case cmdRead:
		if !e.inside(q) || q.length == 0 || q.length > maxRequest || q.flags&^(cmdFlagDF|cmdFlagFUA) != 0 {
			return c.fail(q, errInvalid)
		}
		if q.flags&cmdFlagDF != 0 && c.structured {
			if q.length > maxWhole {
				return c.fail(q, errOverflow)
			}
			if int(q.length) > piece {
				buf = make([]byte, headRoom+int(q.length))
			}
		}
		if c.structured {
			return c.readChunks(ctx, e, q, buf)
		}
		return c.readSimple(ctx, e, q, buf)
	case cmdFlush:
		if !writable {
			return c.done(q)
		}
		if err := w.Sync(); err != nil {
			c.log.Error("NBD flush", "export", e.Name, "error", err)
			return c.fail(q, errIO)
		}
		return c.done(q)
	case cmdTrim:
		switch {
		case !writable:
			return c.fail(q, errPerm)
		case !e.inside(q):
			return c.fail(q, errInvalid)
		}
		err := w.Trim(int64(q.offset), int64(q.length))
		if err == nil && q.flags&cmdFlagFUA != 0 {
			err = w.Sync()
		}
		if err != nil {
			c.log.Error("NBD trim", "export", e.Name, "error", err)
			return c.fail(q, errIO)
		}
		return c.done(q)
	}
	return c.fail(q, errInvalid)
}

// takeWrite reads what a write brings and writes it.
func (c *conn) takeWrite(ctx context.Context, e *Export, q *request, buf []byte) error {
	if q.length > maxRequest {
		return fmt.Errorf("a write of %d bytes, at most %d are taken", q.length, maxRequest)
	}
	w, writable := e.Disk.(WritableDisk)
	code := uint32(0)
	switch {
	case !writable:
		code = errPerm
	case !e.inside(q):
		code = errNoSpace
	}
	off := int64(q.offset)
	defer c.expectWrite(false)
	for rest := int(q.length); rest > 0; {
		b := buf[:min(rest, piece)]
		c.expectWrite(true)
		if _, err := io.ReadFull(c.r, b); err != nil {
			return err
		}
		if code == 0 {
			if _, err := w.WriteAt(b, off); err != nil {
				c.log.Error("NBD write", "export", e.Name, "offset", off, "error", err)
				code = errIO
			}
		}
		off += int64(len(b))
		rest -= len(b)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if code == 0 && q.flags&cmdFlagFUA != 0 {
		if err := w.Sync(); err != nil {
			c.log.Error("NBD write", "export", e.Name, "error", err)
			code = errIO
		}
	}
	if code != 0 {
		return c.fail(q, code)
	}
	return c.done(q)
}
