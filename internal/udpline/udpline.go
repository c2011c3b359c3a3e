// Package udpline is a bad line for UDP: a proxy that loses, doubles, swaps and
// delays datagrams, by a seed. It follows a server that answers from another
// port than it was asked at, as TFTP's do. It is for tests and benchmarks.
package udpline

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Options say how bad the line is. The zero value loses nothing.
type Options struct {
	Delay time.Duration // of each datagram, one way
	// Probabilities, from 0 to 1, for each datagram.
	Lose, Double, Swap float64
	Seed               uint64
	// Listen opens the line's sockets: the one for clients, and later one for
	// each of their ports. nil: on free ports of the loopback interface.
	Listen func() (*net.UDPConn, error)
}

// Line is a proxy that runs.
type Line struct {
	o      Options
	server netip.AddrPort
	conn   *net.UDPConn
	wg     sync.WaitGroup

	mu    sync.Mutex
	flows map[netip.AddrPort]*flow

	toClient, toServer, Lost atomic.Int64 // datagrams that came, and that were lost
}

// flow is what one port of a client sends and gets.
type flow struct {
	client netip.AddrPort
	up     *net.UDPConn
	server atomic.Pointer[netip.AddrPort] // where the client's datagrams go
	toUp   *way
}

// Start opens a line to server.
func Start(server netip.AddrPort, o Options) (*Line, error) {
	if o.Listen == nil {
		o.Listen = func() (*net.UDPConn, error) {
			return net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		}
	}
	conn, err := o.Listen()
	if err != nil {
		return nil, err
	}
	l := &Line{o: o, server: server, conn: conn, flows: map[netip.AddrPort]*flow{}}
	l.wg.Go(l.fromClients)
	return l, nil
}

// Addr is where clients send.
func (l *Line) Addr() netip.AddrPort { return l.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// ToClient returns how many datagrams the server has sent.
func (l *Line) ToClient() int64 { return l.toClient.Load() }

// ToServer returns how many datagrams clients have sent.
func (l *Line) ToServer() int64 { return l.toServer.Load() }

// Close ends the line.
func (l *Line) Close() error {
	err := l.conn.Close()
	l.mu.Lock()
	for _, f := range l.flows {
		err = errors.Join(err, f.up.Close())
	}
	l.mu.Unlock()
	l.wg.Wait()
	return err
}

func (l *Line) fromClients() {
	buf := make([]byte, 1<<16)
	for {
		n, client, err := l.conn.ReadFromUDPAddrPort(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		l.toServer.Add(1)
		if f := l.flow(client); f != nil {
			f.toUp.put(buf[:n])
		}
	}
}

func (l *Line) flow(client netip.AddrPort) *flow {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.flows[client]; f != nil {
		return f
	}
	up, err := l.o.Listen()
	if err != nil {
		return nil
	}
	f := &flow{client: client, up: up}
	f.server.Store(&l.server)
	n := uint64(len(l.flows))
	f.toUp = l.way(2*n, func(b []byte) { _, _ = up.WriteToUDPAddrPort(b, *f.server.Load()) })
	down := l.way(2*n+1, func(b []byte) { _, _ = l.conn.WriteToUDPAddrPort(b, client) })
	l.flows[client] = f
	l.wg.Go(func() {
		defer f.toUp.close()
		defer down.close()
		buf := make([]byte, 1<<16)
		for {
			n, from, err := up.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue
			}
			l.toClient.Add(1)
			f.server.Store(&from)
			down.put(buf[:n])
		}
	})
	return f
}

// way is one direction of a flow.
type way struct {
	l    *Line
	send func([]byte)

	mu     sync.Mutex
	rnd    *rand.Rand
	held   []byte // goes behind the next one
	queue  chan late
	closed bool
}

type late struct {
	at   time.Time
	data []byte
}

func (l *Line) way(n uint64, send func([]byte)) *way {
	w := &way{l: l, send: send, rnd: rand.New(rand.NewPCG(l.o.Seed, n))}
	if l.o.Delay > 0 {
		w.queue = make(chan late, 4096)
		l.wg.Go(func() {
			for p := range w.queue {
				time.Sleep(time.Until(p.at))
				w.send(p.data)
			}
		})
	}
	return w
}

func (w *way) put(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	o := &w.l.o
	lose, double, swap := w.rnd.Float64() < o.Lose, w.rnd.Float64() < o.Double, w.rnd.Float64() < o.Swap
	if lose {
		w.l.Lost.Add(1)
		return
	}
	if swap && w.held == nil {
		w.held = append([]byte{}, b...)
		return
	}
	w.out(b)
	if double {
		w.out(b)
	}
	if w.held != nil {
		w.out(w.held)
		w.held = nil
	}
}

func (w *way) out(b []byte) {
	if w.queue == nil {
		w.send(b)
		return
	}
	select {
	case w.queue <- late{time.Now().Add(w.l.o.Delay), append([]byte{}, b...)}:
	default:
		w.l.Lost.Add(1) // as a router would
	}
}

func (w *way) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.queue != nil {
		close(w.queue)
	}
}
