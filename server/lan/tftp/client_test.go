package tftp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// client reads files by the RFCs, for what the programs of others do not do or
// do not tell.
type client struct {
	t        *testing.T
	conn     *net.UDPConn
	server   netip.AddrPort
	peer     netip.AddrPort // of the transfer
	window   int
	rollover bool
	answer   map[string]string // of the OACK
}

func newClient(t *testing.T, server netip.AddrPort) *client {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IP(server.Addr().AsSlice())})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &client{t: t, conn: conn, server: server, window: 1, answer: map[string]string{}}
}

// request returns an RRQ.
func rrq(name, mode string, options ...string) []byte {
	b := []byte{0, opRead}
	for _, s := range append([]string{name, mode}, options...) {
		b = append(append(b, s...), 0)
	}
	return b
}

func ack(n uint16) []byte { return []byte{0, opAck, byte(n >> 8), byte(n)} }

func (c *client) send(b []byte) {
	to := c.peer
	if !to.IsValid() {
		to = c.server
	}
	if _, err := c.conn.WriteToUDPAddrPort(b, to); err != nil {
		c.t.Error(err)
	}
}

// read returns the next packet, nil if none came in time.
func (c *client) read(wait time.Duration) []byte {
	c.t.Helper()
	if err := c.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		c.t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	n, from, err := c.conn.ReadFromUDPAddrPort(buf)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.peer = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	return buf[:n]
}

// get reads a file. The answer to the request may come late or not at all, as
// anything else.
func (c *client) get(name, mode string, options ...string) ([]byte, error) {
	c.t.Helper()
	request := rrq(name, mode, options...)
	last := request
	var out []byte
	block := defaultBlock
	have, inWindow := int64(0), 0
	wire := func(n int64) uint16 {
		if c.rollover && n > 0 {
			return uint16((n-1)%65535 + 1)
		}
		return uint16(n)
	}
	c.send(last)
	told := int64(-1)
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); {
		p := c.read(300 * time.Millisecond)
		if p == nil {
			c.send(last)
			inWindow = 0
			continue
		}
		switch binary.BigEndian.Uint16(p) {
		case opError:
			return out, fmt.Errorf("error %d: %s", p[3], bytes.TrimRight(p[4:], "\x00"))
		case opOACK:
			if have > 0 {
				continue
			}
			fields := bytes.Split(p[2:], []byte{0})
			for i := 0; i+1 < len(fields); i += 2 {
				c.answer[string(fields[i])] = string(fields[i+1])
			}
			if v, ok := c.answer["blksize"]; ok {
				_, _ = fmt.Sscan(v, &block)
			}
			if v, ok := c.answer["windowsize"]; ok {
				_, _ = fmt.Sscan(v, &c.window)
			}
			last = ack(0)
			c.send(last)
		case opData:
			if got := binary.BigEndian.Uint16(p[2:]); got != wire(have+1) {
				if ahead := int16(got - wire(have)); ahead > 0 && c.window > 1 && told != have { // a loss is told once
					told = have
					last, inWindow = ack(wire(have)), 0
					c.send(last)
				}
				continue
			}
			have++
			inWindow++
			out = append(out, p[4:]...)
			last = ack(wire(have))
			whole := len(p)-4 < block
			if whole || inWindow == c.window {
				c.send(last)
				inWindow = 0
			}
			if whole {
				for p := c.read(250 * time.Millisecond); p != nil; p = c.read(250 * time.Millisecond) {
					c.send(last) // the last acknowledgement may be lost
				}
				return out, nil
			}
		}
	}
	return out, errors.New("not finished in time")
}
