// Package tcpserve takes the TCP connections of a service on the LAN: from the
// networks that may use it alone, and a bounded number of them.
package tcpserve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits says who may connect. The zero value lets everybody in.
type Limits struct {
	Networks  []netip.Prefix // that clients are on; none: all
	Max       int            // connections at once; 0: 1024
	PerClient int            // connections at once of one address; 0: 32
	// Patient leaves connections open when the service ends: handle sees to
	// their end, soon after that of its context.
	Patient bool
}

// Allows tells whether a client's address is on one of the networks.
func (l *Limits) Allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range l.Networks {
		if n.Contains(a) {
			return true
		}
	}
	return len(l.Networks) == 0
}

// Client returns the address of a connection's other end.
func Client(a net.Addr) netip.Addr {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap()
}

// Serve calls handle, in a goroutine of its own, for each connection, until ctx
// ends; then it closes all connections, unless the limits say otherwise, and
// waits for the goroutines. The context of handle ends with ctx. Connections beyond the limits are closed at
// once. ln is closed.
func Serve(ctx context.Context, ln net.Listener, l Limits, log *slog.Logger, handle func(context.Context, net.Conn)) error {
	if l.Max == 0 {
		l.Max = 1024
	}
	if l.PerClient == 0 {
		l.PerClient = 32
	}
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		open  = make(map[net.Conn]struct{})
		count = make(map[netip.Addr]int)
	)
	stop := context.AfterFunc(ctx, func() {
		_ = ln.Close()
		if l.Patient {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for c := range open {
			_ = c.Close()
		}
	})
	defer stop()
	defer wg.Wait()
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept connections at %s: %w", ln.Addr(), err)
		}
		if err != nil { // such as too many open files: passes
			log.Warn("a connection could not be taken", "addr", ln.Addr().String(), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		from := Client(c.RemoteAddr())
		mu.Lock()
		refused := ""
		switch {
		case ctx.Err() != nil:
			refused = "the service ends"
		case !l.Allows(from):
			refused = "not on a network that may use this service"
		case len(open) >= l.Max:
			refused = "too many connections"
		case count[from] >= l.PerClient:
			refused = "too many connections of this client"
		default:
			open[c] = struct{}{}
			count[from]++
		}
		mu.Unlock()
		if refused != "" {
			log.Debug("connection refused", "client", from.String(), "addr", ln.Addr().String(), "reason", refused)
			_ = c.Close()
			continue
		}
		wg.Go(func() {
			defer func() {
				_ = c.Close()
				mu.Lock()
				defer mu.Unlock()
				delete(open, c)
				if count[from]--; count[from] == 0 {
					delete(count, from)
				}
			}()
			handle(ctx, c)
		})
	}
}
