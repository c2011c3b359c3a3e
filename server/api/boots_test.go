package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/boots"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// bootFixture is a server with one image, which builds packs at once.
func bootFixture(t *testing.T, log *slog.Logger) (*fixture, *storetest.Publisher, *storetest.Image) {
	t.Helper()
	base := t.TempDir()
	pub := storetest.New(t, base)
	img := pub.Add(t, "debian")
	k, err := boots.Open(boots.Options{Dir: filepath.Join(base, "boots"), Store: pub.Dir, Log: log, Delay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { k.Run(ctx) })
	s := httptest.NewServer(New(Options{Store: pub.Dir, Boots: k, Token: token, Log: log}))
	t.Cleanup(func() { s.Close(); cancel(); wg.Wait() })
	return &fixture{url: s.URL, dir: filepath.Join(base, "store"), tmp: filepath.Join(base, "tmp")}, pub, img
}

func bootReport(img *storetest.Image, blocks ...int) *pack.Report {
	r := &pack.Report{
		Format: pack.Format, BootID: strings.Repeat("0f", 16), Client: storetest.Client(1),
		Image: handoff.Image{Name: "debian", Version: "1", Arch: "amd64", Manifest: img.Manifest},
		Files: []string{"meta", "data"}, Stages: []handoff.Stage{{Name: "dhcp", Unix: 1000}, {Name: "root", Unix: 3500}, {Name: "quiet", Unix: 9000}},
	}
	for i, b := range blocks {
		r.Trace = append(r.Trace, pack.Access{File: 1, Block: b, MS: i})
	}
	return r
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

// From a machine's report to the pack of the next boot.
func TestBootReport(t *testing.T) {
	var log syncBuffer
	f, _, img := bootFixture(t, slog.New(slog.NewJSONHandler(&log, nil)))
	// The way a target does it.
	client, err := mirror.New([]string{f.url}, mirror.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := pack.Post(t.Context(), client.HTTP(), f.url, bootReport(img, 7, 3, 5)); err != nil {
		t.Fatalf("Post = %v", err)
	}
	var data []byte
	for end := time.Now().Add(20 * time.Second); ; {
		resp, got := f.do(t, http.MethodGet, "/"+storepath.Pack(img.Manifest), nil)
		if resp.StatusCode == http.StatusOK {
			if resp.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("Cache-Control of a pack = %q; want no-cache", resp.Header.Get("Cache-Control"))
			}
			data = got
			break
		}
		if time.Now().After(end) {
			t.Fatalf("no pack in 20 s; the server said\n%s", log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
	stream, size, err := client.Stream(t.Context(), storepath.Pack(img.Manifest), pack.MaxBytes)
	if err != nil || size != int64(len(data)) {
		t.Fatalf("Stream = %d bytes, %v; want %d", size, err, len(data))
	}
	defer stream.Close()
	r, err := pack.NewReader(stream, img.Manifest, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []int{7, 3, 5} {
		if rec, err := r.Next(); err != nil || rec.SHA256 != img.Root[1].Entry(b).SHA256 {
			t.Errorf("record %v, %v; want block %d", rec, err, b)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after three records: %v; want io.EOF", err)
	}

	for _, want := range []string{`"msg":"boot","image":"images/debian/1/amd64.json","client":"52:54:00:00:00:01"`, `"seconds":8,"stages":{"root":2.5,"quiet":5.5}`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %s:\n%s", want, log.String())
		}
	}
	path := "/api/v1/boots/" + img.Manifest.String()
	if resp, _ := f.do(t, http.MethodGet, path, nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("GET without token = %d; want 401", resp.StatusCode)
	}
	resp, body := f.do(t, http.MethodGet, path, nil, "Authorization", "Bearer "+token)
	var s boots.Summary
	if err := json.Unmarshal(body, &s); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET = %d %s, %v", resp.StatusCode, body, err)
	}
	if len(s.Reports) != 1 || s.Newest == nil || s.Newest.Seconds != 8 || s.Pack == nil || s.Pack.Bytes != int64(len(data)) {
		t.Errorf("summary: %s", body)
	}
	for _, p := range []string{"/api/v1/boots/" + digest.Of(nil).String(), "/api/v1/boots/x"} {
		if resp, _ := f.do(t, http.MethodGet, p, nil, "Authorization", "Bearer "+token); resp.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s = %d; want 404", p, resp.StatusCode)
		}
	}
	_, metrics := f.do(t, http.MethodGet, "/metrics", nil)
	for _, want := range []string{`inetboot_boot_reports_total{result="kept"} 1`, `inetboot_boot_packs_total{result="built"} 1`, `inetboot_boot_seconds_sum 8`} {
		if !bytes.Contains(metrics, []byte(want)) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestBootReportRefused(t *testing.T) {
	f, _, img := bootFixture(t, storetest.Silent())
	good, err := bootReport(img, 1).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte {
		out := bytes.Replace(good, []byte(old), []byte(new), 1)
		if bytes.Equal(out, good) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return out
	}
	for _, tt := range []struct {
		name string
		body []byte
		code int
	}{
		{"nothing", nil, 400},
		{"garbage", []byte("\x00\x01garbage"), 400},
		{"another document", []byte(`{"format":"inetboot-menu/1"}`), 400},
		{"unknown manifest", replace(img.Manifest.String(), digest.Of(nil).String()), 422},
		{"no such block", replace("[1,1,0]", fmt.Sprintf("[1,%d,0]", storetest.Blocks)), 422},
		{"block over all limits", replace("[1,1,0]", "[1,99999999999,0]"), 400},
		{"way out", replace(storetest.Client(1), "../../../../etc/x"), 400},
		{"too large", append(bytes.Clone(good), bytes.Repeat([]byte(" "), pack.MaxReport)...), 413},
		{"good", good, 202},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, body := range []io.Reader{bytes.NewReader(tt.body), struct{ io.Reader }{bytes.NewReader(tt.body)}} {
				resp, got := f.do(t, http.MethodPost, "/api/v1/boots", body)
				if resp.StatusCode != tt.code {
					t.Errorf("POST = %d %s; want %d", resp.StatusCode, got, tt.code)
				}
			}
		})
	}
}

// A flood from one address is turned away; nothing grows with it.
func TestBootReportFlood(t *testing.T) {
	f, _, img := bootFixture(t, storetest.Silent())
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for i := range 8 {
		wg.Go(func() {
			for j := range 40 {
				r := bootReport(img, i, j%storetest.Blocks)
				if i == j%storetest.Blocks {
					r = bootReport(img, i)
				}
				r.Client = storetest.Client(i*1000 + j)
				data, err := r.Marshal()
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := http.Post(f.url+"/api/v1/boots", "application/json", bytes.NewReader(data))
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				mu.Lock()
				codes[resp.StatusCode]++
				mu.Unlock()
				if resp.StatusCode == http.StatusTooManyRequests && resp.Header.Get("Retry-After") == "" {
					t.Error("429 without Retry-After")
				}
			}
		})
	}
	wg.Wait()
	if codes[202] < perAddress/2 || codes[429] < 100 || codes[202]+codes[429] != 320 {
		t.Errorf("answers %v; want some 64 times 202 and 429 for the rest", codes)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(f.dir), "boots", "*", "*.json"))
	if err != nil || len(files) > boots.MaxShare {
		t.Errorf("%d reports are kept, %v; want %d", len(files), err, boots.MaxShare)
	}
}

// Documents that are made to be costly to read cost little more than their
// bytes, however many come at once.
func TestBootReportMemory(t *testing.T) {
	f, _, _ := bootFixture(t, storetest.Silent())
	fill := func(head, piece, tail string) []byte {
		n := (pack.MaxReport - len(head) - len(tail)) / len(piece)
		return []byte(head + strings.Repeat(piece, n) + tail)
	}
	docs := [][]byte{
		fill(`{"trace":[[]`, `,[]`, `]}`), fill(`{"trace":[[0`, `,1`, `]]}`), fill(`{"files":[""`, `,""`, `]}`), fill(`{"stages":[{}`, `,{}`, `]}`),
		fill(`{"x":[0`, `,1`, `]}`), fill(`{"x":{"":0`, `,"":0`, `}}`), fill(``, `[`, ``), fill(`{"format":"`, `x`, `"}`),
	}
	debug.SetGCPercent(20)
	defer debug.SetGCPercent(100)
	stop := make(chan struct{})
	var most uint64
	var watch, wg sync.WaitGroup
	watch.Go(func() {
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	for i := range perAddress / 2 {
		wg.Go(func() {
			resp, err := http.Post(f.url+"/api/v1/boots", "application/json", bytes.NewReader(docs[i%len(docs)]))
			if err != nil {
				return // the server hangs up on those that it turns away
			}
			resp.Body.Close()
			if resp.StatusCode != 400 && resp.StatusCode != 429 && resp.StatusCode != 503 {
				t.Errorf("document %d: POST = %d; want 400, 429 or 503", i%len(docs), resp.StatusCode)
			}
		})
	}
	wg.Wait()
	close(stop)
	watch.Wait()
	if most > 128<<20 {
		t.Errorf("%d MiB of memory were in use; want less than 128", most>>20)
	}
	t.Logf("at most %d MiB of memory were in use", most>>20)
}

func TestRate(t *testing.T) {
	now := time.Unix(1000, 0)
	var r rate
	use := func(n int, address string) (taken int) {
		for range n {
			if end, ok := r.begin(address, now); ok {
				end()
				taken++
			}
		}
		return taken
	}
	if n := use(1000, "a"); n != perAddress {
		t.Errorf("%d requests of one address are served; want %d", n, perAddress)
	}
	now = now.Add(10 * time.Second)
	if n := use(1000, "a"); n != 10*refill {
		t.Errorf("after ten seconds: %d; want %d", n, 10*refill)
	}
	now = now.Add(time.Hour)
	sum := 0
	for i := range 1000 {
		sum += use(1, fmt.Sprint(i))
	}
	if sum != overall {
		t.Errorf("%d requests of 1000 addresses are served; want %d", sum, overall)
	}
	for i := range 2 * addresses {
		now = now.Add(time.Second)
		if use(1, fmt.Sprint("more", i)) != 1 {
			t.Fatalf("request %d, one a second, is refused", i)
		}
	}
	if len(r.known) > addresses {
		t.Errorf("%d addresses are remembered; want %d", len(r.known), addresses)
	}
	for i := range atOnceEach {
		if _, ok := r.begin("slow", now); !ok {
			t.Errorf("request %d at a time is refused", i)
		}
	}
	if _, ok := r.begin("slow", now); ok {
		t.Errorf("more than %d requests of one address are under way", atOnceEach)
	}
}

func TestPutPack(t *testing.T) {
	f, pub, img := bootFixture(t, storetest.Silent())
	build := func(manifest digest.SHA256, n int) []byte {
		out, err := os.Create(filepath.Join(t.TempDir(), "pack"))
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		r := bootReport(img)
		for i := range n {
			r.Trace = append(r.Trace, pack.Access{Block: i})
		}
		if _, err := pack.Build(t.Context(), out, manifest, pack.Merge(img.Root, []*pack.Report{r}, 0).Blocks, pub.Dir); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	path := storepath.Pack(img.Manifest)
	one, two := build(img.Manifest, 3), build(img.Manifest, 4)
	damaged := bytes.Clone(one)
	damaged[len(damaged)-1] ^= 1
	for _, tt := range []struct {
		name string
		data []byte
		code int
		want []byte
	}{
		{"first", one, 201, one},
		{"another", two, 204, two},
		{"damaged", damaged, 422, two},
		{"truncated", one[:len(one)-1], 422, two},
		{"for another manifest", build(digest.Of(nil), 2), 422, two},
		{"nothing", nil, 422, two},
	} {
		if code, body := f.put(t, path, tt.data); code != tt.code {
			t.Errorf("%s: PUT = %d %s; want %d", tt.name, code, body, tt.code)
		}
		if _, got := f.do(t, http.MethodGet, "/"+path, nil); !bytes.Equal(got, tt.want) {
			t.Errorf("%s: another pack is there afterwards", tt.name)
		}
	}
	if left := f.leftovers(t); left != nil {
		t.Errorf("left over: %v", left)
	}
	if resp, _ := f.do(t, http.MethodDelete, "/"+path, nil); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("DELETE without token = %d; want 401", resp.StatusCode)
	}
	for _, want := range []int{204, 404} {
		if resp, body := f.do(t, http.MethodDelete, "/"+path, nil, "Authorization", "Bearer "+token); resp.StatusCode != want {
			t.Errorf("DELETE = %d %s; want %d", resp.StatusCode, body, want)
		}
	}
	if resp, _ := f.do(t, http.MethodGet, "/"+path, nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("GET of a removed pack = %d; want 404", resp.StatusCode)
	}
}
