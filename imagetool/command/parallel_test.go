package command_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/s3test"
)

// lane is a proxy whose uploads of blocks take their time, each on its own, and
// that counts how many are under way.
type lane struct {
	delay time.Duration

	mu       sync.Mutex
	now, top int
	blocks   int
	busy     time.Duration // with eight or more at once
	since    time.Time
}

func (l *lane) step(by int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now >= 8 {
		l.busy += time.Since(l.since)
	}
	l.now += by
	l.since = time.Now()
	l.top = max(l.top, l.now)
	if by > 0 {
		l.blocks++
	}
}

// serve returns the URL of the lane to a server.
func (l *lane) serve(t *testing.T, target string) string {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, r.In.Host // S3 signs the host
	}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blocks/") {
			l.step(1)
			defer l.step(-1)
			select {
			case <-time.After(l.delay):
			case <-r.Context().Done():
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// Uploads of blocks go over at least eight connections at once, so that a line
// whose answers are far away is filled.
func TestParallelUploads(t *testing.T) {
	src := testtree.New(t, 1)
	const blocks = 120
	for i := range blocks {
		data := make([]byte, 200_000)
		rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		testtree.Write(t, src, fmt.Sprintf("srv/file%03d", i), data)
	}
	program := testtree.Program(t)
	url, tokenFile, _ := testtree.Server(t)
	bucket := s3test.Start(t)
	for _, st := range []struct {
		name string
		to   func(l *lane) []string
	}{
		{"server", func(l *lane) []string { return []string{"--to", l.serve(t, url), "--token-file", tokenFile} }},
		{"bucket", func(l *lane) []string {
			location := bucket.Bucket(t, "images", "")
			return []string{"--to", strings.Replace(location, bucket.Endpoint, l.serve(t, bucket.Endpoint), 1)}
		}},
	} {
		t.Run(st.name, func(t *testing.T) {
			l := &lane{delay: 200 * time.Millisecond}
			to := st.to(l)
			c := newTool(t)
			c.run(command.ExitOK, append([]string{"init", "--no-passphrase", "--keys", filepath.Join(t.TempDir(), "keys")}, to...)...)
			start := time.Now()
			c.run(command.ExitOK, append([]string{"push", src, "--name", "test", "--version", "1", "--blockfs", program}, to...)...)
			took := time.Since(start)
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Logf("%d blocks in %v, at most %d at once, %v with eight or more", l.blocks, took, l.top, l.busy)
			if l.top < 8 {
				t.Errorf("at most %d uploads at once; want 8", l.top)
			}
			// One after the other they would take this long:
			if one := time.Duration(l.blocks) * l.delay; l.busy < one/32 {
				t.Errorf("eight or more uploads at once for %v of %v; want most of the %v that sixteen at once need", l.busy, took, one/16)
			}
		})
	}
}
