package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/syslog"
	"github.com/inetboot/inetboot/preboot/boot"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/network"
	"github.com/inetboot/inetboot/preboot/settings"
)

// screenTerm is a terminal of 80 by 25 with a person in front of it.
type screenTerm struct {
	net.Conn
	mu       sync.Mutex
	rows     [25][]rune
	row, col int
	rest     string
}

var sequence = regexp.MustCompile(`^\x1b\[([?0-9;]*)([A-Za-z])`)

func newScreenTerm(t *testing.T, s *console.Set) *screenTerm {
	ours, theirs := net.Pipe()
	v := &screenTerm{Conn: theirs}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := theirs.Read(b)
			v.mu.Lock()
			v.write(string(b[:n]))
			v.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	s.Add("screen", ours, console.Size{Columns: 80, Rows: 25}, func() {})
	t.Cleanup(func() { theirs.Close() })
	return v
}

func (v *screenTerm) write(s string) {
	s, v.rest = v.rest+s, ""
	for s != "" {
		if s[0] == 0x1b {
			m := sequence.FindStringSubmatch(s)
			if m == nil {
				v.rest = s // the end is still to come
				return
			}
			s = s[len(m[0]):]
			switch m[2] {
			case "H":
				r, c, _ := strings.Cut(m[1]+";", ";")
				v.row, _ = strconv.Atoi(r)
				v.col, _ = strconv.Atoi(strings.TrimSuffix(c, ";"))
				v.row, v.col = max(v.row-1, 0), max(v.col-1, 0)
			case "J":
				v.rows = [25][]rune{}
			case "K":
				v.rows[v.row] = v.rows[v.row][:min(v.col, len(v.rows[v.row]))]
			}
			continue
		}
		r := []rune(s)[0]
		s = s[len(string(r)):]
		switch {
		case r == '\r':
			v.col = 0
		case r == '\n' && v.row == 24:
			copy(v.rows[:], v.rows[1:])
			v.rows[24] = nil
		case r == '\n':
			v.row++
		default:
			for len(v.rows[v.row]) <= v.col {
				v.rows[v.row] = append(v.rows[v.row], ' ')
			}
			v.rows[v.row][v.col] = r
			if v.col++; v.col == 80 {
				v.row, v.col = min(v.row+1, 24), 0
			}
		}
	}
}

func (v *screenTerm) text() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var b strings.Builder
	for _, r := range v.rows {
		b.WriteString(strings.TrimRight(string(r), " ") + "\n")
	}
	return b.String()
}

// expect waits for all of some texts on the screen.
func (v *screenTerm) expect(t *testing.T, want ...string) {
	t.Helper()
	text := ""
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text = v.text()
		found := 0
		for _, w := range want {
			if strings.Contains(text, w) {
				found++
			}
		}
		if found == len(want) {
			return
		}
	}
	t.Fatalf("the screen does not show %q:\n%s", want, text)
}

func (v *screenTerm) press(t *testing.T, keys string) {
	t.Helper()
	if _, err := v.Write([]byte(keys)); err != nil {
		t.Fatal(err)
	}
}

// Keys as terminals send them.
const (
	keyDown  = "\x1b[B"
	keyRight = "\x1b[C"
	keyPgDn  = "\x1b[6~"
	keyHome  = "\x1b[1~"
	keyClear = "\x15"
	ctrlR    = "\x12"
	ctrlC    = "\x03"
)

// inNamespace is set in the test program that runs in the machine's namespace,
// to that of the server.
const inNamespace = "INETBOOT_TEST_SERVER_NAMESPACE"

// The whole session in a network of its own, without a virtual machine and
// without any DHCP server: somebody does not wait for one, types the network and
// then another one that leads nowhere, goes back, looks at the log and at
// failures, chooses a mirror, edits a command line, and starts an image by its
// URL. Kernels are none, so that nothing starts.
func TestSessionOfAPerson(t *testing.T) {
	server := os.Getenv(inNamespace)
	if server == "" {
		outside(t)
		return
	}
	p := &publisher{key: firstKey, url: "http://10.77.0.1:8080", files: map[string][]byte{}, gets: map[string]int{}}
	srv := httptest.NewUnstartedServer(p)
	srv.Listener.Close()
	srv.Listener = listenIn(t, server, "10.77.0.1:8080")
	srv.Start()
	t.Cleanup(srv.Close)
	kernel := bytes.Repeat([]byte("no kernel "), 100_000)
	where := p.publish(t, 2, time.Now().Add(time.Hour), kernel, []byte("no initrd"), -1)

	s, v, ended := startSession(t, fmt.Sprintf("quiet inetboot.cache=none inetboot.url=%s inetboot.key=%x", p.url, []byte(catalogtest.Key(firstKey).Public())))

	// Nobody gives out addresses.
	v.expect(t, "eth0")
	v.press(t, ctrlC)
	v.expect(t, "no store can be reached", "the network was not waited for", " >  1  Try again", "Tab: more")
	v.press(t, "\t")
	v.expect(t, "InetBoot: this machine", " >  1  Look at the kernel's messages", "2  Start from the local disk", "4  Switch this machine off")
	v.press(t, "\r")
	v.expect(t, " Messages of the kernel", "Esc: back")
	v.press(t, "\x1b")
	v.expect(t, "no store can be reached", " >  1  Try again")
	v.press(t, "\t")
	v.expect(t, " >  1  Look at the kernel's messages")
	v.press(t, "\x1b")
	v.expect(t, "no store can be reached", " >  1  Try again")
	v.press(t, "network settings\r")
	v.expect(t, "< automatic, from the network (DHCP) >", "[ Use these settings ]")
	v.press(t, keyDown+keyRight+keyDown+"10.77.0.7"+keyPgDn+"\r")
	v.expect(t, `"10.77.0.7" is no address with the length`)
	v.press(t, "/24"+keyPgDn+"\r")
	v.expect(t, "Test menu", " >  1  Tiny Linux 1", "inetboot: menu ready", "version  to load", "1.0 MB")
	if c := s.net.Config(); c == nil || c.Lease != nil || c.Addresses[0] != netip.MustParsePrefix("10.77.0.7/24") {
		t.Errorf("the network = %+v; want 10.77.0.7/24", c)
	}

	// Another address, with which there is no store, and back.
	v.press(t, "\tnetwork settings\r")
	v.expect(t, "10.77.0.7/24", "[ Use these settings ]")
	v.press(t, keyDown+keyDown+keyClear+"10.88.0.7/24"+keyPgDn+"\r")
	v.expect(t, "failed: catalog: dial tcp 10.77.0.1:8080")
	v.press(t, ctrlC)
	v.expect(t, "no store can be reached", "failed: catalog:", "Go back to the settings from before")
	v.press(t, "from before\r")
	v.expect(t, "inetboot: menu ready", " >  1  Tiny Linux 1")

	// Search, and what is found in a submenu.
	v.press(t, "deep")
	v.expect(t, " >  1  More systems > Deep inside", "Search: deep")
	v.press(t, "\x1b")
	v.expect(t, " >  1  Tiny Linux 1", "2  More systems  ...")

	// The log.
	v.press(t, "\tthe log\r")
	v.expect(t, " Log", "settings as before", "Esc: back")
	v.press(t, keyHome+"\x1b")
	v.expect(t, " >  1  Tiny Linux 1")

	// A failure, which is tried again and is another one then.
	undo := p.change(where.kernel)
	v.press(t, "\r")
	v.expect(t, "InetBoot: this could not be started", "refused: kernel: it has SHA-256", "Tried with: eth0, address 10.77.0.7/24", "mirrors http://10.77.0.1:8080", " >  1  Try again")
	undo()
	v.press(t, "\r")
	v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again")
	v.press(t, "restart\r")
	v.expect(t, "this machine cannot")
	if id := <-ended; id != rebootID {
		t.Errorf("the machine ends by %q; want %q", id, rebootID)
	}
	v.press(t, "\x1b\x1b")
	v.expect(t, " >  1  Tiny Linux 1")

	// A mirror that is typed comes first; it is none.
	v.press(t, "\tmirror\r")
	v.expect(t, "http://10.77.0.1:8080", "Type another address")
	v.press(t, "another\r")
	v.expect(t, "Base URL of the store")
	v.press(t, keyClear+"http://10.77.0.1:9"+keyPgDn+"\r")
	v.expect(t, "inetboot: menu ready", " >  1  Tiny Linux 1")
	if urls := s.store.client.URLs(); len(urls) != 2 {
		t.Errorf("mirrors = %v; want both", urls)
	}

	// A command line.
	v.press(t, "\tedit\r")
	v.expect(t, "image.option=1 entry.option=2 quiet", "[ Start it ]")
	v.press(t, " typed=1"+keyDown+"\r")
	v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again")
	if want := "inetboot: command line: image.option=1 entry.option=2 quiet typed=1 inetboot.boot=" + s.id; !strings.Contains(strings.Join(s.con.Lines(), "\n"), want) {
		t.Errorf("nothing says %q", want)
	}
	v.press(t, "\x1b")
	v.expect(t, " >  1  Tiny Linux 1")

	// An image by its URL, of which nobody has said what it is.
	p.put("tiny.json", p.files[where.manifest])
	v.press(t, "\turl\r")
	v.expect(t, "URL of the manifest")
	v.press(t, keyClear+p.url+"/tiny.json"+keyPgDn+"\r")
	v.expect(t, "UNVERIFIED: http://10.77.0.1:8080/tiny.json says that it is tiny 1.", " >  1  Do not start it")
	v.press(t, "2\r")
	v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again")
	v.press(t, "\x1b")
	v.expect(t, " >  1  Tiny Linux 1")

	// A catalog that is no good, read by Control-R; then switching off.
	undo = p.change("catalog/timestamp.json")
	v.press(t, ctrlR)
	v.expect(t, "the newest menu cannot be read", "refused: catalog")
	undo()
	v.press(t, "\r")
	v.expect(t, "inetboot: menu ready")
	v.press(t, "\tswitch off\r")
	v.expect(t, "this machine cannot")
	if id := <-ended; id != powerOffID {
		t.Errorf("the machine ends by %q; want %q", id, powerOffID)
	}
}

// outside runs the test again in a namespace that has a cable to another one.
// more adds to both before that. Tests that do so run side by side.
func outside(t *testing.T, more ...func(t *testing.T, ip func(args ...string), client, server string)) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	t.Parallel()
	client, server := fmt.Sprintf("ib-pc-%d-%s", os.Getpid(), t.Name()), fmt.Sprintf("ib-ps-%d-%s", os.Getpid(), t.Name())
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	for _, ns := range []string{client, server} {
		ip("netns", "add", ns)
		t.Cleanup(func() { ip("netns", "del", ns) })
	}
	ip("-n", client, "link", "add", "eth0", "type", "veth", "peer", "name", "srv0", "netns", server)
	ip("-n", server, "addr", "add", "10.77.0.1/24", "dev", "srv0")
	ip("-n", server, "link", "set", "srv0", "up")
	for _, m := range more {
		m(t, ip, client, server)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", client, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"="+server)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("in the namespace: %v", err)
	}
}

// listenIn listens in another network namespace.
func listenIn(t *testing.T, namespace, addr string) net.Listener {
	t.Helper()
	type result struct {
		l   net.Listener
		err error
	}
	got := make(chan result)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		fd, err := unix.Open("/run/netns/"+namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
			unix.Close(fd)
		}
		if err != nil {
			got <- result{nil, err}
			return
		}
		l, err := net.Listen("tcp", addr)
		got <- result{l, err}
	}()
	r := <-got
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r.l
}

// startSession runs a session with that command line until the test ends. On
// the returned terminal its screens show; the channel tells how it ends the
// machine, which it cannot.
//
// change changes the session before it runs.
func startSession(t *testing.T, cmdline string, change ...func(*session)) (*session, *screenTerm, chan string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan string, 16)
	s := &session{con: console.New(), line: newTimeline(), id: strings.Repeat("ab", 16), syslog: syslog.New("ab"), cmdline: cmdline}
	s.end = func(id string) error { ended <- id; return errors.New("this machine cannot") }
	s.kexec = kexecCalls{boot.Load, func() error { panic("nothing can have been loaded") }}
	for _, c := range change {
		c(s)
	}
	var err error
	if s.set, err = settings.Read(s.cmdline, fstest.MapFS{}); err != nil {
		t.Fatal(err)
	}
	s.net = network.New(network.Options{Log: s.report, Mark: s.line.mark})
	v := newScreenTerm(t, s.con)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		s.con.Close()
		if t.Failed() {
			t.Logf("lines:\n%s", strings.Join(s.con.Lines(), "\n"))
		}
	})
	return s, v, ended
}
