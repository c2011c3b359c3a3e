package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/mirror/mirrortest"
)

// stuck is two mirrors of a store at 10.77.0.1, of which the one that is asked
// for a file first keeps everybody waiting for it, or both do.
type stuck struct {
	*publisher
	mu   sync.Mutex
	path string
	wrap func(http.Handler) http.Handler
	both bool
	bad  int // port; 0: not known yet
}

const goodPort, otherPort = 8080, 8081

func (s *stuck) set(path string, wrap func(http.Handler) http.Handler, both bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path, s.wrap, s.both, s.bad = "/"+path, wrap, both, 0
}

// handler is that of one port.
func (s *stuck) handler(port int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		h := http.Handler(s.publisher)
		if r.URL.Path == s.path {
			if s.bad == 0 {
				s.bad = port
			}
			if s.both || s.bad == port {
				h = s.wrap(h)
			}
		}
		s.mu.Unlock()
		h.ServeHTTP(w, r)
	})
}

// halves sends the first half of a file and then nothing, whatever is asked for.
func halves(size int) func(http.Handler) http.Handler {
	return func(good http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") == "" {
				r = r.Clone(r.Context())
				r.Header.Set("Range", fmt.Sprintf("bytes=0-%d", size/2-1))
				rec := httptest.NewRecorder()
				good.ServeHTTP(rec, r)
				w.Header().Set("Content-Length", fmt.Sprint(size))
				_, _ = w.Write(rec.Body.Bytes())
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		})
	}
}

// Servers that take requests and never answer, that stop in the midst of a
// file for good, and that send a few bytes a second. With another mirror the
// machine goes on by that, and says so; without one it says what has failed,
// where, and offers ways out, of which one is to type another mirror.
func TestSessionOnStuckServers(t *testing.T) {
	server := os.Getenv(inNamespace)
	if server == "" {
		outside(t)
		return
	}
	p := &stuck{publisher: &publisher{key: firstKey, url: "http://10.77.0.1:8080", files: map[string][]byte{}, gets: map[string]int{}}}
	kernel := bytes.Repeat([]byte("no kernel "), 100_000)
	where := p.publish(t, 2, time.Now().Add(time.Hour), kernel, []byte("no initrd"), -1)
	for _, port := range []int{goodPort, otherPort} {
		srv := httptest.NewUnstartedServer(p.handler(port))
		srv.Listener.Close()
		srv.Listener = listenIn(t, server, fmt.Sprintf("10.77.0.1:%d", port))
		srv.Start()
		t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	}
	start := func(t *testing.T, urls string, idle time.Duration) (*session, *screenTerm) {
		s, v, _ := startSession(t, fmt.Sprintf("quiet inetboot.cache=none ip=10.77.0.7::10.77.0.1:24 inetboot.url=%s inetboot.key=%x", urls, []byte(catalogtest.Key(firstKey).Public())),
			func(s *session) { s.idle, s.resume = idle, 2*idle })
		t.Cleanup(func() { p.set("", nil, false) })
		v.expect(t, "inetboot: menu ready", " >  1  Tiny Linux 1")
		return s, v
	}
	said := func(s *session, parts ...string) bool {
		for _, line := range s.con.Lines() {
			all := true
			for _, want := range parts {
				all = all && strings.Contains(line, want)
			}
			if all {
				return true
			}
		}
		return false
	}
	faults := []struct {
		name string
		wrap func(http.Handler) http.Handler
		why  string // what is said of it where there is no other mirror
	}{
		{"silent", mirrortest.Silent, "the server does not answer"},
		{"stalls", halves(len(kernel)), "the server does not answer"},
		{"trickles", mirrortest.Trickle, ""},
	}
	for _, f := range faults {
		t.Run("alone, "+f.name, func(t *testing.T) {
			s, v := start(t, p.url, time.Second)
			p.set(where.kernel, f.wrap, true)
			v.press(t, "\r")
			if f.why == "" { // it comes, so it is waited for
				v.expect(t, "of 1.0 MB", "kernel 0 %", "B/s")
				v.press(t, "\x1b")
				v.expect(t, " >  1  Tiny Linux 1")
				return
			}
			v.expect(t, "this could not be started", "Tried with: eth0, address 10.77.0.7/24", " >  1  Try again", "Choose another mirror", "network settings", "Back to the menu")
			if !said(s, "failed: kernel: ", f.why, "(http://10.77.0.1:8080)") {
				t.Errorf("no line says that the kernel failed at 10.77.0.1:8080 and why, %q", f.why)
			}
			if f.name == "stalls" && !said(s, "the server does not answer (http://10.77.0.1:8080): waiting for it") {
				t.Error("no line says that the machine waits for the server")
			}
			p.set(where.kernel, f.wrap, false)
			p.mu.Lock()
			p.bad = goodPort
			p.mu.Unlock()
			v.press(t, "mirror\r")
			v.expect(t, "Type another address")
			v.press(t, "another\r")
			v.expect(t, "Base URL of the store")
			v.press(t, keyClear+fmt.Sprintf("http://10.77.0.1:%d", otherPort)+keyPgDn+"\r")
			v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again") // so it is there, and right
		})
		t.Run("with another, "+f.name, func(t *testing.T) {
			s, v := start(t, fmt.Sprintf("%s,http://10.77.0.1:%d", p.url, otherPort), 0)
			p.set(where.kernel, f.wrap, false)
			v.press(t, "\r")
			v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again")
			p.mu.Lock()
			bad := p.bad
			p.mu.Unlock()
			if !said(s, fmt.Sprintf("(http://10.77.0.1:%d): going on with http://10.77.0.1:%d", bad, goodPort+otherPort-bad)) {
				t.Errorf("no line says that the mirror at port %d is not used any more", bad)
			}
		})
	}
	t.Run("silent catalog", func(t *testing.T) {
		s, v := start(t, p.url, time.Second)
		p.set("catalog/timestamp.json", mirrortest.Silent, true)
		v.press(t, ctrlR)
		v.expect(t, "the newest menu cannot be read", "Tried with: eth0, address 10.77.0.7/24", " >  1  Try again", "Choose another mirror")
		if !said(s, "failed: catalog: ", "the server does not answer", "(http://10.77.0.1:8080)") {
			t.Error("no line says that the catalog failed at 10.77.0.1:8080, as the server does not answer")
		}
		p.set("", nil, false)
		v.press(t, "\r")
		v.expect(t, "inetboot: menu ready", " >  1  Tiny Linux 1")
	})
}
