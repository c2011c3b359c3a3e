package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"
)

// network is a switch in a network namespace, with machines that are plugged
// into it.
type network struct {
	t    *testing.T
	name string
}

func newNetwork(t *testing.T, need ...string) *network {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, p := range append([]string{"ip"}, need...) {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	n := &network{t, fmt.Sprintf("ib-s%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)}
	n.namespace(n.name)
	n.run("ip", "-n", n.name, "link", "add", "br0", "type", "bridge")
	n.run("ip", "-n", n.name, "link", "set", "br0", "up")
	return n
}

func (n *network) run(args ...string) string {
	n.t.Helper()
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		n.t.Errorf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (n *network) namespace(ns string) {
	n.run("ip", "netns", "add", ns)
	n.t.Cleanup(func() { n.run("ip", "netns", "del", ns) })
	n.run("ip", "-n", ns, "link", "set", "lo", "up")
}

// plug makes a machine with the interface eth0, and returns its namespace.
func (n *network) plug(machine, addr string) string {
	ns := n.name + "-" + machine
	n.namespace(ns)
	n.run("ip", "-n", ns, "link", "add", "eth0", "type", "veth", "peer", "name", "p-"+machine, "netns", n.name)
	n.run("ip", "-n", n.name, "link", "set", "p-"+machine, "master", "br0", "up")
	if addr != "" {
		n.run("ip", "-n", ns, "addr", "add", addr, "dev", "eth0")
	}
	n.run("ip", "-n", ns, "link", "set", "eth0", "up")
	return ns
}

// inside calls f on a thread in the namespace: sockets that it opens stay there.
func (n *network) inside(ns string, f func() error) {
	n.t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		n.t.Fatal(err)
	}
	defer home.Close()
	there, err := netns.GetFromName(ns)
	if err != nil {
		n.t.Fatal(err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		n.t.Fatal(err)
	}
	err = f()
	if back := netns.Set(home); back != nil {
		n.t.Fatal(back) // the thread stays locked, and ends with the goroutine
	}
	runtime.UnlockOSThread()
	if err != nil {
		n.t.Fatal(err)
	}
}

// output is what a program says; it may be read meanwhile.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (w *output) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.Write(b)
}

func (w *output) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.buf.String()
}

// start runs a program in the namespace until the test is over, or stop is
// called, and waits until it says ready.
func (n *network) start(ns, ready string, args ...string) (said *output, stop func()) {
	n.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	said = &output{}
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			<-ended
		})
	}
	n.t.Cleanup(func() {
		stop()
		if n.t.Failed() {
			text := said.String()
			n.t.Logf("%s: %s", args[0], text[max(0, len(text)-4000):])
		}
	})
	for end := time.Now().Add(time.Minute); !strings.Contains(said.String(), ready); time.Sleep(20 * time.Millisecond) {
		select {
		case <-ended:
			n.t.Fatalf("%s ended: %s", args[0], said.String())
		default:
		}
		if time.Now().After(end) {
			n.t.Fatalf("%s does not become ready: %s", args[0], said.String())
		}
	}
	return said, stop
}

// serverData makes a data folder that the server's user can get to.
func serverData(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "data")
}

// serve runs the server in the namespace.
func (n *network) serve(ns, bin, data string, args ...string) (said *output, stop func()) {
	n.t.Helper()
	return n.start(ns, `"msg":"serving"`, append([]string{bin, "--data", data, "--lan", "eth0", "--user", "nobody", "--log-format", "json"}, args...)...)
}
