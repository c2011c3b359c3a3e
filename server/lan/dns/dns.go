// Package dns answers questions of the LAN: about the names and addresses of its
// machines by itself, about all others by asking the resolvers of this machine.
// It keeps no cache: what it passes on comes from a resolver that has one.
//
// RFC 1034 and 1035, with RFC 2308 (names that are not there), RFC 6891 (EDNS),
// RFC 7766 (TCP) and the names of RFC 6761 and 7686 that never leave a machine.
package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/inetboot/inetboot/server/lan/tcpserve"
)

// Port is where DNS is.
const Port = 53

// Names knows the machines of the LAN.
type Names interface {
	// Addresses returns where the machine is that has a name, which comes in lower
	// case, without the domain and the dot at its end. There is none of that name
	// if known is false; one that is known may be nowhere now.
	Addresses(ctx context.Context, name string) (addrs []netip.Addr, known bool, err error)
	// Name returns the name of the machine at an address, without the domain, ""
	// for none.
	Name(ctx context.Context, a netip.Addr) (string, error)
}

// Options are what the service needs. All but Resolvers are needed.
type Options struct {
	Listen    []netip.AddrPort // addresses in the LAN, for UDP and TCP
	Networks  []netip.Prefix   // whose machines may ask; addresses in them are asked for here alone
	Domain    string           // that the machines' names are in, as "example.org"
	Server    string           // name of this server in it
	Names     Names
	Resolvers *Resolvers // for all other names; nil: these are refused
	Log       *slog.Logger
}

// Bounds of what is done at once. What is beyond them is not answered, and asked
// for again by who needs it.
const (
	maxQuestions = 512 // over UDP
	maxPerClient = 64
	maxTCP       = 256
	maxTCPClient = 16
	idle         = 10 * time.Second // of a TCP connection (RFC 7766 section 6.2.3)
	patience     = 6 * time.Second  // for an answer
	maxUDP       = 1232             // bytes of an answer over UDP that no link has to cut in pieces
)

// Service is the DNS service; it implements lan.Service.
type Service struct {
	o      Options
	domain string // canonical, with a dot at the end
	limits tcpserve.Limits

	udp []*net.UDPConn
	tcp []net.Listener

	mu    sync.Mutex
	told  time.Time // that no resolver answers
	total int
	busy  map[netip.Addr]int // questions of a client that are being answered
}

// New makes the service.
func New(o Options) (*Service, error) {
	s := &Service{
		o: o, domain: dns.CanonicalName(o.Domain), busy: make(map[netip.Addr]int),
		limits: tcpserve.Limits{Networks: o.Networks, Max: maxTCP, PerClient: maxTCPClient},
	}
	if _, ok := dns.IsDomainName(o.Domain); !ok || s.domain == "." || strings.ContainsAny(o.Domain, "\\ ") {
		return nil, fmt.Errorf("%q is no domain for the machines' names: want one such as lab.example.org", o.Domain)
	}
	return s, nil
}

// Name implements lan.Service.
func (s *Service) Name() string { return "DNS" }

// Open implements lan.Service.
func (s *Service) Open(ctx context.Context) error {
	var lc net.ListenConfig
	for _, a := range s.o.Listen {
		u, err := lc.ListenPacket(ctx, "udp", a.String())
		if err == nil {
			s.udp = append(s.udp, u.(*net.UDPConn))
			var l net.Listener
			if l, err = lc.Listen(ctx, "tcp", a.String()); err == nil {
				s.tcp = append(s.tcp, l)
			}
		}
		if err != nil {
			return errors.Join(err, s.Close())
		}
	}
	return nil
}

// Close implements lan.Service.
func (s *Service) Close() error {
	var errs []error
	for _, u := range s.udp {
		errs = append(errs, u.Close())
	}
	for _, l := range s.tcp {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) { // it is by the end of Run
			errs = append(errs, err)
		}
	}
	s.udp, s.tcp = nil, nil
	return errors.Join(errs...)
}

// Run implements lan.Service.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, len(s.udp)+len(s.tcp))
	for _, u := range s.udp {
		wg.Go(func() { failed <- s.serveUDP(ctx, u) })
	}
	for _, l := range s.tcp {
		wg.Go(func() { failed <- tcpserve.Serve(ctx, l, s.limits, s.o.Log, s.serveTCP) })
	}
	err := <-failed
	cancel()
	return err
}

// serveUDP answers datagrams until ctx ends.
func (s *Service) serveUDP(ctx context.Context, u *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { _ = u.SetReadDeadline(time.Now()) })
	defer stop()
	if err := u.SetReadDeadline(time.Time{}); err != nil { // of a run before this one
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	b := make([]byte, dns.MaxMsgSize)
	for {
		n, from, err := u.ReadFromUDPAddrPort(b)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("read questions at %v: %w", u.LocalAddr(), err)
		}
		if err != nil {
			s.o.Log.Warn("a question could not be read", "addr", u.LocalAddr().String(), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		client := from.Addr().Unmap().WithZone("")
		// Port 0 cannot be answered.
		if from.Port() == 0 || !s.limits.Allows(client) || !s.begin(client) {
			continue
		}
		var q dns.Msg
		if q.Unpack(b[:n]) != nil && !headerOnly(&q, b[:n]) {
			s.end(client)
			continue
		}
		wg.Go(func() {
			defer s.end(client)
			a := s.answer(ctx, &q, "udp")
			if a == nil {
				return
			}
			size := dns.MinMsgSize
			if e := q.IsEdns0(); e != nil {
				size = min(max(int(e.UDPSize()), dns.MinMsgSize), maxUDP)
			}
			a.Truncate(size)
			out, err := a.Pack()
			if err != nil {
				s.o.Log.Debug("an answer could not be written", "client", client.String(), "error", err)
				return
			}
			_, _ = u.WriteToUDPAddrPort(out, from) // who gets none asks again
		})
	}
}

// headerOnly makes of a message that is broken behind its header a question
// that gets an error.
func headerOnly(q *dns.Msg, b []byte) bool {
	if len(b) < 12 {
		return false
	}
	h := append([]byte(nil), b[:4]...)
	if *q = (dns.Msg{}); q.Unpack(append(h, make([]byte, 8)...)) != nil {
		return false
	}
	q.Question = nil
	return true
}

// begin takes a client's question if there are not too many already.
func (s *Service) begin(client netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total >= maxQuestions || s.busy[client] >= maxPerClient {
		return false
	}
	s.total++
	s.busy[client]++
	return true
}

func (s *Service) end(client netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.busy[client]--; s.busy[client] == 0 {
		delete(s.busy, client)
	}
}

// serveTCP answers one question after another.
func (s *Service) serveTCP(ctx context.Context, c net.Conn) {
	d := &dns.Conn{Conn: c}
	for {
		if err := c.SetDeadline(time.Now().Add(idle)); err != nil {
			return
		}
		q, err := d.ReadMsg()
		if err != nil {
			return
		}
		a := s.answer(ctx, q, "tcp")
		if a == nil {
			return
		}
		if err := c.SetDeadline(time.Now().Add(idle)); err != nil {
			return
		}
		if err := d.WriteMsg(a); err != nil {
			return
		}
	}
}
