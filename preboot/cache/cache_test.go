package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/cachedisk"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// folder makes a cache folder with files of a store.
func folder(t *testing.T, files map[string][]byte) *Disk {
	t.Helper()
	dir := t.TempDir()
	for p, b := range files {
		name := filepath.Join(dir, storeDir, p)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return open(t.Context(), &cachedisk.Found{Folder: dir, Device: cachedisk.Device{Name: "sda1"}}, func(string) {})
}

// remote is a store in memory that counts.
type remote struct {
	files map[string][]byte
	asked map[string]int
}

func (r *remote) Read(_ context.Context, path string, _ []byte, _ int64, accept func([]byte) error) ([]byte, error) {
	r.asked[path]++
	b, ok := r.files[path]
	if !ok {
		return nil, os.ErrNotExist
	}
	return b, accept(b)
}

func (r *remote) Download(_ context.Context, path string, _ digest.Blob, w io.WriterAt, _ func(int64)) error {
	r.asked[path]++
	_, err := w.WriteAt(r.files[path], 0)
	return err
}

type buffer []byte

func (b buffer) WriteAt(p []byte, off int64) (int, error) { return copy(b[off:], p), nil }

func TestDownload(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // 3 pieces
	want := digest.BlobOf(content)
	path := storepath.File(want.SHA256)
	bad := bytes.Clone(content)
	bad[2<<20] ^= 1
	for _, tt := range []struct {
		name   string
		cached []byte // nil: not there
		err    error
	}{
		{"good", content, nil},
		{"changed", bad, digest.ErrMismatch},
		{"too short", content[:1000], ErrNotCached},
		{"too long", append(bytes.Clone(content), 0), ErrNotCached},
		{"empty", []byte{}, ErrNotCached},
		{"missing", nil, ErrNotCached},
	} {
		files := map[string][]byte{}
		if tt.cached != nil {
			files[path] = tt.cached
		}
		d := folder(t, files)
		got := make(buffer, len(content))
		var last int64
		err := d.Download(t.Context(), path, want, got, func(n int64) { last = n })
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%s: Download = %v; want %v", tt.name, err, tt.err)
		}
		if err == nil && (!bytes.Equal(got, content) || last != want.Size) {
			t.Errorf("%s: Download wrote other bytes, or said %d of %d", tt.name, last, want.Size)
		}

		// Behind a source the network makes up for whatever is wrong.
		r := &remote{files: map[string][]byte{path: content}, asked: map[string]int{}}
		var log []string
		s := &Source{Disk: func() *Disk { return d }, Remote: r, Log: func(l string) { log = append(log, l) }}
		clear(got)
		if err := s.Download(t.Context(), path, want, got, nil); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: Source.Download = %v, right bytes: %t", tt.name, err, bytes.Equal(got, content))
		}
		if fromCache := tt.err == nil; (r.asked[path] == 0) != fromCache || (s.Cached() == want.Size) != fromCache {
			t.Errorf("%s: the network was asked %d times, %d bytes are from the cache", tt.name, r.asked[path], s.Cached())
		}
		if told := len(log) > 0; told != (tt.name == "changed") {
			t.Errorf("%s: said %q; want a line exactly if bytes are wrong", tt.name, log)
		}
		s.Remote = nil
		if err := s.Download(t.Context(), path, want, got, nil); (err == nil) != (tt.err == nil) || err != nil && !errors.Is(err, ErrOffline) {
			t.Errorf("%s: offline: Source.Download = %v; want ErrOffline exactly if the file is not good", tt.name, err)
		}
	}
}

// The timestamp comes from the network where there is one, targets from the
// cache if they are right; these are remembered.
func TestSourceRead(t *testing.T) {
	menu, other := []byte("menu"), []byte("MENU")
	good := storepath.Target("menu.json", digest.Of(menu))
	d := folder(t, map[string][]byte{storepath.Timestamp: []byte("old"), good: menu})
	damaged := folder(t, map[string][]byte{good: other})
	accept := func(b []byte) error { return digest.Of(menu).Check("menu", b) }
	r := &remote{files: map[string][]byte{storepath.Timestamp: []byte("new"), good: menu}, asked: map[string]int{}}
	read := func(s *Source, path string, accept func([]byte) error) string {
		t.Helper()
		b, err := s.Read(t.Context(), path, nil, 1000, accept)
		if err != nil {
			return "error"
		}
		if kept := string(s.Kept(path)); path != storepath.Timestamp && kept != string(b) {
			t.Errorf("Kept(%s) = %q; want %q", path, kept, b)
		}
		return string(b)
	}
	any := func([]byte) error { return nil }
	online := &Source{Disk: func() *Disk { return d }, Remote: r}
	if got := read(online, storepath.Timestamp, any); got != "new" {
		t.Errorf("catalog = %q; want the network's", got)
	}
	if got := read(online, good, accept); got != "menu" || r.asked[good] != 0 {
		t.Errorf("menu = %q, the network was asked %d times; want it from the cache", got, r.asked[good])
	}
	repaired := &Source{Disk: func() *Disk { return damaged }, Remote: r}
	if got := read(repaired, good, accept); got != "menu" || r.asked[good] != 1 {
		t.Errorf("menu = %q, the network was asked %d times; want it from there", got, r.asked[good])
	}
	offline := &Source{Disk: func() *Disk { return d }}
	if got := read(offline, storepath.Timestamp, any); got != "old" {
		t.Errorf("catalog offline = %q; want the cache's", got)
	}
	nothing := &Source{Disk: func() *Disk { return nil }}
	if _, err := nothing.Read(t.Context(), good, nil, 1000, any); !errors.Is(err, ErrOffline) {
		t.Errorf("without cache and network: %v; want ErrOffline", err)
	}
}

// What lies in the folder may be anything.
func TestHostileFolder(t *testing.T) {
	content := []byte("x")
	blob := digest.BlobOf(content)
	path := storepath.File(blob.SHA256)
	for name, plant := range map[string]func(string) error{
		"folder": func(p string) error { return os.Mkdir(p, 0o755) },
		"link": func(p string) error {
			secret := filepath.Join(t.TempDir(), "x")
			return errors.Join(os.WriteFile(secret, content, 0o644), os.Symlink(secret, p))
		},
		"pipe": func(p string) error { return unix.Mkfifo(p, 0o644) },
	} {
		d := folder(t, map[string][]byte{"files/README": nil, "state.json": []byte("{")})
		if err := plant(filepath.Join(d.root, path)); err != nil {
			t.Fatal(err)
		}
		if err := d.Download(t.Context(), path, blob, make(buffer, 1), nil); err == nil {
			t.Errorf("%s: Download = nil; want an error", name)
		}
		if d.Has(t.Context(), path, 1) {
			t.Errorf("%s: Has = true", name)
		}
	}
	d := folder(t, nil)
	if err := os.WriteFile(filepath.Join(d.found.Folder, "secret"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"../secret", "files/../../secret", "files/x"} {
		if _, err := d.Read(t.Context(), p, nil, 10, nil); !errors.Is(err, ErrNotCached) {
			t.Errorf("Read(%s) = %v; want ErrNotCached", p, err)
		}
	}
	big := folder(t, map[string][]byte{storepath.Timestamp: make([]byte, 1001)})
	if _, err := big.Read(t.Context(), storepath.Timestamp, nil, 1000, nil); err == nil {
		t.Error("Read of a file over the limit = nil; want an error")
	}
}

// A disk that does not answer costs its limit once, and is not asked again.
func TestHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &Disk{limit: stepLimit}
		release := make(chan struct{})
		defer close(release)
		begin := time.Now()
		_, err := within(t.Context(), d, func() (int, error) { <-release; return 1, nil })
		if !errors.Is(err, ErrHangs) || time.Since(begin) != stepLimit {
			t.Errorf("within = %v after %v; want ErrHangs after %v", err, time.Since(begin), stepLimit)
		}
		begin = time.Now()
		if _, err := within(t.Context(), d, func() (int, error) { return 1, nil }); !errors.Is(err, ErrHangs) || time.Since(begin) != 0 {
			t.Errorf("within a second time = %v after %v; want ErrHangs at once", err, time.Since(begin))
		}
	})
}

func TestComplete(t *testing.T) {
	kernel, initrd, index := []byte("kernel"), []byte("initrd"), []byte("index")
	m := &catalog.Manifest{
		Format: catalog.ManifestFormat, Name: "a", Version: "1", Arch: "amd64", Created: time.Now(),
		Kernel: catalog.Kernel{Blob: digest.BlobOf(kernel), Release: "6"}, Initrd: digest.BlobOf(initrd),
		Root: catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 1, Index: digest.BlobOf(index)}}},
	}
	doc, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := catalog.ManifestName("a", "1", "amd64")
	repo := catalogtest.New(t, catalogtest.Options{})
	repo.Publish(t, map[string][]byte{name: doc})
	all := map[string][]byte{
		storepath.Target(name, digest.Of(doc)): doc, storepath.File(digest.Of(kernel)): kernel,
		storepath.File(digest.Of(initrd)): initrd, storepath.Index(digest.Of(index)): index,
	}
	for missing := range all {
		for _, there := range []bool{true, false} {
			files := map[string][]byte{}
			for p, b := range all {
				if there || p != missing || strings.HasPrefix(p, "catalog/") {
					files[p] = b
				}
			}
			d := folder(t, files)
			d.state.Complete = []cachedisk.Complete{{Manifest: digest.Of(doc)}}
			img, err := repo.Open(t).From(d).Image(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			want := there || strings.HasPrefix(missing, "catalog/")
			if got := d.Complete(t.Context(), img); got != want {
				t.Errorf("Complete with %s there %t = %t; want %t", missing, there, got, want)
			}
			d.state.Complete = nil
			if d.Complete(t.Context(), img) {
				t.Error("Complete = true though the state does not list the image")
			}
		}
	}
}

// A machine without disks goes on after the time for late ones.
func TestSearchEnds(t *testing.T) {
	var nobody *Search
	if nobody.Disk() != nil {
		t.Error("Disk of no search is not nil")
	}
	nobody.Close()
	var log []string
	s := Start(t.Context(), Options{Dir: t.TempDir(), UUID: "0000-0000", Wait: time.Millisecond, Log: func(l string) { log = append(log, l) }})
	select {
	case <-s.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the search does not end")
	}
	if s.Disk() != nil || len(log) == 0 || !strings.Contains(log[len(log)-1], "there is no cache on the disk 0000-0000") {
		t.Errorf("Disk = %v, said %q; want none, and that it was looked for", s.Disk(), log)
	}
	s.Close()
}
