package boottest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// TestSystems boots systems that come up and go down in other ways than the
// Debian of the other tests: sysvinit with ifupdown, and a system with dracut.
// Neither of them is prepared for InetBoot.
func TestSystems(t *testing.T) {
	t.Parallel()
	bed := emptyBed(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAbCdEfGhIjKlMnOpQrStUvWxYz0123456789abcdefgh test\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	pushSystem(t, bed, debianroot.SysVinit())
	pushSystem(t, bed, debianroot.Dracut())
	if err := bed.Imagetool(t.Context(), "settings", "set", "--image", "sysvinit", "--hostname", "v-{ip-}.example.org", "--timezone", "Europe/Vienna", "--locale", "C.UTF-8", "--keyboard", "de",
		"--ssh-key", "root="+key, "--env", "SITE=here"); err != nil {
		t.Fatal(err)
	}

	t.Run("sysvinit", func(t *testing.T) {
		t.Parallel()
		vm, pcap := startEntry(t, vmtest.Config{CD: bed.ISO, Memory: 768}, "1", "sysvinit-1")
		sh := login(t, vm, 900)
		t.Logf("login prompt after %.0f s", vm.Uptime().Seconds())
		for _, tt := range []struct{ command, want string }{
			{"hostname", "v-10-0-2-15"}, {"hostname -f", "v-10-0-2-15.example.org"},
			{"date +%Z", "CE"}, {"readlink /etc/localtime", "Europe/Vienna"},
			{"cat /root/.ssh/authorized_keys", "ssh-ed25519 AAAA"}, {"stat -c %a /root/.ssh", "700"},
			{"echo $SITE $LANG", "here C.UTF-8"}, {"cat /etc/default/keyboard", `XKBLAYOUT="de"`},
			{"ps -o args= 1", "init"}, {"cat /run/network/ifstate.eth0", "inetboot"},
			{"grep ' /run ' /proc/mounts", "noexec"}, {statusProgram + " status", "blocks"},
		} {
			if got := sh.run(t, 300, tt.command); !strings.Contains(got, tt.want) {
				t.Errorf("%s = %q; want %q in it", tt.command, got, tt.want)
			}
		}
		// Somebody takes the link down, and something is read that nobody has
		// read before.
		sh.run(t, 300, "ip link set eth0 down; find /usr/share /usr/lib -xdev -type f -size +60k | tail -30 | xargs cat | sha256sum")
		if text := vm.Text(); !strings.Contains(text, "the root comes over a link that has been changed: it is set up again") {
			t.Error("nobody has set the link up again")
		}
		checkDHCP(t, pcap)
		// Its console is the screen: what is said on the way down is wanted here.
		sh.run(t, 300, "echo 'exec > /dev/ttyS0 2>&1' >> /etc/default/rcS")
		checkEnd(t, vm, `reboot: Power down`)
		for _, want := range []string{"Deconfiguring network interfaces", "remaining processes"} {
			if !strings.Contains(vm.Text(), want) {
				t.Errorf("the system has not gone down by its own scripts: %q is missing", want)
			}
		}
	})

	t.Run("dracut", func(t *testing.T) {
		t.Parallel()
		vm, pcap := startEntry(t, vmtest.Config{CD: bed.ISO, Memory: 768}, "2", "dracut-1")
		sh := login(t, vm, 900)
		t.Logf("login prompt after %.0f s", vm.Uptime().Seconds())
		if got := sh.run(t, 300, "systemctl is-system-running --wait || systemctl --failed --no-pager"); got != "running" {
			t.Errorf("is-system-running = %q; want running", got)
		}
		sh.run(t, 300, "dmesg -n 1")
		t.Log("\n" + sh.run(t, 300, statusProgram+" status"))
		sh.run(t, 300, "dmesg -n 7")
		if got := sh.run(t, 300, "systemctl is-active dracut-shutdown; ls /run/initramfs/shutdown /boot/initrd.img-*"); !strings.HasPrefix(got, "active") {
			t.Errorf("dracut-shutdown is %q; want it active", got)
		}
		checkDHCP(t, pcap)
		checkEnd(t, vm, `inetboot: root unmounted: poweroff`)
	})
}
