package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a machine of its own as far as files below /etc, /var/lib and /run
// and the network go; systemctl writes down what it is told.
type machine struct {
	t   *testing.T
	pid int
	dir string
}

const startMachine = `set -e
mount --make-rprivate /
mkdir -p "$1/upper" && mount -t tmpfs tmp "$1/upper"
for d in etc var/lib usr/local; do mkdir -p "$1/upper/$d/up" "$1/upper/$d/work"; mount -t overlay -o "lowerdir=/$d,upperdir=$1/upper/$d/up,workdir=$1/upper/$d/work" overlay "/$d"; done
mount -t tmpfs run /run; mkdir -p /run/systemd/system
ip link set lo up; ip link add eth0 type veth peer name peer0; ip link set peer0 up; ip addr add 10.0.0.1/24 dev eth0; ip link set eth0 up
touch "$1/started"; exec sleep 600`

const fakeSystemctl = `#!/bin/sh
cd "${0%/*}"; echo "$*" >>calls
case "$1" in is-active) exit 3;; restart) [ ! -e fail ] || { echo "Job for inetboot.service failed"; exit 1; };; esac
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	for _, p := range []string{"unshare", "nsenter", "ip", "nft", "useradd", "systemd-analyze", "dhcpd"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	m := &machine{t: t, dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(m.dir, "systemctl"), []byte(fakeSystemctl), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--mount", "--net", "sh", "-c", startMachine, "sh", m.dir)
	var said output
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.pid = cmd.Process.Pid
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(m.dir, "started")); err == nil {
			return m
		}
		select {
		case <-ended:
			t.Fatalf("no namespace: %s", said.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("no namespace: %s", said.String())
		}
	}
}

func (m *machine) do(stdin string, args ...string) (string, int) {
	m.t.Helper()
	cmd := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(m.pid), "-m", "-n", "--", "env", "-u", "SSH_CONNECTION", "PATH=" + m.dir + ":/usr/sbin:/usr/bin:/sbin:/bin"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (m *machine) sh(script string) string {
	m.t.Helper()
	out, code := m.do("", "sh", "-c", script)
	return strings.TrimSpace(out + fmt.Sprint(" status ", code))
}

// Setting up makes all that there is to make, a second run nothing, another one
// what differs, and one that fails takes back what it did.
func TestSetup(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	bin := program(t)
	media := filepath.Join(t.TempDir(), "media")
	testMedia(t, media)
	state := `id -u inetboot >/dev/null 2>&1 && echo user; ls -d /var/lib/inetboot /etc/inetboot/nftables.conf /etc/systemd/system/inetboot.service /usr/local/lib/inetboot 2>/dev/null; nft list tables; md5sum </etc/dhcp/dhcpd.conf; true`
	setup := func(stdin string, args ...string) (string, int) {
		return m.do(stdin, append([]string{bin, "setup", "--media", media}, args...)...)
	}
	before := m.sh(state)
	if strings.Contains(before, "user") {
		t.Skip("this machine has a user inetboot")
	}
	args := []string{"--lan", "eth0", "--nfs", "--dhcp-server", "isc", "--dhcp-range", "10.0.0.100-10.0.0.199"}
	out, code := setup("", append(args, "--yes", "--dry-run")...)
	for _, want := range []string{"make the user inetboot", "/var/lib/inetboot with its keys", "/etc/inetboot/nftables.conf", "/etc/systemd/system/inetboot.service", "/etc/dhcp/dhcpd.conf", "copy program and boot files to /usr/local/lib/inetboot"} {
		if code != exitDiffers || !strings.Contains(out, want) {
			t.Errorf("--dry-run, %d: no %q in\n%s", code, want, out)
		}
	}
	// Without --yes it asks what was not given.
	if out, code := setup("", "--lan", "eth0"); code != 1 || !strings.Contains(out, "no answer: --yes") {
		t.Errorf("without answers: %d %s", code, out)
	}
	if got := m.sh(state); got != before {
		t.Errorf("nothing was to be done, but there is\n%s\nin place of\n%s", got, before)
	}
	// The service does not start: all is as it was.
	m.sh("touch " + m.dir + "/fail")
	if out, code := setup("", append(args, "--yes")...); code != 1 || !strings.Contains(out, "Job for inetboot.service failed") || !strings.Contains(out, "undone: make the user") {
		t.Errorf("a service that does not start: %d\n%s", code, out)
	}
	if got := m.sh(state); got != before {
		t.Errorf("after a failure there is\n%s\nin place of\n%s", got, before)
	}
	m.sh("rm " + m.dir + "/fail " + m.dir + "/calls")
	if out, code := setup("", append(args, "--yes")...); code != 0 || !strings.Contains(out, "imagetool init --to http://10.0.0.1:8080 --token-file /var/lib/inetboot/token") {
		t.Fatalf("setup: %d\n%s", code, out)
	}
	for script, want := range map[string]string{
		"stat -c %U /var/lib/inetboot/token /var/lib/inetboot/online.key /var/lib/inetboot/store | sort -u": "inetboot status 0",
		"cat /usr/local/lib/inetboot/vmlinuz; cmp /usr/local/lib/inetboot/server " + bin:                    "kernel status 0",
		"nft list table inet inetboot | grep -c 'dport 2049 accept'":                                        "1\n status 0",
		"grep -q 'boot.ipxe' /etc/dhcp/dhcpd.conf":                                                          "status 0",
		"grep ^ExecStart= /etc/systemd/system/inetboot.service":                                             "--dhcp=off --dhcp-range=10.0.0.100-10.0.0.199 --lan=eth0 --media=/usr/local/lib/inetboot --nfs=true --url=http://10.0.0.1:8080",
		"cat " + m.dir + "/calls | grep -v is-active":                                                       "daemon-reload\nenable -q inetboot.service\nrestart inetboot.service",
	} {
		if got := m.sh(script); !strings.Contains(strings.ReplaceAll(got, "inetboot\n status", "inetboot status"), want) {
			t.Errorf("%s: %q; want %q", script, got, want)
		}
	}
	token := m.sh("cat /var/lib/inetboot/token")
	if out, code := setup("", append(args, "--yes")...); code != 0 || !strings.Contains(out, "all is as it should be") {
		t.Errorf("again: %d\n%s", code, out)
	}
	var d struct{ Todo, Log []string }
	out, code = setup("", append(args, "--yes", "--json", "--nbd")...)
	if i := strings.Index(out, "{"); code != 0 || i < 0 || json.Unmarshal([]byte(out[i:]), &d) != nil || len(d.Todo) != 2 || len(d.Log) != 2 {
		t.Errorf("with --nbd: %d %+v\n%s", code, d, out)
	}
	if got := m.sh("cat /var/lib/inetboot/token"); got != token {
		t.Error("another token")
	}
	// Another kernel is copied, and the service left alone.
	if err := os.WriteFile(filepath.Join(media, "vmlinuz"), []byte("newer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, code := setup("", append(args, "--yes", "--nbd")...); code != 0 || !strings.Contains(out, "done: copy program") || strings.Contains(out, "inetboot.service") || !strings.HasPrefix(m.sh("cat /usr/local/lib/inetboot/vmlinuz"), "newer") {
		t.Errorf("another kernel: %d\n%s", code, out)
	}
	// Answers by hand, on a machine that is set up: proxy, name, folder, DNS, NFS, NBD, swap, do it.
	out, code = setup("eth0\nproxy\nboot.example.org\n\nyes\nyes\nno\nno\nyes\n")
	if code != 0 || !strings.Contains(out, "http://boot.example.org:8080") || strings.Contains(out, "make the user") {
		t.Errorf("by hand: %d\n%s", code, out)
	}
	if got := m.sh("nft list table inet inetboot"); !strings.Contains(got, "udp dport 4011") || !strings.Contains(got, "udp dport 53 ") || strings.Contains(got, "10809") {
		t.Errorf("rules after other answers: %s", got)
	}
	// A port that another program has is named before anything is done.
	m.sh("dnsmasq --port=0 --dhcp-range=10.0.0.50,10.0.0.60 --interface=eth0 --bind-interfaces --conf-file=/dev/null --pid-file=" + m.dir + "/pid --dhcp-leasefile=/run/leases --user=root")
	if out, code := setup("", "--yes", "--lan", "eth0"); code != 1 || !strings.Contains(out, "dnsmasq (process") || !strings.Contains(out, "67/udp") {
		t.Errorf("a port that is taken: %d\n%s", code, out)
	}
	m.sh("kill $(cat " + m.dir + "/pid)")
	for _, bad := range [][]string{{"--lan", "eth9"}, {"--lan", "eth0", "--dhcp", "full"}, {"--lan", "eth0", "--dhcp", "proxy", "--dhcp-server", "kea"}, {"--lan", "eth0", "--dhcp-server", "x"}, {"--lan", "eth0", "--media", m.dir}} {
		if out, code := setup("", append(bad, "--yes")...); code != 1 {
			t.Errorf("%q: %d\n%s", bad, code, out)
		}
	}
}
