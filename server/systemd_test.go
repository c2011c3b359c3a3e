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
	"sync"
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

// systemd is a real one, in a root of its own.
type systemd struct {
	work  string // the folder /work of its services
	out   strings.Builder
	ended chan error
	stop  func()
	pid   int // of the program that started it
}

// systemdFolder returns a folder for bootSystemd, with a folder of data in it.
func systemdFolder(t *testing.T, need ...string) (dir, work, data string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	for _, p := range append([]string{"unshare", "chroot", "/lib/systemd/systemd"}, need...) {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	dir = t.TempDir()
	work = filepath.Join(dir, "work")
	data = filepath.Join(work, "data")
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, work} { // whoever the umask keeps out
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir, work, data
}

// bootSystemd starts systemd with services in a folder of systemdFolder's. exe
// is their /work/server; within comes before the command.
func bootSystemd(t *testing.T, dir, exe string, units map[string]string, within ...string) *systemd {
	t.Helper()
	for name, text := range units {
		if err := os.WriteFile(filepath.Join(dir, name+".service"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return runSystemd(t, dir, exe, startSystemd, 90*time.Second, within...)
}

// runSystemd runs a script such as startSystemd, at most for the time of limit.
func runSystemd(t *testing.T, dir, exe, script string, limit time.Duration, within ...string) *systemd {
	t.Helper()
	s := &systemd{work: filepath.Join(dir, "work"), ended: make(chan error, 1)}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	group := cgroup(t)
	cmd := exec.CommandContext(ctx, "sh", slices.Concat([]string{"-c", `echo 0 >"$1/cgroup.procs"; shift; exec "$@"`, "sh", group}, within,
		[]string{"unshare", "--mount", "--pid", "--fork", "--cgroup", "--ipc", "--uts", "--kill-child", "sh", "-c", script, "sh", dir, exe})...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &s.out, &s.out, 5*time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.pid = cmd.Process.Pid
	go func() { s.ended <- cmd.Wait() }()
	s.stop = sync.OnceFunc(func() { cancel(); <-s.ended })
	t.Cleanup(s.stop)
	return s
}

// wait returns when a file is there in the services' folder.
func (s *systemd) wait(t *testing.T, name string) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Stat(filepath.Join(s.work, name)); err == nil {
			return
		}
		select {
		case <-tick.C:
		case err := <-s.ended:
			s.ended <- err // for stop
			failure, _ := os.ReadFile(filepath.Join(s.work, "error"))
			t.Fatalf("systemd and its services: %v: %s %s", err, s.out.String(), failure)
		}
	}
}

// Under a real systemd, the server's key is encrypted with a credential.
func TestSystemdCredential(t *testing.T) {
	dir, work, data := systemdFolder(t, "timeout", "systemd-creds")
	if err := os.Chown(data, 1, 1); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(work, "passphrase"), []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sd := bootSystemd(t, dir, exe, services)
	sd.wait(t, "over")
	sd.stop()

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
