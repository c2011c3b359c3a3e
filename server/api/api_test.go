package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/boots"
	"github.com/inetboot/inetboot/server/store"
)

const token = "0123456789abcdef0123456789abcdef"

type fixture struct {
	url string
	dir string // of the store
	tmp string
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	base := t.TempDir()
	return fixtureIn(t, base, store.DefaultLimits())
}

func fixtureIn(t *testing.T, base string, limits store.Limits) *fixture {
	t.Helper()
	f := &fixture{dir: filepath.Join(base, "store"), tmp: filepath.Join(base, "tmp")}
	d, err := store.Open(f.dir, f.tmp, limits)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(New(Options{Store: d, Boots: keeper(t, d), Token: token, Log: slog.New(slog.DiscardHandler)}))
	t.Cleanup(func() { s.Close(); d.Close() })
	f.url = s.URL
	return f
}

// keeper returns one that is idle.
func keeper(t *testing.T, d *store.Dir) *boots.Keeper {
	t.Helper()
	k, err := boots.Open(boots.Options{Dir: filepath.Join(t.TempDir(), "boots"), Store: d, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// do sends a request; headers are pairs.
func (f *fixture) do(t *testing.T, method, path string, body io.Reader, headers ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, f.url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = path // just as it stands
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, data
}

func (f *fixture) put(t *testing.T, path string, data []byte, headers ...string) (int, string) {
	t.Helper()
	resp, body := f.do(t, http.MethodPut, "/"+path, bytes.NewReader(data), append([]string{"Authorization", "Bearer " + token}, headers...)...)
	return resp.StatusCode, string(body)
}

// leftovers returns the unfinished files.
func (f *fixture) leftovers(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir(f.tmp)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != "unsynced" { // the store's note about new blocks
			names = append(names, e.Name())
		}
	}
	return names
}

func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{seed})
	r.Read(b)
	return b
}

func encode(t *testing.T, plain []byte) []byte {
	t.Helper()
	e, err := block.NewEncoder(3, 1)
	if err != nil {
		t.Fatal(err)
	}
	return e.Encode(nil, plain)
}

func TestPutAndGet(t *testing.T) {
	f := newFixture(t)
	plain := noise(100_000, 1)
	stored := encode(t, plain)
	var b index.Builder
	b.Add(len(plain), len(stored), digest.Of(plain))
	idx, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	file := noise(3_000_000, 2)
	for _, tt := range []struct {
		name, path string
		data       []byte
		etag       digest.SHA256
	}{
		{"block", storepath.Block(digest.Of(plain)), stored, digest.Of(plain)},
		{"index", storepath.Index(digest.Of(idx)), idx, digest.Of(idx)},
		{"file", storepath.File(digest.Of(file)), file, digest.Of(file)},
		{"target", storepath.Target("a/b.json", digest.Of(file[:9])), file[:9], digest.Of(file[:9])},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, body := f.put(t, tt.path, tt.data); code != http.StatusCreated {
				t.Fatalf("PUT = %d %s; want 201", code, body)
			}
			if code, body := f.put(t, tt.path, []byte("something else")); code != http.StatusNoContent {
				t.Errorf("PUT of what is there = %d %s; want 204", code, body)
			}
			resp, got := f.do(t, http.MethodGet, "/"+tt.path, nil)
			if resp.StatusCode != 200 || !bytes.Equal(got, tt.data) {
				t.Errorf("GET = %d with %d bytes; want 200 with %d", resp.StatusCode, len(got), len(tt.data))
			}
			tag := `"` + tt.etag.String() + `"`
			for h, want := range map[string]string{
				"ETag": tag, "Cache-Control": "public, max-age=31536000, immutable",
				"Content-Length": fmt.Sprint(len(tt.data)), "Accept-Ranges": "bytes",
			} {
				if got := resp.Header.Get(h); got != want {
					t.Errorf("%s = %q; want %q", h, got, want)
				}
			}
			resp, got = f.do(t, http.MethodHead, "/"+tt.path, nil)
			if resp.StatusCode != 200 || len(got) != 0 || resp.ContentLength != int64(len(tt.data)) {
				t.Errorf("HEAD = %d, %d bytes, length %d", resp.StatusCode, len(got), resp.ContentLength)
			}
			resp, got = f.do(t, http.MethodGet, "/"+tt.path, nil, "Range", "bytes=3-6")
			if resp.StatusCode != 206 || !bytes.Equal(got, tt.data[3:7]) {
				t.Errorf("GET with Range = %d %q; want 206 %q", resp.StatusCode, got, tt.data[3:7])
			}
			resp, got = f.do(t, http.MethodGet, "/"+tt.path, nil, "Range", "bytes=3-", "If-Range", tag)
			if resp.StatusCode != 206 || !bytes.Equal(got, tt.data[3:]) {
				t.Errorf("GET with If-Range = %d, %d bytes; want 206", resp.StatusCode, len(got))
			}
			resp, got = f.do(t, http.MethodGet, "/"+tt.path, nil, "Range", "bytes=3-", "If-Range", `"other"`)
			if resp.StatusCode != 200 || len(got) != len(tt.data) {
				t.Errorf("GET with another If-Range = %d, %d bytes; want all", resp.StatusCode, len(got))
			}
			if resp, _ := f.do(t, http.MethodGet, "/"+tt.path, nil, "If-None-Match", tag); resp.StatusCode != 304 {
				t.Errorf("GET with If-None-Match = %d; want 304", resp.StatusCode)
			}
			if resp, _ := f.do(t, http.MethodGet, "/"+tt.path, nil, "Range", "bytes=99999999-"); resp.StatusCode != 416 {
				t.Errorf("GET behind the end = %d; want 416", resp.StatusCode)
			}
		})
	}
	if left := f.leftovers(t); left != nil {
		t.Errorf("left over: %v", left)
	}
}

func TestPutRefuses(t *testing.T) {
	f := newFixture(t)
	small := fixtureIn(t, t.TempDir(), store.Limits{File: 1000, Index: 1000, Target: 1000})
	plain := noise(100_000, 1)
	stored := encode(t, plain)
	big := encode(t, bytes.Repeat([]byte{7}, 1<<20))
	sum := digest.Of(plain)
	var x index.Builder
	x.Add(10, 10, sum)
	idx, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	idx[8] = 9 // version
	auth := "Bearer " + token
	for _, tt := range []struct {
		name string
		f    *fixture
		path string
		body []byte
		auth string
		code int
	}{
		{"no token", f, storepath.Block(sum), stored, "", 401},
		{"wrong token", f, storepath.Block(sum), stored, "Bearer x" + token[1:], 403},
		{"longer token", f, storepath.Block(sum), stored, auth + "0", 403},
		{"wrong hash of a block", f, storepath.Block(digest.Of(nil)), stored, auth, 422},
		{"block that is no frame", f, storepath.Block(sum), plain, auth, 422},
		{"truncated block", f, storepath.Block(sum), stored[:len(stored)-1], auth, 422},
		{"block with more behind it", f, storepath.Block(sum), append(bytes.Clone(stored), 0), auth, 422},
		{"oversized block", f, storepath.Block(sum), make([]byte, 2<<20), auth, 413},
		{"wrong hash of a file", f, storepath.File(sum), plain[1:], auth, 422},
		{"wrong hash of an index", f, storepath.Index(sum), idx, auth, 422},
		{"index of another version", f, storepath.Index(digest.Of(idx)), idx, auth, 422},
		{"oversized file", small, storepath.File(sum), plain, auth, 413},
		{"pack that is none", f, storepath.Pack(sum), plain, auth, 422},
		{"pack without token", f, storepath.Pack(sum), plain, "", 401},
		{"no place", f, "etc/passwd", plain, auth, 404},
		{"trust without condition", f, storepath.Timestamp, plain, auth, 428},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, chunked := range []bool{false, true} {
				var body io.Reader = bytes.NewReader(tt.body)
				if chunked {
					body = struct{ io.Reader }{body} // no Content-Length
				}
				var h []string
				if tt.auth != "" {
					h = []string{"Authorization", tt.auth}
				}
				resp, got := tt.f.do(t, http.MethodPut, "/"+tt.path, body, h...)
				if resp.StatusCode != tt.code || !json.Valid(got) {
					t.Errorf("PUT (chunked %v) = %d %s; want %d and why", chunked, resp.StatusCode, got, tt.code)
				}
				if resp, _ := tt.f.do(t, http.MethodGet, "/"+tt.path, nil); resp.StatusCode != 404 || resp.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("GET afterwards = %d, Cache-Control %q; want 404 that is not cached", resp.StatusCode, resp.Header.Get("Cache-Control"))
				}
			}
		})
	}
	if code, _ := f.put(t, storepath.Block(digest.Of(bytes.Repeat([]byte{7}, 1<<20))), big); code != 201 {
		t.Errorf("PUT of the largest block = %d; want 201", code)
	}
	if left := append(f.leftovers(t), small.leftovers(t)...); left != nil {
		t.Errorf("left over: %v", left)
	}
}

func TestNothingOutsideTheStore(t *testing.T) {
	f := newFixture(t)
	secret := filepath.Join(filepath.Dir(f.dir), "token")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	sum := digest.Of([]byte("link"))
	if err := os.MkdirAll(filepath.Join(f.dir, "files"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(secret, filepath.Join(f.dir, "files", sum.String())); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{
		"/../token", "/files/../../token", "/files/%2e%2e/%2e%2e/token", "/..%2ftoken", "//token", "/files//" + sum.String(),
		`/files\..\..\token`, "/files/%00", "/" + storepath.File(sum), "/files", "/files/", "/catalog/", "/catalog/targets/../timestamp.json",
		"/blocks/ab/" + sum.String(), "/FILES/" + sum.String(), "/files/" + strings.ToUpper(sum.String()),
	} {
		resp, body := f.do(t, http.MethodGet, p, nil)
		if resp.StatusCode < 400 || bytes.Contains(body, []byte("secret")) {
			t.Errorf("GET %s = %d %q; want a refusal", p, resp.StatusCode, body)
		}
	}
	for _, m := range []string{"DELETE", "PATCH", "POST"} {
		if resp, _ := f.do(t, m, "/"+storepath.File(sum), nil); resp.StatusCode != 405 || resp.Header.Get("Allow") == "" {
			t.Errorf("%s = %d, Allow %q; want 405", m, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
}

func TestMissing(t *testing.T) {
	f := newFixture(t)
	data := []byte("kernel")
	have, lack := storepath.File(digest.Of(data)), storepath.File(digest.Of(nil))
	if code, body := f.put(t, have, data); code != 201 {
		t.Fatal(code, body)
	}
	ask := func(body string) (int, []byte) {
		resp, got := f.do(t, http.MethodPost, "/api/v1/missing", strings.NewReader(body), "Authorization", "Bearer "+token)
		return resp.StatusCode, got
	}
	code, got := ask(fmt.Sprintf(`{"paths":[%q,%q]}`, have, lack))
	var answer struct{ Missing []string }
	if err := json.Unmarshal(got, &answer); err != nil || code != 200 {
		t.Fatalf("missing = %d %s, %v", code, got, err)
	}
	if diff := cmp.Diff([]string{lack}, answer.Missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	many := `{"paths":["` + strings.Repeat(have+`","`, maxPaths) + have + `"]}`
	for _, bad := range []string{"", "{", `{"paths":["../x"]}`, many} {
		if code, got := ask(bad); code != 400 {
			t.Errorf("missing with %.40q = %d %s; want 400", bad, code, got)
		}
	}
	if resp, _ := f.do(t, http.MethodPost, "/api/v1/missing", strings.NewReader(`{"paths":[]}`)); resp.StatusCode != 401 {
		t.Errorf("missing without token = %d; want 401", resp.StatusCode)
	}
}

func tag(b []byte) string { return etag(digest.Of(b)) }

// offline is a publisher who signs snapshot and timestamp, too.
type offline struct {
	*catalogtest.Repo
	f *fixture
}

// newOffline publishes the first catalog, with an empty menu.
func newOffline(t *testing.T, f *fixture) *offline {
	t.Helper()
	p := &offline{catalogtest.New(t, catalogtest.Options{}), f}
	for _, path := range []string{"root", "targets", "snapshot"} {
		p.create(t, storepath.RoleMetadata(path, 1), 201)
	}
	if code, body := f.put(t, storepath.Timestamp, p.Files[storepath.Timestamp], "If-None-Match", "*"); code != 204 {
		t.Fatal(code, body)
	}
	return p
}

// create uploads versioned metadata.
func (p *offline) create(t *testing.T, path string, want int) string {
	t.Helper()
	code, body := p.f.put(t, path, p.Files[path], "If-None-Match", "*")
	if code != want && (want != 201 || code != 204) {
		t.Fatalf("PUT %s = %d %s; want %d", path, code, body, want)
	}
	return body
}

func TestPublishOffline(t *testing.T) {
	f := newFixture(t)
	early := catalogtest.New(t, catalogtest.Options{})
	for _, path := range []string{storepath.RoleMetadata("targets", 1), storepath.RoleMetadata("snapshot", 1), storepath.Timestamp} {
		if code, body := f.put(t, path, early.Files[path], "If-None-Match", "*"); code < 400 {
			t.Errorf("%s before the root = %d %s; want a refusal", path, code, body)
		}
	}
	p := newOffline(t, f)
	first := p.Files[storepath.Timestamp]
	if code, body := f.put(t, storepath.RoleMetadata("root", 1), catalogtest.New(t, catalogtest.Options{Key: 9}).Root(), "If-None-Match", "*"); code != 412 {
		t.Errorf("another first root = %d %s; want 412", code, body)
	}
	menu, err := catalog.NewMenu("x").Marshal()
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string][]byte{catalog.MenuName: menu}
	p.Publish(t, targets)
	second := p.Files[storepath.Timestamp]
	if body := p.create(t, storepath.RoleMetadata("targets", 2), 422); !strings.Contains(body, catalog.MenuName) {
		t.Errorf("a list without its menu: %s does not name it", body)
	}
	if code, body := f.put(t, storepath.Target(catalog.MenuName, digest.Of(menu)), menu); code != 201 {
		t.Fatal(code, body)
	}
	if code, body := f.put(t, storepath.Timestamp, second, "If-Match", tag(first)); code != 422 {
		t.Errorf("a timestamp before its snapshot = %d %s; want 422", code, body)
	}
	p.create(t, storepath.RoleMetadata("targets", 2), 201)
	p.create(t, storepath.RoleMetadata("targets", 2), 201) // an answer may get lost
	p.create(t, storepath.RoleMetadata("snapshot", 2), 201)

	foreign := catalogtest.New(t, catalogtest.Options{Key: 9})
	expired := catalogtest.New(t, catalogtest.Options{Now: time.Now().Add(-2 * time.Hour)})
	expired.Publish(t, nil)
	for _, tt := range []struct {
		name  string
		data  []byte
		match string
		code  int
	}{
		{"other tag", second, tag(second), 412},
		{"not a tag", second, "x", 412},
		{"expired", expired.Files[storepath.Timestamp], tag(first), 422},
		{"foreign", foreign.Files[storepath.Timestamp], tag(first), 422},
		{"changed", bytes.Replace(second, []byte(`"version":2`), []byte(`"version":3`), 1), tag(first), 422},
		{"nonsense", []byte("{}"), tag(first), 422},
		{"the same once more", first, tag(first), 412},
		{"good", second, tag(first), 204},
		{"again", second, tag(first), 412},
		{"rollback", first, tag(second), 412},
	} {
		if code, body := f.put(t, storepath.Timestamp, tt.data, "If-Match", tt.match); code != tt.code {
			t.Errorf("%s: PUT = %d %s; want %d", tt.name, code, body, tt.code)
		}
	}
	for _, path := range []string{storepath.RoleMetadata("targets", 1), storepath.RoleMetadata("targets", 3), storepath.RoleMetadata("other", 1)} {
		data := p.Files[storepath.RoleMetadata("targets", 1)]
		if code, body := f.put(t, path, data, "If-None-Match", "*"); code == 201 || code == 204 && path != storepath.RoleMetadata("targets", 1) {
			t.Errorf("PUT of an old list as %s = %d %s; want a refusal", path, code, body)
		}
	}
	resp, got := f.do(t, http.MethodGet, "/"+storepath.Timestamp, nil)
	if !bytes.Equal(got, second) || resp.Header.Get("Cache-Control") != "no-cache" || resp.Header.Get("ETag") != tag(second) {
		t.Errorf("GET = %d bytes, %v; want the second timestamp, not to be cached", len(got), resp.Header)
	}
	if resp, _ := f.do(t, http.MethodGet, "/"+storepath.RoleMetadata("targets", 2), nil); resp.Header.Get("Cache-Control") != immutable {
		t.Errorf("GET of a version: %v; want it cached for ever", resp.Header)
	}

	// An image counts only with kernel, initrd, indexes and every block.
	plain := noise(70_000, 9)
	var b index.Builder
	b.Add(len(plain), 100, digest.Of(plain))
	idx, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	kernel := []byte("kernel")
	m := catalog.Manifest{
		Format: catalog.ManifestFormat, Name: "d", Version: "1", Arch: "amd64", Created: time.Now().UTC(),
		Kernel: catalog.Kernel{Blob: digest.BlobOf(kernel), Release: "6"}, Initrd: digest.BlobOf(kernel),
		Root: catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: int64(len(plain)), Index: digest.BlobOf(idx)}}},
	}
	man, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := catalog.ManifestName("d", "1", "amd64")
	targets[name] = man
	p.Publish(t, targets)
	steps := []struct {
		path string
		data []byte
	}{
		{storepath.Target(name, digest.Of(man)), man}, {storepath.File(digest.Of(kernel)), kernel},
		{storepath.Index(digest.Of(idx)), idx}, {storepath.Block(digest.Of(plain)), encode(t, plain)},
	}
	for _, s := range steps {
		p.create(t, storepath.RoleMetadata("targets", 3), 422)
		if code, body := f.put(t, s.path, s.data); code != 201 {
			t.Fatal(code, body)
		}
	}
	p.create(t, storepath.RoleMetadata("targets", 3), 201)
	p.create(t, storepath.RoleMetadata("snapshot", 3), 201)
	if code, body := f.put(t, storepath.Timestamp, p.Files[storepath.Timestamp], "If-Match", tag(second)); code != 204 {
		t.Errorf("complete catalog = %d %s; want 204", code, body)
	}
}

func TestPublishersRace(t *testing.T) {
	f := newFixture(t)
	p := newOffline(t, f)
	first := p.Files[storepath.Timestamp]
	var next [][]byte
	for i := range 8 {
		p.Publish(t, nil)
		p.create(t, storepath.RoleMetadata("targets", int64(i+2)), 201)
		p.create(t, storepath.RoleMetadata("snapshot", int64(i+2)), 201)
		next = append(next, p.Files[storepath.Timestamp])
	}
	codes := make(chan int)
	for _, n := range next {
		go func() {
			code, _ := f.put(t, storepath.Timestamp, n, "If-Match", tag(first))
			codes <- code
		}()
	}
	count := map[int]int{}
	for range next {
		count[<-codes]++
	}
	if diff := cmp.Diff(map[int]int{204: 1, 412: 7}, count); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

func TestBrokenUploadLeavesNothing(t *testing.T) {
	f := newFixture(t)
	data := noise(1_000_000, 3)
	path := storepath.File(digest.Of(data))
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, f.url+"/"+path, r)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	var wg sync.WaitGroup
	wg.Go(func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
		}
	})
	if _, err := w.Write(data[:500_000]); err != nil {
		t.Fatal(err)
	}
	cancel()
	w.CloseWithError(io.ErrClosedPipe)
	wg.Wait()
	deadline := time.Now().Add(10 * time.Second)
	for len(f.leftovers(t)) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond) // the server notices in its own time
	}
	if left := f.leftovers(t); left != nil {
		t.Errorf("left over: %v", left)
	}
	if code, body := f.put(t, path, data); code != 201 {
		t.Errorf("PUT of the whole file = %d %s; want 201", code, body)
	}
}

func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	base := t.TempDir()
	if err := syscall.Mount("tmpfs", base, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(base, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	f := fixtureIn(t, base, store.DefaultLimits())
	data := noise(3_000_000, 4)
	if code, body := f.put(t, storepath.File(digest.Of(data)), data); code != 507 {
		t.Errorf("PUT = %d %s; want 507", code, body)
	}
	if left := f.leftovers(t); left != nil {
		t.Errorf("left over: %v", left)
	}
	if code, body := f.put(t, storepath.File(digest.Of(data[:1000])), data[:1000]); code != 201 {
		t.Errorf("PUT of a small file afterwards = %d %s; want 201", code, body)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	f := newFixture(t)
	data := []byte("kernel")
	path := storepath.File(digest.Of(data))
	f.put(t, path, data)
	f.do(t, http.MethodGet, "/"+path, nil)
	if resp, body := f.do(t, http.MethodGet, "/healthz", nil); resp.StatusCode != 200 {
		t.Errorf("health = %d %s; want 200", resp.StatusCode, body)
	}
	_, body := f.do(t, http.MethodGet, "/metrics", nil)
	for _, want := range []string{
		`inetboot_http_requests_total{code="200",kind="file",method="GET"} 1`,
		`inetboot_http_sent_bytes_total{kind="file"} 6`,
		`inetboot_uploads_total{kind="file",result="stored"} 1`,
		"inetboot_http_request_seconds_count", "go_goroutines",
	} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if err := os.RemoveAll(f.tmp); err != nil {
		t.Fatal(err)
	}
	if resp, body := f.do(t, http.MethodGet, "/healthz", nil); resp.StatusCode != 503 {
		t.Errorf("health without a place for uploads = %d %s; want 503", resp.StatusCode, body)
	}
}

// Large files have to reach the connection's own ReadFrom, where sendfile is.
func TestReadFromReachesTheConnection(t *testing.T) {
	src := bytes.NewReader(make([]byte, 3*piece+5))
	under := &readFromRecorder{ResponseRecorder: httptest.NewRecorder()}
	rec := &recorder{ResponseWriter: under, control: http.NewResponseController(under)}
	n, err := io.CopyN(rec, src, 3*piece+5)
	if err != nil || n != 3*piece+5 || rec.sent != n {
		t.Errorf("CopyN = %d, %v, counted %d; want %d", n, err, rec.sent, 3*piece+5)
	}
	if under.calls != 4 || !under.direct {
		t.Errorf("ReadFrom was called %d times, on the source itself %v; want 4 pieces of the source", under.calls, under.direct)
	}
}

type readFromRecorder struct {
	*httptest.ResponseRecorder
	calls  int
	direct bool
}

func (r *readFromRecorder) ReadFrom(src io.Reader) (int64, error) {
	r.calls++
	l, ok := src.(*io.LimitedReader)
	if ok {
		_, r.direct = l.R.(*bytes.Reader)
	}
	return io.Copy(io.Discard, src)
}

// A client that sends its header drop by drop is cut off by the server's
// time-outs, which command.go sets; here the connection limits are real.
func TestSlowHeader(t *testing.T) {
	d, err := store.Open(filepath.Join(t.TempDir(), "s"), filepath.Join(t.TempDir(), "t"), store.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s := httptest.NewUnstartedServer(New(Options{Store: d, Boots: keeper(t, d), Token: token, Log: slog.New(slog.DiscardHandler)}))
	s.Config.ReadHeaderTimeout = 200 * time.Millisecond
	s.Start()
	defer s.Close()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost"); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a client that does not finish its header keeps the connection")
	}
}
