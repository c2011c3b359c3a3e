package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog/catalogtest"
)

// poorNetwork is two links of which one leads to nobody, and two DHCP servers
// on the other, of which one leads to no store. The good one's name server
// knows the store, with an IPv6 address that nothing leads to.
func poorNetwork(t *testing.T, ip func(args ...string), client, server string) {
	stray := fmt.Sprintf("ib-pb-%d", os.Getpid())
	ip("netns", "add", stray)
	t.Cleanup(func() { ip("netns", "del", stray) })
	ip("-n", client, "link", "add", "eth1", "type", "veth", "peer", "name", "dead0", "netns", server)
	ip("-n", server, "link", "set", "dead0", "up")
	ip("-n", server, "link", "add", "br0", "type", "bridge")
	ip("-n", server, "link", "add", "b1", "type", "veth", "peer", "name", "b0", "netns", stray)
	ip("-n", server, "addr", "flush", "dev", "srv0")
	ip("-n", server, "addr", "add", "10.77.0.1/24", "dev", "br0")
	for _, link := range []string{"srv0", "b1"} {
		ip("-n", server, "link", "set", link, "master", "br0", "up")
	}
	ip("-n", server, "link", "set", "br0", "up")
	ip("-n", stray, "addr", "add", "10.99.0.2/24", "dev", "b0")
	ip("-n", stray, "link", "set", "b0", "up")
	dnsmasq := func(namespace string, args ...string) {
		t.Helper()
		cmd := exec.Command("ip", append([]string{"netns", "exec", namespace, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--no-ping", "--no-resolv", "--no-hosts", "--bind-interfaces", "--except-interface=lo",
			"--dhcp-leasefile=" + filepath.Join(t.TempDir(), "leases")}, args...)...)
		cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	}
	dnsmasq(stray, "--interface=b0", "--dhcp-range=10.99.0.50,10.99.0.60,1h")
	dnsmasq(server, "--interface=br0", "--dhcp-range=10.77.0.50,10.77.0.60,1h", "--host-record=store.lan,10.77.0.1,fd99::1")
}

// nft loads rules in this namespace.
func nft(t *testing.T, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// Networks as they are found: the machine gets through by what there is.
func TestSessionOnPoorNetworks(t *testing.T) {
	for _, program := range []string{"nft", "dnsmasq"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(err)
		}
	}
	server := os.Getenv(inNamespace)
	if server == "" {
		outside(t, poorNetwork)
		return
	}
	p := &publisher{key: firstKey, files: map[string][]byte{}, gets: map[string]int{}}
	serve := func(addr string, h http.Handler) {
		srv := httptest.NewUnstartedServer(h)
		srv.Listener.Close()
		srv.Listener = listenIn(t, server, addr)
		srv.Start()
		t.Cleanup(srv.Close)
	}
	serve("10.77.0.1:8080", p)
	// A proxy that alone knows the way to store.example.
	serve("10.77.0.1:3128", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Host != "store.example" {
			http.Error(w, "no such host", http.StatusBadGateway)
			return
		}
		p.ServeHTTP(w, r)
	}))
	p.publish(t, 2, time.Now().Add(time.Hour), bytes.Repeat([]byte("no kernel "), 1000), []byte("no initrd"), -1)
	for _, tt := range []struct{ name, option, rules string }{
		{
			"links and servers", "inetboot.url=http://store.lan:8080", `
table inet test {
	chain out {
		type filter hook output priority 0; policy accept;
		ip daddr { 10.77.0.1, 10.99.0.2 } udp dport 53 accept
		meta l4proto { tcp, udp } th dport { 53, 853 } counter drop
	}
}`,
		},
		{
			"proxy alone", "inetboot.url=http://store.example http_proxy=http://10.77.0.1:3128", `
table inet test {
	chain out {
		type filter hook output priority 0; policy drop;
		ip daddr 10.77.0.1 tcp dport 3128 accept
		ip daddr { 10.77.0.1, 10.99.0.2, 255.255.255.255 } udp dport 67 accept
	}
}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nft(t, tt.rules)
			defer nft(t, "delete table inet test")
			s, v, _ := startSession(t, fmt.Sprintf("quiet inetboot.cache=none %s inetboot.key=%x", tt.option, []byte(catalogtest.Key(firstKey).Public())))
			v.expect(t, "inetboot: menu ready", " >  1  Tiny Linux 1")
			if c := s.net.Config(); c == nil || c.Device != "eth0" || c.Server.String() != "10.77.0.1" {
				t.Errorf("the network = %+v; want eth0 with the lease of 10.77.0.1", c)
			}
			v.press(t, "\r")
			v.expect(t, "failed: kernel: the kernel cannot be loaded", " >  1  Try again") // so it is there, and right
			if out, err := exec.Command("nft", "list", "ruleset").CombinedOutput(); err != nil || strings.Contains(string(out), "counter") && !strings.Contains(string(out), "counter packets 0 ") {
				t.Errorf("name servers of nobody here were asked: %v\n%s", err, out)
			}
			if err := s.net.Down(); err != nil {
				t.Error(err)
			}
		})
	}
}
