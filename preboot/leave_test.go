package main

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog/catalogtest"
)

// connections tells over which connections files were asked for.
type connections struct {
	h  http.Handler
	mu sync.Mutex
	of map[string]string // by path, the client's address
}

func (c *connections) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.of[r.URL.Path] = r.RemoteAddr
	c.mu.Unlock()
	c.h.ServeHTTP(w, r)
}

// What is loaded, over a connection that is there already, and what state the machine is in when it leaves for that: no
// link is up any more, so that no card writes into the other kernel's memory.
func TestSessionLeaves(t *testing.T) {
	server := os.Getenv(inNamespace)
	if server == "" {
		outside(t, func(_ *testing.T, ip func(args ...string), client, server string) {
			ip("-n", client, "link", "add", "eth1", "type", "veth", "peer", "name", "srv1", "netns", server)
			ip("-n", server, "link", "set", "srv1", "up")
		})
		return
	}
	p := &publisher{key: firstKey, url: "http://10.77.0.1:8080", files: map[string][]byte{}, gets: map[string]int{}}
	conns := &connections{h: p, of: map[string]string{}}
	srv := httptest.NewUnstartedServer(conns)
	srv.Listener.Close()
	srv.Listener = listenIn(t, server, "10.77.0.1:8080")
	srv.Start()
	t.Cleanup(srv.Close)
	kernel := []byte("a kernel")
	where := p.publish(t, 2, time.Now().Add(time.Hour), kernel, []byte("an initrd"), -1)
	up := func() (links []string) {
		all, err := net.Interfaces()
		if err != nil {
			t.Error(err)
		}
		for _, l := range all {
			if addrs, err := l.Addrs(); l.Flags&net.FlagLoopback == 0 && (l.Flags&net.FlagUp != 0 || err != nil || len(addrs) > 0) {
				links = append(links, l.Name)
			}
		}
		return links
	}
	loaded, left := make(chan string, 1), make(chan []string, 1)
	_, v, _ := startSession(t, fmt.Sprintf("quiet inetboot.cache=none ip=10.77.0.7::10.77.0.1:24::eth0:off inetboot.url=%s inetboot.key=%x", p.url, []byte(catalogtest.Key(firstKey).Public())), func(s *session) {
		s.kexec.load = func(k, initrd *os.File, cmdline string) error {
			var all []byte
			for _, f := range []*os.File{k, initrd} {
				b, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
				if err != nil {
					return err
				}
				all = append(all, b...)
			}
			if !bytes.HasPrefix(all, append(kernel, "an initrd"...)) || !bytes.Contains(all, []byte("inetboot/handoff.json")) {
				t.Errorf("%.100q is loaded; want kernel, initrd, and the handoff behind it", all)
			}
			loaded <- cmdline
			return nil
		}
		s.kexec.exec = func() error {
			left <- up()
			runtime.Goexit() // as a jump, it does not return
			return nil
		}
	})
	v.expect(t, "inetboot: menu ready", " >  1  Tiny Linux 1", "34 B") // so the manifest has been read
	if got := up(); !slices.Contains(got, "eth0") {
		t.Errorf("links in use before: %v; want eth0 among them", got)
	}
	v.press(t, "\r")
	if got, want := <-loaded, "image.option=1 entry.option=2 quiet inetboot.boot="+strings.Repeat("ab", 16); got != want {
		t.Errorf("command line %q; want %q", got, want)
	}
	conns.mu.Lock()
	kernels, initrds, manifests := conns.of["/"+where.kernel], conns.of["/"+where.initrd], conns.of["/"+where.manifest]
	conns.mu.Unlock()
	if manifests == "" || kernels != manifests && initrds != manifests {
		t.Errorf("kernel and initrd came over %s and %s; want one of them over that of the manifest, %s", kernels, initrds, manifests)
	}
	if got := <-left; len(got) > 0 {
		t.Errorf("links in use when the machine leaves: %v; want none", got)
	}
	v.expect(t, "inetboot: leaving for tiny-1")
}
