package tftp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/inetboot/inetboot/internal/udpline"
	"github.com/inetboot/inetboot/server/lan/lantest"
)

const text = "one\ntwo\r\nthree\rfour\n"

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func files() fstest.MapFS {
	return fstest.MapFS{
		"empty":                {},
		"text":                 {Data: []byte(text)},
		"exact":                {Data: noise(1024)},
		"big":                  {Data: noise(256<<10 + 77)},
		"long":                 {Data: noise(8*65600 + 3)}, // more blocks of 8 bytes than there are numbers
		"sub/dir/f":            {Data: []byte("below")},
		"pxelinux.cfg/default": {Data: []byte("MENU")},
	}
}

func start(t testing.TB, o Options) (*Server, netip.AddrPort) {
	t.Helper()
	if o.Addrs == nil {
		o.Addrs = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	}
	s := New(o)
	lantest.Run(t, s)
	return s, s.Addrs()[0]
}

// Real clients, with every option that they have.
func TestPrograms(t *testing.T) {
	_, addr := start(t, Options{FS: files()})
	port := fmt.Sprint(addr.Port())
	netascii := strings.NewReplacer("\n", "\r\n", "\r", "\r\x00").Replace(text)
	for _, tc := range []struct {
		name string
		file string
		args []string // OUT is the file to write
		want []byte
	}{
		{"curl", "big", []string{"curl", "-s", "-o", "OUT", "tftp://127.0.0.1:" + port + "/big"}, nil},
		{"curl without options", "big", []string{"curl", "-s", "--tftp-no-options", "-o", "OUT", "tftp://127.0.0.1:" + port + "/big"}, nil},
		{"curl, blocks of 1428", "big", []string{"curl", "-s", "--tftp-blksize", "1428", "-o", "OUT", "tftp://127.0.0.1:" + port + "/big"}, nil},
		{"curl, blocks of 65464", "big", []string{"curl", "-s", "--tftp-blksize", "65464", "-o", "OUT", "tftp://127.0.0.1:" + port + "/big"}, nil},
		{"curl, netascii", "text", []string{"curl", "-s", "-o", "OUT", "tftp://127.0.0.1:" + port + "/text;mode=netascii"}, []byte(netascii)},
		{"curl, a whole last block", "exact", []string{"curl", "-s", "-o", "OUT", "tftp://127.0.0.1:" + port + "/exact"}, nil},
		{"curl, nothing", "empty", []string{"curl", "-s", "-o", "OUT", "tftp://127.0.0.1:" + port + "/empty"}, nil},
		{"tftp-hpa", "big", []string{"tftp", "-m", "octet", "127.0.0.1", port, "-c", "get", "/big", "OUT"}, nil},
		{"tftp-hpa, text", "text", []string{"tftp", "-m", "netascii", "127.0.0.1", port, "-c", "get", "text", "OUT"}, []byte("one\ntwo\r\nthree\rfour\n")},
		{"atftp", "big", []string{"atftp", "-g", "-r", "big", "-l", "OUT", "127.0.0.1", port}, nil},
		{"atftp, all options", "big", []string{"atftp", "--option", "tsize 0", "--option", "timeout 2", "--option", "blksize 1428", "--option", "windowsize 16", "-g", "-r", "big", "-l", "OUT", "127.0.0.1", port}, nil},
		{"atftp, a huge window", "big", []string{"atftp", "--option", "blksize 1428", "--option", "windowsize 65535", "-g", "-r", "big", "-l", "OUT", "127.0.0.1", port}, nil},
		{"atftp, the number rolls over", "long", []string{"atftp", "--option", "blksize 8", "--option", "windowsize 64", "-g", "-r", "long", "-l", "OUT", "127.0.0.1", port}, nil},
		{"atftp, multicast is not offered", "big", []string{"atftp", "--option", "multicast", "-g", "-r", "big", "-l", "OUT", "127.0.0.1", port}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			program, err := exec.LookPath(tc.args[0])
			if err != nil {
				t.Skip(err)
			}
			out := filepath.Join(t.TempDir(), "out")
			var args []string
			for _, a := range tc.args[1:] {
				args = append(args, strings.ReplaceAll(a, "OUT", out))
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if msg, err := exec.CommandContext(ctx, program, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v: %s", tc.args, err, msg)
			}
			want := tc.want
			if want == nil {
				want = files()[tc.file].Data
			}
			got, err := os.ReadFile(out)
			if err != nil && !(len(want) == 0 && errors.Is(err, fs.ErrNotExist)) { // curl writes no empty file
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%v: %d bytes that differ; want %d", tc.args, len(got), len(want))
			}
		})
	}
}

// A line that loses, doubles and swaps one in twelve packets each.
func TestBadLine(t *testing.T) {
	data := noise(40 << 10)
	_, addr := start(t, Options{FS: fstest.MapFS{"f": {Data: data}}})
	for seed := range uint64(2) {
		for _, options := range [][]string{nil, {"blksize", "1428"}, {"blksize", "512", "windowsize", "16"}, {"blksize", "512", "windowsize", "5", "rollover", "1"}} {
			t.Run(fmt.Sprint(seed, options), func(t *testing.T) {
				t.Parallel()
				l, err := udpline.Start(addr, udpline.Options{Lose: 0.08, Double: 0.08, Swap: 0.08, Seed: seed})
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				got, err := newClient(t, l.Addr()).get("f", "octet", options...)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("get() = %d bytes, %v; want the file's %d", len(got), err, len(data))
				}
				if l.Lost.Load() == 0 {
					t.Error("the line has lost nothing")
				}
			})
		}
		t.Run(fmt.Sprint(seed, "atftp"), func(t *testing.T) {
			t.Parallel()
			program, err := exec.LookPath("atftp")
			if err != nil {
				t.Skip(err)
			}
			l, err := udpline.Start(addr, udpline.Options{Lose: 0.01, Double: 0.05, Swap: 0.02, Seed: seed})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			out := filepath.Join(t.TempDir(), "out")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			msg, err := exec.CommandContext(ctx, program, "--option", "blksize 1428", "--option", "windowsize 8", "-g", "-r", "f", "-l", out, "127.0.0.1", fmt.Sprint(l.Addr().Port())).CombinedOutput()
			if got, rerr := os.ReadFile(out); err != nil || rerr != nil || !bytes.Equal(got, data) {
				t.Errorf("atftp: %v, %v, %d bytes; want the file's %d: %s", err, rerr, len(got), len(data), msg)
			}
		})
	}
}

// Each packet comes twice, in both directions; that must not double what is sent.
func TestSorcerersApprentice(t *testing.T) {
	data := noise(60 << 10)
	_, addr := start(t, Options{FS: fstest.MapFS{"f": {Data: data}}})
	for _, tc := range []struct {
		options []string
		blocks  int64
		most    int64
	}{
		{nil, 121, 180}, // doubling would be 242; a busy machine repeats some
		{[]string{"blksize", "1024"}, 61, 90},
		// In a longer window a repetition is how a loss is told, which is heeded once for each.
		{[]string{"blksize", "1024", "windowsize", "10"}, 61, 3 * 61},
	} {
		l, err := udpline.Start(addr, udpline.Options{Double: 1})
		if err != nil {
			t.Fatal(err)
		}
		got, err := newClient(t, l.Addr()).get("f", "octet", tc.options...)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v: get() = %d bytes, %v", tc.options, len(got), err)
		}
		if n := l.ToClient(); n < tc.blocks || n > tc.most {
			t.Errorf("%v: the server sent %d packets; want %d to %d", tc.options, n, tc.blocks, tc.most)
		}
		l.Close()
	}
}

func TestNegotiation(t *testing.T) {
	_, addr := start(t, Options{FS: files()})
	for _, tc := range []struct {
		mode    string
		options []string
		want    map[string]string
	}{
		{"octet", []string{"TSIZE", "0"}, map[string]string{"tsize": "1024"}},
		{"octet", []string{"blksize", "70000"}, map[string]string{"blksize": "65464"}},
		{"octet", []string{"blksize", "7"}, nil},
		{"octet", []string{"blksize", "x"}, nil},
		{"octet", []string{"blksize", "1024", "blksize", "2048"}, map[string]string{"blksize": "1024"}},
		{"octet", []string{"timeout", "255", "blksize", "8192"}, map[string]string{"timeout": "255", "blksize": "8192"}},
		{"octet", []string{"timeout", "256"}, nil},
		{"octet", []string{"windowsize", "0"}, nil},
		{"octet", []string{"windowsize", "64", "blksize", "32768"}, map[string]string{"windowsize": "4", "blksize": "32768"}},
		{"octet", []string{"windowsize", "65536"}, nil},
		{"octet", []string{"multicast", "", "x", "1"}, nil},
		{"netascii", []string{"tsize", "0"}, nil},
	} {
		c := newClient(t, addr)
		if _, err := c.get("exact", tc.mode, tc.options...); err != nil {
			t.Errorf("%v: %v", tc.options, err)
		}
		if diff := cmp.Diff(tc.want, c.answer, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%v: answer (-want +got):\n%s", tc.options, diff)
		}
	}
}

// Block numbers have 16 bits.
func TestRollOver(t *testing.T) {
	for _, first := range []uint16{0, 1} {
		tm := terms{rollover: first}
		for n, want := range map[int64]uint16{0: 0, 1: 1, 65535: 65535, 65536: first, 65537: first + 1} {
			if got := tm.number(n); got != want {
				t.Errorf("rollover %d: block %d has number %d; want %d", first, n, got, want)
			}
		}
		for _, n := range []int64{1, 65535, 65536, 65537, 200_000} {
			if got, ok := tm.acknowledged(tm.number(n), n-3, n+4); !ok || got != n {
				t.Errorf("rollover %d: acknowledged(block %d) = %d, %v", first, n, got, ok)
			}
			if got, ok := tm.acknowledged(tm.number(n+5), n-1, n+4); ok {
				t.Errorf("rollover %d: a block that was not sent is acknowledged as %d", first, got)
			}
		}
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "public"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"secret": "secret", "public/f": "ok"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for to, name := range map[string]string{"../secret": "public/out", "/etc/passwd": "public/abs", "f": "public/in"} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(filepath.Join(dir, "public"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	_, addr := start(t, Options{FS: root.FS()})
	for name, want := range map[string]string{
		"f": "ok", "/f": "ok", "//f": "ok", `\f`: "ok", "./f": "ok", "f\xff": "ok", "in": "ok", "x/./../f": "error 2",
		"../secret": "error 2", "/../secret": "error 2", `..\secret`: "error 2", "/a/../../secret": "error 2", "out": "error", "abs": "error",
		"": "error 1", "/": "error 1", ".": "error 1", "missing": "error 1", "f/x": "error", strings.Repeat("x", 255): "error 1",
		strings.Repeat("x", 256): "error 2", strings.Repeat("a/", 120) + "f": "error 1", "a\xf0\x28": "error 1",
	} {
		got, err := newClient(t, addr).get(name, "octet")
		if err != nil {
			got = []byte(err.Error())
		}
		if string(got) != want && !(strings.HasPrefix(want, "error") && strings.HasPrefix(string(got), want)) {
			t.Errorf("get(%.40q) = %q; want %q", name, got, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	_, addr := start(t, Options{FS: files()})
	for name, tc := range map[string]struct {
		packet []byte
		code   int // -1: no answer
	}{
		"write":           {append([]byte{0, opWrite}, "f\x00octet\x00"...), codeAccess},
		"mail":            {rrq("text", "mail"), codeIllegal},
		"no mode":         {append([]byte{0, opRead}, "text\x00"...), codeIllegal},
		"no end":          {append([]byte{0, opRead}, "text\x00octet"...), codeIllegal},
		"too long":        {rrq("text", "octet", "x", strings.Repeat("x", 1500)), codeIllegal},
		"acknowledgement": {ack(0), -1},
		"error":           {errorPacket(&refusal{0, "x"}), -1},
		"options":         {oackPacket([]option{{"tsize", "0"}}), -1},
		"unknown":         {[]byte{0, 9, 1, 2}, -1},
		"short":           {[]byte{0}, -1},
		"empty":           {nil, -1},
	} {
		c := newClient(t, addr)
		c.send(tc.packet)
		if tc.code < 0 { // what is answered after it would have come first
			c.send(rrq("missing", "octet"))
		}
		p := c.read(30 * time.Second)
		want := tc.code
		if want < 0 {
			want = codeNotFound
		}
		if len(p) < 4 || binary.BigEndian.Uint16(p) != opError || int(binary.BigEndian.Uint16(p[2:])) != want {
			t.Errorf("%s: answer %q; want error %d", name, p, want)
		}
	}
	// Another port's packets are not of the transfer.
	c := newClient(t, addr)
	c.send(rrq("big", "octet"))
	first := c.read(30 * time.Second)
	other := newClient(t, addr)
	other.peer = c.peer
	other.send(ack(1))
	other.send(errorPacket(&refusal{0, "stop"}))
	c.send(ack(1))
	if second := c.read(30 * time.Second); len(first) != 516 || len(second) != 516 || second[3] != 2 {
		t.Errorf("a stranger disturbed the transfer: %d and %d bytes", len(first), len(second))
	}
}

// The answer comes from the address that was asked, though the server listens on all.
func TestAnyAddress(t *testing.T) {
	for _, tc := range []struct{ listen, ask string }{{"0.0.0.0:0", "127.0.0.5"}, {"[::]:0", "::1"}, {"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "::1"}} {
		_, addr := start(t, Options{FS: files(), Addrs: []netip.AddrPort{netip.MustParseAddrPort(tc.listen)}, Interface: "lo"})
		ask := netip.MustParseAddr(tc.ask)
		c := newClient(t, netip.AddrPortFrom(ask, addr.Port()))
		got, err := c.get("sub/dir/f", "octet")
		if err != nil || string(got) != "below" || c.peer.Addr() != ask {
			t.Errorf("%s: get() = %q, %v from %v; want it from %v", tc.listen, got, err, c.peer, ask)
		}
	}
}

// What is lost is sent again after growing pauses, and not for ever.
func TestSilentClient(t *testing.T) {
	s, addr := start(t, Options{FS: files(), Patience: 1500 * time.Millisecond})
	for attempt := 1; ; attempt++ {
		at := sentTo(t, s, addr)
		if len(at) < 3 || len(at) > 6 {
			t.Fatalf("a block was sent %d times", len(at))
		}
		grow := true
		for i := 2; i < len(at); i++ {
			if before, now := at[i-1].Sub(at[i-2]), at[i].Sub(at[i-1]); now < before*5/4 {
				grow = false
			}
		}
		if grow {
			break
		}
		if attempt == 5 { // a busy machine may be late with one of the packets
			t.Fatalf("the block was sent at %v; want growing pauses between", at)
		}
	}
	waitIdle(t, s)
}

// sentTo asks for a file, acknowledges nothing of it, and returns when its
// first block came, again and again, until the server gives up.
func sentTo(t *testing.T, s *Server, addr netip.AddrPort) []time.Time {
	t.Helper()
	c := newClient(t, addr)
	c.send(rrq("big", "octet", "blksize", "1024"))
	if p := c.read(30 * time.Second); len(p) < 2 || p[1] != opOACK {
		t.Fatalf("first answer %q", p)
	}
	c.send(ack(0))
	var at []time.Time
	for {
		over := running(s) == 0 // before what it has sent is looked for
		p := c.read(100 * time.Millisecond)
		switch {
		case p == nil && over, p != nil && binary.BigEndian.Uint16(p) == opError:
			return at
		case p == nil, binary.BigEndian.Uint16(p) == opOACK: // sent again before the acknowledgement came
		case len(p) != 1028 || p[3] != 1:
			t.Fatalf("%d bytes, block %d", len(p), p[3])
		default:
			at = append(at, time.Now())
		}
	}
}

// running returns how many transfers there are.
func running(s *Server) int {
	s.sessions.mu.Lock()
	defer s.sessions.mu.Unlock()
	return s.sessions.running
}

func waitIdle(t *testing.T, s *Server) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(time.Millisecond) {
		n := running(s)
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d transfers have not ended", n)
		}
	}
}

// Requests that nobody waits for: memory and transfers are bounded, and those
// who mean it are served meanwhile.
func TestFlood(t *testing.T) {
	s, addr := start(t, Options{FS: files(), Sessions: 64, HostSessions: 48, Log: slog.New(slog.DiscardHandler)})
	slow := newClient(t, addr) // is in the middle of its file
	slow.send(rrq("big", "octet"))
	if p := slow.read(30 * time.Second); len(p) != 516 {
		t.Fatalf("%d bytes", len(p))
	}
	slow.send(ack(1))
	if p := slow.read(30 * time.Second); len(p) != 516 || p[3] != 2 {
		t.Fatalf("%d bytes", len(p))
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var flood []*net.UDPConn
	for host := range 4 {
		for range 40 {
			conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 1, byte(host+1))})
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			flood = append(flood, conn)
		}
	}
	to := net.UDPAddrFromAddrPort(addr)
	for round := range 30 {
		for _, c := range flood {
			_, _ = c.WriteToUDP(rrq("big", "octet", "blksize", "65464", "windowsize", fmt.Sprint(60000+round)), to)
		}
		if round%10 == 0 {
			got, err := newClient(t, addr).get("sub/dir/f", "octet")
			if err != nil || string(got) != "below" {
				t.Errorf("in the flood: get() = %q, %v", got, err)
			}
		}
		s.sessions.mu.Lock()
		open, running := len(s.sessions.byPeer), s.sessions.running
		s.sessions.mu.Unlock()
		if open > 64 || running > 128 {
			t.Fatalf("%d transfers, %d running; want at most 64 and 128", open, running)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("the flood costs %d bytes", grown)
	}
	slow.send(ack(2))
	for p := slow.read(30 * time.Second); ; p = slow.read(30 * time.Second) {
		if len(p) != 516 {
			t.Fatalf("the transfer from before the flood does not go on: %d bytes", len(p))
		}
		if p[3] == 3 {
			break
		}
	}
}

// Transfers for which there is no thread wait in the runtime's poller, and do
// the same. All places are free when their transfers have ended.
func TestWithoutThreads(t *testing.T) {
	s, addr := start(t, Options{FS: files()})
	for range 2 {
		for _, window := range []string{"1", "8"} {
			got, err := newClient(t, addr).get("big", "octet", "blksize", "1428", "windowsize", window)
			if err != nil || !bytes.Equal(got, files()["big"].Data) {
				t.Errorf("windowsize %s: %d bytes, %v; want %d", window, len(got), err, len(files()["big"].Data))
			}
		}
		waitIdle(t, s)
		if n := len(s.quick); n > 0 && n < maxQuick {
			t.Errorf("%d places are taken; want none", n)
		}
		for len(s.quick) < maxQuick {
			s.quick <- struct{}{}
		}
	}
}

// One client gets no more than its share.
func TestShare(t *testing.T) {
	s, addr := start(t, Options{FS: files(), Sessions: 64, HostSessions: 8})
	var clients []*client
	for range 20 {
		c := newClient(t, addr)
		c.send(rrq("big", "octet"))
		clients = append(clients, c)
	}
	served := 0
	for i, c := range clients {
		wait := 30 * time.Second
		if i >= 8 { // these come after the first
			wait = 50 * time.Millisecond
		}
		if c.read(wait) != nil {
			served++
		}
	}
	if served != 8 {
		t.Errorf("%d of 20 transfers began; want 8", served)
	}
	for _, c := range clients {
		if c.peer.IsValid() {
			c.send(errorPacket(&refusal{0, "enough"}))
		}
	}
	waitIdle(t, s)
	if got, err := newClient(t, addr).get("text", "octet"); err != nil || string(got) != text {
		t.Errorf("afterwards: get() = %q, %v", got, err)
	}
}

// Requests come again when the answer is late, and firmware reuses its port.
func TestSamePort(t *testing.T) {
	s, addr := start(t, Options{FS: files()})
	c := newClient(t, addr)
	for range 5 {
		c.send(rrq("big", "octet", "tsize", "0"))
	}
	first := c.read(30 * time.Second)
	if len(first) < 2 || first[1] != opOACK {
		t.Fatalf("answer %q", first)
	}
	if n := running(s); n != 1 {
		t.Errorf("%d transfers of one request; want 1", n)
	}
	// The size was all it wanted, and its error is lost.
	c.peer = netip.AddrPort{}
	got, err := c.get("sub/dir/f", "octet")
	if err != nil || string(got) != "below" {
		t.Errorf("get() = %q, %v", got, err)
	}
}

// A file that cannot be read to its end does not look like a short one.
func TestReadError(t *testing.T) {
	_, addr := start(t, Options{FS: failingFS{}})
	_, err := newClient(t, addr).get("f", "octet")
	if err == nil || !strings.HasPrefix(err.Error(), "error 0") {
		t.Errorf("get() = %v; want error 0", err)
	}
}

type failingFS struct{}

func (failingFS) Open(string) (fs.File, error) {
	f, err := fstest.MapFS{"f": {Data: noise(10000)}}.Open("f")
	return &failingFile{f, 3000}, err
}

type failingFile struct {
	fs.File
	left int
}

func (f *failingFile) Read(p []byte) (int, error) {
	if f.left <= 0 {
		return 0, errors.New("the disk is broken")
	}
	n, err := f.File.Read(p[:min(len(p), f.left)])
	f.left -= n
	return n, err
}

func TestEnd(t *testing.T) {
	s := New(Options{FS: files(), Addrs: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}})
	stop := lantest.Run(t, s)
	c := newClient(t, s.Addrs()[0])
	c.send(rrq("big", "octet"))
	if p := c.read(30 * time.Second); len(p) != 516 {
		t.Fatalf("%d bytes", len(p))
	}
	begin := time.Now()
	stop()
	if d := time.Since(begin); d > 30*time.Second {
		t.Errorf("Run ends %v after its context", d)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(rrq("boot/f", "octet", "blksize", "1428", "tsize", "0", "windowsize", "16", "timeout", "3"))
	f.Add(rrq(`\..\x`, "NetASCII"))
	f.Add(rrq("f\xff", "octet", "", ""))
	f.Add([]byte{0, opWrite})
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRequest(data)
		var no *refusal
		if err != nil {
			if r != nil || !errors.Is(err, errIgnore) && !errors.As(err, &no) {
				t.Errorf("parseRequest() = %v, %v", r, err)
			}
			return
		}
		if !fs.ValidPath(r.name) || len(r.name) > maxName {
			t.Errorf("name %q", r.name)
		}
		got := negotiate(r.options, 1000)
		if got.block < minBlock || got.block > maxBlock || got.window < 1 || got.window > 65535 || got.window > 1 && got.window*got.block > maxWindowBytes || got.timeout > maxTimeout*time.Second || got.rollover > 1 {
			t.Errorf("negotiate(%v) = %+v", r.options, got)
		}
		if len(oackPacket(got.answer)) > maxRequest {
			t.Errorf("an answer of %d bytes to a request of %d", len(oackPacket(got.answer)), len(data))
		}
	})
}

func FuzzParseReply(f *testing.F) {
	f.Add(ack(7))
	f.Add(errorPacket(&refusal{3, "disk full"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, ok := parseReply(data); ok && r.err != nil && len(r.err.text) > 2000 {
			t.Errorf("a text of %d bytes", len(r.err.text))
		}
	})
}
