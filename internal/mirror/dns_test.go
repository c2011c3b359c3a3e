package mirror

import (
	"bytes"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers every question for A with 127.0.0.1 and for AAAA with an
// address that nobody has.
func nameServer(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			answer := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 60}}
			switch q.Type {
			case dnsmessage.TypeA:
				answer.Body = &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}
			case dnsmessage.TypeAAAA:
				answer.Body = &dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}
			default:
				continue
			}
			m.Response, m.Answers, m.Additionals = true, []dnsmessage.Resource{answer}, nil
			if out, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(out, from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// A name with an IPv6 address is no trouble where there is no IPv6.
func TestIPv6AddressWithoutIPv6(t *testing.T) {
	data := random(t, 1000)
	base, _ := serve(t, good(data))
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Options{Attempts: 1}, "http://store.example:"+u.Port())
	transport := c.http.Transport.(*http.Transport)
	transport.DialContext = (&net.Dialer{Timeout: 10 * time.Second, Resolver: resolver([]string{nameServer(t)})}).DialContext
	start := time.Now()
	got, err := c.Read(t.Context(), "x", nil, 1000, nil)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("Read = %d bytes, %v; want the data over IPv4", len(got), err)
	}
	if took := time.Since(start); took > 4500*time.Millisecond { // an address is given up after 5 s
		t.Errorf("Read took %v; want the second address soon", took)
	}
	if s := c.State()[0]; s.Failures != 0 {
		t.Errorf("State() = %+v; want no failure", s)
	}
}

// Of two name servers the one that answers is asked, for all questions.
func TestDeadNameServer(t *testing.T) {
	gone, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	good := nameServer(t)
	for _, servers := range [][]string{{gone.LocalAddr().String(), good}, {good, gone.LocalAddr().String()}} {
		r := resolver(servers)
		for range 3 {
			addrs, err := r.LookupNetIP(t.Context(), "ip", "store.example")
			if err != nil || len(addrs) != 2 {
				t.Errorf("with the servers %v: %v, %v; want an address of each family", servers, addrs, err)
			}
		}
	}
}
