package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// ResolvConf is where a machine has its resolvers (resolv.conf(5)).
const ResolvConf = "/etc/resolv.conf"

const (
	maxResolvConf = 1 << 20
	maxResolvers  = 8
	reread        = 5 * time.Second         // after which the file is looked at again
	tryTime       = 1500 * time.Millisecond // for one resolver, before the next one is asked
)

// Resolvers are who is asked for names that are not the LAN's.
type Resolvers struct {
	fixed []netip.AddrPort
	file  string
	not   func(netip.AddrPort) bool

	last atomic.Uint32 // that answered, by its number

	mu      sync.Mutex
	looked  time.Time
	changed time.Time // of the file
	list    []netip.AddrPort
	err     error
}

// NewResolvers returns those of a list.
func NewResolvers(list []netip.AddrPort) *Resolvers { return &Resolvers{fixed: list} }

// ResolversOf returns those that a file names, also when it changes, without
// those that not says: this server itself.
func ResolversOf(file string, not func(netip.AddrPort) bool) *Resolvers {
	return &Resolvers{file: file, not: not}
}

// current returns whom to ask.
func (r *Resolvers) current(now time.Time) ([]netip.AddrPort, error) {
	if r.file == "" {
		return r.fixed, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.looked) < reread && !r.looked.IsZero() {
		return r.list, r.err
	}
	r.looked = now
	info, err := os.Stat(r.file)
	if err == nil && info.ModTime().Equal(r.changed) && r.err == nil {
		return r.list, nil
	}
	if err == nil {
		r.changed = info.ModTime()
		r.list, err = readResolvConf(r.file, r.not)
	}
	if r.err = err; err != nil {
		r.list = nil
	}
	return r.list, r.err
}

func readResolvConf(file string, not func(netip.AddrPort) bool) ([]netip.AddrPort, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxResolvConf))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	list := parseResolvConf(b)
	if not != nil {
		list = slices.DeleteFunc(list, not)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s names no resolver but this server: name one with --dns-forward", file)
	}
	return list, nil
}

// parseResolvConf returns the resolvers of resolv.conf(5).
func parseResolvConf(b []byte) []netip.AddrPort {
	c, err := dns.ClientConfigFromReader(bytes.NewReader(b))
	if err != nil {
		return nil
	}
	var list []netip.AddrPort
	for _, s := range c.Servers {
		if a, err := netip.ParseAddr(s); err == nil && len(list) < maxResolvers {
			list = append(list, netip.AddrPortFrom(a, Port))
		}
	}
	return list
}

// errResolvers is wrapped when no resolver answers.
var errResolvers = errors.New("no resolver answers")

// ask passes a question on, over the network that it came by: first to the
// resolver that answered last.
func (r *Resolvers) ask(ctx context.Context, q *dns.Msg, network string) (*dns.Msg, error) {
	list, err := r.current(time.Now())
	if err != nil {
		return nil, err
	}
	first := int(r.last.Load())
	var errs []error
	var failed *dns.Msg // an answer that says that there is none
	// Once more, since a datagram may be lost.
	for i := range 2 * len(list) {
		if i == len(list) && failed != nil || ctx.Err() != nil {
			break
		}
		n := (first + i) % len(list)
		a, err := exchange(ctx, q, network, list[n])
		switch {
		case err != nil:
			errs = append(errs, err)
		case a.Rcode == dns.RcodeServerFailure || a.Rcode == dns.RcodeRefused || a.Rcode == dns.RcodeNotImplemented:
			failed = a
		default:
			r.last.Store(uint32(n))
			return a, nil
		}
	}
	if failed != nil {
		return failed, nil
	}
	return nil, fmt.Errorf("%w: %w", errResolvers, errors.Join(errs...))
}

// exchange asks one resolver, with a number and a port of its own that nobody
// else knows (RFC 5452).
func exchange(ctx context.Context, q *dns.Msg, network string, to netip.AddrPort) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, tryTime)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	ask := *q
	ask.Id = dns.Id()
	c := &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
	if err := c.WriteMsg(&ask); err != nil {
		return nil, err
	}
	for {
		a, err := c.ReadMsg()
		if a == nil && !errors.Is(err, dns.ErrShortRead) {
			return nil, fmt.Errorf("ask %v: %w", to, err)
		}
		if err != nil || a.Id != ask.Id || !a.Response || len(a.Question) != 1 || !sameQuestion(a.Question[0], ask.Question[0]) {
			if network == "tcp" {
				return nil, fmt.Errorf("ask %v: another answer came", to)
			}
			continue // somebody else's, or forged
		}
		a.Id = q.Id
		return a, nil
	}
}

func sameQuestion(a, b dns.Question) bool {
	return a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}
