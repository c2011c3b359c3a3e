package boottest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// TestRootMenu boots machines whose settings say boot = nfs or nbd to their login
// prompts: by the PXE of a BIOS and pxelinux' menu, over NBD; by iPXE in the
// network card, over NFS; and by UEFI's PXE and ipxe.efi, over NBD. What they run
// is the image's own kernel and initramfs, in which nothing knows of InetBoot.
func TestRootMenu(t *testing.T) {
	t.Parallel()
	bed := emptyBed(t)
	tarball, err := debianroot.SysVinit().Tarball(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	// The initramfs sets the link up, and nobody else may while the root is on it.
	if err := bed.Imagetool(t.Context(), "push", tarball, "--name", "debian", "--version", "12", "--level", "1", "--exclude", "etc/network/interfaces"); err != nil {
		t.Fatal(err)
	}
	diskless, err := debianroot.Diskless().Tarball(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if err := bed.Imagetool(t.Context(), "push", diskless, "--name", "diskless", "--version", "1", "--level", "1"); err != nil {
		t.Fatal(err)
	}
	lanBed(t, bed)
	// Where this machine is busy, emulation is too slow for a kernel's check of its
	// timer, and for systemd's wait for serial lines. What holds for one machine is
	// said of its UUID, by which its system is not known any more: it says none.
	const conf = `[default]
argument = console=ttyS0 no_timer_check
[group systemd]
argument = systemd.mask=serial-getty@ttyS0.service systemd.wants=console-getty.service net.ifnames=0
[` + rootMenuUUID + `]
group = systemd
boot = nbd
image = diskless
argument = settings.arg=1
module.nbd = max_part=0
timeout = -1
[52:54:00:80:00:01]
name = first
[52:54:00:80:00:02]
boot = nfs
image = debian
argument = settings.arg=2
timeout = 0
[52:54:00:80:00:03]
group = systemd
boot = nbd
image = diskless
argument = settings.arg=3
timeout = 0
`
	if err := os.WriteFile(filepath.Join(bed.Data, "clients.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	lan, err := vmtest.NewLAN(t.Context(), "192.168.80.1/24")
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
	serveLAN(t, lan, bed, "--nfs", "--nbd", "--dhcp", "full", "--dhcp-range", "192.168.80.100-192.168.80.150", "--unknown", "no")
	script := filepath.Join(t.TempDir(), "script.ipxe")
	if err := os.WriteFile(script, []byte("#!ipxe\ndhcp\nchain tftp://192.168.80.1/pxelinux.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	start := func(t *testing.T, c vmtest.Config) *vmtest.VM {
		t.Helper()
		c.Name, c.Memory, c.CPUs, c.VGA, c.NoReboot = "rootmenu", 512, 1, true, true
		vm := vmtest.StartT(t, c)
		t.Cleanup(func() {
			if t.Failed() {
				text, err := vm.ScreenText(context.Background())
				t.Logf("screen: %v\n%s", err, text)
			}
		})
		return vm
	}

	t.Run("pxelinux", func(t *testing.T) {
		vm := start(t, vmtest.Config{Kernel: "/usr/lib/ipxe/ipxe.lkrn", Initrd: script, NICs: []vmtest.NIC{{LAN: lan, MAC: "52:54:00:80:00:01"}}, Args: []string{"-uuid", rootMenuUUID}})
		// Its menu waits for somebody.
		text := ""
		for end := time.Now().Add(200 * time.Second); !strings.Contains(text, "InetBoots own menu"); time.Sleep(250 * time.Millisecond) {
			if text, err = vm.ScreenText(t.Context()); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(end) {
				t.Fatal("pxelinux shows no menu")
			}
		}
		t.Logf("menu after %.1f s", vm.Uptime().Seconds())
		if err := vm.SendKeys(t.Context(), "ret"); err != nil {
			t.Fatal(err)
		}
		sh := started(t, vm, "nbdroot=192.168.80.1,diskless/1/amd64,nbd0 ", " nbd.max_part=0 ", " settings.arg=1 ", "BOOTIF=01-52-54-00-80-00-01")
		onNBD(t, sh)
	})
	t.Run("iPXE", func(t *testing.T) {
		vm := start(t, vmtest.Config{NICs: []vmtest.NIC{{LAN: lan, ROM: true, MAC: "52:54:00:80:00:02"}}})
		sh := started(t, vm, "nfsroot=192.168.80.1:/debian/12/amd64 ", " settings.arg=2 ", "BOOTIF=01-52-54-00-80-00-02")
		if got := sh.run(t, 60, "grep ' / ' /proc/mounts"); !strings.HasPrefix(got, "192.168.80.1:/debian/12/amd64 / nfs ") {
			t.Errorf("the root is %s; want NFS", got)
		}
	})
	t.Run("ipxe.efi", func(t *testing.T) {
		vm := start(t, vmtest.Config{Firmware: vmtest.UEFI, NICs: []vmtest.NIC{{LAN: lan, MAC: "52:54:00:80:00:03"}}})
		sh := started(t, vm, "nbdroot=192.168.80.1,diskless/1/amd64,nbd0 ", " settings.arg=3 ", "BOOTIF=01-52-54-00-80-00-03")
		onNBD(t, sh)
		if got := sh.run(t, 60, "ls -d /sys/firmware/efi"); got != "/sys/firmware/efi" {
			t.Errorf("it was not started by UEFI: %s", got)
		}
	})
}

// started logs in on a machine, and looks at what its kernel was told.
func started(t *testing.T, vm *vmtest.VM, args ...string) *shell {
	t.Helper()
	sh := loginWith(t, vm, 900, "stty -echo; export PS1=")
	t.Logf("login prompt after %.1f s", vm.Uptime().Seconds())
	line := sh.run(t, 60, "cat /proc/cmdline")
	for _, want := range args {
		if !strings.Contains(line, want) {
			t.Errorf("command line = %s; want %q in it", line, want)
		}
	}
	if strings.Contains(line, "inetboot") {
		t.Errorf("command line = %s; want nothing of InetBoot", line)
	}
	return sh
}

// onNBD checks that a machine has its root over NBD, and can read it.
func onNBD(t *testing.T, sh *shell) {
	t.Helper()
	if got := sh.run(t, 60, "grep ' / ' /proc/mounts"); !strings.HasPrefix(got, "/dev/nbd0 / erofs ") {
		t.Errorf("the root is %s; want NBD", got)
	}
}

// rootMenuUUID is the UUID of a machine of TestRootMenu.
const rootMenuUUID = "4c4c4544-0080-5210-8053-b4c04f4e3180"
