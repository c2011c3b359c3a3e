package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/bootlog"
	"github.com/inetboot/inetboot/internal/mirror/mirrortest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// spoiler serves a store, with one file of it spoiled, and takes logs of boots.
type spoiler struct {
	*publisher
	mu     sync.Mutex
	path   string
	spoil  http.Handler
	lines  chan *bootlog.Report
	served chan string // files and indexes that were sent
}

func (s *spoiler) set(path string, h http.Handler) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path, s.spoil = "/"+path, h
}

func (s *spoiler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/"+bootlog.Path {
		data, err := io.ReadAll(io.LimitReader(r.Body, bootlog.MaxBytes+1))
		if err != nil {
			return
		}
		rep, err := bootlog.Parse(data)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusAccepted)
		s.lines <- rep
		return
	}
	s.mu.Lock()
	h := http.Handler(s.publisher)
	spoiled := r.URL.Path == s.path
	if spoiled {
		h = s.spoil
	}
	s.mu.Unlock()
	h.ServeHTTP(w, r)
	path := strings.TrimPrefix(r.URL.Path, "/")
	if kind, _, _ := storepath.Parse(path); !spoiled && (kind == storepath.KindFile || kind == storepath.KindIndex) {
		_ = http.NewResponseController(w).Flush() // before anybody relies on it
		select {
		case s.served <- path:
		default:
		}
	}
}

// told waits until the server has been told of a failure.
func (s *spoiler) told(t *testing.T, failure string) {
	t.Helper()
	for timeout := time.After(20 * time.Second); ; {
		select {
		case r := <-s.lines:
			if r.Part == bootlog.Preboot && strings.Contains(r.Failure, failure) {
				if n := len(r.Lines); n == 0 || !strings.Contains(r.Lines[n-1].Text, failure) || r.Client == noLink {
					t.Errorf("the log of %s ends with %+v", r.Client, r.Lines)
				}
				return
			}
		case <-timeout:
			t.Fatalf("the server is not told %q", failure)
		}
	}
}

// Whatever a server makes of catalog, kernel and initrd, the machine says what
// is wrong with which of them, where, and what can be done; it tells the server
// if that takes it; and it goes on when the store is good again.
func TestSessionOnBadServers(t *testing.T) {
	server := os.Getenv(inNamespace)
	if server == "" {
		outside(t)
		return
	}
	p := &spoiler{publisher: &publisher{key: firstKey, url: "http://10.77.0.1:8080", files: map[string][]byte{}, gets: map[string]int{}}, lines: make(chan *bootlog.Report, 1000), served: make(chan string, 1000)}
	serve := func() *httptest.Server {
		srv := httptest.NewUnstartedServer(p)
		srv.Listener.Close()
		srv.Listener = listenIn(t, server, "10.77.0.1:8080")
		srv.Start()
		return srv
	}
	srv := serve()
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	kernel := bytes.Repeat([]byte("no kernel "), 100_000)
	where := p.publish(t, 2, time.Now().Add(time.Hour), kernel, bytes.Repeat([]byte("no initrd "), 1000), -1)
	s, v, _ := startSession(t, fmt.Sprintf("quiet inetboot.cache=none ip=10.77.0.7::10.77.0.1:24 inetboot.url=%s inetboot.key=%x", p.url, []byte(catalogtest.Key(firstKey).Public())))
	const menu = " >  1  Tiny Linux 1"
	v.expect(t, "inetboot: menu ready", menu)

	files := []struct{ name, path string }{{"catalog", "catalog/timestamp.json"}, {"kernel", where.kernel}, {"initrd", where.initrd}}
	// What is said of the kernel and the initrd, and of the catalog where that
	// differs.
	faults := map[string][2]string{
		"hangs up":            {"the server closed the connection without an answer"},
		"breaks off":          {"the answer broke off"},
		"short, as announced": {"bytes there, want"},
		"wrong byte":          {"it has SHA-256", "timestamp"},
		"endless":             {"more than the", "more than"},
		"another file":        {"it has SHA-256"},
		"web page":            {"bytes there, want"},
		"404":                 {"404"},
		"503":                 {"503"},
	}
	for _, f := range mirrortest.Faults() {
		want, ok := faults[f.Name]
		if !ok {
			continue
		}
		for i, file := range files {
			if i != 1 && f.Name != "wrong byte" && f.Name != "endless" {
				continue // how an answer fails is the same for each of them; what is said of it is not
			}
			title, key, says := "this could not be started", "\r", want[0]
			if i == 0 {
				title, key = "the newest menu cannot be read", ctrlR
				if want[1] != "" {
					says = want[1]
				}
			}
			p.set(file.path, f.Wrap(p.publisher))
			v.press(t, key)
			v.expect(t, title, "Tried with: eth0, address 10.77.0.7/24", " >  1  Try again", "Choose another mirror")
			all := s.con.Lines()
			last := all[len(all)-1]
			if !strings.Contains(last, "ed: "+file.name+": ") || !strings.Contains(last, says) || !strings.HasSuffix(last, "(http://10.77.0.1:8080)") {
				t.Errorf("%s that %s: %q; want %q", file.name, f.Name, last, says)
			}
			p.told(t, "ed: "+file.name+": ")
			p.set("", nil)
			v.press(t, "\x1b")
			v.expect(t, menu)
		}
	}

	// A kernel that comes a few bytes at a time: how far it is, and the way back.
	p.set(where.kernel, mirrortest.Trickle(p.publisher))
	v.press(t, "\r")
	v.expect(t, "of 1.0 MB", "B/s")
	v.press(t, "\x1b")
	v.expect(t, menu)

	// One that stops in the middle, with the server, which comes back.
	half := make(chan struct{})
	p.set(where.kernel, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.set("", nil)
		w.Header().Set("Content-Length", fmt.Sprint(len(kernel)))
		w.Write(kernel[:len(kernel)/2])
		w.(http.Flusher).Flush()
		close(half)
		<-r.Context().Done()
	}))
	for len(p.served) > 0 {
		<-p.served
	}
	v.press(t, "\r")
	for rest := []string{where.initrd, where.index}; len(rest) > 0; { // once they are there
		path := <-p.served
		rest = slices.DeleteFunc(rest, func(r string) bool { return r == path })
	}
	<-half
	srv.CloseClientConnections()
	srv.Close()
	v.expect(t, "kernel 50 %, initrd 100 %")
	v.expect(t, "connection refused", ": waiting for it")
	time.Sleep(3 * time.Second) // longer than what a few attempts take
	srv = serve()
	v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again") // so it is there, and right
}
