package mirror

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/digest"
)

func random(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// serve starts a server and returns its base URL and the number of requests.
func serve(t *testing.T, h http.HandlerFunc) (string, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL, &n
}

func good(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// breaking sends at most n bytes from where it was asked, then drops the line.
func breaking(data []byte, n int, ranges bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		from := 0
		if rng := r.Header.Get("Range"); ranges && rng != "" {
			if _, err := fmt.Sscanf(rng, "bytes=%d-", &from); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		}
		rest := data[from:]
		if len(rest) > n {
			w.Write(rest[:n])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Write(rest)
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
}

// stalling sends the head and half of data, then nothing.
func stalling(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func newClient(t *testing.T, o Options, urls ...string) *Client {
	t.Helper()
	c, err := New(urls, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestReadFailover(t *testing.T) {
	data := random(t, 300_000)
	other := random(t, 300_000)
	closed := httptest.NewServer(nil)
	closed.Close()
	sum := digest.Of(data)
	tests := []struct {
		name  string
		first func(t *testing.T) string
		want  error // of the first mirror alone
	}{
		{"refused connection", func(*testing.T) string { return closed.URL }, ErrUnavailable},
		{"404", func(t *testing.T) string { u, _ := serve(t, status(404)); return u }, ErrNotFound},
		{"403", func(t *testing.T) string { u, _ := serve(t, status(403)); return u }, ErrRefused},
		{"503", func(t *testing.T) string { u, _ := serve(t, status(503)); return u }, ErrUnavailable},
		{"wrong bytes", func(t *testing.T) string { u, _ := serve(t, good(other)); return u }, digest.ErrMismatch},
		{"truncated", func(t *testing.T) string { u, _ := serve(t, breaking(data, 1000, false)); return u }, ErrUnavailable},
		{"stalled", func(t *testing.T) string { u, _ := serve(t, stalling(data)); return u }, ErrUnavailable},
		{"oversized", func(t *testing.T) string { u, _ := serve(t, good(append(data, 0))); return u }, ErrTooLarge},
		{"oversized, length unknown", func(t *testing.T) string {
			u, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Write(data)
				w.(http.Flusher).Flush()
				w.Write([]byte{0})
			})
			return u
		}, ErrTooLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bad := tt.first(t)
			ok, _ := serve(t, good(data))
			accept := func(b []byte) error { return sum.Check("it", b) }
			o := Options{Idle: 200 * time.Millisecond, Attempts: 2}

			c := newClient(t, o, bad, ok)
			got, err := c.Read(t.Context(), "x", nil, int64(len(data)), accept)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("Read with a good second mirror = %d bytes, %v; want the data", len(got), err)
			}
			if diff := cmp.Diff([]string{ok, bad}, c.URLs()); diff != "" {
				t.Errorf("URLs() after failover (-want +got):\n%s", diff)
			}

			_, err = newClient(t, o, bad).Read(t.Context(), "x", nil, int64(len(data)), accept)
			if !errors.Is(err, tt.want) {
				t.Errorf("Read from the bad mirror = %v; want %v", err, tt.want)
			}
			var e *Error
			if !errors.As(err, &e) || len(e.Failures) != 1 || e.Failures[0].URL != bad {
				t.Errorf("Read from the bad mirror = %#v; want an *Error that names %s", err, bad)
			}
		})
	}
}

func TestReadUsesBuffer(t *testing.T) {
	data := random(t, 1000)
	u, _ := serve(t, good(data))
	buf := make([]byte, 0, 2000)
	got, err := newClient(t, Options{}, u).Read(t.Context(), "x", buf, 2000, nil)
	if err != nil || !bytes.Equal(got, data) || &got[0] != &buf[:1][0] {
		t.Errorf("Read = %d bytes, %v; want the data in the buffer given", len(got), err)
	}
}

func TestReadUnlimitedWaitsForTheServer(t *testing.T) {
	data := random(t, 10)
	var up atomic.Bool
	var asked atomic.Int32
	u, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 4 {
			up.Store(true)
		}
		if !up.Load() {
			status(404)(w, r)
			return
		}
		good(data)(w, r)
	})
	got, err := newClient(t, Options{Attempts: -1}, u).Read(t.Context(), "x", nil, 10, nil)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("Read = %v, %v; want the data once the server has it", got, err)
	}
}

func TestReadEndsWithContext(t *testing.T) {
	u, _ := serve(t, stalling(random(t, 100)))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := newClient(t, Options{Attempts: -1}, u).Read(ctx, "x", nil, 100, nil)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Read = %v; want %v", err, context.DeadlineExceeded)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	data := random(t, 100)
	var now, most atomic.Int32
	u, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		for {
			m := most.Load()
			if n <= m || most.CompareAndSwap(m, n) {
				break
			}
		}
		good(data)(w, r)
		now.Add(-1)
	})
	c := newClient(t, Options{Connections: 3}, u)
	errs := make(chan error)
	for range 50 {
		go func() { _, err := c.Read(t.Context(), "x", nil, 100, nil); errs <- err }()
	}
	for range 50 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if most.Load() > 3 {
		t.Errorf("%d requests at once; want at most 3", most.Load())
	}
}

func TestDownload(t *testing.T) {
	data := random(t, 1_000_000)
	flipped := bytes.Clone(data)
	flipped[777_777] ^= 1
	early := bytes.Clone(data)
	early[10] ^= 1
	want := digest.BlobOf(data)
	tests := []struct {
		name    string
		mirrors []http.HandlerFunc
		err     error
	}{
		{"good", []http.HandlerFunc{good(data)}, nil},
		{"breaks off, ranges", []http.HandlerFunc{breaking(data, 150_000, true)}, nil},
		{"breaks off, no ranges, second goes on", []http.HandlerFunc{breaking(data, 400_000, false), good(data)}, nil},
		{"stalls, second goes on", []http.HandlerFunc{stalling(data), good(data)}, nil},
		{"one byte changed", []http.HandlerFunc{good(flipped)}, digest.ErrMismatch},
		{"one byte changed, second is good", []http.HandlerFunc{good(flipped), good(data)}, nil},
		{"wrong beginning from a mirror that breaks off", []http.HandlerFunc{breaking(early, 400_000, false), good(data)}, nil},
		{"short file", []http.HandlerFunc{good(data[:999_999])}, digest.ErrMismatch},
		{"long file", []http.HandlerFunc{good(append(bytes.Clone(data), 0))}, digest.ErrMismatch},
		{"long file, length unknown", []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) {
			w.Write(data)
			w.(http.Flusher).Flush()
			w.Write([]byte{0})
		}}, digest.ErrMismatch},
		{"missing everywhere", []http.HandlerFunc{status(404), status(404)}, ErrNotFound},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var urls []string
			for _, h := range tt.mirrors {
				u, _ := serve(t, h)
				urls = append(urls, u)
			}
			f, err := os.Create(filepath.Join(t.TempDir(), "f"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			var last int64
			err = newClient(t, Options{Idle: 200 * time.Millisecond}, urls...).Download(t.Context(), "x", want, f, func(n int64) { last = n })
			if !errors.Is(err, tt.err) {
				t.Fatalf("Download = %v; want %v", err, tt.err)
			}
			if err != nil {
				return
			}
			if last != want.Size {
				t.Errorf("progress ended at %d; want %d", last, want.Size)
			}
			if got, err := os.ReadFile(f.Name()); err != nil || digest.Of(got) != want.SHA256 {
				t.Errorf("file has %d bytes, %v; want the data", len(got), err)
			}
		})
	}
}

type fullDisk struct{}

var errFull = errors.New("disk full")

func (fullDisk) WriteAt([]byte, int64) (int, error) { return 0, errFull }

func TestDownloadLocalErrorEndsAtOnce(t *testing.T) {
	data := random(t, 1000)
	u, n := serve(t, good(data))
	err := newClient(t, Options{Attempts: -1}, u).Download(t.Context(), "x", digest.BlobOf(data), fullDisk{}, nil)
	if !errors.Is(err, errFull) || n.Load() != 1 {
		t.Errorf("Download = %v after %d requests; want %v after 1", err, n.Load(), errFull)
	}
}

func TestProxy(t *testing.T) {
	data := random(t, 1000)
	var asked atomic.Value
	proxy, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(r.URL.String())
		good(data)(w, r)
	})
	c := newClient(t, Options{Proxy: proxy}, "http://store.invalid/base")
	got, err := c.Read(t.Context(), "x", nil, 1000, nil)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("Read through a proxy = %d bytes, %v", len(got), err)
	}
	if got, want := asked.Load(), "http://store.invalid/base/x"; got != want {
		t.Errorf("proxy was asked for %v; want %s", got, want)
	}
}

func TestCA(t *testing.T) {
	data := random(t, 100)
	s := httptest.NewTLSServer(good(data))
	t.Cleanup(s.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	if _, err := newClient(t, Options{CA: ca}, s.URL).Read(t.Context(), "x", nil, 100, nil); err != nil {
		t.Errorf("Read with the site's CA: %v", err)
	}
	if _, err := newClient(t, Options{Attempts: 1}, s.URL).Read(t.Context(), "x", nil, 100, nil); err == nil {
		t.Error("Read from a server with an unknown certificate succeeded")
	}
	if _, err := New([]string{s.URL}, Options{CA: "nothing"}); err == nil {
		t.Error("New took a CA without a certificate")
	}
}

func TestNewRefuses(t *testing.T) {
	for _, urls := range [][]string{nil, {"ftp://x"}, {"http://"}, {"http://h/?q"}, {"http://h/ x"}} {
		if _, err := New(urls, Options{}); err == nil {
			t.Errorf("New(%q) succeeded", urls)
		}
	}
}

func TestErrorNamesEveryMirror(t *testing.T) {
	a, _ := serve(t, status(404))
	b, _ := serve(t, status(503))
	_, err := newClient(t, Options{Attempts: 1}, a, b).Read(t.Context(), "blocks/x", nil, 1, nil)
	for _, want := range []string{"blocks/x", a, b, "404", "503"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("error %q lacks %q", err, want)
		}
	}
}
