package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// memtestFile is where Debian's package has memtest86+.
const memtestFile = "/boot/memtest86+x64.bin"

// Kernels that have to be loaded below 4 GiB start on both kinds of firmware:
// memtest86+, which tests memory on all processors that it finds, and Linux
// with an initrd.
func TestLowKernels(t *testing.T) {
	memtest, err := os.ReadFile(memtestFile)
	if err != nil {
		t.Fatalf("no memtest86+ (`make deps` installs it): %v", err)
	}
	b := newBed(t, -1)
	linux := bytes.Clone(b.kernel)
	linux[0x236] &^= 2 // XLF_CAN_BE_LOADED_ABOVE_4G
	b.targets = make(map[string][]byte)
	requires := []string{catalog.FeatureNoRoot, catalog.FeatureKexecLoad}
	for _, i := range []struct {
		name, cmdline  string
		kernel, initrd []byte
	}{{"memtest", "nobench nopause", memtest, nil}, {"linux", "low.option=1 loglevel=7", linux, b.target}} {
		m := &catalog.Manifest{
			Format: catalog.ManifestFormat, Requires: requires, Name: i.name, Version: "6", Arch: "amd64", Created: time.Unix(1.7e9, 0),
			Kernel: catalog.Kernel{Blob: digest.BlobOf(i.kernel)}, Cmdline: i.cmdline,
		}
		b.put(storepath.File(digest.Of(i.kernel)), i.kernel)
		if i.initrd != nil {
			m.Initrd = digest.BlobOf(i.initrd)
		}
		data, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		name := catalog.ManifestName(i.name, "6", "amd64")
		b.targets[name] = data
		b.entries = append(b.entries, catalog.Entry{ID: i.name, Title: i.name, Image: name, Requires: requires})
	}
	b.publish(t, 3, time.Now().Add(time.Hour), b.kernel, b.target, -1)
	for _, firmware := range []vmtest.Firmware{vmtest.BIOS, vmtest.UEFI} {
		start := func(t *testing.T, id string) *vmtest.VM {
			vm := b.start(t, b.site(), vmtest.Config{Name: id, Firmware: firmware, Append: "inetboot.entry=" + id, VGA: true})
			vm.ExpectT(t, patience, `inetboot: starting `+id+`\n`)
			vm.ExpectT(t, patience, `inetboot: kernel and initrd are loaded \(kexec_load\)\n`)
			vm.ExpectT(t, patience, `inetboot: leaving for `+id+`\n`)
			return vm
		}
		t.Run("linux, "+string(firmware), func(t *testing.T) {
			vm := start(t, "linux")
			vm.ExpectT(t, patience, `target: started`)
			vm.ExpectT(t, patience, `target: cmdline: low\.option=1 loglevel=7 console=tty0 console=ttyS0,115200 <nil>\n`)
			vm.ExpectT(t, patience, `target: ACPI tables: APIC .*DSDT FACP`)
			if firmware == vmtest.UEFI {
				vm.ExpectT(t, patience, `target: framebuffers: 0 EFI VGA <nil>\n`)
			}
			vm.ExpectT(t, patience, `target: end`)
		})
		t.Run("memtest, "+string(firmware), func(t *testing.T) {
			vm := start(t, "memtest")
			vm.ExpectT(t, patience, `Memtest86.{0,40}v\d\.\d+`)
			smp := vm.ExpectT(t, patience, `SMP: (\S+) .{0,40}Status: Testing`)[1]
			if firmware == vmtest.BIOS && smp != "2T" {
				t.Errorf("memtest86+ says SMP: %s; want 2T, as it finds the ACPI tables", smp)
			}
		})
	}
}
