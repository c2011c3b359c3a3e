package network

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/inetboot/inetboot/internal/netconf"
)

// Network is the machine's links. Its methods are for one goroutine, but for
// Config and Carrier.
type Network struct {
	o     Options
	setup netconf.Setup

	carrier atomic.Bool // in this attempt, some link has had one

	mu      sync.Mutex
	leases4 map[int][]*lease4 // by the adapter's index; kept between attempts, so that none is asked for twice
	leases6 map[int]*lease6
	current *kept
}

// Options says how to wait and to whom to tell what happens.
type Options struct {
	Log        func(string)  // lines for people
	Mark       func(string)  // moments for the timeline: "link", "dhcp"
	ResolvConf string        // file to write the name servers to; "": none
	Hardware   func() string // says which network hardware cannot be used, for people; nil, "": none

	Carrier time.Duration // how long to wait for a carrier; 0: 45 s
	Links   time.Duration // how long to wait for a first link; 0: 15 s (USB takes its time)
	Probe   time.Duration // how long the store may take while other links wait; 0: 20 s
}

// New returns a Network whose links are as they are.
func New(o Options) *Network {
	if o.Carrier == 0 {
		o.Carrier = 45 * time.Second
	}
	if o.Links == 0 {
		o.Links = 15 * time.Second
	}
	if o.Probe == 0 {
		o.Probe = 20 * time.Second
	}
	if o.Hardware == nil {
		o.Hardware = func() string { return "" }
	}
	return &Network{o: o, leases4: make(map[int][]*lease4), leases6: make(map[int]*lease6)}
}

// Use says how the links are to be used from the next Connect on.
func (n *Network) Use(s netconf.Setup) {
	if s.Link != n.setup.Link || s.VLAN != n.setup.VLAN || s.NoDHCP != n.setup.NoDHCP || s.Family != n.setup.Family {
		n.mu.Lock()
		clear(n.leases4) // they were another network's
		clear(n.leases6)
		n.mu.Unlock()
	}
	n.setup = s
}

// The reasons for which a link does not lead to a store.
var (
	ErrNoLink    = errors.New("no network link")
	ErrNoCarrier = errors.New("no carrier")
)

// attempt is one call of Connect.
type attempt struct {
	n      *Network
	ctx    context.Context // of the ports
	events chan event
	ports  map[int]*port // by the adapter's index
	order  []*port
}

// Connect raises every link, gets addresses, and calls try for each link that
// has some, in the order in which they come, with the link configured. The
// first one for which try succeeds stays; the others are taken down. Where
// several DHCP servers answer on a link, their leases are tried one after the
// other. The error joins what went wrong on each link; all of it but try's errors
// has been logged.
func (n *Network) Connect(ctx context.Context, try func(context.Context, *Config) error) error {
	if k := n.release(); k != nil {
		if err := k.clear(); err != nil {
			n.o.Log(err.Error())
		}
	}
	n.carrier.Store(false)
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}); err != nil {
		n.o.Log(fmt.Sprintf("cannot raise the loopback link: %v", err))
	}
	// A link that is kept outlives the attempt: release and Down end it.
	alive, cancel := context.WithCancel(context.WithoutCancel(ctx))
	follow := context.AfterFunc(ctx, cancel)
	a := &attempt{n: n, ctx: alive, events: make(chan event), ports: make(map[int]*port)}
	p, c, err := a.run(ctx, try)
	if err != nil {
		cancel()
		for _, p := range a.order {
			p.ended.Wait()
		}
		return err
	}
	follow()
	n.keep(a, p, c, cancel)
	return nil
}

// run returns the port that leads to a store, and its configuration.
func (a *attempt) run(ctx context.Context, try func(context.Context, *Config) error) (*port, *Config, error) {
	n := a.n
	poll := time.NewTicker(5 * pollTime)
	defer poll.Stop()
	begin := time.Now()
	for {
		others, err := a.start()
		if err != nil {
			return nil, nil, err
		}
		if a.open(nil) == 0 {
			switch {
			case len(a.order) > 0:
				return nil, nil, a.failure()
			case time.Since(begin) > n.o.Links:
				err := n.noLink(others)
				n.o.Log(err.Error())
				return nil, nil, err
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case e := <-a.events:
			p := e.port
			p.open -= e.closed
			if e.more {
				p.idle4 = true
			}
			if e.say != "" {
				n.o.Log(e.say)
			}
			if e.err != nil && !errors.Is(e.err, errNoOther) {
				n.o.Log(e.err.Error())
				p.fail(e.err)
			}
			if !p.take(e) {
				continue
			}
			c := p.config()
			err := a.attempt(ctx, p, c, try)
			if err == nil {
				return p, c, nil
			}
			if ctx.Err() != nil {
				return nil, nil, ctx.Err()
			}
			p.fail(err)
			if p.idle4 {
				p.idle4 = false
				p.open++
				p.more <- struct{}{}
			}
		}
	}
}

// start begins with the links that have come since it was last called. It
// returns the names of those that are not to be used.
func (a *attempt) start() (others []string, err error) {
	ls, err := links()
	if err != nil {
		return nil, err
	}
	for _, l := range ls {
		if !a.n.setup.Named(l.name, l.hw) {
			others = append(others, fmt.Sprintf("%s (%v)", l.name, l.hw))
			continue
		}
		if a.ports[l.index] != nil {
			continue
		}
		p := newPort(a.ctx, a.n, l)
		a.n.mu.Lock()
		p.old4, p.old6 = a.n.leases4[l.index], a.n.leases6[l.index]
		a.n.mu.Unlock()
		a.ports[l.index] = p
		a.order = append(a.order, p)
		p.ended.Go(func() {
			p.run(func(e event) {
				select {
				case a.events <- e:
				case <-p.ctx.Done():
				}
			})
		})
	}
	return others, nil
}

// open counts the parts at work, but those of one port.
func (a *attempt) open(but *port) int {
	sum := 0
	for _, p := range a.order {
		if p != but {
			sum += p.open
		}
	}
	return sum
}

// failure joins what went wrong.
func (a *attempt) failure() error {
	var all []error
	for _, p := range a.order {
		all = append(all, p.failures...)
	}
	// A cable that is plugged into hardware without a driver looks like none.
	if hw := a.n.o.Hardware(); hw != "" && !a.n.carrier.Load() {
		a.n.o.Log(hw)
		all = append(all, errors.New(hw))
	}
	if len(all) == 0 {
		all = append(all, fmt.Errorf("%w: no link got one", ErrNoAddress))
	}
	return errors.Join(all...)
}

// noLink says that there is no link, and what there is instead.
func (n *Network) noLink(others []string) error {
	if len(others) > 0 {
		return fmt.Errorf("%w is called %s; there are: %s", ErrNoLink, n.setup.Link, strings.Join(others, ", "))
	}
	err := fmt.Errorf("%w: this machine has no network card that InetBoot's kernel knows", ErrNoLink)
	if hw := n.o.Hardware(); hw != "" {
		err = fmt.Errorf("%w; %s", err, hw)
	}
	return err
}

// take notes what an event brings, and tells whether there is something new to
// try.
func (p *port) take(e event) bool {
	if e.v4 != nil {
		p.v4 = e.v4
	}
	if e.v6 != nil {
		p.v6 = e.v6
	}
	return e.v4 != nil || e.v6 != nil
}

// config returns the port's configuration as far as it is known.
func (p *port) config() *Config {
	var v4 *Config
	if p.v4 != nil {
		v4 = p.v4.config
	}
	return merge(v4, p.v6, p.setup, p.base.name)
}

// attempt configures a link and tries the store over it. On failure the link
// stays up without an address.
func (a *attempt) attempt(ctx context.Context, p *port, c *Config, try func(context.Context, *Config) error) error {
	n := a.n
	if a.open(p) > 0 || p.others.Load() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, n.o.Probe, errors.New("the store takes too long, other links are tried"))
		defer cancel()
	}
	err := n.configure(ctx, p.link, c)
	if err != nil {
		n.o.Log(err.Error())
	} else if err = try(ctx, c); err == nil {
		return nil
	}
	if e := p.link.flush(c.Routes); e != nil {
		n.o.Log(e.Error())
	}
	return err
}

func (n *Network) configure(ctx context.Context, l link, c *Config) error {
	if err := l.configure(ctx, c, n.o.Log); err != nil {
		return err
	}
	return writeResolvConf(n.o.ResolvConf, c)
}

// Carrier tells whether any link has had a carrier since the last Connect
// began.
func (n *Network) Carrier() bool { return n.carrier.Load() }

// Down takes every link down, for the moment before another kernel starts.
func (n *Network) Down() error {
	n.release()
	ls, err := links()
	if err != nil {
		return err
	}
	for _, l := range ls {
		err = errors.Join(err, l.down())
	}
	return err
}
