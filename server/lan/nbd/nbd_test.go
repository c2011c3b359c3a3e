package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/imagestest"
	"github.com/inetboot/inetboot/server/lan/lantest"
	"github.com/inetboot/inetboot/server/lan/swap"
	"github.com/inetboot/inetboot/server/lan/tcpserve"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// start serves and returns host and port.
func start(t testing.TB, s *Service) string {
	t.Helper()
	s.Addr, s.Logger = "127.0.0.1:0", storetest.Silent()
	lantest.Run(t, s)
	return s.Address().String()
}

func program(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("%s is needed: make deps", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprintf("failed: %v: %s%s", err, out, stderr.String())
	}
	return string(out)
}

// Ordinary clients find, describe and copy the roots of images.
func TestClients(t *testing.T) {
	root, base := imagestest.NewRoot(t), t.TempDir()
	p := storetest.New(t, base)
	p.AddRoot(t, "debian", "12", "erofs", root.Files()...)
	p.AddRoot(t, "live", "1", "squashfs", storetest.RootFile{Name: "root", Data: root.Image})
	at := start(t, &Service{Library: imagestest.Library(t, p, base)})

	var list struct {
		Exports []struct {
			Name     string `json:"export-name"`
			Size     int64  `json:"export-size"`
			ReadOnly bool   `json:"is_read_only"`
			Multi    bool   `json:"can_multi_conn"`
			DF       bool   `json:"can_df"`
			Largest  int    `json:"block_size_maximum"`
		} `json:"exports"`
	}
	out := program(t, "nbdinfo", "--list", "--json", "nbd://"+at)
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Exports) != 2 {
		t.Fatalf("nbdinfo --list: %v\n%s", err, out)
	}
	for i, e := range list.Exports {
		if want := []string{"debian/12/amd64", "live/1/amd64"}[i]; e.Name != want || e.Size != int64(len(root.Image)) || !e.ReadOnly || !e.Multi || !e.DF || e.Largest != maxRequest {
			t.Errorf("export %d is %+v; want %s", i, e, want)
		}
	}
	for _, name := range []string{"debian/12", "/debian/latest", "live"} {
		to := filepath.Join(t.TempDir(), "copy")
		if out := program(t, "nbdcopy", "nbd://"+at+"/"+name, to); out != "" {
			t.Fatalf("nbdcopy %s: %s", name, out)
		}
		if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, root.Image) {
			t.Errorf("nbdcopy %s: %d bytes that differ, %v", name, len(got), err)
		}
	}
	// QEMU reads as it likes, with structured replies; 13 bytes at an odd
	// place; writing is refused.
	pattern := fmt.Sprintf("read -v %d 13", len(root.Meta)+5)
	out = program(t, "qemu-io", "-r", "-f", "raw", "-c", "read 0 2M", "-c", pattern, "nbd://"+at+"/debian/12")
	if !strings.Contains(out, "read 13/13") {
		t.Errorf("qemu-io: %s", out)
	}
	if out := program(t, "qemu-io", "-f", "raw", "-c", "write 0 512", "nbd://"+at+"/debian/12"); !strings.Contains(out, "failed") {
		t.Errorf("qemu-io writes: %s", out)
	}
	for _, bad := range []string{"nothing", "debian/99", "swap", ""} {
		if out := program(t, "nbdinfo", "nbd://"+at+"/"+bad); !strings.Contains(out, "failed") {
			t.Errorf("nbdinfo %q: %s", bad, out)
		}
	}
}

// Swap belongs to a machine, which is told by its neighbours' table and not by
// what it says, and lasts from one connection to the next.
func TestSwap(t *testing.T) {
	// What the service is told of its client.
	type told struct {
		mac   net.HardwareAddr
		known bool
		size  int64
	}
	const size = 4 << 20
	first, second := net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}, net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2}
	var now atomic.Pointer[told]
	now.Store(&told{first, true, size})
	dir := filepath.Join(t.TempDir(), "swap")
	at := start(t, &Service{Swap: &Swap{
		Files: &swap.Files{Dir: dir, Quota: 6 << 20},
		Neighbour: func(context.Context, netip.Addr) (net.HardwareAddr, error) {
			if !now.Load().known {
				return nil, swap.ErrNotOnLAN
			}
			return now.Load().mac, nil
		},
		Size: func(context.Context, net.HardwareAddr) (int64, error) { return now.Load().size, nil },
	}})
	uri := "nbd://" + at + "/swap"
	if out := program(t, "qemu-io", "-f", "raw", "-c", "write -P 0x5a 1M 300k", "-c", "flush", "-c", "discard 0 4k", uri); !strings.Contains(out, "wrote 307200") {
		t.Fatalf("qemu-io: %s", out)
	}
	if out := program(t, "qemu-io", "-f", "raw", "-c", "read -P 0x5a 1M 300k", "-c", "write 4M 512", uri); strings.Contains(out, "verification failed") || strings.Contains(out, "wrote 512") {
		t.Errorf("qemu-io in a second connection: %s", out)
	}
	if fi, err := os.Stat(filepath.Join(dir, "52-54-00-00-00-01.swap")); err != nil || fi.Size() != size {
		t.Errorf("the file: %v, %v", fi, err)
	}
	now.Store(&told{second, true, size})
	if out := program(t, "nbdinfo", uri); !strings.Contains(out, "failed") {
		t.Errorf("a second client is beyond the quota: %s", out)
	}
	now.Store(&told{first, true, 0})
	if out := program(t, "nbdinfo", uri); !strings.Contains(out, "failed") {
		t.Errorf("a client that may not: %s", out)
	}
	now.Store(&told{first, false, size})
	if out := program(t, "nbdinfo", uri); !strings.Contains(out, "failed") {
		t.Errorf("a client that nobody knows: %s", out)
	}
}

// failing is a disk whose reads fail from an offset on.
type failing int64

func (f failing) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off+int64(len(p)) > int64(f) {
		return 0, errors.New("broken")
	}
	return len(p), nil
}

func serveDisk(t testing.TB, d Disk, size int64) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	s := &Server{
		Find: func(context.Context, netip.Addr, string) (*Export, error) {
			return &Export{Name: "x", Size: size, Disk: d}, nil
		},
		List:   func(context.Context, netip.Addr) ([]string, error) { return []string{"x"}, nil },
		Logger: storetest.Silent(), Limits: tcpserve.Limits{Max: 100, PerClient: 60},
	}
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() { cancel(); <-done })
	return ln.Addr().String()
}

// exportName connects the old way: NBD_OPT_EXPORT_NAME.
func exportName(t testing.TB, at string) net.Conn {
	t.Helper()
	return exportOf(t, at, "x")
}

func exportOf(t testing.TB, at, name string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	be := binary.BigEndian
	b := be.AppendUint32(nil, flagFixed|flagNoZeroes)
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint32(b, optExportName)
	b = be.AppendUint32(b, uint32(len(name)))
	if _, err := c.Write(append(b, name...)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 18+10)); err != nil {
		t.Fatal(err)
	}
	return c
}

func readRequest(cookie, off uint64, n uint32) []byte {
	be := binary.BigEndian
	b := be.AppendUint32(nil, magicRequest)
	b = be.AppendUint16(b, 0)
	b = be.AppendUint16(b, cmdRead)
	b = be.AppendUint64(b, cookie)
	b = be.AppendUint64(b, off)
	return be.AppendUint32(b, n)
}

// A read that fails at its first piece is answered; one that fails later ends
// the connection, because a simple reply has no way to say so.
func TestFailingReads(t *testing.T) {
	at := serveDisk(t, failing(piece), 1<<20)
	c := exportName(t, at)
	for off, want := range map[uint64]uint32{piece: errIO, 1 << 20: errInvalid, 1<<64 - 1: errInvalid} {
		_, _ = c.Write(readRequest(7, off, 4096))
		var b [16]byte
		if _, err := io.ReadFull(c, b[:]); err != nil || binary.BigEndian.Uint32(b[4:]) != want || binary.BigEndian.Uint64(b[8:]) != 7 {
			t.Fatalf("read at %d: % x, %v; want error %d", off, b, err, want)
		}
	}
	_, _ = c.Write(readRequest(8, 0, 2*piece))
	if got, err := io.ReadAll(c); len(got) != 16+piece {
		t.Errorf("%d bytes come of a read that fails in the middle, %v; want %d", len(got), err, 16+piece)
	}
}

// Clients that ask for as much as they can and read nothing cost a bounded
// amount of memory, and others are served meanwhile; more than a client's share of
// connections are refused.
func TestFlood(t *testing.T) {
	at := serveDisk(t, failing(1<<40), 1<<40)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var conns []net.Conn
	for range 50 {
		c := exportName(t, at)
		conns = append(conns, c)
		for i := range 50 {
			_ = c.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
			if _, err := c.Write(readRequest(uint64(i), 0, maxRequest)); err != nil {
				break
			}
		}
	}
	c := exportName(t, at)
	_, _ = c.Write(readRequest(1, 0, 1<<20))
	if _, err := io.ReadFull(c, make([]byte, 16+1<<20)); err != nil {
		t.Errorf("a client among greedy ones: %v", err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if more := int64(after.HeapAlloc) - int64(before.HeapAlloc); more > 50*(workers+1)*(piece+headRoom)+16<<20 {
		t.Errorf("50 clients take %d bytes", more)
	}
	refused := 0
	for range 20 {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadFull(c, make([]byte, 18)); err != nil {
			refused++
		}
	}
	if refused < 11 {
		t.Errorf("%d of 20 connections beyond the limit are refused; want 11", refused)
	}
	for _, c := range conns {
		c.Close()
	}
}

// FuzzClient sends anything, of all of which the server gets rid.
func FuzzClient(f *testing.F) {
	be := binary.BigEndian
	option := func(kind uint32, data []byte) []byte {
		b := be.AppendUint64(nil, magicOption)
		b = be.AppendUint32(b, kind)
		return append(be.AppendUint32(b, uint32(len(data))), data...)
	}
	hello := []byte{0, 0, 0, 3}
	goX := []byte{0, 0, 0, 1, 'x', 0, 1, 0, 3}
	f.Add(append(append(hello, option(optList, nil)...), option(optAbort, nil)...))
	f.Add(append(append(append(hello, option(optStructured, nil)...), option(optGo, goX)...), readRequest(1, 0, 100)...))
	f.Add(append(append(hello, option(optInfo, goX)...), option(99, []byte{1})...))
	f.Add(append(append(hello, option(optExportName, []byte{'x'})...), readRequest(1, 5, 1<<31)...))
	inMemory, content := newSpanDisk(f, 300_000, -100_000, 5, -5000, 0, 1000)
	f.Fuzz(func(t *testing.T, data []byte) {
		disk := Disk(failing(1 << 18))
		if len(data)%2 == 0 {
			disk = inMemory
		}
		client, server := net.Pipe()
		s := &Server{
			Find: func(context.Context, netip.Addr, string) (*Export, error) {
				return &Export{Name: "x", Size: int64(len(content)), Disk: disk}, nil
			},
			List:   func(context.Context, netip.Addr) ([]string, error) { return []string{"x"}, nil },
			Logger: storetest.Silent(),
		}
		done := make(chan struct{})
		go func() { defer close(done); s.serve(context.Background(), server); server.Close() }()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		_ = client.SetWriteDeadline(time.Now().Add(30 * time.Second))
		_, _ = client.Write(data)
		client.Close()
		select {
		case <-done:
		case <-time.After(60 * time.Second):
			t.Fatal("the server still has the connection")
		}
	})
}

// Whole writes and reads of random places agree with a copy in memory.
func TestWrites(t *testing.T) {
	files := &swap.Files{Dir: t.TempDir()}
	sf, err := files.Open(t.Context(), net.HardwareAddr{2, 0, 0, 0, 0, 1}, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer sf.Close()
	c := exportName(t, serveDisk(t, sf, 1<<20))
	model := make([]byte, 1<<20)
	rnd := rand.New(rand.NewPCG(1, 2))
	var b [16]byte
	for range 50 {
		off := rnd.IntN(1<<20 - 300_000)
		data := bytes.Repeat([]byte{byte(rnd.Int())}, 1+rnd.IntN(300_000))
		q := readRequest(3, uint64(off), uint32(len(data)))
		q[7] = cmdWrite
		if _, err := c.Write(append(q, data...)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b[:]); err != nil || binary.BigEndian.Uint32(b[4:]) != 0 {
			t.Fatalf("write: % x, %v", b, err)
		}
		copy(model[off:], data)
	}
	_, _ = c.Write(readRequest(4, 0, 1<<20))
	got := make([]byte, 16+1<<20)
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got[16:], model) {
		t.Errorf("what was written is not what is read: %v", err)
	}
}
