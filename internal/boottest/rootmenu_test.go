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

// TestRootMenu boots machines whose settings say boot = nfs: one by the PXE of a
// BIOS and pxelinux' menu to the login prompt, one by iPXE to where its kernel
// says with which arguments it was started. What they run is the image's own
// kernel and initramfs, in which nothing knows of InetBoot.
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
	if err := bed.Close(); err != nil { // its data folder is for the LAN's server
		t.Fatal(err)
	}
	for dir := bed.Data; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const conf = `[default]
argument = console=ttyS0
[52:54:00:80:00:01]
boot = nfs
argument = settings.arg=1
module.nfs = nfs4_disable_idmapping=0
timeout = -1
[52:54:00:80:00:02]
boot = nfs
image = debian
argument = settings.arg=2
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
	serveLAN(t, lan, bed, "--nfs", "--dhcp", "full", "--dhcp-range", "192.168.80.100-192.168.80.150", "--unknown", "no")
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
		vm := start(t, vmtest.Config{Kernel: "/usr/lib/ipxe/ipxe.lkrn", Initrd: script, NICs: []vmtest.NIC{{LAN: lan, MAC: "52:54:00:80:00:01"}}})
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
		sh := loginWith(t, vm, 900, "stty -echo; export PS1=")
		t.Logf("login prompt after %.1f s", vm.Uptime().Seconds())
		line := sh.run(t, 300, "cat /proc/cmdline")
		for _, want := range []string{" settings.arg=1 ", " nfs.nfs4_disable_idmapping=0 ", "nfsroot=192.168.80.1:/debian/12/amd64 ", "BOOTIF=01-52-54-00-80-00-01"} {
			if !strings.Contains(line, want) {
				t.Errorf("command line = %s; want %q in it", line, want)
			}
		}
		if strings.Contains(line, "inetboot") {
			t.Errorf("command line = %s; want nothing of InetBoot", line)
		}
		if got := sh.run(t, 300, "grep ' / ' /proc/mounts"); !strings.HasPrefix(got, "192.168.80.1:/debian/12/amd64 / nfs ") {
			t.Errorf("the root is %s; want NFS", got)
		}
	})
	t.Run("iPXE", func(t *testing.T) {
		vm := start(t, vmtest.Config{NICs: []vmtest.NIC{{LAN: lan, ROM: true, MAC: "52:54:00:80:00:02"}}})
		vm.ExpectT(t, 600, `Command line: initrd=initrd \S.*nfsroot=192\.168\.80\.1:/debian/12/amd64 ip=dhcp ro console=ttyS0 settings\.arg=2 BOOTIF=01-52-54-00-80-00-02`)
		vm.ExpectT(t, 600, `IP-Config: \S+ complete`)
		t.Logf("its initramfs has the network after %.1f s", vm.Uptime().Seconds())
	})
}
