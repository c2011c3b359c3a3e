package dhcp

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/vishvananda/netns"

	"github.com/inetboot/inetboot/server/lan/bootfile"
	"github.com/inetboot/inetboot/server/lan/lantest"
)

// cable is a LAN of network namespaces: a switch, and machines that are
// plugged into it.
type cable struct {
	t     *testing.T
	name  string
	ports int
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func newCable(t *testing.T, need ...string) *cable {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	for _, p := range append([]string{"ip"}, need...) {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	c := &cable{t: t, name: fmt.Sprintf("ib-d%d-%d", os.Getpid(), time.Now().UnixNano()%1e6)}
	c.namespace(c.name)
	run(t, "ip", "-n", c.name, "link", "add", "br0", "type", "bridge")
	run(t, "ip", "-n", c.name, "link", "set", "br0", "up")
	return c
}

func (c *cable) namespace(ns string) {
	run(c.t, "ip", "netns", "add", ns)
	c.t.Cleanup(func() { run(c.t, "ip", "netns", "del", ns) })
	run(c.t, "ip", "-n", ns, "link", "set", "lo", "up")
}

// plug gives a namespace, made if it is new, an interface in the LAN.
func (c *cable) plug(machine, ifname, addr string) string {
	c.t.Helper()
	ns := c.name + "-" + machine
	if _, err := os.Stat("/run/netns/" + ns); err != nil {
		c.namespace(ns)
	}
	port := fmt.Sprint("p", c.ports)
	c.ports++
	run(c.t, "ip", "-n", ns, "link", "add", ifname, "type", "veth", "peer", "name", port, "netns", c.name)
	run(c.t, "ip", "-n", c.name, "link", "set", port, "master", "br0", "up")
	if addr != "" {
		run(c.t, "ip", "-n", ns, "addr", "add", addr, "dev", ifname)
	}
	run(c.t, "ip", "-n", ns, "link", "set", ifname, "up")
	return ns
}

// within calls f on a thread in the namespace: sockets that it opens stay there.
func within(t *testing.T, ns string, f func() error) {
	t.Helper()
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	there, err := netns.GetFromName(ns)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := netns.Set(there); err != nil {
		t.Fatal(err)
	}
	err = f()
	if back := netns.Set(home); back != nil {
		t.Fatal(back) // the thread stays locked, and ends with the goroutine
	}
	runtime.UnlockOSThread()
	if err != nil {
		t.Fatal(err)
	}
}

// serve runs the service in a namespace.
func serve(t *testing.T, ns string, o ServiceOptions) {
	t.Helper()
	o.Interface, o.Files = "eth0", allFiles
	if o.Mode == Full && o.Store == nil {
		o.Store = openStore(t, openDB(t), false)
	}
	s, err := NewService(o)
	if err != nil {
		t.Fatal(err)
	}
	within(t, ns, func() error { return s.Open(t.Context()) })
	lantest.RunOpen(t, s)
}

// script is what the clients call with a lease: it writes its environment down.
func script(t *testing.T) (path string, lease func() map[string]string) {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "env")
	path = filepath.Join(dir, "script")
	text := "#!/bin/sh\ncase \"$1$reason\" in *bound*|*BOUND*) env | sort >" + out + ".new; mv " + out + ".new " + out + ";; esac\nexit 0\n"
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path, func() map[string]string {
		b, err := os.ReadFile(out)
		if err != nil {
			t.Errorf("the client has no lease: %v", err)
		}
		m := map[string]string{}
		for line := range strings.Lines(string(b)) {
			k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
			m[strings.TrimPrefix(k, "new_")] = v
		}
		return m
	}
}

// stock runs an unmodified client until it has a lease, and returns what it was told.
func stock(t *testing.T, ns, client string) map[string]string {
	t.Helper()
	s, lease := script(t)
	dir := t.TempDir()
	var args []string
	switch client {
	case "udhcpc":
		args = []string{"busybox", "udhcpc", "-f", "-q", "-n", "-t", "8", "-T", "1", "-i", "eth0", "-s", s, "-O", "mtu", "-O", "staticroutes", "-O", "ntpsrv"}
	case "dhclient":
		args = []string{"dhclient", "-4", "-1", "-d", "-q", "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "-sf", s, "-cf", "/dev/null", "eth0"}
	case "dhcpcd":
		args = []string{"dhcpcd", "-4", "-1", "-B", "-L", "-t", "20", "-f", "/dev/null", "-c", s, "eth0"}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if client == "dhclient" { // stays, to renew
		for end := time.Now().Add(25 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(s), "env")); err == nil {
				break
			}
		}
		cmd.Process.Kill()
	}
	<-done
	m := lease()
	if t.Failed() {
		t.Logf("%s: %s", client, out.String())
	}
	return m
}

func TestStockClients(t *testing.T) {
	c := newCable(t, "busybox", "dhclient", "dhcpcd")
	server := c.plug("server", "eth0", "10.0.0.1/24")
	squatter := c.plug("squatter", "eth0", "10.0.0.100/24")
	r, err := ParseRange("10.0.0.100-10.0.0.102,router=10.0.0.1,dns=10.0.0.5+10.0.0.6,ntp=10.0.0.7,domain=lan.example,mtu=1400,route=10.8.0.0/16:10.0.0.8,lease=2h")
	if err != nil {
		t.Fatal(err)
	}
	book := &book{hosts: map[string]Host{}}
	serve(t, server, ServiceOptions{Config: Config{Mode: Full, Server: serverAddr, Subnet: lanPrefix, Ranges: []Range{r}, Directory: book}, Wait: 100 * time.Millisecond})
	if squatter == "" {
		t.Fatal("nobody uses the first address")
	}
	seen := map[string]string{}
	for _, client := range []string{"udhcpc", "dhclient"} {
		m := stock(t, c.plug(client, "eth0", ""), client)
		addr, names := m["ip_address"], m["domain_name_servers"]
		if client == "udhcpc" {
			addr, names = m["ip"], m["dns"]
			if m["mtu"] != "1400" || m["ntpsrv"] != "10.0.0.7" || !strings.Contains(m["staticroutes"], "10.8.0.0/16 10.0.0.8") || m["lease"] != "7200" || m["domain"] != "lan.example" {
				t.Errorf("udhcpc was told %v", m)
			}
		}
		if addr != "10.0.0.101" && addr != "10.0.0.102" || seen[addr] != "" || names != "10.0.0.5 10.0.0.6" {
			t.Errorf("%s got %q, name servers %q; others have %v, and 10.0.0.100 is in use", client, addr, names, seen)
		}
		seen[addr] = client
	}
	// The pool is empty; the third one has an address of its own.
	ns := c.plug("dhcpcd", "eth0", "")
	hw := strings.TrimSpace(run(t, "ip", "netns", "exec", ns, "cat", "/sys/class/net/eth0/address"))
	book.set(hw, Host{Known: true, Address: netip.MustParseAddr("10.0.0.33"), Name: "third"})
	if m := stock(t, ns, "dhcpcd"); m["ip_address"] != "10.0.0.33" || m["host_name"] != "third" || m["routers"] != "" && m["routers"] != "10.0.0.1" {
		t.Errorf("dhcpcd was told %v", m)
	}
}

// A stock client renews its lease for as long as it is on, and keeps its
// address. Once it is off and the lease over, the next machine has the address.
func TestStockRenewal(t *testing.T) {
	c := newCable(t, "busybox", "dhclient")
	server := c.plug("server", "eth0", "10.0.0.1/24")
	r, err := ParseRange("10.0.0.100-10.0.0.100")
	if err != nil {
		t.Fatal(err)
	}
	r.Options.Lease = 4 * time.Second // which options do not allow
	serve(t, server, ServiceOptions{Config: Config{Mode: Full, Server: serverAddr, Subnet: lanPrefix, Ranges: []Range{r}, Directory: &book{hosts: map[string]Host{}}}, Wait: 100 * time.Millisecond})
	first, dir := c.plug("first", "eth0", ""), t.TempDir()
	script, log := filepath.Join(dir, "script"), filepath.Join(dir, "log")
	text := "#!/bin/sh\n[ -z \"$new_ip_address\" ] || ip address replace $new_ip_address/24 dev eth0\necho $reason $new_ip_address >>" + log + "\n"
	if err := os.WriteFile(script, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	end := start(t, first, "dhclient", "-4", "-d", "-lf", filepath.Join(dir, "leases"), "-pf", filepath.Join(dir, "pid"), "-sf", script, "-cf", "/dev/null", "eth0")
	const renewals = "RENEW 10.0.0.100\nRENEW 10.0.0.100\n"
	var said []byte
	for limit := time.Now().Add(25 * time.Second); !strings.Contains(string(said), renewals) && time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		said, _ = os.ReadFile(log)
	}
	if !strings.HasSuffix(string(said), "BOUND 10.0.0.100\n"+renewals) {
		t.Errorf("the client says %q; want a lease and two renewals of it", said)
	}
	end()
	run(t, "ip", "-n", first, "link", "set", "eth0", "down")
	off := time.Now()
	if m := stock(t, c.plug("second", "eth0", ""), "udhcpc"); m["ip"] != "10.0.0.100" {
		t.Errorf("the next machine was told %v", m)
	}
	if d := time.Since(off); d < time.Second {
		t.Errorf("the address was given away %v after a renewal of two seconds at least", d)
	}
}

// rival starts another DHCP server of Debian's.
func rival(t *testing.T, ns, program string) {
	t.Helper()
	dir := t.TempDir()
	var args []string
	if program == "dnsmasq" {
		args = []string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping", "--log-facility=" + filepath.Join(dir, "log"), "--dhcp-leasefile=" + filepath.Join(dir, "leases"),
			"--bind-interfaces", "--interface=eth0", "--dhcp-range=10.0.0.50,10.0.0.59,1h"}
	} else {
		conf := filepath.Join(dir, "dhcpd.conf")
		leases := filepath.Join(dir, "leases")
		if err := os.WriteFile(conf, []byte("ping-check off; subnet 10.0.0.0 netmask 255.255.255.0 { range 10.0.0.50 10.0.0.59; }\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(leases, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		args = []string{"dhcpd", "-4", "-d", "-f", "-user", "root", "-group", "root", "-cf", conf, "-lf", leases, "-pf", filepath.Join(dir, "pid"), "eth0"}
	}
	start(t, ns, args...)
}

// start runs a program until end is called, or the test ends.
func start(t *testing.T, ns string, args ...string) (end func()) {
	t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...)
	var mu sync.Mutex
	var out bytes.Buffer
	w := writerFunc(func(b []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return out.Write(b) })
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(func() {
		end()
		mu.Lock()
		defer mu.Unlock()
		if t.Failed() {
			t.Logf("%s: %s", args[0], out.String())
		}
	})
	return end
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// firmware sends a request again and again, as firmware does, until done says
// that the answers are all that it wants.
func firmware(t *testing.T, ns string, request []byte, done func(map[string]*dhcpv4.DHCPv4) bool) map[string]*dhcpv4.DHCPv4 {
	t.Helper()
	var conn *net.UDPConn
	within(t, ns, func() (err error) { conn, err = listen(t.Context(), "eth0", ClientPort); return err })
	defer conn.Close()
	got := map[string]*dhcpv4.DHCPv4{}
	b := make([]byte, 2000)
	for range 120 {
		if _, err := conn.WriteToUDP(request, &net.UDPAddr{IP: net.IPv4bcast, Port: ServerPort}); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		for {
			n, _, err := conn.ReadFromUDP(b)
			if err != nil {
				break
			}
			if p, err := dhcpv4.FromBytes(bytes.Clone(b[:n])); err == nil && bytes.Equal(p.TransactionID[:], request[4:8]) {
				got[p.ServerIdentifier().String()] = p
			}
			if done(got) {
				return got
			}
		}
	}
	return got
}

// Another server gives the addresses, and goes on giving them; clients that
// boot from the network hear from both.
func TestBesideARival(t *testing.T) {
	for _, program := range []string{"dnsmasq", "dhcpd"} {
		t.Run(program, func(t *testing.T) {
			c := newCable(t, "busybox", "dhclient", program)
			server, other := c.plug("server", "eth0", "10.0.0.1/24"), c.plug("rival", "eth0", "10.0.0.2/24")
			serve(t, server, ServiceOptions{Config: Config{Mode: Proxy, Server: serverAddr, Subnet: lanPrefix, Directory: &book{}}})
			rival(t, other, program)
			pxe := c.plug("pxe", "eth0", "10.0.0.200/24")
			for _, f := range []struct {
				class string
				arch  byte
				file  string
			}{{"PXEClient:Arch:00000:UNDI:002001", 0, bootfile.BIOS}, {"PXEClient:Arch:00007:UNDI:003000", 7, bootfile.UEFI}, {"HTTPClient:Arch:00016:UNDI:003001", 16, allFiles.Base + bootfile.UEFI}} {
				req := packet(t, mac(1), dhcpv4.MessageTypeDiscover, withClass(f.class), withArch(f.arch), dhcpv4.WithBroadcast(true))
				got := firmware(t, pxe, req, func(m map[string]*dhcpv4.DHCPv4) bool { return len(m) == 2 })
				ours, theirs := got["10.0.0.1"], got["10.0.0.2"]
				if ours == nil || theirs == nil || ours.BootFileName != f.file || !ours.YourIPAddr.IsUnspecified() || !strings.HasPrefix(theirs.YourIPAddr.String(), "10.0.0.5") {
					t.Errorf("%s: offers %v and %v", f.class, ours, theirs)
				}
			}
			for _, client := range []string{"udhcpc", "dhclient"} {
				m := stock(t, c.plug(client, "eth0", ""), client)
				addr, from := m["ip_address"], m["dhcp_server_identifier"]
				if client == "udhcpc" {
					addr, from = m["ip"], m["serverid"]
				}
				if !strings.HasPrefix(addr, "10.0.0.5") || from != "10.0.0.2" || m["boot_file"] != "" || m["filename"] != "" {
					t.Errorf("%s got %q from %q; want it from the other server, without a boot file: %v", client, addr, from, m)
				}
			}
		})
	}
}

// A client in another network, behind Debian's relay.
func TestBehindARelay(t *testing.T) {
	c := newCable(t, "busybox", "dhcrelay")
	far := newCable(t)
	server := c.plug("server", "eth0", "10.0.0.1/24")
	relay := c.plug("relay", "eth0", "10.0.0.3/24")
	run(t, "ip", "-n", far.name, "link", "add", "port", "type", "veth", "peer", "name", "far0", "netns", relay)
	run(t, "ip", "-n", far.name, "link", "set", "port", "master", "br0", "up")
	run(t, "ip", "-n", relay, "addr", "add", "10.9.0.1/24", "dev", "far0")
	run(t, "ip", "-n", relay, "link", "set", "far0", "up")
	run(t, "ip", "netns", "exec", relay, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
	run(t, "ip", "-n", server, "route", "add", "10.9.0.0/24", "via", "10.0.0.3")
	r, err := ParseRange("10.9.0.10-10.9.0.19/24,router=10.9.0.1")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, server, ServiceOptions{Config: Config{Mode: Full, Server: serverAddr, Subnet: lanPrefix, Ranges: []Range{r}, Directory: &book{}}, Wait: 50 * time.Millisecond})
	start(t, relay, "dhcrelay", "-4", "-d", "-a", "--no-pid", "-id", "far0", "-iu", "eth0", "10.0.0.1")
	m := stock(t, far.plug("client", "eth0", ""), "udhcpc")
	if !strings.HasPrefix(m["ip"], "10.9.0.1") || m["router"] != "10.9.0.1" || m["serverid"] != "10.0.0.1" {
		t.Errorf("behind a relay: %v", m)
	}
}

// A flood from made-up machines fills the pool, and nothing else: a machine
// with an address of its own is served meanwhile, and memory is bounded.
func TestFlood(t *testing.T) {
	c := newCable(t)
	server, attacker, client := c.plug("server", "eth0", "10.0.0.1/24"), c.plug("attacker", "eth0", "10.0.0.240/24"), c.plug("client", "eth0", "10.0.0.241/24")
	r, err := ParseRange("10.0.0.100-10.0.0.199")
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParseAddr("10.0.0.9")
	b := &quietBook{book: &book{hosts: map[string]Host{mac(1): {Known: true, Address: own}}}}
	serve(t, server, ServiceOptions{Config: Config{Mode: Full, Server: serverAddr, Subnet: lanPrefix, Ranges: []Range{r}, Directory: b}, Wait: 20 * time.Millisecond})
	var conn *net.UDPConn
	within(t, attacker, func() (err error) { conn, err = listen(t.Context(), "eth0", 6868); return err })
	defer conn.Close()
	flood := packet(t, mac(2), dhcpv4.MessageTypeDiscover, withClass("PXEClient"))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range 8000 {
		flood[28], flood[29], flood[30] = 2, byte(i>>8), byte(i)
		if i%7 == 0 {
			flood[242] = byte(i) // other message types, too
		} else {
			flood[242] = 1
		}
		if _, err := conn.WriteToUDP(flood, &net.UDPAddr{IP: net.IPv4bcast, Port: ServerPort}); err != nil {
			t.Fatal(err)
		}
		if i == 4000 {
			got := firmware(t, client, packet(t, mac(1), dhcpv4.MessageTypeDiscover, dhcpv4.WithBroadcast(true)), func(m map[string]*dhcpv4.DHCPv4) bool { return len(m) > 0 })
			if p := got["10.0.0.1"]; p == nil || yours(p) != own {
				t.Errorf("in a flood a machine with an address of its own was offered %v", p)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 24<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
}

type quietBook struct{ *book }

func (quietBook) Seen(string, string, bootfile.Kind) {}
