package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/listen"
	"github.com/inetboot/inetboot/server/store"
)

// slowFixture serves with little patience and small buffers, on the listener
// that the program uses.
func slowFixture(t *testing.T, patience time.Duration) (*fixture, string) {
	t.Helper()
	base := t.TempDir()
	f := &fixture{dir: filepath.Join(base, "store"), tmp: filepath.Join(base, "tmp")}
	d, err := store.Open(f.dir, f.tmp, store.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	ln, err := listen.Listen(t.Context(), "127.0.0.1:0", 100)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: New(Options{Store: d, Boots: keeper(t, d), Token: token, Log: slog.New(slog.DiscardHandler), Patience: patience}),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if err := c.(interface{ SetWriteBuffer(int) error }).SetWriteBuffer(64 << 10); err != nil {
				t.Error(err)
			}
			return ctx
		},
	}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close(); d.Close() })
	f.url = "http://" + ln.Addr().String()
	return f, ln.Addr().String()
}

// dial connects and sends a request.
func dial(t *testing.T, addr, request string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c
}

// Bodies that are announced and never come keep no connection, whether the
// request is one that is refused, or an upload.
func TestStalledBody(t *testing.T) {
	f, addr := slowFixture(t, 500*time.Millisecond)
	path := storepath.File(digest.Of(nil))
	for _, tt := range []struct{ name, method, header, want string }{
		{"without token", "PUT", "", "HTTP/1.1 401"},
		{"upload", "PUT", "Authorization: Bearer " + token + "\r\n", "HTTP/1.1 400"},
		{"download", "GET", "", "HTTP/1.1 404"},
	} {
		c := dial(t, addr, tt.method+" /"+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"+tt.header+"\r\nabc")
		got, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(got), tt.want) {
			t.Errorf("%s: answer %.60q, %v; want %s and the end", tt.name, got, err, tt.want)
		}
	}
	// A byte now and then is not progress.
	c := dial(t, addr, "PUT /"+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(50 * time.Millisecond):
				if _, err := c.Write([]byte{1}); err != nil {
					return
				}
			}
		}
	})
	if got, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a dripping upload keeps the connection: %q, %v", got, err)
	}
	close(stop)
	wg.Wait()
	if left := f.leftovers(t); left != nil {
		t.Errorf("left over: %v", left)
	}
}

// A client that is slow gets everything; one that has stopped is cut off.
func TestSlowAndDeadDownloads(t *testing.T) {
	patience := 3 * time.Second
	f, addr := slowFixture(t, patience)
	data := noise(3_000_000, 5)
	path := storepath.File(digest.Of(data))
	if code, body := f.put(t, path, data); code != 201 {
		t.Fatal(code, body)
	}
	request := "GET /" + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

	var wg sync.WaitGroup
	wg.Go(func() {
		start := time.Now()
		c := dial(t, addr, request)
		var got bytes.Buffer
		for {
			n, err := io.CopyN(&got, c, 64<<10)
			if err != nil && err != io.EOF {
				t.Errorf("slow download broke off after %d bytes: %v", got.Len(), err)
			}
			if n < 64<<10 {
				break
			}
			time.Sleep(patience / 15)
		}
		if !bytes.HasSuffix(got.Bytes(), data) {
			t.Errorf("slow download: %d bytes, want the header and %d", got.Len(), len(data))
		}
		if took := time.Since(start); took < 2*patience {
			t.Errorf("the slow download took only %v: it proves nothing", took)
		}
	})
	dead := dial(t, addr, request)
	wg.Wait()
	time.Sleep(2 * patience)
	if got, _ := io.ReadAll(dead); len(got) >= len(data) {
		t.Error("a client that took nothing for twice the patience still got everything")
	}
}

// Uploads do not gather in memory, however they come.
func TestUploadMemory(t *testing.T) {
	f := newFixture(t)
	small := fixtureIn(t, t.TempDir(), store.Limits{File: 1 << 20, Index: 1000, Target: 1000})
	const size = 96 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, tt := range []struct {
		f    *fixture
		path string
		code int
	}{
		{f, storepath.File(digest.Of(nil)), 422}, // all of it is read, and found to be something else
		{small, storepath.File(digest.Of(nil)), 413},
		{f, storepath.Block(digest.Of(nil)), 413},
	} {
		req, err := http.NewRequest(http.MethodPut, tt.f.url+"/"+tt.path, io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			// The server may hang up before the client has noticed the answer.
			if tt.code == 422 {
				t.Errorf("PUT %s: %v", tt.path, err)
			}
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != tt.code {
			t.Errorf("PUT %s = %d; want %d", tt.path, resp.StatusCode, tt.code)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 32<<20 {
		t.Errorf("three uploads of %d MiB took %d MiB of memory in all; want less than 32", size>>20, got>>20)
	}
	if left := append(f.leftovers(t), small.leftovers(t)...); left != nil {
		t.Errorf("left over: %v", left)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestPanic(t *testing.T) {
	var log bytes.Buffer
	a := &api{log: slog.New(slog.NewTextHandler(&log, nil)), patience: time.Minute, metrics: newMetrics()}
	s := httptest.NewServer(a.observe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/late" {
			w.Header().Set("Content-Length", "10")
			fmt.Fprint(w, "half")
		}
		panic("broken")
	})))
	resp, err := http.Get(s.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); resp.StatusCode != 500 || err != nil || !bytes.Contains(body, []byte("log says why")) {
		t.Errorf("GET = %d %q, %v; want 500", resp.StatusCode, body, err)
	}
	if resp, err := http.Get(s.URL + "/late"); err == nil {
		body, err := io.ReadAll(resp.Body)
		if err == nil {
			t.Errorf("half an answer %q passed for a whole one", body)
		}
		resp.Body.Close()
	}
	s.Close()
	if !strings.Contains(log.String(), "panic=broken") || !strings.Contains(log.String(), "slow_test.go") {
		t.Errorf("log lacks the reason and the place:\n%s", log.String())
	}
}

// A boot's thousands of blocks are logged for debugging only; trouble with
// one is not hidden.
func TestLogLevels(t *testing.T) {
	base := t.TempDir()
	d, err := store.Open(filepath.Join(base, "store"), filepath.Join(base, "tmp"), store.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var log bytes.Buffer
	s := httptest.NewServer(New(Options{Store: d, Boots: keeper(t, d), Token: token, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}))
	f := &fixture{url: s.URL}
	plain := noise(1000, 6)
	block, file := storepath.Block(digest.Of(plain)), storepath.File(digest.Of(plain))
	f.put(t, block, encode(t, plain))
	f.put(t, file, plain)
	f.do(t, http.MethodGet, "/"+block, nil)
	f.do(t, http.MethodGet, "/"+file, nil)
	f.do(t, http.MethodGet, "/"+storepath.Block(digest.Of(nil)), nil)
	s.Close()
	for _, want := range []string{
		"level=DEBUG msg=request id=1 ", "level=INFO msg=request id=2 ",
		"level=DEBUG msg=request id=3 ", "level=INFO msg=request id=4 ", "level=INFO msg=request id=5 ",
		"method=GET path=/" + file + " status=200 bytes=1000 ",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), token) {
		t.Error("the token is in the log")
	}
}

// A report has its time, even if it moves: nobody holds memory with many
// slow ones.
func TestSlowReport(t *testing.T) {
	_, addr := slowFixture(t, 500*time.Millisecond)
	for _, size := range []int{0, 1, 8 << 10} {
		c := dial(t, addr, "POST /api/v1/boots HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000000\r\n\r\n")
		stop := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			piece := bytes.Repeat([]byte(" "), size)
			for {
				select {
				case <-stop:
					return
				case <-time.After(50 * time.Millisecond):
					if _, err := c.Write(piece); err != nil {
						return
					}
				}
			}
		})
		start := time.Now()
		head := make([]byte, 12)
		if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 400" || time.Since(start) > 5*time.Second {
			t.Errorf("%d bytes now and then: answer %q, %v after %v; want 400 soon", size, head, err, time.Since(start))
		}
		close(stop)
		wg.Wait()
	}
}
