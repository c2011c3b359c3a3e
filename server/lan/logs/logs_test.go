package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/syslog"
	"github.com/inetboot/inetboot/server/lan/lantest"
)

func start(t *testing.T, o Options) (r *Receiver, udp, tcp netip.AddrPort) {
	t.Helper()
	any := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}
	o.UDP, o.TCP = any, any
	r = New(o)
	lantest.Run(t, r)
	u, c := r.Addrs()
	return r, u[0], c[0]
}

// wait returns a client's records when they are as many as wanted.
func wait(t *testing.T, dir, name string, n int) []Record {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var out []Record
		err := Show(t.Context(), dir, name, Selection{}, func(r *Record, _ []byte) error { out = append(out, *r); return nil })
		if err == nil && len(out) >= n {
			return out
		}
		if time.Now().After(end) {
			t.Fatalf("%d records, %v; want %d: %q", len(out), err, n, texts(out))
		}
	}
}

// newLog returns a logger for what is expected to be said.
func newLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

func texts(rs []Record) []string {
	var out []string
	for _, r := range rs {
		out = append(out, r.Text)
	}
	return out
}

// What logger and rsyslog send, in each way that they have.
func TestPrograms(t *testing.T) {
	dir := t.TempDir()
	_, udp, tcp := start(t, Options{Dir: dir, Limits: Limits{Burst: 1000}})
	logger, err := exec.LookPath("logger")
	if err != nil {
		t.Skip(err)
	}
	want := []string{}
	for _, format := range []string{"--rfc3164", "--rfc5424"} {
		for _, way := range [][]string{{"--udp", "--port", fmt.Sprint(udp.Port())}, {"--tcp", "--port", fmt.Sprint(tcp.Port())}, {"--tcp", "--octet-count", "--port", fmt.Sprint(tcp.Port())}} {
			text := "a [b] c: \u00e4 " + format + strings.Join(way[:len(way)-1], "")
			want = append(want, text)
			args := append([]string{"--server", "127.0.0.1", format, "--priority", "daemon.warning", "--tag", "tester", "--id=77"}, way...)
			if out, err := exec.CommandContext(t.Context(), logger, append(args, text)...).CombinedOutput(); err != nil {
				t.Fatalf("logger: %v: %s", err, out)
			}
		}
	}
	got := wait(t, dir, "127.0.0.1", len(want))
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range got {
		if r.App != "tester" || r.PID != "77" || r.Facility != syslog.Daemon || r.Severity != syslog.Warning || !strings.HasPrefix(host, r.Host) || r.From != "127.0.0.1" || time.Since(r.Time).Abs() > time.Minute {
			t.Errorf("stored %+v", r)
		}
	}
	have := texts(got)
	slices.Sort(have)
	slices.Sort(want)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
}

func TestRsyslog(t *testing.T) {
	program, err := exec.LookPath("rsyslogd")
	if err != nil {
		t.Skip(err)
	}
	logger, err := exec.LookPath("logger")
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	_, udp, tcp := start(t, Options{Dir: dir})
	work := t.TempDir()
	socket, conf := filepath.Join(work, "in"), filepath.Join(work, "conf")
	config := fmt.Sprintf(`module(load="imuxsock" SysSock.Use="off")
input(type="imuxsock" socket="%s")
action(type="omfwd" target="127.0.0.1" port="%d" protocol="udp")
action(type="omfwd" target="127.0.0.1" port="%d" protocol="tcp" template="RSYSLOG_SyslogProtocol23Format")
action(type="omfwd" target="127.0.0.1" port="%d" protocol="tcp" tcp_framing="octet-counted" template="RSYSLOG_ForwardFormat")
`, socket, udp.Port(), tcp.Port(), tcp.Port())
	if err := os.WriteFile(conf, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-n", "-f", conf, "-i", filepath.Join(work, "pid"))
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := exec.CommandContext(t.Context(), logger, "--socket-errors=on", "--socket", socket, "--tag", "app", "--id=5", "hello from rsyslog").CombinedOutput()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("logger: %v: %s\n%s", err, out, log.String())
		}
	}
	for n, end := 1, time.Now().Add(20*time.Second); ; n++ { // rsyslogd says things of its own, too
		got := slices.DeleteFunc(wait(t, dir, "127.0.0.1", n), func(r Record) bool { return r.Text != "hello from rsyslog" })
		for _, r := range got {
			if r.App != "app" || r.PID != "5" || r.Host == "" {
				t.Errorf("stored %+v", r)
			}
		}
		if len(got) == 3 {
			break
		}
		if len(got) > 3 || time.Now().After(end) {
			t.Fatalf("%d lines; want 3", len(got))
		}
	}
}

// The sender of preboot, over both, and what is asked about its boots.
func TestBoots(t *testing.T) {
	dir := t.TempDir()
	_, udp, tcp := start(t, Options{Dir: dir})
	send := func(boot, network string, port uint16, lines ...string) {
		s := syslog.New(boot)
		s.Start(t.Context(), syslog.Receiver{Network: network, Host: "127.0.0.1", Port: int(port)}, "52:54:00:00:00:07", (&net.Dialer{}).DialContext)
		for _, l := range lines {
			s.Log(syslog.Message{Time: time.Now(), Facility: syslog.Daemon, Severity: syslog.Info, Text: l})
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		s.Flush(ctx)
		s.Close()
	}
	plain := func(lines ...string) {
		c, err := net.Dial("udp", udp.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, l := range lines {
			if _, err := c.Write([]byte("<6>Jan  1 00:00:00 debian kernel: " + l)); err != nil {
				t.Fatal(err)
			}
		}
	}
	kernel := "[    0.000000] Linux version 6.1"
	send("boot1", "udp", udp.Port(), "menu 1", "start 1")
	wait(t, dir, "127.0.0.1", 2)
	plain(kernel, "up 1") // of the same boot
	wait(t, dir, "127.0.0.1", 4)
	send("boot2", "tcp", tcp.Port(), "menu 2")
	wait(t, dir, "127.0.0.1", 5)
	plain(kernel, "up 2")
	wait(t, dir, "127.0.0.1", 7)
	plain(kernel, "up 3") // from its own disk
	wait(t, dir, "127.0.0.1", 9)
	for _, who := range []string{"127.0.0.1", "debian", "DEBIAN"} {
		name, err := Find(dir, who)
		if err != nil {
			t.Fatalf("Find(%s): %v", who, err)
		}
		for boot, want := range map[int][]string{
			1: {"menu 1", "start 1", kernel, "up 1"}, 2: {"menu 2", kernel, "up 2"}, 3: {kernel, "up 3"}, -1: {kernel, "up 3"}, -2: {"menu 2", kernel, "up 2"},
		} {
			var got []string
			if err := Show(t.Context(), dir, name, Selection{Boot: boot}, func(r *Record, _ []byte) error { got = append(got, r.Text); return nil }); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("boot %d (-want +got):\n%s", boot, diff)
			}
		}
		for _, boot := range []int{4, -4} {
			if err := Show(t.Context(), dir, name, Selection{Boot: boot}, func(*Record, []byte) error { return nil }); err == nil {
				t.Errorf("boot %d is shown; there are three", boot)
			}
		}
	}
	all, err := Boots(dir, "127.0.0.1")
	if err != nil || len(all) != 3 || all[0].ID != "boot1" || all[0].Lines != 4 || all[2].ID != "" {
		t.Errorf("Boots() = %+v, %v", all, err)
	}
	if _, err := Find(dir, "nobody"); !errors.Is(err, ErrNoLog) {
		t.Errorf("Find(nobody) = %v; want ErrNoLog", err)
	}
	if _, err := Find(t.TempDir(), "127.0.0.1"); !errors.Is(err, ErrNoLog) {
		t.Errorf("Find() without logs = %v; want ErrNoLog", err)
	}
	if _, err := Find(dir, "../secret"); !errors.Is(err, ErrNoLog) {
		t.Errorf("Find(../secret) = %v; want ErrNoLog", err)
	}
}

// Following a log goes on over the turn to a new file.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir, Limits{Size: 4000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.take("c", []byte("0"), "10.0.0.1")
	s.flush()
	got := make(chan int)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- Show(ctx, dir, "c", Selection{Follow: true}, func(r *Record, _ []byte) error {
			n, err := strconv.Atoi(r.Text)
			if err == nil {
				got <- n
			}
			return err
		})
	}()
	for i := range 40 {
		if i > 0 {
			s.take("c", []byte(strconv.Itoa(i)), "10.0.0.1")
			s.flush()
		}
		select {
		case n := <-got:
			if n != i {
				t.Fatalf("line %d came; want %d", n, i)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("line %d did not come", i)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "c"+oldSuffix)); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A client that logs without end has its log alone, and only so much of it.
func TestFullLog(t *testing.T) {
	dir := t.TempDir()
	const size = 200_000
	s, err := openStore(dir, Limits{Size: size, Rate: 100, Burst: 5000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.now = func() time.Time { return now }
	s.take("good", []byte("mine"), "10.0.0.2")
	for i := range 30_000 {
		s.take("bad", fmt.Appendf(nil, "<13>line %d %s", i, strings.Repeat("\x01\xff", 200)), "10.0.0.1")
		if i == 20_000 {
			now = now.Add(time.Second)
		}
	}
	if n := len(s.clients["bad"].pending); n > 2*flushSize+maxLine {
		t.Errorf("%d bytes wait in memory", n)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	total := int64(0)
	for _, f := range files(dir, "bad") {
		fi, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		total += fi.Size()
	}
	if total > size {
		t.Errorf("%d bytes are kept; want at most %d", total, size)
	}
	var rs []Record
	if err := Show(t.Context(), dir, "bad", Selection{}, func(r *Record, _ []byte) error { rs = append(rs, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(rs, func(r Record) bool { return r.Text == "15001 lines were dropped, as they came too quickly" }) {
		t.Errorf("of %d lines none says how many were dropped", len(rs))
	}
	if err := Show(t.Context(), dir, "good", Selection{}, func(r *Record, _ []byte) error {
		if r.Text != "mine" {
			t.Errorf("the other client's log has %q", r.Text)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	// What is there counts after a restart.
	s, err = openStore(dir, Limits{Size: size, Clients: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.clients["bad"].size == 0 {
		t.Error("the size of a log is forgotten")
	}
	s.close()
}

// Only so many clients have logs; who has been silent for long makes room.
func TestManyClients(t *testing.T) {
	dir := t.TempDir()
	log := newLog(t)
	s, err := openStore(dir, Limits{Clients: 10, Stale: time.Hour}, log)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	s.now = func() time.Time { return now }
	for i := range 1000 {
		s.take(fmt.Sprint("c", i), []byte("x"), "10.0.0.1")
	}
	s.flush()
	if all, err := names(dir); err != nil || len(all) != 10 || len(s.clients) != 10 {
		t.Errorf("%d logs, %v; want 10", len(all), err)
	}
	now = now.Add(30 * time.Minute)
	s.take("c5", []byte("still here"), "10.0.0.1")
	now = now.Add(45 * time.Minute)
	for i := range 20 {
		s.take(fmt.Sprint("new", i), []byte("x"), "10.0.0.1")
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	all, err := names(dir)
	if err != nil || len(all) != 10 || !slices.Contains(all, "c5") || !slices.Contains(all, "new8") || slices.Contains(all, "new9") {
		t.Errorf("logs %v, %v", all, err)
	}
}

// Connections that nobody uses are not taken from others.
func TestConnections(t *testing.T) {
	dir := t.TempDir()
	_, udp, tcp := start(t, Options{Dir: dir, HostConnections: 3})
	var open []net.Conn
	for range 6 {
		c, err := net.Dial("tcp", tcp.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		open = append(open, c)
	}
	closed := 0
	for _, c := range open[3:] {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, io.EOF) || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			closed++
		}
	}
	if closed != 3 {
		t.Errorf("%d of 3 connections too many were closed", closed)
	}
	// Half a message, a broken one, and the rest still works.
	if _, err := open[0].Write([]byte("999999999999 x")); err != nil {
		t.Fatal(err)
	}
	_ = open[0].SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := open[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a stream of nonsense is still read: %v", err)
	}
	if _, err := open[1].Write([]byte("5 <9>ab<9>cd\n3 <9>\x00x")); err != nil {
		t.Fatal(err)
	}
	open[1].Close()
	if diff := cmp.Diff([]string{"ab", "cd", "", "x"}, texts(wait(t, dir, "127.0.0.1", 4))); diff != "" {
		t.Errorf("texts (-want +got):\n%s", diff)
	}
	u, err := net.Dial("udp", udp.String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, err := u.Write([]byte("<9>datagram")); err != nil {
		t.Fatal(err)
	}
	wait(t, dir, "127.0.0.1", 5)
}

func TestNeighbour(t *testing.T) {
	n := neighbours{read: time.Now().Add(time.Hour), macs: map[netip.Addr]string{netip.MustParseAddr("10.0.0.1"): "52:54:00:00:00:07"}}
	for in, want := range map[string]string{"10.0.0.1": "52-54-00-00-00-07", "::ffff:10.0.0.1": "52-54-00-00-00-07", "10.0.0.2": "10.0.0.2", "fe80::1%eth0": "fe80__1", "2001:db8::2": "2001_db8__2"} {
		if got := n.client(netip.MustParseAddr(in)); got != want {
			t.Errorf("client(%s) = %s; want %s", in, got, want)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("5 hello3 abc"))
	f.Add([]byte("line\nother\x00" + strings.Repeat("x", 9000)))
	f.Add([]byte("9000 " + strings.Repeat("x", 9000) + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bufio.NewReader(strings.NewReader(string(data)))
		var buf []byte
		for total := 0; ; {
			m, err := readFrame(in, buf)
			if err != nil {
				break
			}
			if total += len(m); len(m) > syslog.MaxReceived || total > len(data) {
				t.Fatalf("%d bytes of %d in a message, %d in all", len(m), len(data), total)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	r := Record{Came: time.Now(), Time: time.Now(), Text: "x", Boot: "b"}
	line, err := r.appendTo(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"severity":-7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(data)
		if err != nil {
			return
		}
		_ = r.String()
		var b boots
		if n := b.of(&r); n != 1 {
			t.Errorf("the first record is of boot %d", n)
		}
	})
}
