package dns

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Times to live of answers, in seconds: machines come and go with their leases.
const (
	ttl         = 60
	ttlNegative = 15
)

// tellPause is how long nothing more is said of resolvers that do not answer.
const tellPause = 30 * time.Second

// answer returns the answer to a message, nil for one that gets none.
func (s *Service) answer(ctx context.Context, q *dns.Msg, network string) *dns.Msg {
	if q.Response {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	refused := func(code int) *dns.Msg {
		a := new(dns.Msg).SetRcode(q, code)
		a.RecursionAvailable = s.o.Resolvers != nil
		if e := q.IsEdns0(); e != nil {
			a.SetEdns0(maxUDP, e.Do())
		}
		return a
	}
	switch {
	case q.Opcode != dns.OpcodeQuery:
		return refused(dns.RcodeNotImplemented)
	case len(q.Question) != 1:
		return refused(dns.RcodeFormatError)
	case q.IsEdns0() != nil && q.IsEdns0().Version() != 0:
		return refused(dns.RcodeBadVers)
	}
	t := q.Question[0].Qtype
	if c := q.Question[0].Qclass; c != dns.ClassINET && c != dns.ClassANY || t == dns.TypeAXFR || t == dns.TypeIXFR {
		return refused(dns.RcodeRefused)
	}
	l, ours, err := s.local(ctx, dns.CanonicalName(q.Question[0].Name), t)
	switch {
	case err != nil:
		s.o.Log.Error("a name could not be looked up", "name", q.Question[0].Name, "error", err)
		return refused(dns.RcodeServerFailure)
	case ours:
		a := refused(l.code)
		a.Authoritative = true
		a.Answer = l.records
		if len(l.records) == 0 {
			a.Ns = []dns.RR{l.soa}
		}
		// The name as it was asked for, which some clients compare (draft-vixie-dnsext-dns0x20).
		for _, r := range a.Answer {
			r.Header().Name = q.Question[0].Name
		}
		return a
	case s.o.Resolvers == nil:
		return refused(dns.RcodeRefused)
	}
	a, err := s.o.Resolvers.ask(ctx, q, network)
	if err != nil {
		s.unanswered(ctx, q.Question[0].Name, err)
		return refused(dns.RcodeServerFailure)
	}
	return a
}

// unanswered tells that nobody answers: once in a while, since machines ask
// again and again.
func (s *Service) unanswered(ctx context.Context, name string, err error) {
	if context.Cause(ctx) == context.Canceled {
		return // the service ends
	}
	s.mu.Lock()
	now := time.Now()
	tell := now.Sub(s.told) >= tellPause
	if tell {
		s.told = now
	}
	s.mu.Unlock()
	if tell {
		s.o.Log.Warn("a question cannot be passed on", "name", name, "error", err)
	}
}

// locally is what is said of a name without asking anybody.
type locally struct {
	code    int
	records []dns.RR // of the kind that was asked for
	soa     dns.RR   // of the zone, which says how long it counts that there are none
}

// local looks a name up that nobody else knows; ours is false for all others.
func (s *Service) local(ctx context.Context, name string, t uint16) (l locally, ours bool, err error) {
	zone := s.domain
	none := func() (locally, bool, error) {
		return locally{code: dns.RcodeNameError, soa: s.soa(zone)}, true, nil
	}
	within := func(zone string) bool { return dns.IsSubDomain(zone, name) }
	switch {
	case within("localhost."):
		zone = "localhost."
		return s.addresses(zone, name, t, []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}), true, nil
	case within("invalid."), within("onion."):
		zone = name[strings.LastIndexByte(strings.TrimSuffix(name, "."), '.')+1:]
		return none()
	case name == s.domain:
		return s.apex(t), true, nil
	case within(s.domain):
		return s.machine(ctx, s.domain, strings.TrimSuffix(name, "."+s.domain), name, t)
	case dns.CountLabel(name) == 1 && (t == dns.TypeA || t == dns.TypeAAAA):
		// A name without a domain is one of the LAN's, and none of the world's.
		return s.machine(ctx, name, strings.TrimSuffix(name, "."), name, t)
	case within("in-addr.arpa."), within("ip6.arpa."):
		a, ok := reversed(name)
		if !ok || !slices.ContainsFunc(s.o.Networks, func(n netip.Prefix) bool { return n.Contains(a) }) {
			return l, false, nil
		}
		zone = name
		machine, err := s.o.Names.Name(ctx, a)
		if err != nil {
			return l, true, err
		}
		if machine == "" {
			return none()
		}
		l.soa = s.soa(zone)
		if t == dns.TypePTR || t == dns.TypeANY {
			l.records = []dns.RR{&dns.PTR{Hdr: header(name, dns.TypePTR), Ptr: machine + "." + s.domain}}
		}
		return l, true, nil
	}
	return l, false, nil
}

// machine answers for a machine's name.
func (s *Service) machine(ctx context.Context, zone, machine, name string, t uint16) (locally, bool, error) {
	addrs, known, err := s.o.Names.Addresses(ctx, machine)
	if err != nil {
		return locally{}, true, err
	}
	if !known {
		return locally{code: dns.RcodeNameError, soa: s.soa(zone)}, true, nil
	}
	return s.addresses(zone, name, t, addrs), true, nil
}

func (s *Service) addresses(zone, name string, t uint16, addrs []netip.Addr) locally {
	l := locally{soa: s.soa(zone)}
	for _, a := range addrs {
		switch {
		case a.Is4() && (t == dns.TypeA || t == dns.TypeANY):
			l.records = append(l.records, &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()})
		case a.Is6() && (t == dns.TypeAAAA || t == dns.TypeANY):
			l.records = append(l.records, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return l
}

// apex answers for the domain itself.
func (s *Service) apex(t uint16) locally {
	l := locally{soa: s.soa(s.domain)}
	switch t {
	case dns.TypeSOA:
		l.records = []dns.RR{l.soa}
	case dns.TypeNS:
		l.records = []dns.RR{&dns.NS{Hdr: header(s.domain, dns.TypeNS), Ns: s.server()}}
	}
	return l
}

func (s *Service) server() string { return dns.CanonicalName(s.o.Server) + s.domain }

func (s *Service) soa(zone string) dns.RR {
	h := header(zone, dns.TypeSOA)
	h.Ttl = ttlNegative // the smaller one of both counts (RFC 2308 section 5)
	return &dns.SOA{Hdr: h, Ns: s.server(), Mbox: "hostmaster." + s.domain, Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttlNegative}
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// reversed returns the address that a name below in-addr.arpa or ip6.arpa
// stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
func reversed(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		f := strings.Split(rest, ".")
		if len(f) != 4 {
			return netip.Addr{}, false
		}
		slices.Reverse(f)
		a, err := netip.ParseAddr(strings.Join(f, "."))
		return a, err == nil && a.Is4()
	}
	f := strings.Split(strings.TrimSuffix(name, ".ip6.arpa."), ".")
	if len(f) != 32 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i, d := range f {
		n, err := strconv.ParseUint(d, 16, 4)
		if err != nil || len(d) != 1 {
			return netip.Addr{}, false
		}
		at := 31 - i
		b[at/2] |= byte(n) << (4 * (1 - at%2))
	}
	return netip.AddrFrom16(b), true
}

// CheckName returns an error if s can be no name of a machine in a domain.
func CheckName(s string) error {
	if _, ok := dns.IsDomainName(s); !ok || s == "" || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.HasSuffix(s, ".") {
		return fmt.Errorf("%q is no name of a machine: want small letters, digits and dashes", s)
	}
	return nil
}
