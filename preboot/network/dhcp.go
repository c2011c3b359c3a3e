package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// patience is how long to wait for an answer before a question is asked again,
// 62 s in all. A switch with spanning tree forwards nothing for its first 30 to
// 50 s, and some servers look for 3 s whether an address is in use before they
// offer it. RFC 2131 section 4.1 doubles the pauses from 4 s on; they grow to
// no more than 10 s here, so that a link is not silent when it begins to
// forward.
var patience = []time.Duration{4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second, 10 * time.Second}

const (
	requestTimeout = 4 * time.Second
	requestTries   = 3
	otherOffers    = 3 * time.Second // how long after the first offer others may come
	maxOffers      = 8
)

// ErrNoLease is wrapped when no DHCP server gave a lease.
var ErrNoLease = errors.New("no lease")

// errNoOther is wrapped when the servers that made offers have been tried.
var errNoOther = errors.New("no other DHCP server")

// clientID identifies a link as firmware and most clients do, so that it
// keeps its address: hardware type 1 and the address (RFC 2132 section 9.14).
func (l link) clientID() []byte { return append([]byte{1}, l.hw...) }

func (l link) modifiers() []dhcpv4.Modifier {
	return []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptClientIdentifier(l.clientID())),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(nclient4.MaxMessageSize)),
		dhcpv4.WithOption(dhcpv4.OptParameterRequestList(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionHostName, dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU, dhcpv4.OptionNTPServers, dhcpv4.OptionLogServer,
			dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionServerIdentifier, dhcpv4.OptionRenewTimeValue,
			dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionDNSDomainSearchList, optionProxy,
		)),
	}
}

// client4 is a conversation with the DHCPv4 servers of a link. It remembers
// the offers that it has not taken: if a lease leads nowhere, the next server is
// asked for its own.
type client4 struct {
	link  link
	conn  net.PacketConn
	in    chan *dhcpv4.DHCPv4 // offers and answers to our transaction
	id    dhcpv4.TransactionID
	ended sync.WaitGroup

	others *atomic.Bool // a second server has made an offer

	first  time.Time // when the first offer came
	offers []*dhcpv4.DHCPv4
	known  []netip.Addr // servers that made an offer
}

func (l link) client4(others *atomic.Bool) (*client4, error) {
	conn, err := nclient4.NewRawUDPConn(l.name, nclient4.ClientPort)
	if err != nil {
		return nil, fmt.Errorf("open a socket for DHCP on %s: %w", l.name, err)
	}
	id, err := dhcpv4.GenerateTransactionID()
	if err != nil {
		return nil, errors.Join(conn.Close(), err)
	}
	c := &client4{others: others, link: l, conn: conn, id: id, in: make(chan *dhcpv4.DHCPv4, 4*maxOffers)}
	c.ended.Go(c.read)
	return c, nil
}

func (c *client4) close() {
	c.conn.Close()
	c.ended.Wait()
}

// read receives until the socket is closed. What nobody takes is dropped.
func (c *client4) read() {
	var first netip.Addr
	buf := make([]byte, nclient4.MaxMessageSize)
	for {
		n, _, err := c.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		m, err := dhcpv4.FromBytes(slices.Clone(buf[:n]))
		if err != nil || m.OpCode != dhcpv4.OpcodeBootReply || m.TransactionID != c.id || m.ClientHWAddr.String() != c.link.hw.String() {
			continue
		}
		if m.MessageType() == dhcpv4.MessageTypeOffer {
			if s, ok := addr4(m.ServerIdentifier()); ok && !first.IsValid() {
				first = s
			} else if ok && s != first {
				c.others.Store(true)
			}
		}
		select {
		case c.in <- m:
		default:
		}
	}
}

// next gets a lease, and with each further call one from another server.
func (c *client4) next(ctx context.Context) (*nclient4.Lease, *Config, error) {
	var refused error
	for {
		offer, err := c.offer(ctx)
		if refused != nil && errors.Is(err, errNoOther) {
			err = refused
		}
		if err != nil {
			return nil, nil, err
		}
		ack, err := c.request(ctx, offer)
		if err == nil {
			lease := &nclient4.Lease{Offer: offer, ACK: ack, CreationTime: time.Now()}
			var cfg *Config
			if cfg, err = FromLease(ack, c.link.name, c.link.hw, c.link.clientID(), lease.CreationTime); err == nil {
				return lease, cfg, nil
			}
		}
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		refused = errors.Join(refused, err)
	}
}

// offer returns an offer that has not been taken, and asks for one if there
// was none yet.
func (c *client4) offer(ctx context.Context) (*dhcpv4.DHCPv4, error) {
	pauses := patience
	again := time.NewTimer(0)
	defer again.Stop()
	if !c.first.IsZero() {
		pauses = nil
		again.Reset(time.Until(c.first.Add(otherOffers)))
	}
	for {
		if len(c.offers) > 0 {
			o := c.offers[0]
			c.offers = c.offers[1:]
			return o, nil
		}
		select {
		case m := <-c.in:
			c.note(m)
		case <-again.C:
			if len(pauses) == 0 {
				if !c.first.IsZero() {
					return nil, fmt.Errorf("%w on %s", errNoOther, c.link.name)
				}
				return nil, fmt.Errorf("%w on %s: no DHCP server answers", ErrNoLease, c.link.name)
			}
			m, err := dhcpv4.NewDiscovery(c.link.hw, append(c.link.modifiers(), dhcpv4.WithTransactionID(c.id))...)
			if err == nil {
				err = c.send(m)
			}
			if err != nil {
				return nil, err
			}
			again.Reset(pauses[0])
			pauses = pauses[1:]
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// note remembers an offer of a server that has made none before.
func (c *client4) note(m *dhcpv4.DHCPv4) {
	s, ok := addr4(m.ServerIdentifier())
	if m.MessageType() != dhcpv4.MessageTypeOffer || !ok || slices.Contains(c.known, s) || len(c.known) >= maxOffers {
		return
	}
	if c.first.IsZero() {
		c.first = time.Now()
	}
	c.known, c.offers = append(c.known, s), append(c.offers, m)
}

// request takes an offer.
func (c *client4) request(ctx context.Context, offer *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	m, err := dhcpv4.NewRequestFromOffer(offer, c.link.modifiers()...)
	if err != nil {
		return nil, fmt.Errorf("make a DHCP request: %w", err)
	}
	return c.ask(ctx, m, offer.ServerIdentifier())
}

// ask sends a request until the server has acknowledged it.
func (c *client4) ask(ctx context.Context, m *dhcpv4.DHCPv4, server net.IP) (*dhcpv4.DHCPv4, error) {
	bad := func(err error) (*dhcpv4.DHCPv4, error) {
		return nil, fmt.Errorf("%w on %s from %v: %w", ErrNoLease, c.link.name, server, err)
	}
	again := time.NewTimer(0)
	defer again.Stop()
	for tries := requestTries; ; {
		select {
		case a := <-c.in:
			switch {
			case !a.ServerIdentifier().Equal(server):
				c.note(a)
			case a.MessageType() == dhcpv4.MessageTypeAck:
				return a, nil
			case a.MessageType() == dhcpv4.MessageTypeNak:
				return bad(fmt.Errorf("the server refuses: %q", validText(a.Message())))
			}
		case <-again.C:
			if tries == 0 {
				return bad(errors.New("the server does not answer the request"))
			}
			tries--
			if err := c.send(m); err != nil {
				return bad(err)
			}
			again.Reset(requestTimeout)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (c *client4) send(m *dhcpv4.DHCPv4) error {
	if _, err := c.conn.WriteTo(m.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: nclient4.ServerPort}); err != nil {
		return fmt.Errorf("DHCP on %s: %w", c.link.name, err)
	}
	return nil
}

// renew asks the server to go on with a lease. What the server leaves out of
// its answer stays as it was.
func (l link) renew(ctx context.Context, old *nclient4.Lease) (*nclient4.Lease, error) {
	var others atomic.Bool
	c, err := l.client4(&others)
	if err != nil {
		return nil, err
	}
	defer c.close()
	m, err := dhcpv4.NewRenewFromAck(old.ACK, append(l.modifiers(), dhcpv4.WithTransactionID(c.id))...)
	if err != nil {
		return nil, fmt.Errorf("make a DHCP request: %w", err)
	}
	asked := time.Now()
	ack, err := c.ask(ctx, m, old.ACK.ServerIdentifier())
	if err != nil {
		return nil, fmt.Errorf("renew the lease of %s: %w", l.name, err)
	}
	return &nclient4.Lease{Offer: old.Offer, ACK: ack, CreationTime: asked}, nil
}
