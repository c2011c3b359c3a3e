package opener_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// sshServer starts Debian's sshd with keys of its own, on the loopback device
// of a network namespace of its own and with mounts of its own, which the
// lines of shell in setup may add to. It puts an ssh that goes there in front
// of the others, and returns ssh://USER@HOST:PORT. It ends with the test.
func sshServer(t *testing.T, setup ...string) string {
	t.Helper()
	const sshd = "/usr/sbin/sshd"
	for _, p := range []string{sshd, "ssh", "ssh-keygen", "unshare", "nsenter", "ip"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("namespaces and sshd need root")
	}
	dir := t.TempDir()
	for _, k := range []string{"host", "user"} {
		run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, k))
	}
	read := func(name string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	const port = 2222
	write("authorized_keys", read("user.pub"), 0o644) // sshd reads it as the user who comes
	write("known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", port, read("host.pub")), 0o600)
	write("sshd_config", fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s/host
PidFile none
AuthorizedKeysFile %s/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
`, port, dir, dir), 0o644)
	script := append([]string{
		"set -e",
		"mount -t tmpfs none /run", // sshd wants a folder there
		"mkdir -p /run/sshd",
		"ip link set lo up",
	}, setup...)
	script = append(script, "exec "+sshd+" -D -e -f "+dir+"/sshd_config")
	var log bytes.Buffer
	cmd := exec.Command("unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", strings.Join(script, "\n"))
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("sshd:\n%s", log.Bytes())
		}
	})
	ssh, err := exec.LookPath("ssh")
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	write("bin/ssh", fmt.Sprintf("#!/bin/sh\nexec nsenter --net=/proc/%d/ns/net %s -F none -i %s/user -o UserKnownHostsFile=%s/known_hosts -o StrictHostKeyChecking=yes -o BatchMode=yes \"$@\"\n",
		cmd.Process.Pid, ssh, dir, dir), 0o755)
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		out, err := exec.Command(bin+"/ssh", "-p", fmt.Sprint(port), u.Username+"@127.0.0.1", "true").CombinedOutput()
		if err == nil {
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("sshd: %v\n%s", err, log.Bytes())
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatalf("sshd does not answer: %v: %s\n%s", err, out, log.Bytes())
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	return fmt.Sprintf("ssh://%s@127.0.0.1:%d", u.Username, port)
}

// machineRoot makes a tree with what a running machine has.
func machineRoot(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{
		"etc/machine-id":                                  "0123456789abcdef0123456789abcdef\n",
		"etc/fstab":                                       "# disks\nUUID=1-2 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\nserver:/home /home nfs defaults 0 0\ntmpfs /x tmpfs\n",
		"etc/ssh/ssh_host_ed25519_key":                    "secret",
		"etc/ssh/ssh_host_ed25519_key.pub":                "not secret",
		"etc/ssh/sshd_config":                             "config",
		"etc/NetworkManager/system-connections/home.conf": "psk=secret",
		"home/someone/letter":                             "private",
		"root/.bashrc":                                    "rc",
		"root/.bash_history":                              "secret",
		"root/.ssh/id_ed25519":                            "secret",
		"tmp/x":                                           "x",
		"var/lib/systemd/random-seed":                     "seed",
		"var/cache/apt/archives/a_1_all.deb":              "deb",
		"var/cache/apt/archives/lock":                     "",
		"proc/version":                                    "not a proc filesystem, but it stays out as well",
		"my stuff/it's [mine]":                            "kept",
		"excluded/x":                                      "x",
	} {
		testtree.Write(t, dir, name, []byte(data))
	}
	for _, d := range []string{"boot", "srv", "usr"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestMachine(t *testing.T) {
	dir := machineRoot(t)
	image := filepath.Join(t.TempDir(), "boot.img")
	run(t, "truncate", "-s", "8M", image)
	run(t, "/usr/sbin/mkfs.ext4", "-q", image)
	name := sshServer(t,
		"mount -o loop "+image+" "+dir+"/boot", "echo kernel > "+dir+"/boot/vmlinuz",
		"mount -t tmpfs none "+dir+"/srv", "echo data > "+dir+"/srv/data",
		"mount -t tmpfs none "+dir+"/usr", "echo gone > "+dir+"/usr/gone") + dir

	var total int64
	tree, err := opener.Open(context.Background(), name, opener.Options{
		Options: source.Options{TempDir: t.TempDir(), Progress: func(_, n int64) { total = n }}, Exclude: []string{"/excluded", "my stuff/nothing*"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	for p, want := range map[string]string{
		"etc/machine-id":              "",
		"etc/fstab":                   "# disks\n" + source.FstabComment + "UUID=1-2 / ext4 defaults 0 1\n" + source.FstabComment + "/dev/sda2 none swap sw 0 0\nserver:/home /home nfs defaults 0 0\ntmpfs /x tmpfs\n",
		"etc/ssh/sshd_config":         "config",
		"root/.bashrc":                "rc",
		"var/cache/apt/archives/lock": "",
		"boot/vmlinuz":                "kernel\n",
		"my stuff/it's [mine]":        "kept",
	} {
		got, err := tree.ReadFile(p, 1000)
		if err != nil || string(got) != want {
			t.Errorf("/%s = %q, %v; want %q", p, got, err, want)
		}
	}
	for _, p := range []string{"home", "tmp", "proc", "root", "usr", "srv", "etc/NetworkManager/system-connections"} {
		if e := tree.Lookup(p); e == nil || !e.IsDir() {
			t.Errorf("the folder /%s is not there", p)
		}
	}
	for _, p := range []string{
		"etc/ssh/ssh_host_ed25519_key", "etc/ssh/ssh_host_ed25519_key.pub", "etc/NetworkManager/system-connections/home.conf", "home/someone",
		"root/.bash_history", "root/.ssh", "tmp/x", "var/lib/systemd/random-seed", "var/cache/apt/archives/a_1_all.deb", "proc/version", "excluded",
		"usr/gone", "srv/data",
	} {
		if tree.Lookup(p) != nil {
			t.Errorf("/%s was taken", p)
		}
	}
	if total >= 0 {
		t.Errorf("the total of a part of a filesystem is said to be %d", total)
	}

	// The filesystem at boot is whole: its size is known.
	verbatim, err := opener.Open(context.Background(), name+"/boot", opener.Options{
		Options: source.Options{TempDir: t.TempDir(), Progress: func(_, n int64) { total = n }}, Verbatim: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer verbatim.Close()
	if verbatim.Lookup("vmlinuz") == nil || total <= 0 {
		t.Errorf("boot has %d entries, the total is %d", len(verbatim.Entries()), total)
	}
}

func TestMachineRefusals(t *testing.T) {
	dir := t.TempDir()
	server := sshServer(t)
	for _, tc := range []struct {
		name, source string
		o            opener.Options
		want         string
	}{
		{"no directory", server + dir + "/none", opener.Options{}, "is not a directory on this machine"},
		{"nobody there", "ssh://127.0.0.1:1/", opener.Options{}, "refused"},
		{"no ssh", server + dir, opener.Options{SSH: []string{dir + "/no-such-ssh"}}, "is ssh installed"},
		{"option as a host", "ssh://-oProxyCommand=x/", opener.Options{}, "not of the form"},
		{"option as a user", "ssh://-oProxyCommand=x@host/", opener.Options{}, "not of the form"},
		{"password", "ssh://me:secret@host/", opener.Options{}, "password"},
		{"too large", server + dir, opener.Options{Limits: source.Limits{Size: 10}}, "--max-size"},
		{"something else at the other end", "ssh://host/", opener.Options{SSH: []string{"echo", "hello"}}, "did not begin"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			testtree.Write(t, dir, "file", bytes.Repeat([]byte("x"), 1000))
			_, err := opener.Open(context.Background(), tc.source, tc.o)
			if !(errors.Is(err, source.ErrUnreadable) || errors.Is(err, source.ErrRefused)) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Open = %v; want %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
}

// TestMachineEnds has the connection end in the middle.
func TestMachineEnds(t *testing.T) {
	dir := t.TempDir()
	tarball := makeTar(t, machineRoot(t))
	cut := filepath.Join(dir, "ssh")
	if err := os.WriteFile(cut, []byte("#!/bin/sh\necho INETBOOT-TAR gnu 0 root\nhead -c 9000 "+tarball+"\necho Connection lost >&2\nexit 255\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := opener.Open(context.Background(), "ssh://host/", opener.Options{SSH: []string{cut}, Verbatim: true})
	if !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), "Connection lost") {
		t.Errorf("Open = %v; want what ssh said", err)
	}
	// Nobody waits for a machine that has gone silent.
	silent := filepath.Join(dir, "silent")
	if err := os.WriteFile(silent, []byte("#!/bin/sh\necho INETBOOT-TAR gnu 0 root\nexec sleep 1000\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if _, err := opener.Open(ctx, "ssh://host/", opener.Options{SSH: []string{silent}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open = %v; want the context's error", err)
	}
}
