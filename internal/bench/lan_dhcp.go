package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

const (
	dhcpLeases = 2000 // that each run gives, all to new machines
	dhcpRounds = 4
	dhcpRange  = "10.77.10.1,10.77.49.254"
)

// lanDHCP has leases given to new machines, as many as the server can, and
// some of them at the same time, by our server and by dnsmasq. Both have what
// they give on the disk before they acknowledge it, and neither looks whether
// an address is in use.
func (b *bench) lanDHCP(ctx context.Context) (err error) {
	l, err := b.onLAN(ctx)
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "lan-dhcp")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	runs := 0
	// Each run begins with a server that has given nothing yet.
	run := func(ctx context.Context, atOnce int, start func(id string) (*process, error)) (rate float64, err error) {
		runs++
		p, err := start(fmt.Sprint(runs))
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, p.stop()) }()
		c, err := l.dhcpLoad(ctx)
		if err != nil {
			return 0, err
		}
		defer c.conn.Close()
		if _, err := c.run(ctx, 1, 1); err != nil { // it is there
			return 0, err
		}
		began := time.Now()
		lost, err := c.run(ctx, dhcpLeases, atOnce)
		if err != nil {
			return 0, err
		}
		if lost > 0 {
			b.say("%d packets had no answer within %v and were sent again", lost, dhcpPatience)
		}
		return dhcpLeases / time.Since(began).Seconds(), nil
	}
	ours := func(id string) (*process, error) {
		return l.ours(ctx, "--dhcp", "full", "--dhcp-range", dhcpOursRange(), "--dhcp-probe", "0", "--database", filepath.Join(dir, id+".db"))
	}
	peer := func(id string) (*process, error) {
		return l.start(l.server, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--port=0", "--no-ping", "--log-facility="+filepath.Join(dir, "log"),
			"--dhcp-leasefile="+filepath.Join(dir, id+".leases"), "--dhcp-lease-max=20000", "--bind-interfaces", "--interface=lan0", "--dhcp-range="+dhcpRange+",12h")
	}
	for _, atOnce := range []int{64, 1} {
		what := fmt.Sprintf("full DHCP, new leases, %d machines at once", atOnce)
		rounds := dhcpRounds
		if atOnce == 1 {
			what, rounds = "full DHCP, new leases, one machine after another", 2
		}
		best, err := b.compete(ctx, what, rounds,
			contender{"ours", func(ctx context.Context) (float64, error) { return run(ctx, atOnce, ours) }},
			contender{"dnsmasq", func(ctx context.Context) (float64, error) { return run(ctx, atOnce, peer) }})
		if err != nil {
			return err
		}
		r := speed(what, "leases/s", best[0], best[1], "dnsmasq")
		if atOnce > 1 {
			r = r.wantRatio(1)
		}
		b.report(r.noted("%d leases, on the disk before they are acknowledged", dhcpLeases))
	}
	return nil
}

// dhcpOursRange is dhcpRange as our server takes it.
func dhcpOursRange() string { return "10.77.10.1-10.77.49.254" }

// dhcpLoad opens what asks: it is a relay in the clients' namespace, so one
// socket gets the answers for all machines.
func (l *lanBed) dhcpLoad(ctx context.Context) (*dhcpClients, error) {
	var conn *net.UDPConn
	err := inside(l.client, func() (err error) {
		conn, err = net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(lanClient), Port: 67}, &net.UDPAddr{IP: net.ParseIP(lanServer), Port: 67})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("relay for DHCP: %w", err)
	}
	return &dhcpClients{conn: conn, relay: netip.MustParseAddr(lanClient), given: map[[4]byte]uint32{}}, nil
}
