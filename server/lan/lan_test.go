package lan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A port that somebody has is named, with who has it.
func TestPortInUse(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, err := net.SplitHostPort(taken.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	closed := &fake{name: "first"}
	_, err = Open(t.Context(), slog.New(slog.DiscardHandler), closed, &fake{name: "TFTP", open: func() error {
		c, err := net.ListenPacket("udp", taken.LocalAddr().String())
		if err == nil {
			c.Close()
		}
		return err
	}})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Open = %v; want EADDRINUSE", err)
	}
	for _, want := range []string{"open TFTP", fmt.Sprintf("(process %d)", os.Getpid()), "udp port " + port} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open = %v; want %q", err, want)
		}
	}
	if !slices.Equal(closed.calls, []string{"open", "close"}) {
		t.Errorf("the first service: %v; want it closed", closed.calls)
	}
}

type fake struct {
	name  string
	open  func() error
	run   func(context.Context) error
	mu    sync.Mutex
	calls []string
}

func (f *fake) note(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, s)
}
func (f *fake) Name() string { return f.name }
func (f *fake) Close() error { f.note("close"); return nil }
func (f *fake) Open(context.Context) error {
	f.note("open")
	if f.open != nil {
		return f.open()
	}
	return nil
}
func (f *fake) Run(ctx context.Context) error { f.note("run"); return f.run(ctx) }

// A service that fails or panics is run again, and the others go on.
func TestServiceFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		bad := &fake{name: "bad", run: func(ctx context.Context) error {
			switch n++; n {
			case 1:
				return io.ErrUnexpectedEOF
			case 2:
				panic("nil map")
			}
			<-ctx.Done()
			return nil
		}}
		good := &fake{name: "good", run: func(ctx context.Context) error { <-ctx.Done(); return nil }}
		s, err := Open(t.Context(), slog.New(slog.DiscardHandler), bad, good)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s.Run(ctx)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if want := []string{"open", "run", "run", "run", "close"}; !slices.Equal(bad.calls, want) {
			t.Errorf("bad: %v; want %v", bad.calls, want)
		}
		if want := []string{"open", "run", "close"}; !slices.Equal(good.calls, want) {
			t.Errorf("good: %v; want %v", good.calls, want)
		}
	})
}

func TestFindInterface(t *testing.T) {
	if i, err := FindInterface("lo"); err != nil || !i.IPv4.Addr().IsLoopback() {
		t.Errorf("FindInterface(lo) = %+v, %v", i, err)
	}
	if _, err := FindInterface("nosuch0"); err == nil || !strings.Contains(err.Error(), "there are") || !strings.Contains(err.Error(), "lo") {
		t.Errorf("FindInterface(nosuch0) = %v; want the names that there are", err)
	}
}

// Links in the data folder lead nowhere else.
func TestOwnStaysInside(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, outside := t.TempDir(), t.TempDir()
	secret := filepath.Join(outside, "secret")
	deep := filepath.Join(dir, "store", "blocks", "ab")
	if err := errors.Join(os.WriteFile(secret, nil, 0o600), os.MkdirAll(deep, 0o755), os.WriteFile(filepath.Join(deep, "x"), nil, 0o600),
		os.Symlink(secret, filepath.Join(dir, "link")), os.Symlink(outside, filepath.Join(dir, "folder"))); err != nil {
		t.Fatal(err)
	}
	uid := func(p string) uint32 {
		t.Helper()
		info, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		return info.Sys().(*syscall.Stat_t).Uid
	}
	if err := Own(dir, &User{Name: "x", UID: 4321, GID: 4321}); err != nil {
		t.Fatal(err)
	}
	for p, want := range map[string]uint32{secret: 0, outside: 0, dir: 4321, deep: 4321, filepath.Join(deep, "x"): 4321} {
		if got := uid(p); got != want {
			t.Errorf("%s belongs to %d; want %d", p, got, want)
		}
	}
	// Later starts look at what a start makes only.
	made := filepath.Join(dir, "server.db")
	if err := errors.Join(os.WriteFile(made, nil, 0o600), os.Chown(filepath.Join(deep, "x"), 0, 0)); err != nil {
		t.Fatal(err)
	}
	if err := Own(dir, &User{Name: "x", UID: 4321, GID: 4321}); err != nil {
		t.Fatal(err)
	}
	if uid(made) != 4321 || uid(filepath.Join(deep, "x")) != 0 {
		t.Errorf("after the second start: %d, %d; want 4321, 0", uid(made), uid(filepath.Join(deep, "x")))
	}
}
