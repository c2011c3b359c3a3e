package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// xenFile is where Debian's package has Xen.
const xenFile = "/boot/xen-4.17-amd64.gz"

// Xen starts with a first domain, whose initramfs tells how it was started, on
// both kinds of firmware: with the machine's ACPI tables and on its screen.
func TestHypervisor(t *testing.T) {
	kernels, err := filepath.Glob(filepath.Join(os.Getenv("INETBOOT_TEST_LINUX"), "boot", "vmlinuz-*"))
	if err != nil || os.Getenv("INETBOOT_TEST_LINUX") == "" || len(kernels) == 0 {
		t.Skip("set INETBOOT_TEST_LINUX to a folder with an unpacked Linux package")
	}
	kernel, err := os.ReadFile(kernels[0])
	if err != nil {
		t.Fatal(err)
	}
	xen, err := os.ReadFile(xenFile)
	if err != nil {
		t.Fatalf("no Xen (`make deps` installs it): %v", err)
	}
	b := newBed(t, -1)
	m := &catalog.Manifest{
		Format: catalog.ManifestFormat, Requires: []string{catalog.FeatureNoRoot, catalog.FeatureHypervisor}, Name: "xen", Version: "4.17", Arch: "amd64", Created: time.Unix(1.7e9, 0),
		Kernel: catalog.Kernel{Blob: digest.BlobOf(kernel), Release: "6.1.0"}, Initrd: digest.BlobOf(b.target), Cmdline: "dom0.option=1 quiet",
		Hypervisor: &catalog.Hypervisor{Blob: digest.BlobOf(xen), Cmdline: "dom0_mem=256M dom0_max_vcpus=1 bootscrub=0 spec-ctrl=no"},
	}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	b.targets = map[string][]byte{catalog.ManifestName("xen", "4.17", "amd64"): data}
	for _, f := range [][]byte{xen, kernel} {
		b.put(storepath.File(digest.Of(f)), f)
	}
	b.entries = []catalog.Entry{{ID: "xen", Title: "Xen", Image: catalog.ManifestName("xen", "4.17", "amd64")}}
	b.publish(t, 3, time.Now().Add(time.Hour), b.kernel, b.target, -1)
	for _, tt := range []struct {
		firmware vmtest.Firmware
		screen   string // what Xen says of it
	}{
		{vmtest.BIOS, `VGA is text mode 80x25`},
		{vmtest.UEFI, `VGA is graphics mode \d{3,}x\d{3,}, 32 bpp`},
	} {
		t.Run(string(tt.firmware), func(t *testing.T) {
			vm := b.start(t, b.site(), vmtest.Config{Name: "xen", Firmware: tt.firmware, VGA: true, Memory: 768, CPUs: 1, Append: "inetboot.entry=xen", Args: []string{"-cpu", "Nehalem"}})
			vm.ExpectT(t, patience, `inetboot: hypervisor, kernel and initrd are loaded \(kexec_load\)\n`)
			vm.ExpectT(t, patience, `inetboot: leaving for xen\n`)
			vm.ExpectT(t, patience, `Xen version 4\.17`)
			vm.ExpectT(t, patience, tt.screen)
			vm.ExpectT(t, patience, `ACPI: RSDP [0-9A-F]+, `)
			vm.ExpectT(t, 4*patience, `target: started`) // Linux starts slowly below a hypervisor below an emulator
			vm.ExpectT(t, patience, `target: cmdline: dom0\.option=1 quiet console=tty0 console=hvc0 <nil>`)
			vm.ExpectT(t, patience, `target: ACPI tables: APIC .*DSDT FACP`)
			vm.ExpectT(t, patience, `target: end`)
		})
	}
}
