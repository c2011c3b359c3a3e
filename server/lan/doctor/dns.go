package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/miekg/dns"
)

// dns asks for the server's name by its address, for its address by that name,
// and for a name of the world.
func (d *doctor) dns(ctx context.Context) {
	if d.o.DNS == 0 {
		return
	}
	for _, network := range []string{"udp", "tcp"} {
		d.ownName(ctx, network)
	}
	f := Finding{StageDNS, "other names", OK, "a question for the name servers of the root", "", ""}
	a, err := d.query(ctx, "udp", ".", dns.TypeNS)
	switch {
	case err != nil:
		f.Status = Warning
		f.Got, f.Next = d.why(err, "udp", d.o.DNS, "DNS", "--dns")
	case a.Rcode == dns.RcodeRefused:
		f.Got = "refused: it answers for machines of the LAN alone (--dns-forward none)"
	case a.Rcode != dns.RcodeSuccess:
		f.Status, f.Got = Warning, dns.RcodeToString[a.Rcode]
		f.Next = "no resolver answers the server: look at its /etc/resolv.conf, or name one with --dns-forward; names of machines are not concerned"
	default:
		f.Got = fmt.Sprintf("%d name servers", len(a.Answer))
	}
	d.add(f)
}

func (d *doctor) ownName(ctx context.Context, network string) {
	f := Finding{StageDNS, "names, " + network, OK, fmt.Sprintf("questions for the name of %v, and for the address of that", d.o.Server), "", ""}
	defer func() { d.add(f) }()
	reverse, err := dns.ReverseAddr(d.o.Server.String())
	if err != nil {
		f.Status, f.Got, f.Next = Failed, err.Error(), "name the server by its address"
		return
	}
	failed := func(err error) {
		f.Status = Failed
		f.Got, f.Next = d.why(err, network, d.o.DNS, "DNS", "--dns")
	}
	a, err := d.query(ctx, network, reverse, dns.TypePTR)
	if err != nil {
		failed(err)
		return
	}
	name := ""
	for _, r := range a.Answer {
		if p, ok := r.(*dns.PTR); ok {
			name = p.Ptr
		}
	}
	if name == "" {
		f.Status, f.Got = Failed, fmt.Sprintf("%s: it has no name", dns.RcodeToString[a.Rcode])
		f.Next = fmt.Sprintf("another DNS server answers at %s port %d: end it, or start the server with --dns", network, d.o.DNS)
		return
	}
	if a, err = d.query(ctx, network, name, dns.TypeA); err != nil {
		failed(err)
		return
	}
	var addrs []netip.Addr
	for _, r := range a.Answer {
		if r, ok := r.(*dns.A); ok {
			if v, ok := netip.AddrFromSlice(r.A); ok {
				addrs = append(addrs, v.Unmap())
			}
		}
	}
	if !slices.Contains(addrs, d.o.Server) {
		f.Status, f.Got = Failed, fmt.Sprintf("%s is at %v", name, addrs)
		f.Next = "another machine has the server's name: look at server clients list"
		return
	}
	f.Got = fmt.Sprintf("%s is at %v", name, d.o.Server)
}

func (d *doctor) query(ctx context.Context, network, name string, t uint16) (*dns.Msg, error) {
	c := dns.Client{Net: network, Timeout: d.o.Wait}
	a, _, err := c.ExchangeContext(ctx, new(dns.Msg).SetQuestion(name, t), netip.AddrPortFrom(d.o.Server, uint16(d.o.DNS)).String())
	return a, err
}
