package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// medium returns a copy of the boot medium that has the site.
func (b *bed) medium(t *testing.T) string {
	t.Helper()
	iso, err := os.ReadFile(filepath.Join(filepath.Dir(b.kernelPath), "inetboot.iso"))
	if err != nil {
		t.Skipf("no boot medium (run `make iso`): %v", err)
	}
	at, err := site.FindSlot(bytes.NewReader(iso), int64(len(iso)))
	if err != nil {
		t.Fatal(err)
	}
	slot, err := site.Archive(b.site(), b.root(t))
	if err != nil {
		t.Fatal(err)
	}
	copy(iso[at:], slot)
	file := filepath.Join(t.TempDir(), "inetboot.iso")
	if err := os.WriteFile(file, iso, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// otherDisk returns a disk that BIOS and UEFI start, and which then writes
// "other disk" to the first serial port.
func otherDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	const text = "\r\nother disk\r\n\x00"
	say := []byte{
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz end
		0xee,       // out dx, al
		0xeb, 0xf8, // jmp next
		0xf4,       // end: hlt
		0xeb, 0xfd, // jmp end
	}
	sector := make([]byte, 512)
	copy(sector, []byte{0xeb, 0x3c, 0x90}) // jmp to behind what FAT has there
	copy(sector[0x3e:], slices.Concat([]byte{
		0x31, 0xc0, // xor ax, ax
		0x8e, 0xd8, // mov ds, ax
		0xbe, 0x80, 0x7c, // mov si, 0x7c80
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
	}, say))
	copy(sector[0x80:], text)
	copy(sector[510:], "\x55\xaa")
	disk := filepath.Join(dir, "disk")
	program := write("program", efiProgram(t, slices.Concat([]byte{
		0x66, 0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0x48, 0x8d, 0x35, byte(len(say)), 0, 0, 0, // lea rsi, [rip+...]
	}, say, []byte(text))))
	for _, args := range [][]string{
		{"mformat", "-i", disk, "-C", "-T", "4096", "-h", "16", "-s", "63", "-B", write("sector", sector), "::"},
		{"mmd", "-i", disk, "::EFI", "::EFI/BOOT"},
		{"mcopy", "-i", disk, program, "::EFI/BOOT/BOOTX64.EFI"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s (`make deps` installs it): %v: %s", args[0], err, out)
		}
	}
	return disk
}

// efiProgram makes a program of UEFI (PE32+, Microsoft's "PE Format") out of
// code that needs no relocation.
func efiProgram(t *testing.T, code []byte) []byte {
	t.Helper()
	const at, align = 0x1000, 0x200
	dos := make([]byte, 0x40)
	copy(dos, "MZ")
	dos[0x3c] = byte(len(dos))
	section := pe.SectionHeader32{
		VirtualSize: uint32(len(code)), VirtualAddress: at, SizeOfRawData: align, PointerToRawData: align,
		Characteristics: pe.IMAGE_SCN_CNT_CODE | pe.IMAGE_SCN_MEM_EXECUTE | pe.IMAGE_SCN_MEM_READ,
	}
	copy(section.Name[:], ".text")
	var out bytes.Buffer
	for _, part := range []any{
		dos, []byte("PE\x00\x00"),
		pe.FileHeader{
			Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: 1, SizeOfOptionalHeader: uint16(binary.Size(pe.OptionalHeader64{})),
			Characteristics: pe.IMAGE_FILE_EXECUTABLE_IMAGE | pe.IMAGE_FILE_LARGE_ADDRESS_AWARE,
		},
		pe.OptionalHeader64{
			Magic: 0x20b, SizeOfCode: align, AddressOfEntryPoint: at, BaseOfCode: at, SectionAlignment: at, FileAlignment: align,
			SizeOfImage: 2 * at, SizeOfHeaders: align, Subsystem: pe.IMAGE_SUBSYSTEM_EFI_APPLICATION, NumberOfRvaAndSizes: 16,
		},
		section,
	} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	if out.Len() > align || len(code) > align {
		t.Fatalf("headers of %d bytes, code of %d: at most %d of each", out.Len(), len(code), align)
	}
	return append(append(out.Bytes(), make([]byte, align-out.Len())...), append(code, make([]byte, align-len(code))...)...)
}

// alsoPublish publishes images that need as much memory as their names say,
// each with an initrd of that many bytes.
func (b *bed) alsoPublish(t *testing.T, initrd int, needs map[string]int64) {
	t.Helper()
	large := append(slices.Clip(b.target), make([]byte, initrd-len(b.target))...)
	b.targets = make(map[string][]byte)
	for id, memory := range needs {
		m := &catalog.Manifest{
			Format: catalog.ManifestFormat, Name: id, Version: "1", Arch: "amd64", Created: time.Unix(1.7e9, 0),
			Kernel: catalog.Kernel{Blob: digest.BlobOf(b.kernel), Release: "6.1.0-test"}, Initrd: digest.BlobOf(large),
			Root:  catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 4096, Index: digest.BlobOf([]byte("the index of meta"))}}},
			Needs: catalog.Needs{Memory: memory},
		}
		data, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		name := catalog.ManifestName(id, "1", "amd64")
		b.targets[name] = data
		// Where the target is heard: the medium's last console is the screen.
		b.entries = append(b.entries, catalog.Entry{ID: id, Title: "Needs " + fmt.Sprint(memory>>20), Image: name, Cmdline: "target.console=/dev/ttyS0"})
	}
	b.put(storepath.File(digest.Of(large)), large)
	b.publish(t, 3, time.Now().Add(time.Hour), b.kernel, b.target, -1)
}

// The boot medium as people get it, on machines with little memory: what
// fits is started; what seems too large is said before anything is downloaded,
// and started if a person wants it. The menu's actions do what they say:
// restart, and the local disk once the medium is out.
func TestSmallMachines(t *testing.T) {
	b := newBed(t, -1)
	b.entries = []catalog.Entry{{ID: "disk", Title: "Local disk", Action: catalog.ActionLocalDisk}}
	// Debian's kernel and an initrd of imagetool's have 30 MB.
	b.alsoPublish(t, 24<<20, map[string]int64{"quarter": 256 << 20, "large": 1 << 30})
	iso := b.medium(t)
	menu := func(t *testing.T, vm *vmtest.VM) {
		t.Helper()
		vm.ExpectT(t, patience, `inetboot: menu ready\n`)
		vm.ExpectT(t, patience, `> +1  Tiny Linux 1`)
	}
	// tooLittle chooses an image that needs more memory than the machine has, and
	// is asked.
	tooLittle := func(t *testing.T, vm *vmtest.VM, needs int) {
		t.Helper()
		vm.SendT(t, fmt.Sprint("needs ", needs))
		vm.ExpectT(t, patience, fmt.Sprintf(`Needs %d  \(too little memory\)`, needs))
		vm.SendT(t, "\r")
		said := vm.ExpectT(t, patience, fmt.Sprintf(`inetboot: (not enough memory: .* needs a machine with %d MB, this one has \d+ MB: \d+ MB are missing)\. It may not start, or fail later\.\n`, needs))
		t.Log(said[1])
		vm.ExpectT(t, patience, `> +1  Back to the menu`)
		vm.ExpectT(t, patience, `2  Start it all the same`)
		vm.ExpectT(t, patience, `Enter: choose`)
	}
	// boots waits for the target, which switches the machine off.
	boots := func(t *testing.T, vm *vmtest.VM, id string) {
		t.Helper()
		if cmdline, h := expectTarget(t, vm); h.Image.Name != id || !strings.Contains(cmdline, "console=tty0 ") {
			t.Errorf("started with %q, %+v; want %s", cmdline, h.Image, id)
		}
		ended(t, vm, "guest-shutdown")
	}
	machine := func(t *testing.T, c vmtest.Config) *vmtest.VM {
		t.Helper()
		c.Name, c.CD, c.CPUs, c.NICs = "small", iso, 1, []vmtest.NIC{{}}
		vm := vmtest.StartT(t, c)
		menu(t, vm)
		t.Logf("%d MB: menu after %.1f s", c.Memory, vm.Uptime().Seconds())
		return vm
	}
	// fromDisk chooses the local disk, takes the medium out, and waits for the disk.
	fromDisk := func(t *testing.T, vm *vmtest.VM) {
		t.Helper()
		before := vm.Resets()
		vm.SendT(t, "5\r")
		vm.ExpectT(t, patience, `inetboot: this machine restarts in 10 s: take the boot medium out now`)
		if _, err := vm.Monitor(t.Context(), "eject", map[string]any{"device": "cd", "force": true}); err != nil {
			t.Fatal(err)
		}
		vm.ExpectT(t, patience, `\nother disk\n`)
		if vm.Resets() == before {
			t.Error("the machine was not reset")
		}
	}
	t.Run("192 MB, BIOS", func(t *testing.T) {
		vm := machine(t, vmtest.Config{Memory: 192, Disks: []vmtest.Disk{{File: otherDisk(t), Model: "ide-hd", Boot: true}}})
		tooLittle(t, vm, 256)
		vm.SendT(t, "\r") // not then
		vm.ExpectT(t, patience, `inetboot: failed: memory: not enough memory: `)
		vm.ExpectT(t, patience, `Enter: start`)
		before := vm.Resets()
		vm.SendT(t, "3\r") // Restart
		vm.ExpectT(t, patience, `inetboot: restarting\n`)
		menu(t, vm)
		if vm.Resets() == before {
			t.Error("the machine was not reset")
		}
		fromDisk(t, vm)
	})
	t.Run("256 MB, UEFI", func(t *testing.T) {
		vm := machine(t, vmtest.Config{Memory: 256, Firmware: vmtest.UEFI, VGA: true})
		vm.SendT(t, "needs 256\r")
		vm.ExpectT(t, patience, `inetboot: starting quarter\n`)
		vm.ExpectT(t, patience, `inetboot: kernel and initrd are loaded \(kexec_file_load\)\n`)
		boots(t, vm, "quarter")
		// What firmware has told the first kernel, the second one knows, too.
		for _, want := range []string{`ACPI tables: APIC .*DSDT FACP`, `framebuffers: 0 EFI VGA <nil>\n`, `SMBIOS: Standard PC \(Q35`, `bits of UEFI: 64 <nil>\n`} {
			if !regexp.MustCompile(`target: ` + want).MatchString(vm.Text()) {
				t.Errorf("the target does not say %s:\n%s", want, vm.Tail(12))
			}
		}
		vm = machine(t, vmtest.Config{Memory: 256, Firmware: vmtest.UEFI, Disks: []vmtest.Disk{{File: otherDisk(t), Model: "ide-hd", Boot: true}}})
		fromDisk(t, vm)
	})
	t.Run("512 MB, BIOS", func(t *testing.T) {
		vm := machine(t, vmtest.Config{Memory: 512})
		tooLittle(t, vm, 1024)
		vm.SendT(t, "2\r")
		boots(t, vm, "large")
	})
}
