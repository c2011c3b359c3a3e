package console

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// pipe is a terminal with a person at the other end.
type pipe struct {
	net.Conn
	mu  sync.Mutex
	got strings.Builder
}

// person returns somebody at a terminal, who reads all that is shown.
func person(theirs net.Conn) *pipe {
	p := &pipe{Conn: theirs}
	go func() {
		b := make([]byte, 1024)
		for {
			n, err := theirs.Read(b)
			p.mu.Lock()
			p.got.Write(b[:n])
			p.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return p
}

func attach(t *testing.T, s *Set, name string) *pipe {
	t.Helper()
	ours, theirs := net.Pipe()
	p := person(theirs)
	s.Add(name, ours, Size{}, func() {})
	t.Cleanup(func() { theirs.Close() })
	return p
}

func (p *pipe) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.got.String()
}

func flushed(t *testing.T, s *Set) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	s.Flush(ctx)
	if ctx.Err() != nil {
		t.Fatal("Flush takes for ever")
	}
}

func TestEveryTerminalShowsEverything(t *testing.T) {
	s := New()
	defer s.Close()
	a := attach(t, s, "a")
	s.Print("first")
	s.Draw(fixed("the menu")) // without time in between: the line has to come all the same
	flushed(t, s)
	b := attach(t, s, "b")
	flushed(t, s)
	s.Print("second") // behind the screen
	flushed(t, s)
	if strings.Contains(a.text(), "second") {
		t.Errorf("a line paints over the menu: %q", a.text())
	}
	s.Scroll()
	flushed(t, s)
	for name, p := range map[string]*pipe{"a": a, "b": b} {
		text := p.text()
		at := []int{strings.Index(text, "first\r\n"), strings.Index(text, "the menu"), strings.Index(text, "second\r\n")}
		if at[0] < 0 || at[1] < at[0] || at[2] < at[1] {
			t.Errorf("terminal %s got %q", name, text)
		}
		if n := strings.Count(text, "first"); n != 1 {
			t.Errorf("terminal %s got the first line %d times", name, n)
		}
	}
}

func TestKeysOfAllTerminals(t *testing.T) {
	s := New()
	defer s.Close()
	for _, p := range []*pipe{attach(t, s, "a"), attach(t, s, "b")} {
		if _, err := p.Write([]byte("\x1b[A\x1b")); err != nil {
			t.Fatal(err)
		}
		for _, want := range []Key{Up, Escape} {
			select {
			case k := <-s.Keys():
				if k != want {
					t.Errorf("key %v; want %v", k, want)
				}
			case <-time.After(10 * time.Second):
				t.Fatalf("key %v does not come", want)
			}
		}
	}
}

// One terminal takes no byte, another one vanishes: the third does not care.
func TestStuckAndLostTerminals(t *testing.T) {
	s := New()
	stuck, peer := net.Pipe()
	defer peer.Close()
	s.Add("stuck", stuck, Size{}, func() {})
	lost := attach(t, s, "lost")
	good := attach(t, s, "good")
	lost.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.Print("x")
		s.Draw(fixed("menu"))
		if cmp.Equal(s.Names(), []string{"good", "stuck"}) && strings.Contains(good.text(), "menu") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("terminals %v, good one shows %q", s.Names(), good.text())
		}
	}
	done := make(chan struct{})
	go func() { s.Close(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("Close waits for the stuck terminal")
	}
	if n := len(s.Names()); n != 0 {
		t.Errorf("%d terminals after Close", n)
	}
}

func TestRedrawRepaints(t *testing.T) {
	s := New()
	defer s.Close()
	p := attach(t, s, "a")
	s.Draw(fixed("the menu"))
	flushed(t, s)
	s.Redraw()
	flushed(t, s)
	if n := strings.Count(p.text(), "the menu"); n != 2 {
		t.Errorf("the menu was painted %d times; want 2: %q", n, p.text())
	}
}

// Each terminal gets a screen of its size; one that comes later and has another
// size shows the standard one until the next is drawn.
func TestSizes(t *testing.T) {
	s := New()
	defer s.Close()
	view := func(size Size) Screen { return Screen{{Text: fmt.Sprintf("%d by %d", size.Columns, size.Rows)}} }
	add := func(name string, size Size) *pipe {
		ours, theirs := net.Pipe()
		p := person(theirs)
		s.Add(name, ours, size, func() {})
		t.Cleanup(func() { theirs.Close() })
		return p
	}
	serial, screen := add("serial", Size{}), add("screen", Size{240, 67})
	s.Draw(view)
	flushed(t, s)
	late := add("late", Size{5, 2})
	flushed(t, s)
	expect := func(p *pipe, want string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !strings.Contains(p.text(), want); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("a terminal shows %q; want %q", p.text(), want)
			}
		}
	}
	expect(serial, "80 by 24")
	expect(screen, "240 by 67")
	expect(late, "80 by 24")
	s.Draw(view)
	flushed(t, s)
	expect(late, "20 by 8") // no screen is smaller
	s.Print("a line")
	if got := s.Lines(); len(got) != 1 || got[0] != "a line" {
		t.Errorf("Lines = %q", got)
	}
}

func TestFind(t *testing.T) {
	sys := t.TempDir()
	for name, typ := range map[string]string{"tty": "", "tty0": "", "tty1": "", "tty2": "", "ttyS0": "4\n", "ttyS1": "0\n", "ttyS2": "16", "ttyAMA0": "32", "hvc0": "", "console": ""} {
		if err := os.Mkdir(filepath.Join(sys, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if typ != "" {
			if err := os.WriteFile(filepath.Join(sys, name, "type"), []byte(typ), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(sys, "console", "active"), []byte("tty0 ttyAMA0 ttyS0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"tty1", "ttyAMA0", "ttyS0", "ttyS2"}
	if diff := cmp.Diff(want, find(sys, activeConsoles(sys))); diff != "" {
		t.Errorf("find (-want +got):\n%s", diff)
	}
}

func TestOpenRefusesWhatIsNoTerminal(t *testing.T) {
	if _, _, _, err := open(filepath.Join(t.TempDir(), "none"), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open of nothing = %v; want os.ErrNotExist", err)
	}
	if _, _, _, err := open("/dev/null", false); err == nil {
		t.Error("open of /dev/null succeeds; it is no terminal")
	}
}

func fixed(text string) func(Size) Screen {
	return func(Size) Screen { return Screen{{Text: text}} }
}
