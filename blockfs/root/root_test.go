package root_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/cache"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/blockfs/root"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/faultdisk"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/mirror/mirrortest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// image is a root of two files in a store.
type image struct {
	store string // folder
	files []root.File
	data  [][]byte
	name  handoff.Image
}

func newImage(t *testing.T, bytes int) *image {
	t.Helper()
	im := &image{store: t.TempDir(), name: handoff.Image{Name: "tiny", Version: "1", Arch: "amd64", Manifest: digest.Of([]byte(t.Name()))}}
	for i, n := range []int{300_000, bytes} {
		d := readtest.Mixed(n, uint64(i+1))
		im.data = append(im.data, d)
		im.files = append(im.files, root.File{Name: []string{"meta", "data"}[i], Index: readtest.Write(t, im.store, d), Size: int64(n)})
	}
	return im
}

func (im *image) handler() http.Handler { return http.FileServer(http.Dir(im.store)) }

func client(t *testing.T, urls ...string) *mirror.Client {
	t.Helper()
	c, err := mirror.New(urls, mirror.Options{Attempts: 1, Idle: 2 * time.Second, Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func openCache(t *testing.T, dir string, o cache.Options) *cache.Cache {
	t.Helper()
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := cache.Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// open opens the image as a daemon would.
func (im *image) open(t *testing.T, o root.Options) *root.Root {
	t.Helper()
	o.Files, o.Image = im.files, im.name
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	if o.Read.Patience == 0 {
		o.Read.Patience = math.MaxInt64
	}
	r, err := root.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// check reads every byte of the image, by several readers.
func (im *image) check(t *testing.T, r *root.Root) {
	t.Helper()
	var wg sync.WaitGroup
	for i, f := range r.Files() {
		want := im.data[i]
		for k := range 4 {
			wg.Go(func() {
				p := make([]byte, 200_000)
				for off := k * 200_000; off < len(want); off += 4 * 200_000 {
					n, err := f.File.ReadAt(t.Context(), p, int64(off))
					if err != nil && !errors.Is(err, io.EOF) {
						t.Errorf("read %s at %d: %v", f.Name, off, err)
						return
					}
					n = min(n, len(want)-off)
					if !bytes.Equal(p[:n], want[off:min(off+len(p), len(want))]) {
						t.Errorf("read %s at %d: %d bytes that are not the data", f.Name, off, n)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}

// blocks returns the root's blocks as the store has them, by the order of the
// data file.
func (im *image) blocks(t *testing.T) (entries []index.Entry, stored [][]byte) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(im.store, storepath.Index(im.files[1].Index.SHA256)))
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[digest.SHA256]bool{}
	for i := range x.Len() {
		e := x.Entry(i)
		if e.Zero() || seen[e.SHA256] {
			continue
		}
		seen[e.SHA256] = true
		b, err := os.ReadFile(filepath.Join(im.store, storepath.Block(e.SHA256)))
		if err != nil {
			t.Fatal(err)
		}
		entries, stored = append(entries, e), append(stored, b)
	}
	return entries, stored
}

// Three mirrors, one that corrupts, one that truncates, one that stalls, each
// now and then, so that no mirror alone has it all.
func TestThreeBadMirrors(t *testing.T) {
	im := newImage(t, 24<<20)
	now := func(n int, bad func(http.Handler) http.Handler) http.Handler {
		good := im.handler()
		broken := bad(good)
		var mu sync.Mutex
		i := 0
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			i++
			turn := i%n == 0
			mu.Unlock()
			if turn {
				broken.ServeHTTP(w, r)
				return
			}
			good.ServeHTTP(w, r)
		})
	}
	c := client(t,
		mirrortest.Serve(t, now(3, mirrortest.Corrupt)).URL,
		mirrortest.Serve(t, now(4, mirrortest.BreakOff)).URL,
		mirrortest.Serve(t, now(25, mirrortest.Stall)).URL)
	r := im.open(t, root.Options{Mirrors: c, Read: read.Options{Memory: 4 << 20}})
	im.check(t, r)
}

// TestCacheFlips flips 1,000 random bits of what the cache has on its disk:
// every byte that is read is right, and what was wrong is repaired.
func TestCacheFlips(t *testing.T) {
	im := newImage(t, 48<<20)
	srv := mirrortest.Serve(t, im.handler())
	dir := t.TempDir()
	fill := func() *cache.Cache {
		c := openCache(t, dir, cache.Options{Quota: 300 << 20, SegmentSize: 4 << 20})
		r := im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c, Read: read.Options{Memory: 4 << 20}})
		if err := r.Fill(t.Context(), root.FillOptions{}); err != nil {
			t.Fatalf("Fill = %v; want nil", err)
		}
		r.Close()
		return c
	}
	if err := fill().Close(); err != nil {
		t.Fatal(err)
	}
	var segments []string
	err := filepath.WalkDir(filepath.Join(dir, "segments"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			segments = append(segments, p)
		}
		return err
	})
	if err != nil || len(segments) == 0 {
		t.Fatalf("%d segments, %v; want some", len(segments), err)
	}
	rnd := rand.New(rand.NewPCG(11, 12))
	for range 1000 {
		name := segments[rnd.IntN(len(segments))]
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		var one [1]byte
		off := rnd.Int64N(st.Size())
		if _, err := f.ReadAt(one[:], off); err != nil {
			t.Fatal(err)
		}
		one[0] ^= 1 << rnd.IntN(8)
		if _, err := f.WriteAt(one[:], off); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}

	c := openCache(t, dir, cache.Options{Quota: 300 << 20, SegmentSize: 4 << 20})
	r := im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c, Read: read.Options{Memory: 4 << 20}})
	im.check(t, r)
	s := r.Status()
	if s.Reads.CacheRefused == 0 || s.Origins["disk"].Blocks == 0 {
		t.Errorf("%d blocks of the cache were wrong, %d right; want some of both", s.Reads.CacheRefused, s.Origins["disk"].Blocks)
	}
	t.Logf("%d blocks were wrong, %d right", s.Reads.CacheRefused, s.Origins["disk"].Blocks)
	r.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	// Now everything is repaired: the network is not needed any more.
	if err := fill().Close(); err != nil {
		t.Fatal(err)
	}
	c = openCache(t, dir, cache.Options{Quota: 300 << 20, SegmentSize: 4 << 20})
	defer c.Close()
	before := srv.Requests()
	r = im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c, Read: read.Options{Memory: 4 << 20}})
	im.check(t, r)
	// The indexes are no blocks: this image is one whose indexes did not travel.
	if n := srv.Requests() - before; n > len(im.files) {
		t.Errorf("%d requests after the repair; want those for %d indexes only", n, len(im.files))
	}
	if n := r.Status().Reads.CacheRefused; n != 0 {
		t.Errorf("%d blocks of the cache are still wrong; want 0", n)
	}
}

// TestBootsFromTheCacheAlone fills the cache, takes the network away, and
// reads everything.
func TestBootsFromTheCacheAlone(t *testing.T) {
	im := newImage(t, 16<<20)
	kernel := readtest.Noise(3<<20, 77)
	readtest.WriteFile(t, im.store, storepath.File(digest.Of(kernel)), kernel)
	menu := []byte(`{"a":"menu"}`)
	menuPath := storepath.Target("menu.json", digest.Of(menu))
	var keep []handoff.StoreFile
	for _, f := range im.files {
		keep = append(keep, handoff.StoreFile{Path: storepath.Index(f.Index.SHA256), Blob: f.Index})
	}
	keep = append(keep,
		handoff.StoreFile{Path: storepath.File(digest.Of(kernel)), Blob: digest.BlobOf(kernel)},
		handoff.StoreFile{Path: menuPath, Blob: digest.BlobOf(menu)})
	var up mirrortest.Switch
	up.Set(im.handler())
	srv := mirrortest.Serve(t, &up)
	dir := t.TempDir()
	c := openCache(t, dir, cache.Options{Quota: 200 << 20})
	r := im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c})
	err := r.Fill(t.Context(), root.FillOptions{Files: keep, Here: func(f handoff.StoreFile) ([]byte, error) {
		if f.Path == menuPath {
			return menu, nil
		}
		return nil, fs.ErrNotExist
	}})
	if err != nil {
		t.Fatalf("Fill = %v; want nil", err)
	}
	if s := r.Status().Fill; s.State != "complete" || s.Blocks != s.Total || s.Total == 0 {
		t.Errorf("fill = %+v; want complete", s)
	}
	r.Close()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, f := range keep {
		b, err := os.ReadFile(filepath.Join(dir, "store", filepath.FromSlash(f.Path)))
		if err != nil || digest.Of(b) != f.SHA256 {
			t.Errorf("%s in the cache: %d bytes, %v; want the file", f.Path, len(b), err)
		}
	}

	up.Set(mirrortest.HangUp(nil))
	before := srv.Requests()
	c = openCache(t, dir, cache.Options{Quota: 200 << 20})
	defer c.Close()
	r = im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c})
	im.check(t, r)
	if n := srv.Requests() - before; n != 0 {
		t.Errorf("%d requests; want none", n)
	}

	// A kernel that was damaged meanwhile is found and fetched again.
	name := filepath.Join(dir, "store", storepath.File(digest.Of(kernel)))
	bad := bytes.Clone(kernel)
	bad[1000] ^= 4
	if err := os.WriteFile(name, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	up.Set(im.handler())
	if err := r.Fill(t.Context(), root.FillOptions{Files: keep}); err != nil {
		t.Fatalf("Fill with a damaged kernel = %v; want nil", err)
	}
	if b, err := os.ReadFile(name); err != nil || !bytes.Equal(b, kernel) {
		t.Errorf("the damaged kernel is not repaired: %d bytes, %v", len(b), err)
	}
}

func TestCacheWithoutRoom(t *testing.T) {
	im := newImage(t, 48<<20)
	srv := mirrortest.Serve(t, im.handler())
	c := openCache(t, t.TempDir(), cache.Options{Quota: 16 << 20})
	defer c.Close()
	r := im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c})
	if err := r.Fill(t.Context(), root.FillOptions{}); !errors.Is(err, root.ErrNoRoom) {
		t.Errorf("Fill of a cache that is too small = %v; want ErrNoRoom", err)
	}
	im.check(t, r)
	if s := c.Stats(); s.Bytes > 16<<20 {
		t.Errorf("the cache takes %d bytes; want at most its quota", s.Bytes)
	}
}

// A disk that is pulled out, fails or hangs in the middle costs at most a
// moment.
func TestCacheDiskFails(t *testing.T) {
	for _, tt := range []struct {
		name string
		fail func(d *faultdisk.Disk)
	}{
		{"reads", func(d *faultdisk.Disk) { d.FailReads(5) }},
		{"writes", func(d *faultdisk.Disk) { d.FailWrites(28) }},
		{"both", func(d *faultdisk.Disk) { d.FailReads(5); d.FailWrites(5) }},
		{"hangs", func(d *faultdisk.Disk) { d.FailReads(faultdisk.Hang); d.FailWrites(faultdisk.Hang) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			im := newImage(t, 16<<20)
			srv := mirrortest.Serve(t, im.handler())
			d := faultdisk.New(t, t.TempDir())
			c := openCache(t, d.Dir, cache.Options{Quota: 200 << 20, ReadLimit: 200 * time.Millisecond})
			r := im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c, Read: read.Options{Memory: 2 << 20}})
			half := &image{files: im.files[:1], data: [][]byte{im.data[0], im.data[1][:8<<20]}}
			half.check(t, r)
			flush, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := c.Flush(flush); err != nil {
				t.Fatal(err)
			}
			tt.fail(d)
			start := time.Now()
			im.check(t, r)
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("reading took %v beside a broken disk", took)
			}
			r.Close()
			d.Heal()
			if err := c.Close(); err != nil {
				t.Logf("Close: %v", err)
			}
		})
	}
}

func packOf(t *testing.T, im *image, entries []index.Entry, stored [][]byte) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := pack.NewWriter(f, im.name.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if err := w.Add(e.PlainLen, e.SHA256, stored[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestPacks serves good, useless and hostile packs: every byte is right, and
// what is wrong with a pack costs nothing but its bytes.
func TestPacks(t *testing.T) {
	im := newImage(t, 8<<20)
	entries, stored := im.blocks(t)
	good := packOf(t, im, entries, stored)
	foreign := newImage(t, 4<<20)
	foreign.name = im.name
	foreignEntries, foreignStored := foreign.blocks(t)
	enc, err := block.NewEncoder(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	var wrong [][]byte // blocks of the right length with other contents
	for i, e := range entries {
		wrong = append(wrong, enc.Encode(nil, readtest.Noise(e.PlainLen, uint64(i))))
	}
	flipped := bytes.Clone(good)
	for i := 5000; i < len(flipped); i += 9973 {
		flipped[i] ^= 0x10
	}
	other := *im
	other.name.Manifest = digest.Of([]byte("another"))
	path := "/" + storepath.Pack(im.name.Manifest)
	for _, tt := range []struct {
		name string
		pack []byte
		most int // requests for blocks
		want string
	}{
		{"none", nil, 2 * len(entries), "none"},
		{"good", good, 4, "done"},
		{"of other blocks", packOf(t, im, foreignEntries, foreignStored), 2 * len(entries), "done"},
		{"wrong bytes", packOf(t, im, entries, wrong), 2 * len(entries), "done"},
		{"flipped bits", flipped, 2 * len(entries), ""},
		{"truncated", good[:len(good)/2], 2 * len(entries), "failed"},
		{"empty", []byte{}, 2 * len(entries), "failed"},
		{"garbage", readtest.Noise(1<<20, 3), 2 * len(entries), "failed"},
		{"of another image", packOf(t, &other, entries, stored), 2 * len(entries), "failed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			blocks := 0
			var mu sync.Mutex
			files := im.handler()
			srv := mirrortest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				if strings.HasPrefix(q.URL.Path, "/blocks/") {
					mu.Lock()
					blocks++
					mu.Unlock()
				}
				if q.URL.Path == path && tt.pack != nil {
					w.Header().Set("Content-Length", fmt.Sprint(len(tt.pack)))
					w.Write(tt.pack)
					return
				}
				files.ServeHTTP(w, q)
			}))
			r := im.open(t, root.Options{Mirrors: client(t, srv.URL), Read: read.Options{Held: 32 << 20, Ahead: -1}})
			streamed := make(chan struct{})
			go func() { defer close(streamed); r.Pack(t.Context()) }()
			if tt.name == "good" {
				// The pack comes to its end by itself: it may hold all of it.
				for r.Status().Pack.Read < len(entries) {
					time.Sleep(time.Millisecond)
				}
			}
			im.check(t, r)
			<-streamed
			if s := r.Status().Pack; tt.want != "" && s.State != tt.want {
				t.Errorf("pack = %+v; want %s", s, tt.want)
			}
			mu.Lock()
			defer mu.Unlock()
			if blocks > tt.most+2 {
				t.Errorf("%d requests for blocks; want at most %d", blocks, tt.most+2)
			}
		})
	}
}

// TestPackThatTheCacheHas streams a pack into a cache; the next boot ends it
// after a few blocks.
func TestPackThatTheCacheHas(t *testing.T) {
	im := newImage(t, 24<<20)
	entries, stored := im.blocks(t)
	good := packOf(t, im, entries, stored)
	files := im.handler()
	srv := mirrortest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/"+storepath.Pack(im.name.Manifest) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			w.Write(good)
			return
		}
		files.ServeHTTP(w, q)
	}))
	dir := t.TempDir()
	boot := func() root.PackStatus {
		t.Helper()
		c := openCache(t, dir, cache.Options{Quota: 200 << 20})
		r := im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c, Read: read.Options{Ahead: -1}})
		var wg sync.WaitGroup
		wg.Go(func() { r.Pack(t.Context()) })
		im.check(t, r)
		wg.Wait()
		r.Close()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		return r.Status().Pack
	}
	if p := boot(); p.State != "done" || p.Read != len(entries) {
		t.Errorf("first boot: pack = %+v; want all %d records", p, len(entries))
	}
	if p := boot(); p.State != "cached" || p.Read >= len(entries) || p.Error != "" {
		t.Errorf("second boot: pack = %+v; want only a few of %d records", p, len(entries))
	}
}

// TestBootReport reads some blocks, waits until the boot is over, and looks at
// the report; the pack that is built of it has just these blocks.
func TestBootReport(t *testing.T) {
	im := newImage(t, 8<<20)
	var got []byte
	var mu sync.Mutex
	files := im.handler()
	srv := mirrortest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.Method == http.MethodPost && q.URL.Path == "/"+pack.ReportPath {
			mu.Lock()
			got, _ = io.ReadAll(q.Body)
			mu.Unlock()
			w.WriteHeader(http.StatusNoContent)
			return
		}
		files.ServeHTTP(w, q)
	}))
	static := mirrortest.Serve(t, im.handler()) // takes no reports
	r := im.open(t, root.Options{Mirrors: client(t, static.URL, srv.URL), Read: read.Options{Ahead: -1}})
	r.MarkAt("kernel", 1000)
	r.Mark("root")
	for _, off := range []int64{5 << 20, 1 << 20, 5 << 20} {
		if _, err := r.Files()[1].File.ReadAt(t.Context(), make([]byte, 10), off); err != nil {
			t.Fatal(err)
		}
	}
	const id = "0123456789abcdef0123456789abcdef"
	rep, err := r.Booted(t.Context(), pack.Quiet{For: 200 * time.Millisecond, Least: 100 * time.Millisecond, Most: 5 * time.Second}, id, "52:54:00:12:34:56")
	if err != nil {
		t.Fatal(err)
	}
	x := r.Files()[1].File.Index()
	want := []int{x.Find(5 << 20), x.Find(1 << 20)}
	if len(rep.Trace) != 2 || rep.Trace[0].Block != want[0] || rep.Trace[1].Block != want[1] || rep.Trace[0].File != 1 {
		t.Errorf("trace = %+v; want blocks %v of file 1", rep.Trace, want)
	}
	if n := len(rep.Stages); n != 3 || rep.Stages[0].Name != "kernel" || rep.Stages[2].Name != root.StageOver {
		t.Errorf("stages = %+v; want kernel, root, over", rep.Stages)
	}
	if _, err := r.Files()[1].File.ReadAt(t.Context(), make([]byte, 10), 7<<20); err != nil {
		t.Fatal(err)
	}
	r.SendReport(t.Context(), rep)
	mu.Lock()
	defer mu.Unlock()
	sent, err := pack.ParseReport(got)
	if err != nil {
		t.Fatalf("the server got %d bytes: %v", len(got), err)
	}
	if sent.BootID != id || len(sent.Trace) != 2 || sent.Origins.Demand.Blocks != 2 {
		t.Errorf("sent report: id %s, %d accesses, %+v; want ours", sent.BootID, len(sent.Trace), sent.Origins)
	}
}

func TestStatusService(t *testing.T) {
	im := newImage(t, 4<<20)
	srv := mirrortest.Serve(t, im.handler())
	c := openCache(t, t.TempDir(), cache.Options{Quota: 100 << 20})
	defer c.Close()
	r := im.open(t, root.Options{Mirrors: client(t, srv.URL), Cache: c})
	im.check(t, r)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	var rep *pack.Report
	go func() { served <- r.Serve(ctx, l, func() *pack.Report { return rep }) }()
	get := func(path string) (int, []byte) {
		t.Helper()
		hc := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return net.Dial("unix", l.Addr().String())
		}}}
		resp, err := hc.Get("http://x" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b
	}
	_, b := get(root.StatusPath)
	var s root.Status
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	if s.Reads.Bytes < int64(len(im.data[1])) || s.Network.Blocks == 0 || len(s.Mirrors) != 1 || s.Cache == nil || s.Memory.Resident == 0 {
		t.Errorf("status = %s; want what was read", b)
	}
	var text bytes.Buffer
	if err := s.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"image     tiny 1", "mirror    " + srv.URL, "(in use)", "cache     ok", "demand", "pack      none"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("status for people lacks %q:\n%s", want, text.String())
		}
	}
	_, b = get(root.MetricsPath)
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("metrics: %v\n%s", err, b)
	}
	for _, name := range []string{"inetboot_blockfs_blocks_total", "inetboot_mirror_usable", "inetboot_cache_bytes", "inetboot_blockfs_resident_bytes"} {
		if families[name] == nil {
			t.Errorf("metric %s is missing", name)
		}
	}
	if n := families["inetboot_blockfs_read_bytes_total"].GetMetric()[0].GetCounter().GetValue(); int64(n) != s.Reads.Bytes {
		t.Errorf("metric of bytes read = %v; want %d", n, s.Reads.Bytes)
	}
	if code, _ := get(root.BootPath); code != http.StatusNotFound {
		t.Errorf("%s before the boot is over = %d; want 404", root.BootPath, code)
	}
	rep = r.EndBoot(strings.Repeat("0", 32), "52:54:00:12:34:56")
	if code, b := get(root.BootPath); code != http.StatusOK || !bytes.Contains(b, []byte(pack.Format)) {
		t.Errorf("%s = %d %s; want the report", root.BootPath, code, b)
	}
	cancel()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v; want nil after its context has ended", err)
	}
}
