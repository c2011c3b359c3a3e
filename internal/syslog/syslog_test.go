package syslog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	for in, want := range map[string]Receiver{
		"udp://log.example.org":       {"udp", "log.example.org", 514},
		"tcp://log.example.org":       {"tcp", "log.example.org", 601},
		"UDP://10.0.0.1:1514/":        {"udp", "10.0.0.1", 1514},
		"tcp://[2001:db8::1]":         {"tcp", "2001:db8::1", 601},
		"udp://[fe80::1%25eth0]:5514": {"udp", "fe80::1%eth0", 5514},
	} {
		if got, err := ParseURL(in); err != nil || got != want {
			t.Errorf("ParseURL(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "log", "10.0.0.1:514", "http://log", "udp:log", "udp://", "udp://:514", "udp://log:0", "udp://log:65536", "udp://log:x", "udp://a@log",
		"udp://log/x", "udp://log?x", "udp://log#x", "udp://l\u00f6g", "udp://a b", "tcp://" + strings.Repeat("x", 254), "udp://[::1",
	} {
		if got, err := ParseURL(in); !errors.Is(err, ErrReceiver) {
			t.Errorf("ParseURL(%q) = %v, %v; want ErrReceiver", in, got, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"udp://h", "tcp://h:1", "udp://[fe80::1%25eth0]:5514", "udp://10.0.0.1/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		r, err := ParseURL(in)
		if err != nil {
			return
		}
		if again, err := ParseURL(r.String()); err != nil || again != r {
			t.Errorf("ParseURL(%q.String()) = %v, %v; want %v", r, again, err, r)
		}
		if h, p, err := net.SplitHostPort(r.Address()); err != nil || h != r.Host || p != strconv.Itoa(r.Port) {
			t.Errorf("Address() = %q", r.Address())
		}
	})
}

// grammar is the ABNF of RFC 5424 section 6.
var grammar = regexp.MustCompile(`^<(0|[1-9][0-9]{0,2})>1 ` +
	`([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{1,6}Z) ` +
	`([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32}) ` +
	`((?:\[[!#-<>-\\^-~]{1,32}(?: [!#-<>-\\^-~]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*\])+|-)` +
	`(?: ((?s:.*)))?$`)

type parsed struct {
	pri                  int
	at                   time.Time
	host, app, data, msg string
}

// parse reads a SYSLOG-MSG strictly.
func parse(data string) (*parsed, error) {
	m := grammar.FindStringSubmatch(data)
	if m == nil {
		return nil, fmt.Errorf("%q is no message of RFC 5424", data)
	}
	p := &parsed{host: m[3], app: m[4], data: m[7], msg: m[8]}
	var err error
	if p.pri, err = strconv.Atoi(m[1]); err != nil || p.pri > 191 {
		return nil, fmt.Errorf("PRI %s", m[1])
	}
	if p.at, err = time.Parse(time.RFC3339Nano, m[2]); err != nil {
		return nil, err
	}
	rest, bom := strings.CutPrefix(p.msg, "\xef\xbb\xbf")
	for _, c := range rest {
		if c >= utf8.RuneSelf && !bom || c < ' ' {
			return nil, fmt.Errorf("character %q in %q", c, data)
		}
	}
	if !utf8.ValidString(rest) || len(data) > maxMessage {
		return nil, fmt.Errorf("%d bytes: %q", len(data), data)
	}
	p.msg = rest
	return p, nil
}

func FuzzMessage(f *testing.F) {
	f.Add("client7", "boot", "inetboot", "failed: kernel", 3, 3)
	f.Add("", "]\"\\", "a b", "\u00fc\x00\xff"+strings.Repeat("\u00e4", 1200), 23, 7)
	f.Fuzz(func(t *testing.T, host, boot, app, text string, facility, severity int) {
		h := header{host, boot}
		if facility < 0 || facility > 23 || severity < 0 || severity > 7 {
			return
		}
		m := Message{Time: time.Now(), Facility: facility, Severity: severity, App: app, Text: text}
		p, err := parse(string(h.appendTo(nil, &m, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if p.pri != 8*facility+severity {
			t.Errorf("PRI = %d; want %d", p.pri, 8*facility+severity)
		}
	})
}

func TestMessage(t *testing.T) {
	h := header{"client7", "0f3c"}
	at := time.Date(2026, 11, 26, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	for _, tt := range []struct {
		m    Message
		seq  uint64
		want string
	}{
		{Message{Time: at, Facility: Daemon, Severity: Info, Text: "menu ready"}, 7, `<30>1 2026-11-26T11:00:00.123456Z client7 inetboot - - [meta sequenceId="7"][inetboot@32473 boot="0f3c"] menu ready`},
		{Message{Time: at, Facility: Kernel, Severity: Error, App: "kernel", Text: "\u00fc\tx\n"}, 1 << 31, `<3>1 2026-11-26T11:00:00.123456Z client7 kernel - - [meta sequenceId="1"][inetboot@32473 boot="0f3c"] ` + "\xef\xbb\xbf\u00fc x "},
	} {
		// Microseconds: a time that is computed back from now may lose nanoseconds.
		if got := string(h.appendTo(nil, &tt.m, tt.seq)); !cmp.Equal(got, tt.want) {
			t.Errorf("message = %s\nwant      %s", got, tt.want)
		}
	}
	if p, err := parse(string((&header{}).appendTo(nil, &Message{Text: "x"}, 1))); err != nil || p.host != "-" {
		t.Errorf("without a host = %+v, %v", p, err)
	}
}

func dialer() DialFunc { return (&net.Dialer{}).DialContext }

func receiver(network string, a net.Addr) Receiver {
	host, port, _ := net.SplitHostPort(a.String())
	n, _ := strconv.Atoi(port)
	return Receiver{network, host, n}
}

// listen receives at address, strictly.
func listen(t *testing.T, network, address string) (Receiver, <-chan *parsed) {
	t.Helper()
	got := make(chan *parsed, 10_000)
	add := func(data string) {
		p, err := parse(data)
		if err != nil {
			t.Error(err)
			return
		}
		got <- p
	}
	if network == "udp" {
		c, err := net.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 64<<10)
			for {
				n, _, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				add(string(b[:n]))
			}
		}()
		return receiver(network, c.LocalAddr()), got
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					// RFC 6587 section 3.4.1: MSG-LEN SP SYSLOG-MSG.
					length, err := r.ReadString(' ')
					if err != nil {
						return
					}
					n, err := strconv.Atoi(length[:len(length)-1])
					if err != nil || length[0] == '0' {
						t.Errorf("MSG-LEN %q", length)
						return
					}
					b := make([]byte, n)
					if _, err := io.ReadFull(r, b); err != nil {
						return
					}
					add(string(b))
				}
			}()
		}
	}()
	return receiver(network, l.Addr()), got
}

func next(t *testing.T, got <-chan *parsed) *parsed {
	t.Helper()
	select {
	case p := <-got:
		return p
	case <-time.After(20 * time.Second):
		t.Fatal("nothing was received in 20 s")
		return nil
	}
}

func TestSender(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			t.Run(network+address, func(t *testing.T) {
				t.Parallel()
				s := New("boot1")
				begin := time.Now()
				for i := range 5 { // before there is a network
					s.Log(Message{Time: begin.Add(time.Duration(i-10) * time.Second), Facility: Daemon, Severity: Info, Text: fmt.Sprint("early ", i)})
				}
				r, got := listen(t, network, address)
				s.Start(t.Context(), r, "52:54:00:12:34:56", dialer())
				defer s.Close()
				s.Log(Message{Time: time.Now(), Facility: Daemon, Severity: Error, Text: "late"})
				s.Flush(t.Context())
				for i := range 6 {
					p := next(t, got)
					want := parsed{30, begin.Add(time.Duration(i-10) * time.Second), "52:54:00:12:34:56", App, fmt.Sprintf(`[meta sequenceId="%d"][inetboot@32473 boot="boot1"]`, i+1), fmt.Sprint("early ", i)}
					if i == 5 {
						want.pri, want.msg, want.at = 27, "late", time.Now()
					}
					if d := p.at.Sub(want.at).Abs(); d > 60*time.Second || i < 5 && d > time.Millisecond {
						t.Errorf("%s at %v; want %v", p.msg, p.at, want.at)
					}
					p.at, want.at = time.Time{}, time.Time{}
					if *p != want {
						t.Errorf("received %+v; want %+v", *p, want)
					}
				}
			})
		}
	}
}

// silent starts a sender with a first line, for a receiver that a test plays
// itself: its end of the connection. Both are closed with the test.
func silent(t *testing.T) (*Sender, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	s := New("")
	s.Start(t.Context(), receiver("tcp", l.Addr()), "h", dialer())
	t.Cleanup(s.Close)
	s.Log(Message{Time: time.Now(), Text: "first"})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s, c
}

// A receiver that takes nothing delays nobody, and memory is bounded; what was
// lost is told.
func TestStalledReceiver(t *testing.T) {
	s, _ := silent(t)
	begin := time.Now()
	const lines = 8000
	text := strings.Repeat("x", 5000)
	for i := range lines { // more than the sockets' buffers take
		s.Log(Message{Time: time.Now(), Text: fmt.Sprint(i, " ", text)})
	}
	if d := time.Since(begin); d > 8*time.Second { // a write that waits gives up after 10 s
		t.Errorf("%d lines took %v to log", lines, d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin = time.Now()
	s.Flush(ctx)
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("Flush took %v", d)
	}
	s.mu.Lock()
	n, size := len(s.queue), 0
	for _, e := range s.queue {
		size += len(e.Text)
	}
	s.mu.Unlock()
	if n > queueLength || size > queueLength*maxText {
		t.Errorf("%d lines of %d bytes are kept; want at most %d", n, size, queueLength)
	}
	begin = time.Now()
	s.Close()
	if d := time.Since(begin); d > 8*time.Second {
		t.Errorf("Close took %v", d)
	}
	// The same lines reach the next one.
	r, got := listen(t, "tcp", "127.0.0.1:0")
	s.Start(t.Context(), r, "h", dialer())
	var lost bool
	for {
		p := next(t, got)
		lost = lost || strings.Contains(p.msg, "were lost")
		if strings.HasPrefix(p.msg, fmt.Sprint(lines-1, " ")) {
			break
		}
	}
	if !lost {
		t.Error("nothing was said about the lines that were lost")
	}
}

// Nobody is there, then somebody is, goes, and comes back.
func TestReceiverComesAndGoes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	r := receiver("tcp", l.Addr())
	l.Close()
	s := New("")
	s.Start(t.Context(), r, "h", dialer())
	defer s.Close()
	s.Log(Message{Time: time.Now(), Text: "first"})
	deadline := time.Now().Add(10 * time.Second)
	for !s.settled() && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	if s.Flush(t.Context()); !s.settled() {
		t.Error("Flush waits for a receiver that is not there")
	}
	if l, err = net.Listen("tcp", address); err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := bufio.NewReader(c).ReadString('t'); err != nil || !strings.Contains(b, " ") {
		t.Fatalf("received %q, %v", b, err)
	}
	c.Close()
	l.Close()
	deadline = time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) { // until the end of the connection is seen
		s.mu.Lock()
		conn := s.conn
		s.mu.Unlock()
		if conn == nil || conn.SetDeadline(time.Time{}) != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	_, got := listen(t, "tcp", address)
	s.Log(Message{Time: time.Now(), Text: "second"})
	if p := next(t, got); p.msg != "second" {
		t.Errorf("received %q; want second", p.msg)
	}
}

// A receiver that talks, endlessly, costs nothing.
func TestTalkingReceiver(t *testing.T) {
	s, c := silent(t)
	if err := c.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.CopyN(c, zeros{}, 256<<20); err == nil {
		t.Errorf("%d bytes of a receiver were read", n)
	}
	r := bufio.NewReader(c)
	for _, want := range []string{"first", "second"} {
		s.Log(Message{Time: time.Now(), Text: "second"})
		if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if got, err := r.ReadString(want[len(want)-1]); err != nil {
			t.Errorf("received %q, %v; want %s", got, err, want)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestRsyslog sends to a real receiver.
func TestRsyslog(t *testing.T) {
	program, err := exec.LookPath("rsyslogd")
	if err != nil {
		t.Skip(err)
	}
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			r, _ := listen(t, network, "127.0.0.1:0") // a free port, for as long as it is not given back
			probe, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			r.Port = receiver("tcp", probe.Addr()).Port
			probe.Close()
			dir := t.TempDir()
			out, conf := filepath.Join(dir, "out"), filepath.Join(dir, "conf")
			config := fmt.Sprintf(`module(load="im%s")
input(type="im%s" port="%d" address="127.0.0.1")
template(name="t" type="string" string="%%pri%%|%%timestamp:::date-rfc3339%%|%%hostname%%|%%app-name%%|%%structured-data%%|%%msg%%\n")
action(type="omfile" file="%s" template="t" fileCreateMode="0644")
`, map[string]string{"udp": "udp", "tcp": "ptcp"}[network], map[string]string{"udp": "udp", "tcp": "ptcp"}[network], r.Port, out)
			if err := os.WriteFile(conf, []byte(config), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), program, "-n", "-f", conf, "-i", filepath.Join(dir, "pid"))
			var log strings.Builder
			cmd.Stdout, cmd.Stderr = &log, &log
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
			s := New("0f3c5a0e8d1b4c6f9a7e2d4b6c8f1a3e")
			at := time.Date(2026, 11, 26, 12, 0, 0, 123456000, time.UTC)
			s.Start(t.Context(), r, "52:54:00:12:34:56", dialer())
			defer s.Close()
			want := `30|2026-11-26T12:00:00.123456Z|52:54:00:12:34:56|inetboot|[meta sequenceId="%d"][inetboot@32473 boot="0f3c5a0e8d1b4c6f9a7e2d4b6c8f1a3e"]|menu [ready] "%d"`
			deadline := time.Now().Add(20 * time.Second)
			for i := 1; ; i++ { // what is sent over UDP before it listens is lost
				s.Log(Message{Time: at, Facility: Daemon, Severity: Info, Text: fmt.Sprintf(`menu [ready] "%d"`, i)})
				data, _ := os.ReadFile(out)
				if lines := strings.Split(string(data), "\n"); len(lines) > 5 {
					n := 0
					if _, err := fmt.Sscanf(lines[0][strings.LastIndex(lines[0], ` "`)+1:], `"%d"`, &n); err != nil || lines[0] != fmt.Sprintf(want, n, n) {
						t.Errorf("rsyslogd wrote %q; want %q", lines[0], fmt.Sprintf(want, n, n))
					}
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("rsyslogd has written %q\n%s", data, log.String())
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
}
