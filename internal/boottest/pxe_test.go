package boottest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// The addresses of TestPXE's LAN.
const (
	pxeServer = "192.168.79.1" // ours
	pxeRival  = "192.168.79.2" // the DHCP server that was there before
)

// TestPXE boots machines from the network alone: firmware of every kind gets an
// address from a DHCP server that knows nothing of us, and what to boot from
// `server --lan` beside it. All of them come to the menu, whose catalog they
// have verified; one goes on to the login prompt.
func TestPXE(t *testing.T) {
	t.Parallel()
	bed := busyBoxBed(t)
	lanBed(t, bed)
	lan, err := vmtest.NewLAN(t.Context(), pxeServer+"/24")
	if errors.Is(err, vmtest.ErrNotRoot) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lan.Close(); err != nil {
			t.Error(err)
		}
	})
	rivalDHCP(t, lan)
	const conf = "[52:54:00:79:00:01]\nname = pc1\nargument = settings.arg=1\nenv.ROOM = it's 12\nentry = busybox-1\n"
	if err := os.WriteFile(filepath.Join(bed.Data, "clients.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	serveLAN(t, lan, bed)

	// QEMU's only PXE for a BIOS is iPXE, which is given something else. So iPXE
	// gets a script, and is what any PXE is to the program that it loads.
	script := filepath.Join(t.TempDir(), "script.ipxe")
	if err := os.WriteFile(script, []byte("#!ipxe\ndhcp\nchain tftp://"+pxeServer+"/pxelinux.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	withoutPXE := []string{"-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=no", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=no"}
	for _, tt := range []struct {
		name string
		c    vmtest.Config
		on   bool // to the login prompt
	}{
		{"iPXE", vmtest.Config{NICs: []vmtest.NIC{{LAN: lan, ROM: true, MAC: "52:54:00:79:00:01"}}}, true},
		{"PXE of a BIOS", vmtest.Config{Kernel: "/usr/lib/ipxe/ipxe.lkrn", Initrd: script, NICs: []vmtest.NIC{{LAN: lan, MAC: "52:54:00:79:00:02", Model: "e1000"}}}, false},
		{"PXE of UEFI", vmtest.Config{Firmware: vmtest.UEFI, NICs: []vmtest.NIC{{LAN: lan, MAC: "52:54:00:79:00:03"}}}, false},
		{"HTTP boot of UEFI", vmtest.Config{Firmware: vmtest.UEFI, NICs: []vmtest.NIC{{LAN: lan, MAC: "52:54:00:79:00:04"}}, Args: withoutPXE}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Name, tt.c.Memory, tt.c.VGA, tt.c.NoReboot = "pxe", 768, true, true
			vm := vmtest.StartT(t, tt.c)
			t.Cleanup(func() {
				if t.Failed() && tt.c.Firmware != vmtest.UEFI {
					text, err := vm.ScreenText(context.Background())
					t.Logf("screen: %v\n%s", err, text)
				}
			})
			vm.ExpectT(t, 600, `inetboot: lease 192\.168\.79\.\d+/24 on eth0 from 192\.168\.79\.2\n`)
			vm.ExpectT(t, 600, `inetboot: asking http://192\.168\.79\.1:8080`)
			vm.ExpectT(t, 600, `inetboot: menu ready`)
			t.Logf("menu after %.1f s", vm.Uptime().Seconds())
			if !tt.on {
				return
			}
			if !strings.Contains(vm.Text(), "inetboot: the settings of this machine are from http://192.168.79.1:8080") {
				t.Error("the machine has not got its settings")
			}
			vm.SendT(t, "\r") // the entry of its settings
			vm.ExpectT(t, 600, `inetboot: starting busybox-1\n`)
			sh := loginWith(t, vm, 900, "stty -echo; export PS1=")
			if got := sh.run(t, 300, "cat /proc/mounts"); !strings.Contains(got, " / overlay ") {
				t.Errorf("mounts = %s; want the overlay on /", got)
			}
			for command, want := range map[string]string{
				"cat /proc/cmdline": "settings.arg=1 ", "hostname": "pc1", "cat /etc/hostname": "pc1", ". /run/inetboot/settings.env; echo $ROOM, $CLIENT_NAME": "it's 12, pc1", "cat /proc/1/environ": "ROOM=it's 12",
			} {
				if got := sh.run(t, 300, command); !strings.Contains(got, want) {
					t.Errorf("%s = %q; want %q in it", command, got, want)
				}
			}
		})
	}
}

// rivalDHCP has dnsmasq give addresses on the LAN, from a machine of its own,
// and nothing else.
func rivalDHCP(t *testing.T, lan *vmtest.LAN) {
	t.Helper()
	ns := lan.Name + "-rival"
	for _, args := range [][]string{
		{"netns", "add", ns},
		{"-n", lan.Name, "link", "add", "rival0", "type", "veth", "peer", "name", "eth0", "netns", ns},
		{"-n", lan.Name, "link", "set", "rival0", "master", "br0", "up"},
		{"-n", ns, "address", "add", pxeRival + "/24", "dev", "eth0"},
		{"-n", ns, "link", "set", "eth0", "up"},
		{"-n", ns, "link", "set", "lo", "up"},
	} {
		if out, err := exec.CommandContext(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
		}
		if args[0] == "netns" {
			t.Cleanup(func() {
				if out, err := exec.Command("ip", "netns", "delete", ns).CombinedOutput(); err != nil {
					t.Errorf("ip netns delete: %v: %s", err, out)
				}
			})
		}
	}
	run(t, exec.CommandContext(t.Context(), "ip", "netns", "exec", ns, "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--no-ping",
		"--interface=eth0", "--bind-interfaces", "--dhcp-authoritative", "--user=root", "--log-dhcp", "--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"),
		"--dhcp-range=192.168.79.100,192.168.79.150,1h"), "dnsmasq-dhcp")
}

// serveLAN starts `server --lan` on the LAN, as an unprivileged user, with the
// data of the bed, and waits until it serves.
func serveLAN(t *testing.T, lan *vmtest.LAN, bed *testbed.Bed, more ...string) *program {
	t.Helper()
	args := serverArgs(t, bed, more...)
	return run(t, lan.Command(t.Context(), args[0], args[1:]...), serving)
}

// serving is what the server says when it serves.
const serving = `"msg":"serving"`

// serverArgs is the command for `server --lan` on a virtual LAN.
func serverArgs(t *testing.T, bed *testbed.Bed, args ...string) []string {
	t.Helper()
	build := buildDir(t)
	return append([]string{filepath.Join(build, "server"), "--data", bed.Data, "--listen", ":8080", "--log-format", "json",
		"--lan", "br0", "--user", "nobody", "--media", build}, args...)
}

// lanBed closes the bed, whose data folder is for a server on the LAN from now
// on, which runs as somebody else.
func lanBed(t *testing.T, bed *testbed.Bed) {
	t.Helper()
	if err := bed.Close(); err != nil {
		t.Fatal(err)
	}
	for dir := bed.Data; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// program is one that a test has started.
type program struct {
	stop func() // and waits for its end

	mu    sync.Mutex
	lines []string
}

// said returns what the program has said so far.
func (p *program) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// run starts a program and waits until it says something. What it says is
// logged if the test fails; it ends with the test.
func run(t *testing.T, cmd *exec.Cmd, says string) *program {
	t.Helper()
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{}
	ready, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		said := false
		for sc := bufio.NewScanner(r); sc.Scan(); {
			p.mu.Lock()
			p.lines = append(p.lines, sc.Text())
			p.mu.Unlock()
			if !said && strings.Contains(sc.Text(), says) {
				said = true
				close(ready)
			}
		}
		_, _ = io.Copy(io.Discard, r) // a line that is too long does not stop the program
	}()
	p.stop = sync.OnceFunc(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		_ = cmd.Wait() // how it ends after a signal is its own affair
		w.Close()
		<-over
	})
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(cmd.Args[0]), p.said())
		}
	})
	select {
	case <-ready:
	case <-over:
		t.Fatal(fmt.Errorf("%s has ended", strings.Join(cmd.Args, " ")))
	case <-time.After(60 * time.Second):
		t.Fatal(fmt.Errorf("%s does not say %q", strings.Join(cmd.Args, " "), says))
	}
	return p
}
