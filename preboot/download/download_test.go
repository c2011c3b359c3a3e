package download

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
)

var _ Source = (*mirror.Client)(nil)

// store is a web server with an image; break turns its answers bad.
type store struct {
	url                   string
	kernel, initrd, index []byte
	mu                    sync.Mutex
	files                 map[string][]byte
	cut                   map[string]int64 // the answer breaks off after so many bytes, once
	gets                  atomic.Int32
}

func newStore(t *testing.T) *store {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	random := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	s := &store{kernel: random(3<<20 + 1), initrd: random(5<<20 + 2), index: random(64 + 40*7), files: map[string][]byte{}, cut: map[string]int64{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		s.gets.Add(1)
		p := strings.TrimPrefix(q.URL.Path, "/")
		s.mu.Lock()
		b, ok := s.files[p]
		cut := s.cut[p]
		delete(s.cut, p)
		s.mu.Unlock()
		switch {
		case !ok:
			http.NotFound(w, q)
		case cut > 0:
			w.Header().Set("Content-Length", strconv.Itoa(len(b)))
			w.Write(b[:cut])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		default:
			http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(b))
		}
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// image publishes the store's files and returns the image by way of a signed
// catalog: there is no other.
func (s *store) image(t *testing.T, change func(*catalog.Manifest)) *catalog.Image {
	t.Helper()
	m := &catalog.Manifest{
		Format: catalog.ManifestFormat, Name: "debian", Version: "12", Arch: "amd64", Created: time.Now(),
		Kernel: catalog.Kernel{Blob: digest.BlobOf(s.kernel)}, Initrd: digest.BlobOf(s.initrd),
		Root:  catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 1, Index: digest.BlobOf(s.index)}}},
		Needs: catalog.Needs{Memory: 512 << 20},
	}
	if change != nil {
		change(m)
	}
	manifest, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := catalog.ManifestName("debian", "12", "amd64")
	repo := catalogtest.New(t, catalogtest.Options{})
	repo.Publish(t, map[string][]byte{name: manifest})
	s.mu.Lock()
	maps.Copy(s.files, repo.Files)
	s.files[storepath.File(digest.Of(s.kernel))] = s.kernel
	s.files[storepath.File(digest.Of(s.initrd))] = s.initrd
	s.files[storepath.Index(digest.Of(s.index))] = s.index
	s.mu.Unlock()
	c, err := catalog.Open(t.Context(), client(t, s.url), repo.Anchor(t), catalog.Options{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	img, err := c.Image(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func client(t *testing.T, urls ...string) *mirror.Client {
	t.Helper()
	c, err := mirror.New(urls, mirror.Options{Idle: 2 * time.Second, Attempts: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func content(t *testing.T, f *File) []byte {
	t.Helper()
	r, err := f.ReadOnly()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Write([]byte{1}); err == nil {
		t.Error("ReadOnly's file can be written")
	}
	return b
}

func TestFetch(t *testing.T) {
	s := newStore(t)
	img := s.image(t, nil)
	var mu sync.Mutex
	var last Sizes
	var done []string
	files, err := Fetch(t.Context(), client(t, s.url), img,
		func(n Sizes) {
			mu.Lock()
			defer mu.Unlock()
			if n.Done() > last.Done() {
				last = n
			}
		},
		func(what string) { mu.Lock(); defer mu.Unlock(); done = append(done, what) })
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if last.Done() != last.Total() || last.Total() != int64(len(s.kernel)+len(s.initrd)+len(s.index)) {
		t.Errorf("progress ends with %+v", last)
	}
	slices.Sort(done)
	if !slices.Equal(done, []string{"index meta", "initrd", "kernel"}) {
		t.Errorf("done = %v", done)
	}
	if err := files.Initrd.Append([]byte("handoff")); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, files.Kernel), s.kernel) || !bytes.Equal(files.Indexes[0], s.index) {
		t.Error("kernel or index have other bytes")
	}
	want := append(slices.Clone(s.initrd), 0, 0)
	if got := content(t, files.Initrd); !bytes.Equal(got, append(want, "handoff"...)) {
		t.Errorf("the initrd has %d bytes; want %d, two zeros and the appended", len(got), len(s.initrd))
	}
}

// Initrds of other images follow, where the kernel looks for them.
func TestFetchSeveralInitrds(t *testing.T) {
	s := newStore(t)
	img := s.image(t, nil)
	other := &store{url: s.url, kernel: s.kernel, initrd: []byte("another initrd"), index: s.index, files: s.files}
	second := other.image(t, nil)
	var last atomic.Pointer[Sizes]
	files, err := Fetch(t.Context(), client(t, s.url), img, func(n Sizes) {
		if old := last.Load(); old == nil || n.Done() >= old.Done() {
			last.Store(&n)
		}
	}, nil, second, img)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	want := slices.Concat(s.initrd, []byte{0, 0}, other.initrd, []byte{0, 0}, s.initrd)
	if len(s.initrd)%4 != 2 || len(other.initrd)%4 != 2 {
		t.Fatal("the initrds need to have lengths that leave gaps")
	}
	if got := content(t, files.Initrd); !bytes.Equal(got, want) {
		t.Errorf("the initrds have %d bytes; want the %d of all, in their places", len(got), len(want))
	}
	if n := last.Load(); n.InitrdTotal != int64(2*len(s.initrd)+len(other.initrd)) {
		t.Errorf("Sizes = %+v", n)
	}
	err = Memory{Available: 3*(2*int64(len(s.initrd))) + 1<<20}.Check(img, img, img)
	if !errors.Is(err, ErrMemory) {
		t.Errorf("Check = %v; want ErrMemory", err)
	}
}

func TestFetchNamesWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		name  string
		what  string
		want  error
		spoil func(s *store)
	}{
		{"a changed kernel", "kernel", digest.ErrMismatch, func(s *store) { s.files[storepath.File(digest.Of(s.kernel))] = flip(s.kernel) }},
		{"a changed initrd", "initrd", digest.ErrMismatch, func(s *store) { s.files[storepath.File(digest.Of(s.initrd))] = flip(s.initrd) }},
		{"a changed index", "index meta", digest.ErrMismatch, func(s *store) { s.files[storepath.Index(digest.Of(s.index))] = flip(s.index) }},
		{"a longer kernel", "kernel", digest.ErrMismatch, func(s *store) { s.files[storepath.File(digest.Of(s.kernel))] = append(slices.Clip(s.kernel), 0) }},
		{"a shorter initrd", "initrd", digest.ErrMismatch, func(s *store) { s.files[storepath.File(digest.Of(s.initrd))] = s.initrd[1:] }},
		{"no kernel", "kernel", mirror.ErrNotFound, func(s *store) { delete(s.files, storepath.File(digest.Of(s.kernel))) }},
	} {
		s := newStore(t)
		img := s.image(t, nil)
		tt.spoil(s)
		files, err := Fetch(t.Context(), client(t, s.url), img, nil, nil)
		var e *Error
		if files != nil || !errors.Is(err, tt.want) || !errors.As(err, &e) || e.What != tt.what {
			t.Errorf("%s: Fetch = %v, %v; want an *Error about the %s that wraps %v", tt.name, files, err, tt.what, tt.want)
		}
	}
}

func flip(b []byte) []byte {
	b = slices.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

func TestFetchResumesAndFailsOver(t *testing.T) {
	s, bad := newStore(t), newStore(t)
	img := s.image(t, nil)
	s.cut[storepath.File(digest.Of(s.kernel))] = 1 << 20
	s.cut[storepath.File(digest.Of(s.initrd))] = 4 << 20
	files, err := Fetch(t.Context(), client(t, bad.url, s.url), img, nil, nil) // bad has nothing
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	if !bytes.Equal(content(t, files.Kernel), s.kernel) || !bytes.Equal(content(t, files.Initrd), s.initrd) {
		t.Error("kernel or initrd have other bytes")
	}
}

func TestFetchEndsWithItsContext(t *testing.T) {
	s := newStore(t)
	img := s.image(t, nil)
	why := errors.New("somebody pressed Escape")
	ctx, cancel := context.WithCancelCause(t.Context())
	var once sync.Once
	files, err := Fetch(ctx, client(t, s.url), img, func(Sizes) { once.Do(func() { cancel(why) }) }, nil)
	if files != nil || !errors.Is(err, why) {
		t.Errorf("Fetch = %v, %v; want the cause", files, err)
	}
}

func TestFetchRefusesGiantIndex(t *testing.T) {
	s := newStore(t)
	img := s.image(t, func(m *catalog.Manifest) { m.Root.Files[0].Index.Size = 1 << 50 })
	if _, err := Fetch(t.Context(), client(t, s.url), img, nil, nil); !errors.Is(err, catalog.ErrFormat) {
		t.Errorf("Fetch with an index of 1 PiB = %v; want ErrFormat", err)
	}
}

func TestMemoryCheck(t *testing.T) {
	s := newStore(t)
	img := s.image(t, nil) // 8 MB of files, needs 512 MB
	for _, tt := range []struct {
		name string
		m    Memory
		want string // "": enough
	}{
		{"plenty", Memory{Physical: 1 << 30, Available: 800 << 20}, ""},
		{"unknown", Memory{}, ""},
		{"what firmware keeps does not count", Memory{Physical: 500 << 20, Available: 300 << 20}, ""},
		{"machine too small", Memory{Physical: 256 << 20, Available: 200 << 20}, "not enough memory: debian 12 needs a machine with 512 MB, this one has 256 MB: 256 MB are missing"},
		{"too little free", Memory{Physical: 1 << 30, Available: 30 << 20}, "not enough memory: starting debian 12 takes 41 MB (kernel and initrd of 9 MB, up to 3 times), 30 MB are free: 11 MB are missing"},
	} {
		err := tt.m.Check(img)
		if short := tt.m.Compare(img); short != nil {
			err = short
		}
		if got := ""; err != nil {
			got = err.Error()
			if got != tt.want || !errors.Is(err, ErrMemory) {
				t.Errorf("%s: Check = %q; want %q", tt.name, got, tt.want)
			}
		} else if tt.want != "" {
			t.Errorf("%s: Check = nil; want %q", tt.name, tt.want)
		}
	}
}

func TestReadMemory(t *testing.T) {
	m, err := ReadMemory("testdata/iomem", "testdata/meminfo")
	if want := (Memory{Physical: 0x9fc00 - 0x1000 + 0x1ffdf000 - 0x100000, Available: 447212 << 10}); err != nil || m != want {
		t.Errorf("ReadMemory = %+v, %v; want %+v", m, err, want)
	}
	if _, err := ReadMemory("testdata/none", "testdata/meminfo"); err == nil {
		t.Error("ReadMemory without a file succeeds")
	}
	if here, err := ReadMemory("/proc/iomem", "/proc/meminfo"); err != nil || here.Available == 0 {
		t.Errorf("ReadMemory here = %+v, %v", here, err)
	}
}

func FuzzMemoryFiles(f *testing.F) {
	f.Add("00001000-0009fbff : System RAM\n", "MemAvailable:   447212 kB\n")
	f.Fuzz(func(t *testing.T, iomem, meminfo string) {
		if n := parseMemInfo(strings.NewReader(meminfo)); n < 0 {
			t.Errorf("parseMemInfo(%q) = %d", meminfo, n)
		}
		parseIOMem(strings.NewReader(iomem))
	})
}
