package menu

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inetboot/inetboot/preboot/console"
)

// line is a serial port: a buffer of the kernel's that is sent at a rate.
type line struct {
	rate float64 // bytes per second

	mu     sync.Mutex
	queue  float64
	at     time.Time
	sent   int
	closed chan struct{}
}

// lineBuffer is UART_XMIT_SIZE (Linux, linux/serial_core.h).
const lineBuffer = 4096

func (l *line) elapse() {
	now := time.Now()
	l.queue = max(0, l.queue-l.rate*now.Sub(l.at).Seconds())
	l.at = now
}

func (l *line) Write(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		l.mu.Lock()
		l.elapse()
		fits := min(len(p)-n, lineBuffer-int(l.queue)-1)
		if fits > 0 {
			l.queue += float64(fits)
			l.sent += fits
			n += fits
		}
		l.mu.Unlock()
		if fits <= 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return n, nil
}

func (l *line) Queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.elapse()
	return int(l.queue)
}

func (l *line) bytes() int { l.mu.Lock(); defer l.mu.Unlock(); return l.sent }

func (l *line) Read([]byte) (int, error)         { <-l.closed; return 0, io.EOF }
func (l *line) Close() error                     { close(l.closed); return nil }
func (l *line) SetReadDeadline(time.Time) error  { return nil }
func (l *line) SetWriteDeadline(time.Time) error { return nil }

// Over a serial line of 9600 baud, 8N1, each key has its effect within the time
// that a person waits for it, also behind a key that is held.
func TestMenuAt9600Baud(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &line{rate: 960, at: time.Now(), closed: make(chan struct{})}
		s := console.New()
		s.Add("ttyS0", l, console.Size{}, func() {})
		m := New(Options{Title: "A publisher's menu", Items: tree(), Heads: heads, More: "network, mirror, log", Reload: true, Timeout: -1})
		m.Status("inetboot: menu ready")
		shown := func() time.Duration {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s.Flush(ctx)
			if ctx.Err() != nil {
				t.Fatal("the menu is never shown")
			}
			return time.Since(begin)
		}
		for _, tt := range []struct {
			what, keys string
			limit      time.Duration
		}{
			{"the menu", "", 1500 * time.Millisecond},
			{"the next entry", "v", 600 * time.Millisecond},
			{"a submenu of many entries", "$", 1800 * time.Millisecond},
			{"the next of them", "v", 400 * time.Millisecond},
			{"ten further", "}", 1200 * time.Millisecond},
			{"back", "<", 1800 * time.Millisecond},
			{"the first letter of a search", "r", 1800 * time.Millisecond},
			{"the second letter", "e", 1500 * time.Millisecond},
		} {
			before := l.bytes()
			play(m, tt.keys)
			s.Draw(m.Screen)
			took := shown()
			t.Logf("%-30s %5d bytes, %.2f s", tt.what, l.bytes()-before, took.Seconds())
			if took > tt.limit {
				t.Errorf("%s takes %v; want %v at most", tt.what, took, tt.limit)
			}
		}
		play(m, "<<2$")
		s.Draw(m.Screen)
		shown()
		for range 60 { // two seconds
			play(m, "v")
			s.Draw(m.Screen)
			time.Sleep(time.Second / 30)
		}
		took := shown()
		t.Logf("%-30s %5s        %.2f s", "after a key that was held", "", took.Seconds())
		if took > time.Second {
			t.Errorf("after a key that was held, the menu is right %v later; want 1 s at most", took)
		}
		s.Close()
	})
}
