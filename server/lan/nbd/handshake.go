package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// errEnded says that the client has ended the negotiation.
var errEnded = errors.New("the client has left")

// maxOptions bounds how long a client can negotiate.
const maxOptions = 64

// negotiate is the fixed newstyle handshake. It returns with the export that
// the client has chosen; the caller closes it.
func (c *conn) negotiate(ctx context.Context) (*Export, error) {
	be := binary.BigEndian
	hello := be.AppendUint64(nil, magicServer)
	hello = be.AppendUint64(hello, magicOption)
	hello = be.AppendUint16(hello, flagFixed|flagNoZeroes)
	if err := c.write(hello); err != nil {
		return nil, err
	}
	var b [16]byte
	if _, err := io.ReadFull(c.r, b[:4]); err != nil {
		return nil, err
	}
	flags := be.Uint32(b[:])
	if flags&^(flagFixed|flagNoZeroes) != 0 || flags&flagFixed == 0 {
		return nil, fmt.Errorf("the client's flags are %#x: only fixed newstyle negotiation is spoken", flags)
	}
	for range maxOptions {
		if _, err := io.ReadFull(c.r, b[:]); err != nil {
			return nil, err
		}
		option, length := be.Uint32(b[8:]), be.Uint32(b[12:])
		if m := be.Uint64(b[:]); m != magicOption {
			return nil, fmt.Errorf("an option begins with %#x", m)
		}
		if length > maxOptionData {
			// The protocol lets a server skip it; a client has no use for that.
			return nil, fmt.Errorf("the option %d has %d bytes of data, at most %d are taken", option, length, maxOptionData)
		}
		data := make([]byte, length)
		if _, err := io.ReadFull(c.r, data); err != nil {
			return nil, err
		}
		e, err := c.option(ctx, option, data, flags&flagNoZeroes != 0)
		if e != nil || err != nil {
			return e, err
		}
	}
	return nil, errors.New("the client negotiates without end")
}

// option answers one option. It returns an export if transmission begins.
func (c *conn) option(ctx context.Context, option uint32, data []byte, noZeroes bool) (*Export, error) {
	be := binary.BigEndian
	switch option {
	case optExportName:
		e, err := c.find(ctx, string(data))
		if err != nil {
			return nil, err // there is no other way to say no
		}
		out := be.AppendUint64(nil, uint64(e.Size))
		out = be.AppendUint16(out, e.flags(c.structured))
		if !noZeroes {
			out = append(out, make([]byte, 124)...)
		}
		return c.chosen(e, c.write(out))
	case optAbort:
		_ = c.reply(option, repAck, nil)
		return nil, errEnded
	case optList:
		if len(data) > 0 {
			return nil, c.reply(option, repErrInvalid, []byte("no data are wanted"))
		}
		names, err := c.s.List(ctx, c.client)
		if err != nil {
			return nil, c.reply(option, repErrPolicy, []byte("the exports cannot be listed now"))
		}
		for _, n := range names {
			if err := c.reply(option, repServer, append(be.AppendUint32(nil, uint32(len(n))), n...)); err != nil {
				return nil, err
			}
		}
		return nil, c.reply(option, repAck, nil)
	case optStructured:
		if len(data) > 0 {
			return nil, c.reply(option, repErrInvalid, []byte("no data are wanted"))
		}
		c.structured = true
		return nil, c.reply(option, repAck, nil)
	case optInfo, optGo:
		name, ok := infoRequest(data)
		if !ok {
			return nil, c.reply(option, repErrInvalid, []byte("malformed request"))
		}
		e, err := c.find(ctx, name)
		if err != nil {
			kind := uint32(repErrUnknown)
			if errors.Is(err, ErrDenied) {
				kind = repErrPolicy
			}
			return nil, c.reply(option, kind, []byte(shorten(err.Error())))
		}
		info := be.AppendUint16(nil, infoExport)
		info = be.AppendUint64(info, uint64(e.Size))
		info = be.AppendUint16(info, e.flags(c.structured))
		err = c.reply(option, repInfo, info)
		if err == nil {
			err = c.reply(option, repInfo, append(be.AppendUint16(nil, infoName), e.Name...))
		}
		if err == nil {
			sizes := be.AppendUint16(nil, infoBlockSize)
			sizes = be.AppendUint32(sizes, 1)    // smallest
			sizes = be.AppendUint32(sizes, 4096) // best
			sizes = be.AppendUint32(sizes, maxRequest)
			err = c.reply(option, repInfo, sizes)
		}
		if err == nil {
			err = c.reply(option, repAck, nil)
		}
		if option == optInfo {
			if cerr := e.close(); err == nil {
				err = cerr
			}
			return nil, err
		}
		return c.chosen(e, err)
	}
	return nil, c.reply(option, repErrUnsup, nil)
}

// chosen returns e, or closes it if it could not be announced.
func (c *conn) chosen(e *Export, err error) (*Export, error) {
	if err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// infoRequest returns the export's name out of the data of NBD_OPT_INFO or
// NBD_OPT_GO. What information the client wants does not matter: it gets all.
func infoRequest(data []byte) (name string, ok bool) {
	if len(data) < 6 {
		return "", false
	}
	n := binary.BigEndian.Uint32(data)
	if n > maxName || int(n) > len(data)-6 {
		return "", false
	}
	rest := data[4+n:]
	if k := int(binary.BigEndian.Uint16(rest)); len(rest) != 2+2*k {
		return "", false
	}
	return string(data[4 : 4+n]), true
}

func (c *conn) find(ctx context.Context, name string) (*Export, error) {
	if len(name) > maxName || !utf8.ValidString(name) {
		return nil, fmt.Errorf("%w: the name is not one", ErrUnknown)
	}
	e, err := c.s.Find(ctx, c.client, name)
	if err != nil {
		c.log.Info("NBD export refused", "export", name, "error", err)
	}
	return e, err
}

func shorten(s string) string { return s[:min(len(s), 1000)] }

// reply sends an option reply.
func (c *conn) reply(option, kind uint32, data []byte) error {
	be := binary.BigEndian
	b := be.AppendUint64(nil, magicReply)
	b = be.AppendUint32(b, option)
	b = be.AppendUint32(b, kind)
	b = be.AppendUint32(b, uint32(len(data)))
	return c.write(append(b, data...))
}
