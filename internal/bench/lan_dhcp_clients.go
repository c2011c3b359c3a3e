package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// dhcpPatience is after how long without an answer a machine asks again.
const dhcpPatience = time.Second

// dhcpClients is any number of machines that want an address, behind a relay
// (RFC 2131). Each asks for an offer, takes it, and has its lease when that is
// acknowledged.
type dhcpClients struct {
	conn  *net.UDPConn // to the server, from the relay's address
	relay netip.Addr
	next  uint32             // number of the next machine
	given map[[4]byte]uint32 // which machine has an address
	// leased is called when a machine has got its address; nil: nobody waits
	// for that.
	leased func(netip.Addr)
}

// dhcpAsk is a machine's last packet.
type dhcpAsk struct {
	packet []byte
	sent   time.Time
}

// Options and messages (RFC 2132, 9.6, and section 9.1 and 9.7).
const (
	dhcpOptions                                   = 240
	dhcpRequested, dhcpMessage, dhcpServerID      = 50, 53, 54
	dhcpDiscover, dhcpOffer, dhcpRequest, dhcpACK = 1, 2, 3, 5
)

// packet makes a packet of a machine.
func (c *dhcpClients) packet(machine uint32, message byte, options ...byte) []byte {
	b := make([]byte, dhcpOptions, 320)
	b[0], b[1], b[2], b[3] = 1, 1, 6, 1 // a request, Ethernet, one relay
	binary.BigEndian.PutUint32(b[4:], machine)
	relay := c.relay.As4()
	copy(b[24:], relay[:])
	copy(b[28:], []byte{0x02, 0x77})
	binary.BigEndian.PutUint32(b[30:], machine)
	copy(b[236:], []byte{99, 130, 83, 99})
	b = append(b, dhcpMessage, 1, message)
	b = append(b, options...)
	b = append(b, 55, 4, 1, 3, 6, 51, 255) // what it wants to be told
	return append(b, make([]byte, max(0, 300-len(b)))...)
}

// dhcpReply is what counts of an answer.
type dhcpReply struct {
	machine uint32
	message byte
	address [4]byte
	server  []byte
}

func parseDHCP(b []byte) (r dhcpReply, ok bool) {
	if len(b) < dhcpOptions || b[0] != 2 {
		return r, false
	}
	r.machine, r.address = binary.BigEndian.Uint32(b[4:]), [4]byte(b[16:20])
	for o := b[dhcpOptions:]; len(o) > 1 && o[0] != 255; {
		if o[0] == 0 {
			o = o[1:]
			continue
		}
		n := int(o[1])
		if len(o) < 2+n {
			return r, false
		}
		switch o[0] {
		case dhcpMessage:
			r.message = o[2]
		case dhcpServerID:
			r.server = o[2 : 2+n]
		}
		o = o[2+n:]
	}
	return r, true
}

// run has n new machines get a lease each, atOnce of them at the same time. It
// returns how many packets had to be sent again.
func (c *dhcpClients) run(ctx context.Context, n, atOnce int) (again int, err error) {
	open := map[uint32]*dhcpAsk{}
	send := func(machine uint32, packet []byte) error {
		open[machine] = &dhcpAsk{packet, time.Now()}
		_, err := c.conn.Write(packet)
		if errors.Is(err, syscall.ECONNREFUSED) { // of an earlier one: the server is not there yet
			return nil
		}
		return err
	}
	started, done := 0, 0
	begin := func() error {
		if started == n {
			return nil
		}
		started++
		c.next++
		return send(c.next, c.packet(c.next, dhcpDiscover))
	}
	for range atOnce {
		if err := begin(); err != nil {
			return 0, err
		}
	}
	buf := make([]byte, 2048)
	var deadline time.Time
	for end := time.Now().Add(time.Minute); done < n; {
		now := time.Now()
		if ctx.Err() != nil || now.After(end) {
			return again, errors.Join(ctx.Err(), fmt.Errorf("only %d of %d machines got a lease", done, n))
		}
		if deadline.Sub(now) < dhcpPatience/10 {
			deadline = now.Add(dhcpPatience / 5)
			if err := c.conn.SetReadDeadline(deadline); err != nil {
				return again, err
			}
			for machine, a := range open {
				if now.Sub(a.sent) > dhcpPatience {
					again++
					if err := send(machine, a.packet); err != nil {
						return again, err
					}
				}
			}
		}
		k, err := c.conn.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ECONNREFUSED):
			continue
		case err != nil:
			return again, err
		}
		r, ok := parseDHCP(buf[:k])
		if a := open[r.machine]; !ok || a == nil || a.packet[dhcpOptions+2] == dhcpRequest != (r.message == dhcpACK) {
			continue // an answer to what was sent again
		}
		switch r.message {
		case dhcpOffer:
			options := append([]byte{dhcpRequested, 4}, r.address[:]...)
			options = append(append(options, dhcpServerID, byte(len(r.server))), r.server...)
			err = send(r.machine, c.packet(r.machine, dhcpRequest, options...))
		case dhcpACK:
			if other, ok := c.given[r.address]; ok {
				return again, fmt.Errorf("machines %d and %d got the address %v", other, r.machine, netip.AddrFrom4(r.address))
			}
			c.given[r.address] = r.machine
			delete(open, r.machine)
			done++
			if c.leased != nil {
				c.leased(netip.AddrFrom4(r.address))
			}
			err = begin()
		default:
			err = fmt.Errorf("machine %d was answered by message %d", r.machine, r.message)
		}
		if err != nil {
			return again, err
		}
	}
	return again, nil
}
