package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/keyfile"
)

// serverVariable has the test program be the server.
const serverVariable = "INETBOOT_TEST_IS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(serverVariable) == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// services has the passphrase encrypted as docs/server.md does it, but with a
// key of the machine in place of its TPM's, and the server started with it as
// another user than root; "again" is the same with the key that is there by then.
var services = map[string]string{
	"seal": `[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
StandardInput=file:/work/passphrase
ExecStart=/usr/bin/systemd-creds encrypt --with-key=host --name=inetboot-server-passphrase - /etc/inetboot-passphrase.cred
`,
	"first": serverUnit,
	"again": serverUnit,
	"over": `[Unit]
DefaultDependencies=no
Requires=first.service again.service
Conflicts=shutdown.target
After=first.service again.service
[Service]
Type=oneshot
ExecStart=/usr/bin/touch /work/over
`,
}

const serverUnit = `[Unit]
DefaultDependencies=no
Requires=seal.service
After=seal.service first.service
[Service]
Type=oneshot
User=daemon
LoadCredentialEncrypted=inetboot-server-passphrase:/etc/inetboot-passphrase.cred
Environment=` + serverVariable + `=1
ExecStart=/usr/bin/timeout --preserve-status --signal=INT 60 /bin/sh -c 'set -m; /work/server --data /work/data --listen 127.0.0.1:0 --log-format json 2>/work/data/%N & \
  until grep -q serving /work/data/%N; do kill -0 $! || exit 1; sleep .1; done; kill -INT $!; wait $!'
StandardOutput=null
StandardError=file:/work/error
`

// startSystemd makes a root of its own below $1 from this system's programs, and
// starts systemd in it, as in a container: with namespaces for all but the
// network. Mounts are shared within it, since systemd mounts credentials in
// another mount namespace.
const startSystemd = `set -eu
mount --make-rprivate /
mkdir "$1/root"; mount -t tmpfs -o mode=755 root "$1/root"; cd "$1/root"
mkdir -p usr etc/systemd/system run proc sys dev tmp var/lib/systemd root work
mount --rbind -o ro /usr usr
for d in bin sbin lib lib64; do if [ -L /$d ]; then ln -s usr/$d $d; else mkdir $d; mount --rbind -o ro /$d $d; fi; done
mount -t tmpfs -o mode=755 run run
mount -t proc proc proc; mount --bind proc/sys proc/sys; mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sys sys; mount -t cgroup2 cgroup sys/fs/cgroup
for d in null zero full random urandom; do : > dev/$d; mount --bind /dev/$d dev/$d; done
mount --bind "$1/work" work; : > work/server; mount --bind "$2" work/server
cp "$1"/*.service etc/systemd/system/
: > etc/machine-id
printf 'root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\n' > etc/passwd
printf 'root:x:0:\ndaemon:x:1:\n' > etc/group
mount --make-rshared .
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . /lib/systemd/systemd --system --unit=over.service`

// Under a real systemd, the server's key is encrypted with a credential.
func TestSystemdCredential(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	for _, p := range []string{"unshare", "chroot", "timeout", "systemd-creds", "/lib/systemd/systemd"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	data := filepath.Join(work, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, work} { // whoever the umask keeps out
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(data, 1, 1); err != nil {
		t.Fatal(err)
	}
	for name, text := range services {
		if err := os.WriteFile(filepath.Join(dir, name+".service"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(work, "passphrase"), []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", `echo 0 >"$4/cgroup.procs"; exec unshare --mount --pid --fork --cgroup --ipc --uts --kill-child sh -c "$1" sh "$2" "$3"`,
		"sh", startSystemd, dir, exe, cgroup(t))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for over := filepath.Join(work, "over"); ; {
		if _, err := os.Stat(over); err == nil {
			break
		}
		select {
		case <-tick.C:
			continue
		case err := <-ended:
			failure, _ := os.ReadFile(filepath.Join(work, "error"))
			t.Fatalf("systemd and its services: %v: %s %s", err, out.String(), failure)
		}
	}
	cancel()
	<-ended

	if f, err := keyfile.Read(filepath.Join(data, "online.key")); err != nil || !f.Encrypted {
		t.Errorf("the key: %+v, %v; want it encrypted", f, err)
	} else if _, err := f.Key([]byte("correct horse")); err != nil {
		t.Errorf("the key with the passphrase: %v", err)
	}
	var messages [2][]string
	for i, name := range []string{"first", "again"} {
		log, err := os.ReadFile(filepath.Join(data, name))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(log)) {
			var rec struct{ Level, Msg string }
			if err := json.Unmarshal([]byte(line), &rec); err != nil || rec.Level != "INFO" {
				t.Errorf("%s start: %s", name, line)
			}
			messages[i] = append(messages[i], rec.Msg)
		}
	}
	if !slices.Contains(messages[1], "serving") {
		t.Errorf("the second start says %q", cmp.Diff(messages[0], messages[1]))
	}
}

// cgroup makes a control group below this process's, and removes it after the
// test.
func cgroup(t *testing.T) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var at string
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			at = f[1]
		}
	}
	for line := range strings.Lines(string(groups)) {
		if below, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok && at != "" {
			at = filepath.Join(at, below)
		}
	}
	if at == "" {
		t.Skip("no cgroup2 is mounted")
	}
	name, err := os.MkdirTemp(at, "inetboot-test-")
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		var err error
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			var all []string
			_ = filepath.WalkDir(name, func(p string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					all = append(all, p)
				}
				return nil
			})
			for _, p := range slices.Backward(all) {
				err = os.Remove(p)
			}
			if err == nil {
				return
			}
		}
		t.Errorf("remove the control group: %v", err)
	})
	return name
}
