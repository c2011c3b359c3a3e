package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// program returns the server's program, as users have it: without cgo.
func program(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "server")
	cmd := exec.Command("go", "build", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// In a network of its own, started by root, the server has the ports that are
// configured and no others, and in none of its threads privileges beside those
// of its services; its data belongs to its user.
func TestLANPortsAndPrivileges(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	bin := program(t)
	// Services that --lan brings unless somebody turns them off.
	var o options
	have := &cobra.Command{}
	o.lan.flags(have)
	var quiet []string
	for _, name := range []string{"no-tftp", "no-syslog"} {
		if have.Flags().Lookup(name) != nil {
			quiet = append(quiet, "--"+name)
		}
	}
	for _, c := range []struct {
		args []string
		want []string
		caps uint64 // that may be kept
	}{
		{nil, []string{"tcp 8080"}, 0},
		{[]string{"--lan", "lan0", "--dhcp", "off"}, []string{"tcp 8080"}, 0},
		{[]string{"--lan", "lan0", "--dhcp", "proxy"}, []string{"tcp 8080", "udp 4011", "udp 67"}, 1<<10 | 1<<13},
		{[]string{"--lan", "lan0", "--dhcp", "off", "--nfs", "--nbd"}, []string{"tcp 10809", "tcp 111", "tcp 2049", "tcp 8080", "udp 111"}, 0},
		{[]string{"--lan", "lan0", "--dhcp", "off", "--dns"}, []string{"tcp 53", "tcp 8080", "udp 53"}, 0},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // the server's user has to get through
				t.Fatal(err)
			}
			data := filepath.Join(dir, "data")
			args := slices.Concat([]string{"--data", data, "--listen", ":8080", "--user", "nobody", "--log-format", "json"}, quiet, c.args)
			cmd := exec.Command("unshare", append([]string{"-n", "sh", "-c", `ip link set lo up && ip link add lan0 type veth peer name lan1 && ip link set lan1 up && ip address add 10.0.0.1/24 dev lan0 && ip link set lan0 up && exec "$0" "$@"`, bin}, args...)...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			var log bytes.Buffer
			r, w := io.Pipe()
			cmd.Stdout, cmd.Stderr = io.Discard, io.MultiWriter(w, &log)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait(); w.Close() }()
			started := make(chan bool, 1)
			go func() {
				buf, line := make([]byte, 4096), ""
				for {
					n, err := r.Read(buf)
					line += string(buf[:n])
					if strings.Contains(line, `"msg":"serving"`) {
						started <- true
						io.Copy(io.Discard, r)
						return
					}
					if err != nil {
						started <- false
						return
					}
				}
			}()
			select {
			case ok := <-started:
				if !ok {
					t.Fatalf("the server did not start: %v\n%s", <-ended, log.String())
				}
			case <-time.After(2 * time.Minute):
				t.Fatal("the server does not start")
			}
			pid := cmd.Process.Pid
			if got := openPorts(t, pid); !slices.Equal(got, c.want) {
				t.Errorf("open ports %q; want %q", got, c.want)
			}
			checkThreads(t, pid, nobody.Uid, c.caps)
			// Readiness includes that the store can be written to.
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			out, err := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(pid), "-n", "bash", "-c", `exec 3<>/dev/tcp/10.0.0.1/8080; printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3; head -1 <&3`).CombinedOutput()
			if err != nil || !strings.Contains(string(out), " 200 ") {
				t.Errorf("GET /healthz: %v, %s; want 200", err, out)
			}
			if len(c.args) > 0 {
				if err := run(t.Context(), []string{"clients", "add", "pc1", "--data", data}, io.Discard, io.Discard); err != nil {
					t.Error(err)
				}
			}
			checkOwner(t, data, nobody.Uid)
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("the server ended with %v", err)
				}
			case <-time.After(time.Minute):
				t.Error("the server does not end")
			}
		})
	}
}

// openPorts lists the ports on which sockets of the process's network take
// packets or connections.
func openPorts(t *testing.T, pid int) []string {
	t.Helper()
	var out []string
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, table))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			_, port, ok := strings.Cut(f[1], ":")
			if !ok || (table[:3] == "tcp" && f[3] != "0A") {
				continue
			}
			n, err := strconv.ParseUint(port, 16, 16)
			if err != nil {
				continue // the heading
			}
			if p := fmt.Sprintf("%s %d", table[:3], n); !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	slices.Sort(out)
	return out
}

func checkThreads(t *testing.T, pid int, uid string, may uint64) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) < 2 {
		t.Fatalf("threads %v, %v", tasks, err)
	}
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			continue // it has ended
		}
		for line := range strings.Lines(string(data)) {
			f := strings.Fields(line)
			switch f[0] {
			case "Uid:":
				for _, id := range f[1:] {
					if id != uid {
						t.Errorf("%s: %v; want user %s", task, f, uid)
					}
				}
			case "CapEff:", "CapPrm:", "CapAmb:", "CapInh:":
				caps, err := strconv.ParseUint(f[1], 16, 64)
				if err != nil || caps&^may != 0 {
					t.Errorf("%s: %v, %v; want at most %x", task, f, err, may)
				}
			case "NoNewPrivs:":
				if f[1] != "1" {
					t.Errorf("%s: %v; want 1", task, f)
				}
			}
		}
	}
}

func checkOwner(t *testing.T, data, uid string) {
	t.Helper()
	err := filepath.WalkDir(data, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if got, _, err := owner(p); err != nil || strconv.Itoa(got) != uid {
			t.Errorf("%s belongs to %d, %v; want %s", p, got, err, uid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
