package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Files for other DHCP servers are made of the server's options and of what is
// known of clients, and say which machines have to boot again.
func TestConfigureDHCP(t *testing.T) {
	for _, p := range []string{"dhcpd", "dnsmasq", "kea-dhcp4", "diff"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	data := t.TempDir()
	do := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append(args, "--data", data), &out, &out)
		return out.String(), err
	}
	ok := func(args ...string) string {
		t.Helper()
		out, err := do(args...)
		if err != nil {
			t.Fatalf("%q: %v", args, err)
		}
		return out
	}
	if err := os.WriteFile(filepath.Join(data, "clients.conf"), []byte("[group room]\nfile = room.efi\n[52:54:00:00:00:01]\nname = pc1\naddress = 10.0.0.51\n[52:54:00:00:00:02]\ngroup = room\n[pc9]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for format, file := range map[string]string{"isc": "dhcpd.conf", "dnsmasq": "dnsmasq.conf", "kea": "kea.conf"} {
		path := filepath.Join(data, file)
		reloaded := filepath.Join(data, format+"-reloaded")
		args := []string{"configure", format, "--server", "10.0.0.1", "-o", path, "--reload", "echo x >>" + reloaded, "--dhcp-option", "router=10.0.0.254"}
		first := append(args, "--dhcp-range", "10.0.0.100-10.0.0.199/24")
		out, err := do(append(first, "--dry-run")...)
		if e := (exitError{}); !errors.As(err, &e) || e.code != exitDiffers || !strings.Contains(out, "+++ "+path+" (new)") || !strings.Contains(out, "would change") {
			t.Errorf("--dry-run: %v\n%s", err, out)
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("--dry-run wrote the file")
		}
		if out := ok(first...); !strings.Contains(out, "is written") || !strings.Contains(out, "reloaded by") || !strings.Contains(out, "pc9 is left out") {
			t.Errorf("%s: %s", format, out)
		}
		if out := ok(first...); !strings.Contains(out, "is unchanged") {
			t.Errorf("again: %s", out)
		}
		if got, err := os.ReadFile(reloaded); err != nil || string(got) != "x\n" {
			t.Errorf("reloads: %q, %v; want one", got, err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"http://10.0.0.1:8080/boot/boot.ipxe", "room.efi", "10.0.0.51", "10.0.0.254"} {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %s", file, want)
			}
		}
		ok("clients", "set", "52:54:00:00:00:01", "file=other.efi")
		var d struct {
			Changed, Reloaded bool
			Backup            string
			Reboot            []struct {
				Client string
				What   []string
			}
		}
		if err := json.Unmarshal([]byte(ok(append(first, "--json")...)), &d); err != nil {
			t.Fatal(err)
		}
		if !d.Changed || !d.Reloaded || d.Backup != path+"~" || len(d.Reboot) != 1 || d.Reboot[0].Client != "52:54:00:00:00:01" || d.Reboot[0].What[0] != "boot file" {
			t.Errorf("%s: %+v", format, d)
		}
		ok("clients", "set", "52:54:00:00:00:01", "file=")
		if _, err := do(append(args, "--dhcp-range", "10.0.0.100-10.0.0.199/24", "--reload", "false")...); err == nil || !strings.Contains(err.Error(), "there again") {
			t.Errorf("a reload that fails: %v", err)
		}
		if now, err := os.ReadFile(path); err != nil || !strings.Contains(string(now), "other.efi") {
			t.Errorf("after a reload that fails the file is not the old one: %v", err)
		}
		if out := ok("configure", format, "--print-template"); !strings.Contains(out, "@NETWORKS") {
			t.Errorf("--print-template: %s", out)
		}
		if out := ok("configure", format, "--print-template=network.conf"); !strings.Contains(out, "$") {
			t.Errorf("--print-template=network.conf: %s", out)
		}
		if out := ok(append(first, "-o", "-")...); !strings.Contains(out, "boot.ipxe") {
			t.Errorf("-o -: %s", out)
		}
		for _, bad := range [][]string{{"--dhcp-range", "10.0.0.100-10.0.0.199"}, {}, {"--dhcp-range", "10.0.0.1-10.0.0.9/24", "--set", "x"}, {"--dhcp-range", "10.0.0.1-10.0.0.9/24", "--listen", ":0"}} {
			if _, err := do(append(args, bad...)...); err == nil {
				t.Errorf("%s %q is taken", format, bad)
			}
		}
	}
}
