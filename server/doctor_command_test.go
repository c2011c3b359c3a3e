package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/imagestest"
	"github.com/inetboot/inetboot/server/lan/doctor"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// diagnose runs the doctor in a namespace.
func (n *network) diagnose(ns, bin string, args ...string) (code int, failed string, list []doctor.Finding) {
	n.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", ns, bin, "doctor", "--json", "--wait", "1500ms"}, args...)...)
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		n.t.Fatal(err)
	}
	var d struct {
		Failed   string
		Findings []doctor.Finding
	}
	if jerr := json.Unmarshal(out, &d); jerr != nil {
		n.t.Fatalf("doctor %q: %v, %v: %s", args, err, jerr, out)
	}
	return cmd.ProcessState.ExitCode(), d.Failed, d.Findings
}

// check compares findings: "STAGE WHAT" to words of what came back and what to do.
func check(t *testing.T, name string, list []doctor.Finding, want map[string]string) {
	t.Helper()
	for _, f := range list {
		key := f.Stage + " " + f.What
		w, bad := want[key]
		if (f.Status == doctor.Failed) != bad || !strings.Contains(f.Got+" "+f.Next, w) || bad && f.Next == "" {
			t.Errorf("%s: %+v; want %q", name, f, w)
		}
		delete(want, key)
	}
	for k := range want {
		t.Errorf("%s: nothing is said about %s", name, k)
	}
}

// The doctor finds nothing wrong with a server that is in order, and names the
// stage at which something was broken.
func TestDoctor(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, "nft", "dnsmasq")
	server, client, other := n.plug("server", "10.0.0.1/24"), n.plug("client", "10.0.0.2/24"), n.plug("other", "10.0.0.9/24")
	data := serverData(t)
	media := filepath.Join(filepath.Dir(data), "media")
	testMedia(t, media)
	p := storetest.New(t, data)
	img := p.AddRoot(t, "debian", "12", "erofs", imagestest.NewRoot(t).Files()...)
	if img.Name == "" {
		t.Fatal("no image")
	}
	bin := program(t)
	_, stop := n.serve(server, bin, data, "--media", media, "--dhcp", "full", "--dhcp-range", "10.0.0.100-10.0.0.149", "--dhcp-probe", "0", "--nfs", "--nbd")
	remote := []string{"--interface", "eth0", "--server", "10.0.0.1"}
	local := []string{"--lan", "eth0", "--data", data}

	code, failed, list := n.diagnose(client, bin, remote...)
	check(t, "in order", list, nil)
	if code != 0 || failed != "" {
		t.Errorf("in order: %d, failed at %q", code, failed)
	}
	code, _, list = n.diagnose(server, bin, local...)
	check(t, "in order, on the server", list, nil)
	if code != 0 || !slices.ContainsFunc(list, func(f doctor.Finding) bool {
		return f.Stage == doctor.StageSyslog && f.What == "udp" && strings.Contains(f.Got, "in the server's logs")
	}) || slices.ContainsFunc(list, func(f doctor.Finding) bool {
		arm64 := strings.HasSuffix(f.What, "arm64")
		return (f.Status != doctor.OK) != arm64 || arm64 && !strings.Contains(f.Got, "--arm64 names a program")
	}) {
		t.Errorf("in order, on the server: %d, %+v", code, list)
	}

	// What is behind DHCP is broken in all stages at once.
	drop := "table inet t { chain c { type filter hook input priority -10; udp dport { 69, 514 } drop; tcp dport { 2049, 10809 } drop; tcp dport 514 reject; }; }"
	n.run("ip", "netns", "exec", server, "nft", drop)
	files, err := filepath.Glob(filepath.Join(data, "store", "files", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	kernels := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		kernels[f] = b
		bad := slices.Clone(b)
		bad[0] ^= 1
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f, bad, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, failed, list = n.diagnose(client, bin, append(remote, "--nfs", "--nbd")...)
	check(t, "broken behind DHCP", list, map[string]string{
		"tftp bios": "firewall drops udp port 69", "kernel kernel": "not those that are signed", "kernel initrd": "push the image again",
		"root NFS": "firewall drops tcp port 2049", "root NBD": "no answer", "syslog tcp": "refused",
	})
	if code != exitStage+1 || failed != doctor.StageTFTP {
		t.Errorf("broken behind DHCP: %d, %s", code, failed)
	}
	n.run("ip", "netns", "exec", server, "nft", "delete table inet t")

	// A firewall in front of DHCP, as seen on the server.
	n.run("ip", "netns", "exec", server, "nft", "table inet t { chain c { type filter hook input priority -10; udp dport { 67, 514 } drop; }; }")
	code, failed, list = n.diagnose(server, bin, local...)
	check(t, "firewall", list, map[string]string{
		"dhcp bios": "listens at UDP port 67, so a firewall drops it", "dhcp uefi": "no answer", "dhcp http": "no answer", "dhcp ipxe": "no answer",
		"kernel kernel": "", "kernel initrd": "", "syslog udp": "firewall drops udp port 514",
	})
	if code != exitStage || failed != doctor.StageDHCP {
		t.Errorf("firewall: %d, %s", code, failed)
	}
	n.run("ip", "netns", "exec", server, "nft", "delete table inet t")
	for f, b := range kernels {
		if err := os.WriteFile(f, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	// Another server names boot files, too.
	leases := filepath.Join(t.TempDir(), "leases")
	rival := func(args ...string) func() {
		_, stop := n.start(other, "DHCP, IP range", append([]string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping", "--user=root", "--dhcp-leasefile=" + leases, "--bind-interfaces", "--interface=eth0", "--dhcp-range=10.0.0.50,10.0.0.59"}, args...)...)
		return stop
	}
	end := rival("--dhcp-boot=other.efi")
	code, _, list = n.diagnose(client, bin, remote...)
	const names = "10.0.0.9 names a boot file, too"
	check(t, "rival", list, map[string]string{"dhcp bios": names, "dhcp uefi": names, "dhcp http": names, "dhcp ipxe": names})
	if code != exitStage {
		t.Errorf("rival: %d", code)
	}
	end()
	// One that names none harms nobody: ours is a proxy beside it. It has a program
	// for arm64 now.
	end = rival()
	stop()
	arm64 := filepath.Join(media, "grubaa64.efi")
	if err := os.WriteFile(arm64, armProgram(), 0o644); err != nil {
		t.Fatal(err)
	}
	_, stop = n.serve(server, bin, data, "--media", media, "--arm64", arm64)
	code, _, list = n.diagnose(client, bin, remote...)
	check(t, "proxy", list, nil)
	if code != 0 || !strings.Contains(list[0].Got, "10.0.0.9 offers 10.0.0.5") {
		t.Errorf("a proxy beside another server: %d, %+v", code, list[0])
	}
	for _, key := range []string{"dhcp arm64", "dhcp http-arm64", "tftp arm64", "http http-arm64"} {
		if !slices.ContainsFunc(list, func(f doctor.Finding) bool { return f.Stage+" "+f.What == key && f.Status == doctor.OK }) {
			t.Errorf("with a program for arm64: nothing good is said about %s: %+v", key, list)
		}
	}
	end()
	code, _, list = n.diagnose(client, bin, remote...)
	check(t, "proxy alone", list, map[string]string{"dhcp address": "the LAN needs a DHCP server"})
	if code != exitStage {
		t.Errorf("a proxy alone: %d", code)
	}
	// Ours is gone, and another one names a server that is none.
	stop()
	end = rival("--dhcp-match=set:http,option:client-arch,16", "--dhcp-boot=tag:!http,inetboot.efi,,10.0.0.77")
	code, _, list = n.diagnose(client, bin, append(remote, "--nfs=false", "--nbd=false", "--no-syslog")...)
	check(t, "next-server", list, map[string]string{
		"dhcp bios": "next-server (siaddr, option 66) is 10.0.0.77", "dhcp uefi": "boot server is 10.0.0.1", "dhcp http": "none names a boot file", "dhcp ipxe": "",
		"tftp bios": "no answer", "kernel catalog": "start the server",
	})
	if code != exitStage {
		t.Errorf("next-server: %d", code)
	}
	end()
	code, _, list = n.diagnose(server, bin, append(local, "--no-syslog")...)
	const nobody = "nobody on this machine listens at UDP port 67"
	check(t, "nobody", list, map[string]string{"dhcp bios": nobody, "dhcp uefi": nobody, "dhcp http": nobody, "dhcp ipxe": nobody, "kernel catalog": "refused"})
	if code != exitStage {
		t.Errorf("nobody: %d", code)
	}
}
