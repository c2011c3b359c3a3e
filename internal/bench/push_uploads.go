package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/s3test"
	"github.com/inetboot/inetboot/internal/testbed"
)

// What the store is like in the measurement of uploads.
const (
	uploadDelay = 100 * time.Millisecond // that each upload takes longer
	uploadsWant = 8                      // uploads at the same time
)

// uploads pushes the tree to the server and to an S3 server, each of which
// takes 100 ms more for each block, and reports how many uploads were under
// way, of the time between the first and the last.
func (b *bench) uploads(ctx context.Context, tree string) error {
	for _, m := range []struct {
		name string
		run  func(ctx context.Context, dir, tree string) (*uploadMeter, error)
	}{{"our server", b.uploadsToServer}, {"an S3 server (versitygw)", b.uploadsToS3}} {
		b.say("uploads to %s", m.name)
		dir, err := os.MkdirTemp(b.dir, "uploads-")
		if err != nil {
			return err
		}
		meter, err := m.run(ctx, dir, tree)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return fmt.Errorf("uploads to %s: %w", m.name, err)
		}
		b.report(meter.result("push: uploads at the same time to " + m.name))
	}
	return nil
}

func (b *bench) uploadsToServer(ctx context.Context, dir, tree string) (_ *uploadMeter, err error) {
	bed, err := testbed.Start(ctx, testbed.Options{Build: b.build, Dir: dir, Log: b.log})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bed.Close()) }()
	meter, front, end, err := meterBefore(bed.URL)
	if err != nil {
		return nil, err
	}
	defer end()
	return meter, bed.Imagetool(ctx, "push", tree, "--name", "debian", "--version", "1", "--read-all", "--to", front, "--token-file", bed.Token)
}

func (b *bench) uploadsToS3(ctx context.Context, dir, tree string) (_ *uploadMeter, err error) {
	objects := filepath.Join(dir, "objects")
	if err := os.MkdirAll(filepath.Join(objects, "bucket"), 0o755); err != nil {
		return nil, err
	}
	s, err := s3test.Run(ctx, objects)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	meter, front, end, err := meterBefore(s.Endpoint)
	if err != nil {
		return nil, err
	}
	defer end()
	config := filepath.Join(dir, "imagetool.json")
	for _, args := range [][]string{
		{"init", "--no-passphrase", "--to", "s3://bucket/?endpoint=" + front, "--keys", filepath.Join(dir, "keys")},
		{"push", tree, "--name", "debian", "--version", "1", "--read-all"},
	} {
		cmd := exec.CommandContext(ctx, filepath.Join(b.build, "imagetool"), append(args, "--config", config)...)
		cmd.Env = os.Environ()
		for k, v := range s3test.Environment() {
			cmd.Env = append(cmd.Env, k+"="+v)
		}
		cmd.Stdout, cmd.Stderr = b.log, b.log
		cmd.WaitDelay = 5 * time.Second
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("imagetool %s: %w", args[0], err)
		}
	}
	return meter, nil
}

// uploadMeter counts the uploads of blocks that are under way, and for how long
// how many were. It is safe for concurrent use.
type uploadMeter struct {
	mu    sync.Mutex
	now   int
	since time.Time
	took  map[int]time.Duration // by how many were under way
	n     int                   // uploads
}

// change notes that one more (1) or one less (-1) is under way.
func (m *uploadMeter) change(by int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := time.Now()
	if !m.since.IsZero() {
		m.took[m.now] += t.Sub(m.since)
	}
	m.now, m.since = m.now+by, t
	m.n += max(by, 0)
}

// result is the mean number of uploads under way.
func (m *uploadMeter) result(name string) result {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all, enough time.Duration
	var sum float64
	most := 0
	for n, t := range m.took {
		all += t
		sum += float64(n) * t.Seconds()
		if n >= uploadsWant {
			enough += t
		}
		most = max(most, n)
	}
	return figure(name, "", sum/max(all.Seconds(), 1e-9)).wantLeast(uploadsWant).
		noted("mean of %.1f s, %d blocks, each %s longer than the store takes; %d or more in %.0f %% of the time, %d at most",
			all.Seconds(), m.n, uploadDelay, uploadsWant, 100*enough.Seconds()/max(all.Seconds(), 1e-9), most)
}

// meterBefore starts a proxy before a store that counts uploads of blocks and
// makes them longer. end stops it.
func meterBefore(store string) (m *uploadMeter, front string, end func(), err error) {
	to, err := url.Parse(store)
	if err != nil {
		return nil, "", nil, err
	}
	m = &uploadMeter{took: map[int]time.Duration{}}
	relay := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // S3 signs it
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, err
	}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/blocks/") {
			relay.ServeHTTP(w, r)
			return
		}
		m.change(1)
		defer m.change(-1)
		select {
		case <-r.Context().Done():
			return
		case <-time.After(uploadDelay):
		}
		relay.ServeHTTP(w, r)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln) // ends by Close, and says so
	}()
	return m, "http://" + ln.Addr().String(), func() {
		_ = srv.Close() // the measurement is over
		<-done
	}, nil
}
