// Package dhcp answers DHCP requests of a LAN: as a proxy, which tells network
// boot clients what to load and leaves addresses to the server that is there,
// or as a whole DHCP server.
//
// A machine is recognized by its hardware address alone. RFC 2131 wants the
// client identifier to go before it, but firmware, iPXE and the operating
// systems of one machine send different ones, and would have an address each.
//
// Answers to clients that have no address yet are broadcast, which RFC 2131,
// 4.1, allows, and for which no raw socket is needed.
package dhcp

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// Mode is what the server does.
type Mode int

// Modes.
const (
	Proxy Mode = iota // tells what to boot; gives no addresses
	Full              // gives addresses, too
)

// Host is what is known of a machine.
type Host struct {
	Known   bool
	Denied  bool       // gets no answer at all
	Address netip.Addr // its own address; zero: one of a pool
	Name    string     // its host name; "" for none
	Boot    bootfile.Settings
}

// Directory knows the machines. Its methods may be called at any time, by
// several goroutines.
type Directory interface {
	// Lookup returns a Host that is not Known for a machine that is not. uuid and
	// name are what the machine says, or "".
	Lookup(ctx context.Context, mac, uuid, name string) (Host, error)
	// Owner returns the hardware address of the machine that an address is
	// reserved for, "" for none. It answers from memory.
	Owner(addr netip.Addr) string
	// Seen notes that an unknown machine asked. It must not wait.
	Seen(mac, uuid string, kind bootfile.Kind)
}

// Config is what an Engine works with.
type Config struct {
	Mode        Mode
	Server      netip.Addr   // own address in the LAN
	Subnet      netip.Prefix // of the LAN
	Ranges      []Range
	Options     Options
	Files       bootfile.Files
	Part, Parts int // with Parts > 1, new leases take each Parts-th address, beginning with Part (from 0): for servers that share no database
	Directory   Directory
	Store       Store                                                       // of the leases; not for a proxy
	Probe       func(ctx context.Context, addr netip.Addr, mac string) bool // tells whether another machine uses the address; nil: no probing
	Now         func() time.Time                                            // nil: time.Now
	Log         *slog.Logger
}

// Engine decides what is answered.
type Engine struct {
	c        Config
	networks []*network
	hosts    hostCache
	writes   *writer
	probes   chan struct{} // bounds the probes at once
	work     sync.WaitGroup

	mu     sync.Mutex
	leased map[holder]netip.Addr
	told   atomic.Int64 // second of the clock times maxTold, and messages in it
}

// maxTold bounds the messages about single clients in a second, so that a
// flood of packets is not one of log lines.
const maxTold = 256

// tell logs what happens to a client.
func (e *Engine) tell(msg string, args ...any) {
	if e.mayTell() {
		e.c.Log.Info(msg, args...)
	}
}

// warn logs what is wrong with a client.
func (e *Engine) warn(msg string, args ...any) {
	if e.mayTell() {
		e.c.Log.Warn(msg, args...)
	}
}

func (e *Engine) mayTell() bool {
	second := e.c.Now().Unix() * maxTold
	if e.told.Load() < second {
		e.told.Store(second)
	}
	return e.told.Add(1) < second+maxTold
}

// New checks the configuration. Load has to be called before the first request
// where there are leases, and Run has to run.
func New(c Config) (*Engine, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Options.Lease == 0 {
		c.Options.Lease = DefaultLease
	}
	if !c.Server.Is4() || !c.Subnet.IsValid() {
		return nil, fmt.Errorf("DHCP needs an address of IPv4 on the interface: %v has none to offer", c.Server)
	}
	if c.Parts < 1 {
		c.Parts = 1
	}
	if c.Part < 0 || c.Part >= c.Parts || c.Parts > 16 {
		return nil, fmt.Errorf("part %d of %d of the addresses: want one from 0 to %d of at most 16", c.Part, c.Parts, c.Parts-1)
	}
	e := &Engine{c: c, leased: map[holder]netip.Addr{}, probes: make(chan struct{}, maxProbes)}
	if c.Mode == Full {
		if c.Store == nil {
			return nil, fmt.Errorf("full DHCP needs a store for its leases")
		}
		var err error
		if e.networks, err = newNetworks(c); err != nil {
			return nil, err
		}
		e.writes = newWriter(c.Store, c.Log)
	}
	return e, nil
}

// Run writes leases until ctx ends, and waits for probes under way.
func (e *Engine) Run(ctx context.Context) {
	defer e.work.Wait()
	if e.writes == nil {
		<-ctx.Done()
		return
	}
	e.work.Go(func() { e.follow(ctx) })
	e.writes.run(ctx)
}

// Handle answers a request, which came to port 67, or to the port of PXE boot
// servers (4011), by calling send at most once, now or from another goroutine.
func (e *Engine) Handle(ctx context.Context, r *Request, pxePort bool, send func([]byte)) {
	if e.c.Mode == Proxy && r.Kind == bootfile.Ordinary {
		return // another server's business altogether
	}
	h, err := e.hosts.lookup(ctx, e.c.Directory, r, e.c.Now())
	if err != nil {
		e.c.Log.Warn("a client's settings cannot be read; it is treated as unknown", "mac", r.MAC, "error", err)
	}
	if h.Denied {
		e.c.Log.Debug("a denied client asked", "mac", r.MAC)
		return
	}
	if !h.Known && err == nil {
		e.c.Directory.Seen(r.MAC, r.UUID, r.Kind)
	}
	switch {
	case pxePort:
		e.bootServer(r, h, send)
	case e.c.Mode == Proxy:
		e.proxy(r, h, send)
	default:
		e.full(ctx, r, h, send)
	}
}

func (e *Engine) file(r *Request, h Host, pool string) string {
	s := h.Boot
	if s.File == "" {
		s.File = pool
	}
	file := bootfile.Choose(r.Kind, s, e.c.Files)
	// Once for an attempt: what follows a search has the same answer.
	if file == "" && !s.Local && r.Type == dhcpv4.MessageTypeDiscover {
		if why := bootfile.Missing(r.Kind, e.c.Files); why != "" {
			e.warn("a machine gets no boot file: "+why, "mac", r.MAC, "firmware", r.Kind.String(), "architectures", r.Client.Arch)
		}
	}
	return file
}

// proxy answers the search for a server. What follows it is between the client
// and the server that gives the address, or comes to port 4011.
func (e *Engine) proxy(r *Request, h Host, send func([]byte)) {
	if r.Type != dhcpv4.MessageTypeDiscover {
		return
	}
	file := e.file(r, h, "")
	if file == "" {
		return
	}
	p := answer(r, dhcpv4.MessageTypeOffer, e.c.Server)
	setBoot(p, r, file, e.c.Server, true)
	e.tell("offered a boot file", "mac", r.MAC, "firmware", r.Kind.String(), "file", file)
	send(encode(p, r))
}

// bootServer answers at port 4011.
func (e *Engine) bootServer(r *Request, h Host, send func([]byte)) {
	if r.Type != dhcpv4.MessageTypeRequest && r.Type != dhcpv4.MessageTypeInform && r.Type != dhcpv4.MessageTypeDiscover || r.Kind == bootfile.Ordinary {
		return
	}
	file := e.file(r, h, "")
	if file == "" {
		return
	}
	p := answer(r, dhcpv4.MessageTypeAck, e.c.Server)
	p.ClientIPAddr = r.Packet.ClientIPAddr
	setBoot(p, r, file, e.c.Server, true)
	setBootItem(p, r)
	e.tell("gave a boot file", "mac", r.MAC, "firmware", r.Kind.String(), "file", file)
	send(encode(p, r))
}
