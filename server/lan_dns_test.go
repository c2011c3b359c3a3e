package main

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
	"github.com/inetboot/inetboot/server/lan"
)

func TestDNSOptions(t *testing.T) {
	dir := t.TempDir()
	db, err := database.Open(t.Context(), filepath.Join(dir, "server.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	list, err := clients.Open(t.Context(), clients.Options{DB: db, File: filepath.Join(dir, "clients.conf"), Unknown: clients.BootUnknown, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	p := netip.MustParsePrefix("10.0.0.1/24")
	parts := &lanParts{
		iface: &lan.Interface{Name: "eth0", IPv4: p, All: []netip.Prefix{p}}, http: &net.TCPAddr{Port: 8080},
		db: db, clients: list, log: slog.New(slog.DiscardHandler),
	}
	for _, c := range []struct{ args, err string }{
		{"--dns", ""},
		{"--dns --dns-forward none", ""},
		{"--dns --dns-forward 192.0.2.1 --dns-forward [2001:db8::1]:5353 --dns-network 10.9.0.0/24", ""},
		{"--dns --dhcp full --dhcp-option domain=lab.example.org", ""},
		{"--dns --dns-port 0", "--dns-port 0"},
		{"--dns --dns-domain a..b", "no domain"},
		{"--dns --dns-forward resolver", "want an address"},
		{"--dns --dns-forward 10.0.0.1", "that is this server"},
		{"--dns --dns-network 10.9", "want a network"},
		{"--dns --dhcp full --dhcp-range 1", "--dhcp-range"},
	} {
		s, err := newDNS(t.Context(), parsedOptions(t, c.args), parts)
		switch {
		case c.err == "" && (err != nil || s == nil):
			t.Errorf("%s: %v, %v", c.args, s, err)
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v; want %q", c.args, err, c.err)
		}
	}
	if s, err := newDNS(t.Context(), parsedOptions(t, ""), parts); s != nil || err != nil {
		t.Errorf("without --dns: %v, %v", s, err)
	}
}

// Machines get their addresses and their resolver from the server, and find each
// other by name: those with settings by these, whatever another one calls
// itself, all others as they call themselves.
func TestDNS(t *testing.T) {
	n := newNetwork(t, "busybox", "dig", "getent")
	bin, data := program(t), serverData(t)
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	settings := "[52:54:00:00:00:07]\nname = pc7\naddress = 10.0.0.7\n[52:54:00:00:00:08]\nname = pc8\n[printer]\naddress = 10.0.0.9\n"
	if err := os.WriteFile(filepath.Join(data, "clients.conf"), []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	server := n.plug("server", "10.0.0.1/24")
	n.run("ip", "-n", server, "addr", "add", "10.3.0.1/24", "dev", "lo")
	n.serve(server, bin, data, "--dhcp", "full", "--dhcp-range", "10.0.0.100-10.0.0.120", "--dhcp-probe", "10ms", "--dns", "--dns-domain", "Lab.Example.org", "--dns-forward", "none", "--no-syslog", "--no-tftp")

	dir := t.TempDir()
	script := filepath.Join(dir, "script")
	if err := os.WriteFile(script, []byte(`#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add $ip/$mask dev $interface
mkdir -p /etc/netns/$NS
echo "nameserver $dns
search $domain" > /etc/netns/$NS/resolv.conf
`), 0o755); err != nil {
		t.Fatal(err)
	}
	lease := func(machine, mac string) string {
		t.Helper()
		ns := n.plug(machine, "")
		n.run("ip", "-n", ns, "link", "set", "eth0", "address", mac)
		t.Cleanup(func() { os.RemoveAll(filepath.Join("/etc/netns", ns)) })
		n.run("ip", "netns", "exec", ns, "env", "NS="+ns, "busybox", "udhcpc", "-f", "-q", "-n", "-t", "20", "-i", "eth0", "-x", "hostname:"+machine, "-s", script)
		b, err := os.ReadFile(filepath.Join("/etc/netns", ns, "resolv.conf"))
		if want := "nameserver 10.0.0.1\nsearch lab.example.org\n"; err != nil || string(b) != want {
			t.Fatalf("%s: resolv.conf is %q, %v; want %q", machine, b, err, want)
		}
		return ns
	}
	// As one machine sees it, by the C library.
	look := func(from, name string) string {
		t.Helper()
		out, err := exec.Command("ip", "netns", "exec", from, "getent", "ahostsv4", name).CombinedOutput()
		f := strings.Fields(string(out))
		if err != nil || len(f) == 0 {
			return "none"
		}
		return f[0]
	}
	expect := func(from string, want map[string]string) {
		t.Helper()
		got := make(map[string]string)
		for name := range want {
			got[name] = look(from, name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("names (-want +got):\n%s", diff)
		}
	}
	laptop := lease("laptop", "52:54:00:00:00:42")
	rogue := lease("pc8", "52:54:00:00:00:66")
	expect(laptop, map[string]string{
		"laptop": "10.0.0." + lastByte(t, laptop), "laptop.lab.example.org": "10.0.0." + lastByte(t, laptop),
		"pc7": "10.0.0.7", "printer": "10.0.0.9",
		"pc8": "none", // which another machine says that it is
		"pc9": "none", "example.org": "none",
	})
	if got := n.run("ip", "netns", "exec", rogue, "getent", "hosts", "10.0.0."+lastByte(t, laptop)); !strings.Contains(got, "laptop.lab.example.org") {
		t.Errorf("the name of an address: %s", got)
	}
	own := lease("other", "52:54:00:00:00:08") // by its settings pc8
	expect(rogue, map[string]string{"pc8": "10.0.0." + lastByte(t, own), "other": "none"})
	if got := n.run("ip", "netns", "exec", laptop, "dig", "+tcp", "+short", "-x", "10.0.0."+lastByte(t, rogue)); strings.TrimSpace(got) != "" {
		t.Errorf("the name of one that has another one's: %s", got)
	}
	if got := n.run("ip", "netns", "exec", laptop, "dig", "www.example.net"); !strings.Contains(got, "status: REFUSED") {
		t.Errorf("a name of the world, with --dns-forward none: %s", got)
	}
	// From another network nobody is answered.
	n.run("ip", "-n", laptop, "addr", "add", "10.3.0.2/24", "dev", "eth0")
	if out, err := exec.Command("ip", "netns", "exec", laptop, "dig", "-b", "10.3.0.2", "+time=1", "+tries=2", "pc7.lab.example.org").CombinedOutput(); err == nil {
		t.Errorf("another network is answered: %s", out)
	}
	said, err := exec.Command("ip", "netns", "exec", server, bin, "doctor", "--lan", "eth0", "--data", data, "--dhcp", "full", "--dns", "--no-syslog").CombinedOutput()
	if want := "at 10.0.0.1"; strings.Count(string(said), want) < 2 || !strings.Contains(string(said), "--dns-forward none") {
		t.Errorf("server doctor: %s, %v", said, err)
	}
}

// lastByte returns that of the address which a machine has.
func lastByte(t *testing.T, ns string) string {
	t.Helper()
	out, err := exec.Command("ip", "-n", ns, "-o", "-4", "addr", "show", "dev", "eth0").Output()
	m := regexp.MustCompile(`inet 10\.0\.0\.(\d+)/`).FindSubmatch(out)
	if m == nil {
		t.Fatalf("%s has no address: %s, %v", ns, out, err)
	}
	return string(m[1])
}
