package mount_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/mount"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
)

// server serves dir; while down it drops connections.
func server(t testing.TB, dir string) (url string, down *atomic.Bool) {
	t.Helper()
	down = new(atomic.Bool)
	files := http.FileServer(http.Dir(dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		files.ServeHTTP(w, r)
	}))
	srv.Config.ErrorLog = nil
	t.Cleanup(srv.Close)
	return srv.URL, down
}

type testMount struct {
	*mount.Mount
	blocks *read.Blocks
	store  string
	down   *atomic.Bool
}

// newMount mounts the named contents out of a store behind HTTP. Whatever
// happens, the mount is gone when the test is over.
func newMount(t testing.TB, contents map[string][]byte, ro read.Options, mo mount.Options) *testMount {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip(err)
	}
	m := &testMount{store: t.TempDir()}
	var url string
	url, m.down = server(t, m.store)
	c, err := mirror.New([]string{url}, mirror.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	s := read.Mirror(c)
	m.blocks = read.New(s, ro)
	t.Cleanup(m.blocks.Close)
	var files []mount.File
	for name, data := range contents {
		blob := readtest.Write(t, m.store, data)
		x, err := s.Index(t.Context(), "index of "+name, blob)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, mount.File{Name: name, File: m.blocks.Open(x)})
	}
	dir := t.TempDir()
	m.Mount, err = mount.New(dir, files, mo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.blocks.Close() // ends reads that hang
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		if err := m.Unmount(ctx); err != nil {
			t.Errorf("Unmount = %v", err)
		}
	})
	return m
}

func TestFiles(t *testing.T) {
	contents := map[string][]byte{"meta": readtest.Mixed(3<<20+5, 1), "data": readtest.Mixed(12<<20+4095, 2), "tiny": []byte("x")}
	m := newMount(t, contents, read.Options{}, mount.Options{})
	entries, err := os.ReadDir(m.Dir())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		i, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name())
		if i.Size() != int64(len(contents[e.Name()])) || i.Mode() != 0o444 {
			t.Errorf("%s: size %d, mode %v; want %d, -r--r--r--", e.Name(), i.Size(), i.Mode(), len(contents[e.Name()]))
		}
	}
	if diff := cmp.Diff([]string{"data", "meta", "tiny"}, names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	for name, want := range contents {
		got, err := os.ReadFile(filepath.Join(m.Dir(), name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadFile(%s) = %d bytes, %v; want the %d bytes written", name, len(got), err, len(want))
		}
	}
	if _, err := os.Stat(filepath.Join(m.Dir(), "other")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat of a name that is not there = %v; want ErrNotExist", err)
	}
	for name, f := range map[string]func(string) error{
		"write":  func(p string) error { return os.WriteFile(p, nil, 0) },
		"remove": os.Remove,
		"create": func(p string) error { return os.WriteFile(p+"new", nil, 0o600) },
		"chmod":  func(p string) error { return os.Chmod(p, 0o600) },
	} {
		if err := f(filepath.Join(m.Dir(), "tiny")); !errors.Is(err, syscall.EROFS) {
			t.Errorf("%s = %v; want EROFS", name, err)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(m.Dir(), &st); err != nil || st.Blocks == 0 || st.Bfree != 0 {
		t.Errorf("statfs = %+v, %v; want a full filesystem", st, err)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !strings.Contains(string(info), "fuse.blockfs blockfs ro") {
		t.Errorf("the mount is not listed as fuse.blockfs, read-only: %v", err)
	}
}

func TestConcurrentReaders(t *testing.T) {
	data := readtest.Mixed(24<<20, 3)
	m := newMount(t, map[string][]byte{"data": data}, read.Options{Memory: 4 << 20}, mount.Options{})
	f, err := os.Open(filepath.Join(m.Dir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var wg sync.WaitGroup
	for i := range 8 {
		rnd := rand.New(rand.NewPCG(uint64(i), 3))
		wg.Go(func() {
			p := make([]byte, 300_000)
			for range 40 {
				off := rnd.Int64N(int64(len(data) - len(p)))
				if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, data[off:off+int64(len(p))]) {
					t.Errorf("ReadAt(%d) = %v; want the data there", off, err)
				}
			}
		})
	}
	wg.Wait()
}

func TestBadBlocksAreErrors(t *testing.T) {
	data := readtest.Noise(6<<20, 4)
	m := newMount(t, map[string][]byte{"data": data}, read.Options{Patience: 200 * time.Millisecond, Ahead: -1}, mount.Options{ReadAhead: 4})
	var stored []string
	err := filepath.WalkDir(filepath.Join(m.store, "blocks"), func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			stored = append(stored, p)
		}
		return err
	})
	if err != nil || len(stored) < 5 {
		t.Fatal(len(stored), err)
	}
	change := []func([]byte) []byte{
		func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		func(b []byte) []byte { return b[:len(b)/2] },
		func(b []byte) []byte { return append(b, b...) },
		func([]byte) []byte { return nil }, // removed
	}
	bad := map[digest.SHA256]bool{}
	for i, f := range change {
		b, err := os.ReadFile(stored[i])
		if err != nil {
			t.Fatal(err)
		}
		sum, err := digest.Parse(filepath.Base(stored[i]))
		if err != nil {
			t.Fatal(err)
		}
		bad[sum] = true
		if b = f(b); b == nil {
			err = os.Remove(stored[i])
		} else {
			err = os.WriteFile(stored[i], b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(filepath.Join(m.Dir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fails := 0
	for off := 0; off < len(data); off += 4096 {
		p := make([]byte, 4096)
		n, err := f.ReadAt(p, int64(off))
		if !bytes.Equal(p[:n], data[off:off+n]) {
			t.Fatalf("wrong bytes at %d", off)
		}
		if err != nil {
			fails++
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("read at %d = %v; want EIO", off, err)
			}
		}
	}
	if fails == 0 || fails > 4*256 {
		t.Errorf("%d pages could not be read; want those of 4 blocks", fails)
	}
}

func TestServerAwayAndBack(t *testing.T) {
	data := readtest.Noise(4<<20, 5)
	m := newMount(t, map[string][]byte{"data": data}, read.Options{Patience: -1}, mount.Options{})
	m.down.Store(true)
	time.AfterFunc(500*time.Millisecond, func() { m.down.Store(false) })
	got, err := os.ReadFile(filepath.Join(m.Dir(), "data"))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("ReadFile over an outage = %d bytes, %v; want the data", len(got), err)
	}
}

func TestInterrupt(t *testing.T) {
	m := newMount(t, map[string][]byte{"data": readtest.Noise(1<<20, 6)}, read.Options{Patience: -1, Grace: 50 * time.Millisecond}, mount.Options{Interruptible: true})
	m.down.Store(true)
	cmd := exec.Command("cat", filepath.Join(m.Dir(), "data"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if err == nil {
			t.Error("cat ended well while the store was away")
		}
	case <-time.After(60 * time.Second):
		m.down.Store(false)
		t.Error("cat did not end by SIGINT while the store was away")
		<-done
	}
}

func TestUnmountWithOpenFiles(t *testing.T) {
	data := readtest.Noise(3<<20, 7)
	m := newMount(t, map[string][]byte{"data": data}, read.Options{}, mount.Options{})
	f, err := os.Open(filepath.Join(m.Dir(), "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := m.Unmount(ctx); !errors.Is(err, mount.ErrBusy) {
		t.Errorf("Unmount with an open file = %v; want ErrBusy", err)
	}
	if _, err := os.Stat(filepath.Join(m.Dir(), "data")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory is still mounted: %v", err)
	}
	got := make([]byte, len(data))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read of the open file = %v; want the data", err)
	}
	f.Close()
	select {
	case <-m.Done():
	case <-time.After(60 * time.Second):
		t.Error("the mount is not over after the last file was closed")
	}
	if err := m.Unmount(t.Context()); err != nil {
		t.Errorf("second Unmount = %v; want nil", err)
	}
}

func TestBadNames(t *testing.T) {
	for _, names := range [][]string{{""}, {".."}, {"a/b"}, {"a", "a"}} {
		var files []mount.File
		for _, n := range names {
			files = append(files, mount.File{Name: n})
		}
		if m, err := mount.New(t.TempDir(), files, mount.Options{}); err == nil {
			m.Unmount(t.Context())
			t.Errorf("New with names %q succeeds; want an error", names)
		}
	}
}

// writeEROFS makes an EROFS of two files out of some hundred.
func writeEROFS(t testing.TB) (meta, data []byte, sums map[string][32]byte) {
	t.Helper()
	dir := t.TempDir()
	mf, err := os.Create(filepath.Join(dir, "meta"))
	if err != nil {
		t.Fatal(err)
	}
	defer mf.Close()
	df, err := os.Create(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer df.Close()
	w := erofs.Create(mf, erofs.WithDataFile(df), erofs.WithTempDir(dir), erofs.WithBuildTime(1, 0))
	sums = map[string][32]byte{}
	for d := range 5 {
		if err := w.Mkdir(fmt.Sprintf("/d%d", d), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range 60 {
			name := fmt.Sprintf("/d%d/f%d", d, i)
			b := readtest.Mixed(1+(d*60+i)*997, uint64(i))
			sums[name] = sha256.Sum256(b)
			f, err := w.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.Write(b); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if meta, err = os.ReadFile(mf.Name()); err != nil {
		t.Fatal(err)
	}
	if data, err = os.ReadFile(df.Name()); err != nil {
		t.Fatal(err)
	}
	return meta, data, sums
}

func checkTree(t *testing.T, dir string, sums map[string][32]byte) {
	t.Helper()
	for name, want := range sums {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || sha256.Sum256(b) != want {
			t.Errorf("%s: %d bytes, %v; want the content written", name, len(b), err)
		}
	}
}

func TestEROFS(t *testing.T) {
	meta, data, sums := writeEROFS(t)
	m := newMount(t, map[string][]byte{"meta": meta, "data": data}, read.Options{}, mount.Options{})
	at := func(name string) string { return filepath.Join(m.Dir(), name) }

	t.Run("file-backed", func(t *testing.T) {
		dir := t.TempDir()
		if err := unix.Mount(at("meta"), dir, "erofs", unix.MS_RDONLY, "device="+at("data")); err != nil {
			t.Skipf("this kernel mounts no EROFS from files: %v", err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		checkTree(t, dir, sums)
	})
	t.Run("loop", func(t *testing.T) {
		dir := t.TempDir()
		metaDev, dataDev := losetup(t, at("meta")), losetup(t, at("data"))
		if err := unix.Mount(metaDev, dir, "erofs", unix.MS_RDONLY, "device="+dataDev); err != nil {
			t.Skipf("no EROFS: %v", err)
		}
		defer unix.Unmount(dir, unix.MNT_DETACH)
		checkTree(t, dir, sums)
	})
}

func losetup(t *testing.T, file string) string {
	out, err := exec.Command("losetup", "-r", "-f", "--show", file).CombinedOutput()
	if err != nil {
		t.Skipf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { exec.Command("losetup", "-d", dev).Run() })
	return dev
}

// TestHelperServe is the process that BenchmarkSequential measures.
func TestHelperServe(t *testing.T) {
	url, dir, sum := os.Getenv("BLOCKFS_URL"), os.Getenv("BLOCKFS_DIR"), os.Getenv("BLOCKFS_INDEX")
	if url == "" {
		t.Skip("runs as a child of the benchmark")
	}
	c, err := mirror.New([]string{url}, mirror.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	s := read.Mirror(c)
	d, err := digest.Parse(sum)
	if err != nil {
		t.Fatal(err)
	}
	x, err := s.Index(t.Context(), "index", digest.Blob{SHA256: d})
	if err != nil {
		t.Fatal(err)
	}
	// As the daemon does.
	debug.SetMemoryLimit(72 << 20)
	debug.SetGCPercent(40)
	b := read.New(s, read.Options{Memory: 40 << 20})
	defer b.Close()
	m, err := mount.New(dir, []mount.File{{Name: "data", File: b.Open(x)}}, mount.Options{})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("ready")
	<-m.Done()
}

// BenchmarkSequential reads a file of 256 MiB through a mount in another
// process, cold, from HTTP on loopback.
func BenchmarkSequential(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("mounting needs root")
	}
	store := b.TempDir()
	data := readtest.Mixed(256<<20, 8)
	blob := readtest.Write(b, store, data)
	if _, err := os.Stat(filepath.Join(store, filepath.FromSlash(storepath.Index(blob.SHA256)))); err != nil {
		b.Fatal(err)
	}
	url, _ := server(b, store)
	buf := make([]byte, 1<<20)
	var rss int
	var cpu time.Duration
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestHelperServe$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), "BLOCKFS_URL="+url, "BLOCKFS_DIR="+dir, "BLOCKFS_INDEX="+blob.SHA256.String())
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
			b.Fatal(err)
		}
		f, err := os.Open(filepath.Join(dir, "data"))
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		n := 0
		for {
			k, err := f.Read(buf)
			n += k
			if err != nil {
				break
			}
		}
		b.StopTimer()
		if n != len(data) {
			b.Errorf("read %d bytes; want %d", n, len(data))
		}
		rss = max(rss, peakRSS(b, cmd.Process.Pid))
		f.Close()
		if err := unix.Unmount(dir, 0); err != nil {
			b.Error(err)
		}
		go io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
		cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		b.StartTimer()
	}
	b.ReportMetric(cpu.Seconds()/float64(b.N)/(float64(len(data))/1e9), "cpu-s/GB")
	b.ReportMetric(float64(rss)/1024, "peak-RSS-MiB")
}

// peakRSS returns VmHWM in KiB.
func peakRSS(t testing.TB, pid int) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
