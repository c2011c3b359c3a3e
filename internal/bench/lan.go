package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"

	"github.com/inetboot/inetboot/internal/site"
)

// Addresses in the LAN's namespaces.
const (
	lanServer = "10.77.0.1"
	lanClient = "10.77.0.2"
	lanPrefix = "/16"
)

// lanRounds is how often each program is run for a second, in turn; the best
// counts, since whatever else runs on the machine can only make it slower.
const lanRounds = 8

// lanBed is a LAN: a network namespace with a server, ours or another one, and
// one with its clients, and a link between them.
type lanBed struct {
	b              *bench
	server, client string // namespaces; their interfaces are lan0
	data           string // data folder of ours, with the published Debian
	media          string // folder with boot files of ours
	large, small   []byte // two of them: largeFile and smallFile
}

// Boot files that are measured with, and their lengths in bytes. Blocks of 1428
// bytes of the large one have numbers of 16 bits.
const (
	largeFile, largeSize = "initramfs.xz", 24 << 20
	smallFile, smallSize = "vmlinuz", 1 << 20
)

// onLAN makes the LAN once, for as long as the benchmark runs.
func (b *bench) onLAN(ctx context.Context) (*lanBed, error) {
	if b.lan != nil {
		return b.lan, nil
	}
	l := &lanBed{b: b, data: filepath.Join(b.dir, "lan-data"), media: filepath.Join(b.dir, "lan-media")}
	l.server, l.client = fmt.Sprintf("bench-%d-server", os.Getpid()), fmt.Sprintf("bench-%d-client", os.Getpid())
	if err := os.Mkdir(l.data, 0o755); err != nil {
		return nil, err
	}
	// A store of its own: the server beside it goes on with the other one.
	if err := b.command(ctx, "cp", "-a", "--reflink=auto", b.bed.Store(), filepath.Join(l.data, "store")); err != nil {
		return nil, err
	}
	if err := l.makeMedia(); err != nil {
		return nil, err
	}
	for _, ns := range []string{l.server, l.client} {
		if err := b.command(ctx, "ip", "netns", "add", ns); err != nil {
			return nil, err
		}
		b.cleanup(func() error { return b.command(context.WithoutCancel(ctx), "ip", "netns", "del", ns) })
	}
	for _, args := range [][]string{
		{"-n", l.server, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", l.client},
		{"-n", l.server, "address", "add", lanServer + lanPrefix, "dev", "lan0"},
		{"-n", l.client, "address", "add", lanClient + lanPrefix, "dev", "lan0"},
		{"-n", l.server, "link", "set", "lo", "up"},
		{"-n", l.client, "link", "set", "lo", "up"},
		{"-n", l.server, "link", "set", "lan0", "up"},
		{"-n", l.client, "link", "set", "lan0", "up"},
	} {
		if err := b.command(ctx, "ip", args...); err != nil {
			return nil, err
		}
	}
	b.lan = l
	return l, nil
}

// makeMedia writes boot files of which one is large. Nobody boots them.
func (l *lanBed) makeMedia() error {
	if err := os.Mkdir(l.media, 0o755); err != nil {
		return err
	}
	l.large = make([]byte, largeSize)
	_, _ = rand.Read(l.large) // never fails
	l.small = l.large[:smallSize]
	for name, data := range map[string][]byte{"inetboot.efi": site.EmptySlot(), smallFile: l.small, largeFile: l.large} {
		if err := os.WriteFile(filepath.Join(l.media, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// inside calls f, which opens sockets, in a namespace: they stay there.
func inside(ns string, f func() error) (err error) {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace: %w", err)
	}
	defer home.Close()
	there, err := netns.GetFromName(ns)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace %s: %w", ns, err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace %s: %w", ns, err)
	}
	defer func() {
		if back := netns.Set(home); back != nil {
			err = errors.Join(err, back) // the thread ends with its goroutine
			return
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// start starts a program in a namespace.
func (l *lanBed) start(ns, name string, args ...string) (*process, error) {
	p, err := l.b.background("ip", append([]string{"netns", "exec", ns, name}, args...)...)
	if err == nil {
		p.name = filepath.Base(name)
	}
	return p, err
}

// ours starts our server in the LAN, with no service but HTTP and those that
// args ask for.
func (l *lanBed) ours(ctx context.Context, args ...string) (*process, error) {
	p, err := l.start(l.server, filepath.Join(l.b.build, "server"), append([]string{
		"--data", l.data, "--listen", lanServer + ":8080", "--media", l.media, "--log-format", "json",
		"--lan", "lan0", "--user", "root", "--no-syslog",
	}, args...)...)
	if err != nil {
		return nil, err
	}
	return p, l.listening(ctx, p, "8080")
}

// listening waits until a program in the server's namespace takes connections;
// if it never does it is stopped.
func (l *lanBed) listening(ctx context.Context, p *process, port string) error {
	err := waitFor(ctx, p.name, p, func() bool {
		c, err := l.dial(l.server, net.JoinHostPort(lanServer, port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	if err != nil {
		return errors.Join(err, p.stop())
	}
	return nil
}

// dial opens a TCP connection from a namespace.
func (l *lanBed) dial(ns, addr string) (c net.Conn, err error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	err = inside(ns, func() error {
		// The dialer tries one address alone on this thread.
		c, err = net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(to))
		return err
	})
	return c, err
}

// contender is one of the programs that are compared.
type contender struct {
	name string
	run  func(context.Context) (float64, error) // a rate: more is better
}

// compete runs all in turn, rounds times, and returns the best rate of each.
func (b *bench) compete(ctx context.Context, what string, rounds int, all ...contender) ([]float64, error) {
	best := make([]float64, len(all))
	for round := range rounds {
		for i, c := range all {
			b.say("%s, round %d of %d: %s", what, round+1, rounds, c.name)
			r, err := c.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			best[i] = max(best[i], r)
		}
	}
	return best, nil
}
