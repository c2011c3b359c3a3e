package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// menuRounds is how often each way to the menu is measured. The best counts:
// what makes a start slower is other work of the machine.
const menuRounds = 3

// menuTarget is how many seconds it may take from the start of a BIOS.
const menuTarget = 5

// menu measures from QEMU's start to a menu that can be used: from the ISO by
// BIOS and UEFI, and on BIOS from iPXE, whose script comes by TFTP and names
// files on an HTTP server, and from GRUB on a disk. The image in the menu is
// preboot itself, since none is started.
func (b *bench) menu(ctx context.Context) (err error) {
	dir := filepath.Join(b.dir, "menu")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	bed, err := testbed.Start(ctx, testbed.Options{Build: b.build, Dir: dir, Log: b.log})
	if err != nil {
		return err
	}
	b.cleanup(bed.Close)
	kernel, initramfs := filepath.Join(b.build, "vmlinuz"), filepath.Join(b.build, "initramfs.xz")
	if err := bed.Imagetool(ctx, "push", "--kernel", kernel, "--initrd", initramfs, "--name", "preboot", "--version", "1"); err != nil {
		return err
	}
	cpio := filepath.Join(dir, "site.cpio")
	if err := bed.Imagetool(ctx, "media", "--url", bed.GuestURL, "--cpio", cpio); err != nil {
		return err
	}
	files := vmtest.LinuxFiles{Kernel: kernel, Initrds: []string{initramfs, cpio}, Cmdline: "console=tty0 console=ttyS0,115200 nr_cpus=1"}
	disk := filepath.Join(dir, "grub.img")
	if err := files.GRUBDisk(ctx, disk); err != nil {
		return err
	}
	web := httptest.NewServer(serveFiles(files))
	defer web.Close()
	script := files
	script.Cmdline = "initrd=initramfs.xz initrd=site.cpio " + files.Cmdline
	ipxe := filepath.Join(dir, "boot.ipxe")
	if err := os.WriteFile(ipxe, []byte(script.IPXEScript(strings.Replace(web.URL, "127.0.0.1", testbed.GuestHost, 1))), 0o644); err != nil {
		return err
	}

	nic := []vmtest.NIC{{}}
	for _, way := range []struct {
		name string
		c    vmtest.Config
	}{
		{"ISO by BIOS", vmtest.Config{CD: bed.ISO, NICs: nic}},
		{"ISO by UEFI", vmtest.Config{CD: bed.ISO, Firmware: vmtest.UEFI, NICs: nic}},
		{"iPXE by BIOS", vmtest.Config{NICs: []vmtest.NIC{{ROM: true, Boot: ipxe}}}},
		{"GRUB by BIOS", vmtest.Config{USB: disk, NICs: nic}},
	} {
		b.say("menu: %s (%s), %d times", way.name, vmtest.Accel(), menuRounds)
		wall, cpu := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
		for range menuRounds {
			w, c, err := menuOnce(ctx, way.c)
			if err != nil {
				return err
			}
			wall, cpu = min(wall, w), min(cpu, c)
		}
		r := figure("menu: "+way.name, "s", wall.Seconds()).noted("%.1f s of processor time", cpu.Seconds())
		if way.name == "ISO by BIOS" {
			r = r.wantMost(menuTarget)
		}
		b.report(r)
	}
	return nil
}

// serveFiles serves the files by their names.
func serveFiles(files vmtest.LinuxFiles) http.Handler {
	mux := http.NewServeMux()
	for _, f := range append([]string{files.Kernel}, files.Initrds...) {
		mux.HandleFunc("/"+filepath.Base(f), func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, f) })
	}
	return mux
}

// menuOnce returns the time to the menu and the processor time that QEMU took
// for it.
func menuOnce(ctx context.Context, c vmtest.Config) (wall, cpu time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	c.VGA, c.NoReboot = true, true
	vm, err := vmtest.Start(ctx, c)
	if err != nil {
		return 0, 0, err
	}
	defer vm.Close()
	if _, err := vm.Expect(ctx, `inetboot: menu ready`); err != nil {
		return 0, 0, fmt.Errorf("%w\n%s", err, vm.Command)
	}
	wall = vm.Uptime()
	cpu, err = vm.CPUTime()
	return wall, cpu, err
}
