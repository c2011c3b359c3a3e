package nfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/imagestest"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/lan/lantest"
	"github.com/inetboot/inetboot/server/lan/tcpserve"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// start serves until stop is called, which happens at the end anyway.
func start(t testing.TB, l *images.Library, port int, limits tcpserve.Limits) (s *Service, stop func()) {
	t.Helper()
	s = &Service{Host: "127.0.0.1", Port: port, Library: l, Logger: storetest.Silent(), Limits: limits}
	return s, lantest.Run(t, s)
}

// client is an RPC client with one call at a time.
type client struct {
	t   testing.TB
	c   net.Conn
	xid uint32
	uid uint32
}

func dial(t testing.TB, port int) *client {
	t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{t: t, c: c}
}

func (c *client) message(program, version, proc uint32, args []byte) []byte {
	c.xid++
	e := &encoder{}
	for _, v := range []uint32{c.xid, msgCall, rpcVersion, program, version, proc, authSys} {
		e.uint32(v)
	}
	cred := &encoder{}
	cred.uint32(1)
	cred.string("client")
	cred.uint32(c.uid)
	cred.uint32(c.uid)
	cred.uint32(0)
	e.opaque(cred.b)
	e.uint32(authNone)
	e.uint32(0)
	return append(e.b, args...)
}

// call returns the results of a procedure that is accepted.
func (c *client) call(program, version, proc uint32, args []byte) *decoder {
	c.t.Helper()
	d := c.raw(c.message(program, version, proc, args))
	if accept := d.uint32(); accept != acceptSuccess || d.bad {
		c.t.Fatalf("procedure %d of %d: accept status %d", proc, program, accept)
	}
	return d
}

// raw sends a call in two fragments and returns what follows the verifier of
// the reply.
func (c *client) raw(msg []byte) *decoder {
	c.t.Helper()
	head := func(n int, last uint32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)|last) }
	out := append(head(10, 0), msg[:10]...)
	out = append(append(out, head(len(msg)-10, lastPiece)...), msg[10:]...)
	if _, err := c.c.Write(out); err != nil {
		c.t.Fatal(err)
	}
	var b [4]byte
	if _, err := io.ReadFull(c.c, b[:]); err != nil {
		c.t.Fatal(err)
	}
	reply := make([]byte, binary.BigEndian.Uint32(b[:])&^lastPiece)
	if _, err := io.ReadFull(c.c, reply); err != nil {
		c.t.Fatal(err)
	}
	d := &decoder{b: reply}
	if xid, kind, state := d.uint32(), d.uint32(), d.uint32(); xid != c.xid || kind != msgReply || state != replyAccepted {
		c.t.Fatalf("a reply to %d (want %d), of kind %d, state %d", xid, c.xid, kind, state)
	}
	d.uint32()
	d.opaque(maxAuth)
	return d
}

func (c *client) mount(path string) ([]byte, uint32) {
	c.t.Helper()
	e := &encoder{}
	e.string(path)
	d := c.call(progMount, versMount, procMount, e.b)
	if status := d.uint32(); status != mountOK {
		return nil, status
	}
	return bytes.Clone(d.opaque(maxHandle)), mountOK
}

type attributes struct {
	kind, mode, nlink, uid, gid uint32
	size, used                  uint64
	major, minor                uint32
	fsid, id                    uint64
	times                       [3][2]uint32
}

func readAttributes(d *decoder) (a attributes) {
	a.kind, a.mode, a.nlink, a.uid, a.gid = d.uint32(), d.uint32(), d.uint32(), d.uint32(), d.uint32()
	a.size, a.used, a.major, a.minor, a.fsid, a.id = d.uint64(), d.uint64(), d.uint32(), d.uint32(), d.uint64(), d.uint64()
	for i := range a.times {
		a.times[i] = [2]uint32{d.uint32(), d.uint32()}
	}
	return a
}

func withHandle(h []byte) *encoder {
	e := &encoder{}
	e.opaque(h)
	return e
}

// on calls a procedure of NFS for a handle and returns what follows status and
// attributes.
func (c *client) on(proc uint32, e *encoder) (uint32, *decoder) {
	c.t.Helper()
	d := c.call(progNFS, versNFS, proc, e.b)
	status := d.uint32()
	if d.uint32() == 1 {
		readAttributes(d)
	}
	return status, d
}

func (c *client) lookup(h []byte, name string) ([]byte, attributes, uint32) {
	c.t.Helper()
	e := withHandle(h)
	e.string(name)
	d := c.call(progNFS, versNFS, procLookup, e.b)
	if status := d.uint32(); status != nfsOK {
		return nil, attributes{}, status
	}
	found := bytes.Clone(d.opaque(maxHandle))
	if d.uint32() != 1 {
		c.t.Fatal("LOOKUP without attributes")
	}
	return found, readAttributes(d), nfsOK
}

func (c *client) readAll(h []byte, size uint64, piece uint32) []byte {
	c.t.Helper()
	var out []byte
	for uint64(len(out)) < size {
		e := withHandle(h)
		e.uint64(uint64(len(out)))
		e.uint32(piece)
		status, d := c.on(procRead, e)
		n, end := d.uint32(), d.uint32() == 1
		data := d.opaque(maxRead)
		if status != nfsOK || d.bad || int(n) != len(data) || n == 0 || end != (uint64(len(out)+len(data)) == size) {
			c.t.Fatalf("READ at %d of %d: status %d, %d bytes, end %t", len(out), size, status, n, end)
		}
		out = append(out, data...)
	}
	return out
}

// names lists a directory by READDIRPLUS, in answers of about limit bytes, or by
// READDIR.
func (c *client) names(h []byte, plus bool, limit uint32) map[string]attributes {
	c.t.Helper()
	out := map[string]attributes{}
	for cookie, end := uint64(0), false; !end; {
		e := withHandle(h)
		e.uint64(cookie)
		e.uint64(0)
		e.uint32(limit)
		proc := uint32(procReaddir)
		if plus {
			e.uint32(limit)
			proc = procReaddirPlus
		}
		status, d := c.on(proc, e)
		if d.uint64(); status != nfsOK {
			c.t.Fatalf("READDIR: status %d", status)
		}
		if len(d.b) > int(limit) {
			c.t.Errorf("READDIR: %d bytes; at most %d are wanted", len(d.b), limit)
		}
		for d.uint32() == 1 {
			id, name := d.uint64(), string(d.opaque(maxName))
			cookie = d.uint64()
			if _, ok := out[name]; ok || d.bad {
				c.t.Fatalf("READDIR: %q comes twice, or is cut off", name)
			}
			a := attributes{id: id}
			if plus {
				if d.uint32() != 1 {
					c.t.Fatal("READDIRPLUS without attributes")
				}
				if a = readAttributes(d); a.id != id || d.uint32() != 1 {
					c.t.Fatalf("READDIRPLUS: %q has two numbers, or no handle", name)
				}
				d.opaque(maxHandle)
			}
			out[name] = a
		}
		end = d.uint32() == 1
	}
	return out
}

func publish(t testing.TB) (*imagestest.Root, *storetest.Publisher, string) {
	t.Helper()
	root, base := imagestest.NewRoot(t), t.TempDir()
	p := storetest.New(t, base)
	p.AddRoot(t, "debian", "12", "erofs", root.Files()...)
	return root, p, base
}

// Everything in an export is what stat(2) said before it was published, and
// handles outlast the server.
func TestTree(t *testing.T) {
	root, p, base := publish(t)
	p.AddRoot(t, "live", "1", "squashfs", storetest.RootFile{Name: "root", Data: []byte("x")})
	s, stop := start(t, imagestest.Library(t, p, base), 0, tcpserve.Limits{})
	port, _ := s.Ports()
	c := dial(t, port)
	top, status := c.mount("/debian/latest")
	if status != mountOK {
		t.Fatalf("MNT: %d", status)
	}
	for path, want := range map[string]uint32{"/nothing": mountNoEntry, "/debian/12/amd64/etc": mountOK, "/debian/latest/usr/big": mountNotDir, "/debian/bin/su": mountNoEntry, "/debian/x": mountNoEntry, "/": mountNoEntry, "/../etc": mountNoEntry, "/live/1": mountNotDir} {
		if _, status := c.mount(path); status != want {
			t.Errorf("MNT %s: %d; want %d", path, status, want)
		}
	}
	handles := map[string][]byte{".": top}
	err := filepath.WalkDir(root.Dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root.Dir, name)
		h := handles[rel]
		var a attributes
		if rel == "." {
			d := c.call(progNFS, versNFS, procGetattr, withHandle(h).b)
			d.uint32()
			a = readAttributes(d)
		} else {
			var status uint32
			if h, a, status = c.lookup(handles[filepath.Dir(rel)], filepath.Base(rel)); status != nfsOK {
				t.Fatalf("LOOKUP %s: %d", rel, status)
			}
			handles[rel] = h
		}
		checkAttributes(t, rel, name, a)
		switch a.kind {
		case 1:
			want, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			for _, piece := range []uint32{1 << 20, 300_001} {
				if a.size > 1000 || piece == 1<<20 {
					if got := c.readAll(h, a.size, piece); !bytes.Equal(got, want) {
						t.Errorf("/%s differs", rel)
					}
				}
			}
		case 5:
			want, _ := os.Readlink(name)
			if _, d := c.on(procReadlink, withHandle(h)); string(d.opaque(4096)) != want {
				t.Errorf("READLINK /%s: not %s", rel, want)
			}
		case 2:
			entries, err := os.ReadDir(name)
			if err != nil {
				return err
			}
			plus, plain := c.names(h, true, 4096), c.names(h, false, 1024)
			for _, e := range entries {
				full := filepath.Join(name, e.Name())
				checkAttributes(t, rel+"/"+e.Name(), full, plus[e.Name()])
				if plain[e.Name()].id != plus[e.Name()].id {
					t.Errorf("READDIR and READDIRPLUS differ about %s", full)
				}
			}
			if len(plus) != len(entries)+2 || len(plain) != len(entries)+2 {
				t.Errorf("/%s has %d and %d names; want %d", rel, len(plus), len(plain), len(entries)+2)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := handles["usr/big"], handles["usr/same"]; !bytes.Equal(a, b) {
		t.Error("two names of a file have two handles")
	}

	// Restart, with an empty memory.
	stop()
	_, _ = start(t, imagestest.Library(t, p, base), port, tcpserve.Limits{})
	c = dial(t, port)
	if got := c.readAll(handles["usr/big"], imagestest.Big, 1<<20); len(got) != imagestest.Big {
		t.Errorf("%d bytes are read after a restart", len(got))
	}
	gone := bytes.Clone(top)
	gone[5] ^= 1
	beyond := bytes.Clone(top)
	copy(beyond[handleLength-8:], "\xff\xff\xff\xff\xff\xff\xff\xff")
	for _, tc := range []struct {
		h    []byte
		want uint32
	}{{gone, nfsStale}, {beyond, nfsBadHandle}, {top[:8], nfsBadHandle}, {nil, nfsBadHandle}} {
		if d := c.call(progNFS, versNFS, procGetattr, withHandle(tc.h).b); d.uint32() != tc.want {
			t.Errorf("GETATTR of the handle % x: not %d", tc.h, tc.want)
		}
	}

	// What cannot be, and who may what.
	for _, tc := range []struct {
		name string
		uid  uint32
		want uint32
	}{{"etc/hostname", 0, accessRead}, {"etc/hostname", 5, accessRead}, {"usr/bin/su", 5, accessRead | accessExecute}, {"tmp", 5, accessRead | accessLookup}, {"etc/fifo", 5, 0}} {
		c.uid = tc.uid
		e := withHandle(handles[tc.name])
		e.uint32(0x3f)
		if status, d := c.on(procAccess, e); status != nfsOK || d.uint32() != tc.want {
			t.Errorf("ACCESS of user %d to %s: not %#x", tc.uid, tc.name, tc.want)
		}
	}
	for proc := uint32(procSetattr); proc <= procLink; proc++ {
		if proc >= procLookup && proc <= procRead {
			continue
		}
		if d := c.call(progNFS, versNFS, proc, withHandle(top).b); d.uint32() != nfsReadOnly {
			t.Errorf("procedure %d: not NFS3ERR_ROFS", proc)
		}
	}
	if _, _, status := c.lookup(top, "nothing"); status != nfsNoEntry {
		t.Errorf("LOOKUP of nothing: %d", status)
	}
	if _, _, status := c.lookup(top, strings.Repeat("x", 256)); status != nfsNameLong {
		t.Errorf("LOOKUP of a long name: %d", status)
	}
	if _, _, status := c.lookup(handles["usr/big"], "x"); status != nfsNotDir {
		t.Errorf("LOOKUP in a file: %d", status)
	}
	for _, proc := range []uint32{procFsstat, procFsinfo, procPathconf} {
		if status, _ := c.on(proc, withHandle(top)); status != nfsOK {
			t.Errorf("procedure %d: %d", proc, status)
		}
	}
	for want, msg := range map[uint32][]byte{
		acceptProgUnavail: c.message(100227, 3, 0, nil), acceptProgMismatch: c.message(progNFS, 4, 0, nil),
		acceptProcUnavail: c.message(progNFS, 3, 22, withHandle(top).b), acceptGarbage: c.message(progNFS, 3, 3, []byte{1}),
	} {
		c.xid = binary.BigEndian.Uint32(msg)
		if got := c.raw(msg).uint32(); got != want {
			t.Errorf("accept status %d; want %d", got, want)
		}
	}
}

func checkAttributes(t *testing.T, rel, name string, a attributes) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		t.Fatal(err)
	}
	kind := map[uint32]uint32{unix.S_IFREG: 1, unix.S_IFDIR: 2, unix.S_IFBLK: 3, unix.S_IFCHR: 4, unix.S_IFLNK: 5, unix.S_IFIFO: 7}[st.Mode&unix.S_IFMT]
	if a.kind != kind || a.mode != st.Mode&0o7777 || a.nlink != uint32(st.Nlink) || a.uid != st.Uid || a.gid != st.Gid ||
		a.major != unix.Major(st.Rdev) || a.minor != unix.Minor(st.Rdev) || kind != 2 && a.size != uint64(st.Size) ||
		a.times[1] != [2]uint32{uint32(st.Mtim.Sec), uint32(st.Mtim.Nsec)} {
		t.Errorf("/%s is %+v; want mode %#o, %d names, owner %d:%d, %d bytes, device %#x", rel, a, st.Mode, st.Nlink, st.Uid, st.Gid, st.Size, st.Rdev)
	}
}

// The port mapper says where things are, over TCP and UDP.
func TestPortmap(t *testing.T) {
	_, p, base := publish(t)
	s, _ := start(t, imagestest.Library(t, p, base), 0, tcpserve.Limits{})
	port, mapPort := s.Ports()
	c := dial(t, mapPort)
	args := func(v ...uint32) []byte {
		e := &encoder{}
		for _, n := range append(v, 0) {
			e.uint32(n)
		}
		return e.b
	}
	for _, prog := range []uint32{progNFS, progMount} {
		if got := c.call(progPortmap, 2, procGetPort, args(prog, 3, protoTCP)).uint32(); got != uint32(port) {
			t.Errorf("GETPORT %d: %d; want %d", prog, got, port)
		}
		if got := c.call(progPortmap, 2, procGetPort, args(prog, 3, 17)).uint32(); got != 0 {
			t.Errorf("GETPORT %d over UDP: %d; want 0", prog, got)
		}
	}
	u, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", mapPort))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_ = u.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = u.Write([]byte("no call"))
	_, _ = u.Write(c.message(progPortmap, 2, procGetPort, args(progNFS, 3, protoTCP)))
	b := make([]byte, 100)
	n, err := u.Read(b)
	if err != nil || n != 28 || binary.BigEndian.Uint32(b[24:]) != uint32(port) {
		t.Errorf("GETPORT by UDP: % x, %v", b[:n], err)
	}
}

// An ordinary client lists and reads.
func TestLibnfs(t *testing.T) {
	if _, err := exec.LookPath("nfs-cat"); err != nil {
		t.Skip("nfs-cat is needed: make deps")
	}
	root, p, base := publish(t)
	s, _ := start(t, imagestest.Library(t, p, base), 0, tcpserve.Limits{})
	port, _ := s.Ports()
	run := func(name, path string) []byte {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		url := fmt.Sprintf("nfs://127.0.0.1/debian/12/amd64%s?nfsport=%d&mountport=%d", path, port, port)
		cmd := exec.CommandContext(ctx, name, url)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %s: %v: %s", name, url, err, stderr.String())
		}
		return out
	}
	want, err := os.ReadFile(filepath.Join(root.Dir, "usr/big"))
	if err != nil {
		t.Fatal(err)
	}
	if got := run("nfs-cat", "/usr/big"); !bytes.Equal(got, want) {
		t.Errorf("nfs-cat: %d bytes that differ", len(got))
	}
	if out := run("nfs-ls", "/"); !strings.Contains(string(out), "usr") || !strings.Contains(string(out), "drwxrwxrwx") {
		t.Errorf("nfs-ls: %s", out)
	}
}

// Clients that ask for much and read nothing cost a bounded amount of memory,
// and others are served meanwhile; calls that are too long end the connection;
// other networks get nothing.
func TestFlood(t *testing.T) {
	_, p, base := publish(t)
	l := imagestest.Library(t, p, base)
	s, _ := start(t, l, 0, tcpserve.Limits{PerClient: 40})
	port, _ := s.Ports()
	c := dial(t, port)
	top, _ := c.mount("/debian")
	usr, _, _ := c.lookup(top, "usr")
	big, _, _ := c.lookup(usr, "big")
	if big == nil {
		t.Fatal("there is no /usr/big")
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	e := withHandle(big)
	e.uint64(0)
	e.uint32(1 << 20)
	for range 30 {
		g := dial(t, port)
		for range 100 {
			msg := g.message(progNFS, versNFS, procRead, e.b)
			_ = g.c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			if _, err := g.c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(msg))|lastPiece), msg...)); err != nil {
				break
			}
		}
	}
	if got := c.readAll(big, imagestest.Big, 1<<20); len(got) != imagestest.Big {
		t.Errorf("a client among greedy ones reads %d bytes", len(got))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if more := int64(after.HeapAlloc) - int64(before.HeapAlloc); more > 30*(workers+1)*(piece+room)+32<<20 {
		t.Errorf("30 clients take %d bytes", more)
	}
	for _, head := range []uint32{lastPiece | maxCall + 1, maxCall + 1, 1<<32 - 1} {
		g := dial(t, port)
		_, _ = g.c.Write(binary.BigEndian.AppendUint32(nil, head))
		if n, err := g.c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a record of %#x is waited for: %v", head, err)
		}
		g.c.Close()
	}
	other, _ := start(t, l, 0, tcpserve.Limits{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	port, _ = other.Ports()
	g := dial(t, port)
	if n, err := g.c.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a client of another network: %d, %v", n, err)
	}
}

// FuzzCall sends calls of anybody's making to all programs.
func FuzzCall(f *testing.F) {
	root, p, base := publish(f)
	_ = root
	s := &Service{Library: imagestest.Library(f, p, base), Logger: storetest.Silent()}
	list, err := s.Library.List(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	c := &client{t: f}
	h := handle{list[0].Manifest, 40}.bytes()
	for proc := uint32(0); proc <= procCommit; proc++ {
		e := withHandle(h)
		e.string("usr")
		e.uint64(4096)
		e.uint64(4096)
		f.Add(c.message(progNFS, versNFS, proc, e.b))
	}
	e := &encoder{}
	e.string("/debian/12")
	f.Add(c.message(progMount, versMount, procMount, e.b))
	f.Add(c.message(progMount, versMount, procExport, nil))
	f.Add(c.message(progPortmap, versPortmap, procDumpPort, nil))
	ps := programs{progMount: {versMount: s.mount}, progNFS: {versNFS: s.nfs}, progPortmap: {versPortmap: portmap(2049, 111)}}
	f.Fuzz(func(t *testing.T, msg []byte) {
		e := &encoder{}
		st, err := ps.answer(t.Context(), msg, netip.Addr{}, e)
		if err == nil && (len(e.b) < 20 || len(e.b)%4 != 0 || len(e.b) > maxListing+room) {
			t.Errorf("an answer of %d bytes", len(e.b))
		}
		if st != nil && (st.length <= 0 || st.length > maxRead) {
			t.Errorf("a stream of %d bytes", st.length)
		}
	})
}
