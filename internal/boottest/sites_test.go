package boottest

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// TestSites boots a system that comes up and goes down in another way than the
// Debian of the other tests: a kernel and BusyBox, whose init ends by killing
// all processes. It is not prepared for InetBoot, and depmod has never seen it.
// What is special about each machine comes from settings: one image serves two
// sites.
func TestSites(t *testing.T) {
	t.Parallel()
	bed := busyBoxBed(t)
	set := func(args ...string) {
		t.Helper()
		if err := bed.Imagetool(t.Context(), append([]string{"settings", "set"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	file := func(name, content string) string {
		name = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return name
	}
	// start boots the entry of that number in the menu.
	start := func(t *testing.T, number, entry string) (*vmtest.VM, string) {
		t.Helper()
		pcap := filepath.Join(t.TempDir(), "pcap")
		vm := vmtest.StartT(t, vmtest.Config{CD: bed.ISO, Memory: 768, NoReboot: true, NICs: []vmtest.NIC{{Capture: pcap}}})
		vm.ExpectT(t, 600, `inetboot: menu ready`)
		vm.SendT(t, number+"\r")
		vm.ExpectT(t, 600, `inetboot: starting `+entry+`\n`)
		return vm, pcap
	}

	set("--image", "busybox", "--hostname", "{entry}-{mac6}", "--cmdline", "site=none",
		"--script", file("script", "#!/bin/sh\necho \"hello from $INETBOOT_ENTRY\"\necho \"$INETBOOT_ENTRY $GREETING\" > /etc/script.out\nsleep 1000 &\n"))
	set("--entry", "site-a", "--add-entry", "busybox", "--cmdline", "site=a", "--env", "GREETING=servus", "--file", "/etc/site="+file("a", "site {entry}\n")+",expand,mode=0600")
	set("--entry", "site-b", "--add-entry", "busybox", "--cmdline", "site=b", "--env", "GREETING=moin", "--script-timeout", "2", "--script", file("b", "echo started; sleep 1000; echo not reached"))
	for _, tt := range []struct{ number, entry, script, site, out string }{
		{"2", "site-a", `inetboot: script: hello from site-a\r?\n(?s:.*)the settings' script took`, "site site-a", "site-a servus"},
		{"3", "site-b", `inetboot: script: started\r?\n(?s:.*)the settings' script failed, the boot goes on error="it has not ended after 2s and was killed"`, "", ""},
	} {
		t.Run(tt.entry, func(t *testing.T) {
			vm, pcap := start(t, tt.number, tt.entry)
			vm.ExpectT(t, 600, tt.script)
			sh := loginWith(t, vm, 900, "stty -echo; export PS1=")
			if got := sh.run(t, 300, "grep -c ^processor /proc/cpuinfo"); got != "2" {
				t.Errorf("the machine has %s processors; want 2: preboot needs one alone", got)
			}
			if got := sh.run(t, 300, "hostname"); got != tt.entry+"-"+macEnd(t, sh) {
				t.Errorf("host name = %q", got)
			}
			if got := sh.run(t, 300, "cat /etc/site /etc/script.out 2>/dev/null; true"); strings.Join(strings.Fields(got), " ") != strings.TrimSpace(tt.site+" "+tt.out) {
				t.Errorf("files = %q; want %q and %q", got, tt.site, tt.out)
			}
			words := strings.Fields(sh.run(t, 300, "cat /proc/cmdline"))
			if first, last := slices.Index(words, "site=none"), slices.Index(words, "site="+tt.entry[5:]); first < 0 || last < first {
				t.Errorf("command line = %q; want the options of the image and then of the entry", words)
			}
			if got := sh.run(t, 300, "ps"); strings.Contains(got, "sleep 1000") {
				t.Errorf("the script has left a process behind: %s", got)
			}
			checkDHCP(t, pcap)
			// Its own messages are lost: the terminal was hung up when root logged
			// in. It has sent SIGKILL to all processes, the daemon among them.
			checkEnd(t, vm, `reboot: Power down`)
		})
	}
}

// macEnd returns the last six digits of the machine's address.
func macEnd(t *testing.T, sh *shell) string {
	t.Helper()
	mac := strings.ReplaceAll(sh.run(t, 300, "cat /sys/class/net/eth0/address"), ":", "")
	return mac[max(0, len(mac)-6):]
}

// checkEnd switches a machine off and wants to read something on its way.
func checkEnd(t *testing.T, vm *vmtest.VM, says string) {
	t.Helper()
	vm.SendT(t, "poweroff\n")
	begin := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 240*time.Second)
	defer cancel()
	reason, err := vm.Wait(ctx)
	if err != nil || reason != "guest-shutdown" {
		t.Errorf("poweroff = %q, %v; want guest-shutdown", reason, err)
	}
	t.Logf("off after %.0f s", time.Since(begin).Seconds())
	text := vm.Text()
	if !regexp.MustCompile(says).MatchString(text) {
		t.Errorf("on the way down the console does not say %s", says)
	}
	if m := regexp.MustCompile(`(?i)failed (to )?unmount.*|could not unmount.*|hung task.*|blocked for more than.*|kernel panic.*|I/O error.*|bus error.*`).FindString(text); m != "" {
		t.Errorf("at shutdown: %s", m)
	}
}

// busyBoxBed is a system with the image of BusyBox, whose kernel lacks the
// drivers of most adapters.
func busyBoxBed(t *testing.T) *testbed.Bed {
	t.Helper()
	bed := emptyBed(t)
	s := debianroot.BusyBox()
	pushSystem(t, bed, s)
	m, _, err := bed.Manifest(t.Context(), s.Name, "1")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(m.MissingDrivers, "r8169") || slices.Contains(m.MissingDrivers, "virtio_net") {
		t.Errorf("%s lacks the drivers %v; want r8169 and not virtio_net among them", s.Name, m.MissingDrivers)
	}
	return bed
}
