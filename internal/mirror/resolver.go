package mirror

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// Resolver asks only the given servers, whatever the system's resolver
// configuration says: the first one until it does not answer, then the next.
// Without servers it is nil: the system's.
func Resolver(servers []netip.Addr) *net.Resolver {
	if len(servers) == 0 {
		return nil
	}
	addrs := make([]string, len(servers))
	for i, a := range servers {
		addrs[i] = netip.AddrPortFrom(a, 53).String()
	}
	return resolver(addrs)
}

// resolver is Resolver for servers as address:port.
func resolver(servers []string) *net.Resolver {
	var turn atomic.Uint32
	d := &net.Dialer{Timeout: 5 * time.Second}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		at := turn.Load()
		// Questions that are asked at the same time go on together.
		next := func() { turn.CompareAndSwap(at, at+1) }
		conn, err := d.DialContext(ctx, network, servers[int(at)%len(servers)])
		if err != nil {
			next()
			return nil, err
		}
		if udp, ok := conn.(*net.UDPConn); ok {
			return &question{udp, next}, nil
		}
		return conn, nil
	}}
}

// question is a socket on which an answer is waited for. That it still is one
// for packets is what tells the resolver how to speak.
type question struct {
	*net.UDPConn
	failed func()
}

func (q *question) Read(b []byte) (int, error) {
	n, err := q.UDPConn.Read(b)
	if err != nil {
		q.failed()
	}
	return n, err
}
