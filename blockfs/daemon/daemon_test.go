package daemon_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/daemon"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/internal/cachedisk"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
)

// rig runs a daemon for one file.
type rig struct {
	local      func(string) ([]byte, error) // files in the initramfs; nil: none, and the cache is filled
	store, dir string
	data       []byte
	blob       digest.Blob
	down       atomic.Bool
	h          *handoff.Handoff
	messages   *bufio.Scanner
	orders     *io.PipeWriter
	stats      *os.File
	done       chan error
	cache      string   // folder; "": none
	kernel     *os.File // the kernel's log; nil: none
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	r := &rig{store: t.TempDir(), dir: t.TempDir(), data: readtest.Noise(2<<20, 1), done: make(chan error, 1)}
	r.blob = readtest.Write(t, r.store, r.data)
	files := http.FileServer(http.Dir(r.store))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if r.down.Load() {
			panic(http.ErrAbortHandler)
		}
		files.ServeHTTP(w, q)
	}))
	t.Cleanup(srv.Close)
	r.h = &handoff.Handoff{
		Format: handoff.Format, Mirrors: []string{srv.URL},
		Network: handoff.Network{MAC: "52:54:00:12:34:56", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24")}},
		Root:    handoff.Root{Type: "raw", Files: []handoff.RootFile{{Name: "data", Size: int64(len(r.data)), Index: r.blob}}},
	}
	return r
}

func (r *rig) start(t *testing.T) {
	t.Helper()
	messagesR, messages := io.Pipe()
	orders, ordersW := io.Pipe()
	stats, err := os.Create(filepath.Join(t.TempDir(), "stats"))
	if err != nil {
		t.Fatal(err)
	}
	r.messages, r.orders, r.stats = bufio.NewScanner(messagesR), ordersW, stats
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer messages.Close()
		r.done <- daemon.Run(ctx, daemon.Options{
			Handoff: r.h, Dir: r.dir, Control: messages, Orders: orders, Stats: stats,
			Cache: r.cache, Fill: r.local == nil, Local: r.local, Delay: time.Millisecond, Kernel: r.kernel,
			Quiet:  pack.Quiet{For: 50 * time.Millisecond, Least: 50 * time.Millisecond, Most: 5 * time.Second},
			Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		})
	}()
	t.Cleanup(func() {
		go io.Copy(io.Discard, messagesR)
		r.down.Store(false)
		_ = unix.Unmount(r.dir, unix.MNT_DETACH)
		cancel()
		select {
		case err := <-r.done:
			t.Logf("daemon: %v", err)
		case <-time.After(60 * time.Second):
			t.Error("the daemon does not end after its filesystem was unmounted")
		}
		ordersW.Close()
		stats.Close()
	})
}

func (r *rig) message(t *testing.T) daemon.Message {
	t.Helper()
	var m daemon.Message
	if !r.messages.Scan() {
		t.Fatal("the daemon says nothing more")
	}
	if err := json.Unmarshal(r.messages.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestServes(t *testing.T) {
	r := newRig(t)
	r.start(t)
	if m := r.message(t); !m.Ready {
		t.Fatalf("first message = %+v; want ready", m)
	}
	got, err := os.ReadFile(filepath.Join(r.dir, "data"))
	if err != nil || !bytes.Equal(got, r.data) {
		t.Errorf("ReadFile = %d bytes, %v; want the data", len(got), err)
	}
	var rep daemon.Report
	for range 50 {
		b, err := os.ReadFile(r.stats.Name())
		if err != nil {
			t.Fatal(err)
		}
		if json.Unmarshal(b, &rep) == nil && rep.Fetched == rep.Blocks && rep.Fetched > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if rep.Fetched != rep.Blocks || rep.Bytes != int64(len(r.data)) || rep.ReadBytes < rep.Bytes {
		t.Errorf("report = %+v; want all of it", rep)
	}
	if err := unix.Unmount(r.dir, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-r.done:
		r.done <- err
		if err != nil {
			t.Errorf("Run = %v; want nil after an unmount", err)
		}
	case <-time.After(60 * time.Second):
		t.Error("Run goes on after its filesystem was unmounted")
	}
}

func TestWaitsForTheStore(t *testing.T) {
	r := newRig(t)
	r.down.Store(true)
	r.start(t)
	time.AfterFunc(600*time.Millisecond, func() { r.down.Store(false) })
	if m := r.message(t); !m.Ready {
		t.Errorf("first message = %+v; want ready, after the outage", m)
	}
}

func TestRefusedIndex(t *testing.T) {
	for name, change := range map[string]func(r *rig){
		"hash": func(r *rig) { r.h.Root.Files[0].Index.SHA256[0] ^= 1; copyIndex(r) },
		"size": func(r *rig) { r.h.Root.Files[0].Size++ },
		"gone": func(r *rig) { r.h.Root.Files[0].Index.SHA256[0] ^= 1 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			change(r)
			r.start(t)
			if m := r.message(t); !strings.Contains(m.Error, "index of data") || m.Ready {
				t.Errorf("first message = %+v; want an error about the index", m)
			}
		})
	}
}

// copyIndex puts the good index where another one is expected.
func copyIndex(r *rig) {
	b, err := os.ReadFile(filepath.Join(r.store, "indexes", r.blob.SHA256.String()))
	if err == nil {
		err = os.WriteFile(filepath.Join(r.store, "indexes", r.h.Root.Files[0].Index.SHA256.String()), b, 0o644)
	}
	if err != nil {
		panic(err)
	}
}

func TestRefusedBlock(t *testing.T) {
	r := newRig(t)
	bad := map[string][]byte{}
	err := filepath.WalkDir(filepath.Join(r.store, "blocks"), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if bad[p], err = os.ReadFile(p); err != nil {
			return err
		}
		return os.WriteFile(p, bad[p][:len(bad[p])/2], 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	r.start(t)
	if m := r.message(t); !m.Ready {
		t.Fatalf("first message = %+v; want ready", m)
	}
	read := func() error {
		f, err := os.Open(filepath.Join(r.dir, "data"))
		if err != nil {
			return err
		}
		defer f.Close()
		p := make([]byte, 4096)
		n, err := f.ReadAt(p, 0)
		if err == nil && !bytes.Equal(p[:n], r.data[:n]) {
			return errors.New("wrong bytes")
		}
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- read() }()
	if m := r.message(t); !strings.HasPrefix(m.Error, "block ") {
		t.Errorf("second message = %+v; want an error about a block", m)
	}
	go func() {
		for r.messages.Scan() { // of read-ahead
		}
	}()
	if err := <-failed; !errors.Is(err, unix.EIO) {
		t.Errorf("read of a bad block = %v; want EIO", err)
	}
	// From now on it waits until the store is repaired.
	fmt.Fprintln(r.orders, daemon.Patient)
	fmt.Fprintln(r.orders, "") // the order before was taken when this one is
	go func() { failed <- read() }()
	select {
	case err := <-failed:
		t.Errorf("read of a bad block with patience = %v; want it to wait", err)
	case <-time.After(300 * time.Millisecond):
		for p, b := range bad {
			if err := os.WriteFile(p, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-failed; err != nil {
			t.Errorf("read after repair = %v; want the data", err)
		}
	}
}

// TestCatalogIsRemembered starts the daemon with a cache that is not to be
// filled: it gets the catalog's metadata all the same, and nothing that is not
// what preboot has verified.
func TestCatalogIsRemembered(t *testing.T) {
	r := newRig(t)
	r.cache = t.TempDir()
	r.h.BootID = strings.Repeat("0", 32)
	r.h.Image = handoff.Image{Name: "tiny", Version: "1", Arch: "amd64", Manifest: digest.Of([]byte("manifest"))}
	files := make(map[string][]byte)
	r.local = func(name string) ([]byte, error) {
		if data, ok := files[name]; ok {
			return data, nil
		}
		return nil, os.ErrNotExist
	}
	add := func(path, content, is string) {
		r.h.Keep = append(r.h.Keep, handoff.StoreFile{Path: path, Blob: digest.BlobOf([]byte(content))})
		files[handoff.StorePath(path)] = []byte(is)
	}
	kernel := storepath.File(digest.Of([]byte("kernel")))
	add(kernel, "kernel", "kernel")
	add(storepath.RoleMetadata("root", 2), "root", "root")
	add(storepath.Timestamp, "timestamp", "timestamp")
	add(storepath.RoleMetadata("snapshot", 3), "snapshot", "SNAPSHOT")
	r.start(t)
	if m := r.message(t); !m.Ready {
		t.Fatalf("first message = %+v; want ready", m)
	}
	fmt.Fprintln(r.orders, daemon.Patient)
	read := func(path string) string {
		data, err := os.ReadFile(filepath.Join(r.cache, "store", path))
		if err != nil {
			return ""
		}
		return string(data)
	}
	for range 400 {
		if read(storepath.Timestamp) != "" {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if root, ts := read(storepath.RoleMetadata("root", 2)), read(storepath.Timestamp); root != "root" || ts != "timestamp" {
		t.Errorf("root %q, timestamp %q in the cache; want both", root, ts)
	}
	if s, k := read(storepath.RoleMetadata("snapshot", 3)), read(kernel); s != "" || k != "" {
		t.Errorf("snapshot %q, kernel %q in the cache; want neither: one is changed, the other is for the fill", s, k)
	}
}

// TestCacheOutlivesTheStore lets the daemon fill its cache, and starts it again
// with the store gone; the cache remembers that it has all of the image.
func TestCacheOutlivesTheStore(t *testing.T) {
	r := newRig(t)
	r.cache = t.TempDir()
	r.h.CatalogVersion, r.h.Entry = 7, "debian-12"
	r.h.Image = handoff.Image{Name: "tiny", Version: "1", Arch: "amd64", Manifest: digest.Of([]byte("manifest"))}
	r.h.BootID = strings.Repeat("0", 32)
	r.h.Keep = []handoff.StoreFile{{Path: storepath.Index(r.blob.SHA256), Blob: r.blob}}
	complete := func() cachedisk.State {
		t.Helper()
		s, err := cachedisk.LoadState(r.cache)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	t.Run("fill", func(t *testing.T) {
		r.start(t)
		if m := r.message(t); !m.Ready {
			t.Fatalf("first message = %+v; want ready", m)
		}
		fmt.Fprintln(r.orders, daemon.Patient)
		var s cachedisk.State
		for range 200 {
			if s = complete(); len(s.Complete) > 0 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if len(s.Complete) != 1 || s.Complete[0].Manifest != r.h.Image.Manifest || s.Catalog != 7 || s.Entry != "debian-12" {
			t.Errorf("state = %+v; want the image to be complete", s)
		}
	})
	t.Run("without a store", func(t *testing.T) {
		r.down.Store(true)
		r.done = make(chan error, 1)
		r.start(t)
		if m := r.message(t); !m.Ready {
			t.Fatalf("first message = %+v; want ready", m)
		}
		got, err := os.ReadFile(filepath.Join(r.dir, "data"))
		if err != nil || !bytes.Equal(got, r.data) {
			t.Errorf("ReadFile = %d bytes, %v; want the data", len(got), err)
		}
	})
}
