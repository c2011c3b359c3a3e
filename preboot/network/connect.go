package network

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

// Network is the machine's links. Its methods are for one goroutine, but for
// Config and Carrier.
type Network struct {
	o      Options
	leases map[int]*held // by link index; kept between attempts, so that none is asked for twice

	carrier atomic.Bool // in this attempt, some link has had one

	mu      sync.Mutex
	current *held
	stop    context.CancelFunc // ends renewing
	renewed sync.WaitGroup
}

// held is a lease that a link has.
type held struct {
	link   link
	lease  *nclient4.Lease
	config *Config
}

func (h *held) expired(now time.Time) bool {
	return now.After(h.lease.CreationTime.Add(time.Duration(h.config.Lease.Expire) * time.Second))
}

// Options says how to wait and to whom to tell what happens.
type Options struct {
	Log        func(string) // lines for people
	Mark       func(string) // moments for the timeline: "link", "dhcp"
	ResolvConf string       // file to write the name servers to; "": none

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
	return &Network{o: o, leases: make(map[int]*held)}
}

// The reasons for which a link does not lead to a store.
var (
	ErrNoLink    = errors.New("no network link")
	ErrNoCarrier = errors.New("no carrier")
)

// outcome is what became of one link.
type outcome struct {
	link link
	held *held
	err  error
}

// Connect raises every link, gets leases, and calls try for each link that
// has one, in the order in which they come, with the link configured. The
// first one for which try succeeds stays; the others are taken down. The
// error joins what went wrong on each link; all of it but try's errors has been
// logged.
func (n *Network) Connect(ctx context.Context, try func(context.Context, *Config) error) error {
	n.release()
	n.carrier.Store(false)
	if err := netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}}); err != nil {
		n.o.Log(fmt.Sprintf("cannot raise the loopback link: %v", err))
	}
	// Waiting links end with the attempt, also with one that succeeds.
	waiting, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	outcomes := make(chan outcome)
	known := make(map[int]link)
	pending := 0
	start := func() error {
		ls, err := links()
		if err != nil {
			return err
		}
		for _, l := range ls {
			if _, ok := known[l.index]; ok {
				continue
			}
			known[l.index] = l
			pending++
			running.Add(1)
			old := n.leases[l.index]
			go func() {
				defer running.Done()
				o := outcome{link: l}
				o.held, o.err = n.prepare(waiting, l, old)
				select {
				case outcomes <- o:
				case <-waiting.Done():
				}
			}()
		}
		return nil
	}

	var failures []error
	poll := time.NewTicker(5 * pollTime)
	defer poll.Stop()
	begin := time.Now()
	for {
		if err := start(); err != nil {
			return err
		}
		if pending == 0 {
			switch {
			case len(known) > 0:
				return errors.Join(failures...)
			case time.Since(begin) > n.o.Links:
				err := fmt.Errorf("%w: this machine has no network card that InetBoot's kernel knows", ErrNoLink)
				n.o.Log(err.Error())
				return err
			}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return ctx.Err()
		case o := <-outcomes:
			pending--
			if o.err != nil {
				n.o.Log(o.err.Error())
				failures = append(failures, o.err)
				continue
			}
			n.leases[o.link.index] = o.held
			if err := n.attempt(ctx, o.held, pending > 0, try); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				failures = append(failures, err)
				continue
			}
			cancel()
			running.Wait()
			n.keep(ctx, o.held, known)
			return nil
		}
	}
}

// prepare raises a link and gets it a lease, unless it has a good one.
func (n *Network) prepare(ctx context.Context, l link, old *held) (*held, error) {
	if err := l.up(); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, n.o.Carrier)
	defer cancel()
	if err := l.waitCarrier(wait); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, fmt.Errorf("%w on %s (%v): is the cable in?", ErrNoCarrier, l.name, l.hw)
		}
		return nil, err
	}
	n.carrier.Store(true)
	n.o.Mark("link")
	if old != nil && !old.expired(time.Now()) {
		return old, nil
	}
	n.o.Log(fmt.Sprintf("%s (%v) is up, asking for an address", l.name, l.hw))
	lease, c, err := l.lease(ctx)
	if err != nil {
		return nil, err
	}
	n.o.Mark("dhcp")
	n.o.Log(fmt.Sprintf("lease %v on %s from %v", c.Addresses[0], l.name, c.Server))
	return &held{link: l, lease: lease, config: c}, nil
}

// attempt configures a link and tries the store over it. On failure the link
// stays up without an address.
func (n *Network) attempt(ctx context.Context, h *held, others bool, try func(context.Context, *Config) error) error {
	if others {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, n.o.Probe, errors.New("the store takes too long, other links are tried"))
		defer cancel()
	}
	err := h.link.configure(h.config, n.o.Log)
	if err == nil {
		err = writeResolvConf(n.o.ResolvConf, h.config)
	}
	if err != nil {
		n.o.Log(err.Error())
	} else if err = try(ctx, h.config); err == nil {
		return nil
	}
	if e := h.link.flush(); e != nil {
		n.o.Log(e.Error())
	}
	return err
}

// keep goes on with one link and takes the others down.
func (n *Network) keep(ctx context.Context, h *held, known map[int]link) {
	for i, l := range known {
		if i != h.link.index {
			delete(n.leases, i)
			if err := l.down(); err != nil {
				n.o.Log(err.Error())
			}
		}
	}
	// The lease outlives the attempt: release and Down end its renewal.
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	n.mu.Lock()
	n.current, n.stop = h, stop
	n.mu.Unlock()
	n.renewed.Add(1)
	go func() {
		defer n.renewed.Done()
		n.renew(renewing, h)
	}()
}

// Carrier tells whether any link has had a carrier since the last Connect
// began.
func (n *Network) Carrier() bool { return n.carrier.Load() }

// Config returns the configuration in use, with the lease as last renewed, or
// nil.
func (n *Network) Config() *Config {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.current == nil {
		return nil
	}
	return n.current.config
}

// renew keeps the lease for as long as a person looks at the menu.
func (n *Network) renew(ctx context.Context, h *held) {
	for {
		l := h.config.Lease
		if l.Expire >= infinite {
			return
		}
		next := h.lease.CreationTime.Add(time.Duration(l.Renew) * time.Second)
		wait := max(time.Until(next), time.Duration(max(1, l.Expire/16))*time.Second)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		lease, err := h.link.renew(ctx, h.lease)
		if err != nil {
			if ctx.Err() == nil {
				n.o.Log(err.Error())
			}
			continue
		}
		times := leaseTimes(lease.ACK, h.config.Server, h.link.clientID(), lease.CreationTime)
		c := *h.config
		c.Lease = times
		lease.ACK = h.lease.ACK // the answer may hold less than the first one
		h = &held{link: h.link, lease: lease, config: &c}
		n.mu.Lock()
		n.current = h
		n.mu.Unlock()
	}
}

// release ends renewing; the lease stays for the next attempt.
func (n *Network) release() {
	n.mu.Lock()
	stop, h := n.stop, n.current
	n.current, n.stop = nil, nil
	n.mu.Unlock()
	if stop != nil {
		stop()
		n.renewed.Wait()
		n.leases[h.link.index] = h
	}
}

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
