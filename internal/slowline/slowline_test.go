package slowline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener and a dialler in memory, for bubbles of synctest.
type pipes struct {
	accept, dialled chan net.Conn
	closed          chan struct{}
	once            sync.Once
}

func newPipes() *pipes {
	return &pipes{accept: make(chan net.Conn), dialled: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }
func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.dialled <- b:
		return a, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipes) connect() net.Conn {
	a, b := net.Pipe()
	p.accept <- b
	return a
}

// bubble runs f with a line in a bubble of its own time.
func bubble(t *testing.T, c Config, f func(t *testing.T, p *pipes, l *Line)) {
	synctest.Test(t, func(t *testing.T) {
		l, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Serve(ctx, p, p.dial) }()
		f(t, p, l)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve = %v; want nil after the end of its context", err)
		}
	})
}

func near(t *testing.T, what string, got, want, within time.Duration) {
	t.Helper()
	if d := got - want; d < -within || d > within {
		t.Errorf("%s = %v; want %v within %v", what, got, want, within)
	}
}

func readN(t *testing.T, c net.Conn, n int) {
	t.Helper()
	if _, err := io.CopyN(io.Discard, c, int64(n)); err != nil {
		t.Errorf("read %d bytes: %v", n, err)
	}
}

func TestDelay(t *testing.T) {
	bubble(t, Config{RTT: 50 * time.Millisecond, Rate: 12_500_000}, func(t *testing.T, p *pipes, l *Line) {
		start := time.Now()
		client := p.connect()
		go client.Write([]byte("hello"))
		target := <-p.dialled
		near(t, "the target knows of the connection after", time.Since(start), 75*time.Millisecond, 2*time.Millisecond)
		readN(t, target, 5)
		near(t, "first bytes at the target after", time.Since(start), 75*time.Millisecond, 2*time.Millisecond)
		go target.Write([]byte("world!"))
		readN(t, client, 6)
		near(t, "first answer after", time.Since(start), 100*time.Millisecond, 2*time.Millisecond)
		for range 20 {
			start = time.Now()
			go client.Write([]byte("again"))
			readN(t, target, 5)
			near(t, "one way", time.Since(start), 25*time.Millisecond, time.Millisecond)
			go target.Write([]byte("again"))
			readN(t, client, 5)
			near(t, "there and back", time.Since(start), 50*time.Millisecond, 2*time.Millisecond)
		}
		synctest.Wait() // counted after the write returns
		if l.Up() != 105 || l.Down() != 106 {
			t.Errorf("Up, Down = %d, %d; want 105, 106", l.Up(), l.Down())
		}
	})
}

// A target that speaks first, such as an NBD server, is heard after two round
// trips: its side of the handshake is over after one and a half.
func TestTargetSpeaksFirst(t *testing.T) {
	bubble(t, Config{RTT: 100 * time.Millisecond}, func(t *testing.T, p *pipes, _ *Line) {
		start := time.Now()
		client := p.connect()
		target := <-p.dialled
		go target.Write([]byte("NBDMAGIC"))
		readN(t, client, 8)
		near(t, "greeting after", time.Since(start), 200*time.Millisecond, time.Millisecond)
	})
}

// A window of data is under way while nobody waits for answers: what one
// connection carries does not depend on the round trip.
func TestRate(t *testing.T) {
	for _, rtt := range []time.Duration{0, 10 * time.Millisecond, 200 * time.Millisecond} {
		for _, rate := range []int64{125_000, 12_500_000} {
			bubble(t, Config{RTT: rtt, Rate: rate}, func(t *testing.T, p *pipes, _ *Line) {
				client := p.connect()
				target := <-p.dialled
				n := int(rate * 2)
				start := time.Now()
				go target.Write(make([]byte, n))
				readN(t, client, n)
				near(t, "time for two seconds' worth of bytes", time.Since(start), 2*time.Second+rtt/2, 100*time.Millisecond)
				start = time.Now()
				go client.Write(make([]byte, n))
				readN(t, target, n)
				near(t, "the same upwards", time.Since(start), 2*time.Second+rtt/2, 100*time.Millisecond)
			})
		}
	}
}

func TestConnectionsShareTheRate(t *testing.T) {
	bubble(t, Config{RTT: 20 * time.Millisecond, Rate: 1_000_000}, func(t *testing.T, p *pipes, l *Line) {
		const conns, each = 16, 250_000
		var wg sync.WaitGroup
		var ends [conns][2]net.Conn
		for i := range ends {
			ends[i][0] = p.connect()
			ends[i][1] = <-p.dialled
		}
		start := time.Now()
		for _, e := range ends {
			wg.Go(func() { e[1].Write(make([]byte, each)) })
			wg.Go(func() {
				readN(t, e[0], each)
				near(t, "a fair share ends after", time.Since(start), conns*each*time.Microsecond, 200*time.Millisecond)
			})
		}
		wg.Wait()
		near(t, "all together", time.Since(start), conns*each*time.Microsecond+10*time.Millisecond, 20*time.Millisecond)
		synctest.Wait()
		if l.Down() != conns*each {
			t.Errorf("Down = %d; want %d", l.Down(), conns*each)
		}
	})
}

// A small answer does not wait behind another connection's long one.
func TestSmallBesideLarge(t *testing.T) {
	bubble(t, Config{RTT: 20 * time.Millisecond, Rate: 1_000_000}, func(t *testing.T, p *pipes, _ *Line) {
		large := p.connect()
		go (<-p.dialled).Write(make([]byte, 10_000_000))
		go io.Copy(io.Discard, large)
		small := p.connect()
		target := <-p.dialled
		time.Sleep(time.Second)
		start := time.Now()
		go target.Write([]byte("x"))
		readN(t, small, 1)
		near(t, "small answer after", time.Since(start), 15*time.Millisecond, 6*time.Millisecond)
	})
}

// The two directions do not share their rate.
func TestDirections(t *testing.T) {
	bubble(t, Config{Rate: 1_000_000}, func(t *testing.T, p *pipes, _ *Line) {
		client := p.connect()
		target := <-p.dialled
		start := time.Now()
		var wg sync.WaitGroup
		for _, d := range [][2]net.Conn{{client, target}, {target, client}} {
			wg.Go(func() { d[0].Write(make([]byte, 2_000_000)) })
			wg.Go(func() { readN(t, d[1], 2_000_000) })
		}
		wg.Wait()
		near(t, "both directions", time.Since(start), 2*time.Second, 50*time.Millisecond)
	})
}

// Nobody reads: the line takes a window of bytes and no more, and goes on when
// somebody does.
func TestBackPressure(t *testing.T) {
	bubble(t, Config{RTT: 50 * time.Millisecond, Rate: 12_500_000}, func(t *testing.T, p *pipes, l *Line) {
		client := p.connect()
		target := <-p.dialled
		const n = 20_000_000
		var mu sync.Mutex
		sent := 0
		go func() {
			for sent < n {
				k, err := target.Write(make([]byte, 10_000))
				mu.Lock()
				sent += k
				mu.Unlock()
				if err != nil {
					return
				}
			}
		}()
		time.Sleep(time.Minute)
		mu.Lock()
		held := sent
		mu.Unlock()
		if limit := l.window + 2*l.chunk + 10_000; held > limit || held < l.window-2*l.chunk {
			t.Errorf("the line took %d bytes; want about its window of %d", held, l.window)
		}
		readN(t, client, n)
	})
}

func TestDialFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := New(Config{RTT: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		p := newPipes()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- l.Serve(ctx, p, func(context.Context) (net.Conn, error) { return nil, errors.New("refused") })
		}()
		client := p.connect()
		if _, err := client.Read(make([]byte, 1)); err == nil {
			t.Error("a connection to nowhere brings bytes")
		}
		cancel()
		<-done
	})
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []Config{{RTT: -1}, {Rate: -1}, {RTT: time.Hour}, {Rate: 1 << 50}} {
		if _, err := New(c); err == nil {
			t.Errorf("New(%+v) succeeded", c)
		}
	}
}

// tcpLine is a line of real sockets before an echo server.
func tcpLine(t *testing.T, c Config, serve func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c) }()
		}
	}()
	l, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	addr, end, err := l.Listen(t.Context(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(end)
	return addr
}

// Real sockets: every byte arrives in order, half-closing works, and nothing
// is faster than the line. How much slower a busy machine is, is not asked.
func TestTCP(t *testing.T) {
	addr := tcpLine(t, Config{RTT: 30 * time.Millisecond, Rate: 20_000_000}, func(c net.Conn) {
		b, err := io.ReadAll(c) // until the client closes its half
		if err != nil {
			t.Error(err)
		}
		c.Write(b)
	})
	var wg sync.WaitGroup
	start := time.Now()
	const conns, each = 4, 1_000_000
	for i := range conns {
		wg.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			sent := make([]byte, each)
			src := rand.NewChaCha8(sha256.Sum256([]byte{byte(i)}))
			src.Read(sent)
			if _, err := c.Write(sent); err != nil {
				t.Error(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Error(err)
			}
			got, err := io.ReadAll(c)
			if err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came back, %v; want the %d that were sent", len(got), err, each)
			}
		})
	}
	wg.Wait()
	// A handshake and both ways, and the serialiser once in each direction at least.
	if d, least := time.Since(start), 60*time.Millisecond+conns*each*50*time.Nanosecond; d < least {
		t.Errorf("%d connections were through after %v; want at least %v", conns, d, least)
	}
}

func TestTCPReset(t *testing.T) {
	addr := tcpLine(t, Config{RTT: 10 * time.Millisecond}, func(c net.Conn) {
		c.(*net.TCPConn).SetLinger(0) // closes with a reset
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read after a reset at the far end = %v; want a reset", err)
	}
}
