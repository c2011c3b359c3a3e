package media

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/inetboot/inetboot/internal/site"
)

// part writes n bytes that do not compress or repeat to a file; same seed,
// same bytes.
func part(t *testing.T, name string, n int, seed byte) (path string, data []byte) {
	t.Helper()
	data = make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(data) //nolint:errcheck // never fails
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path, data
}

// medium is what Build made of a kernel and an initramfs of odd lengths.
type medium struct {
	path              string
	data              []byte
	parts             []Part
	kernel, initramfs []byte
}

func build(t *testing.T) medium {
	t.Helper()
	kernel, kernelData := part(t, "vmlinuz", 300_001, 1)
	initramfs, initramfsData := part(t, "initramfs.xz", 200_004, 2)
	m := medium{path: filepath.Join(t.TempDir(), "test.iso"), kernel: kernelData, initramfs: initramfsData}
	var err error
	if m.parts, err = Build(t.Context(), Options{Kernel: kernel, Initramfs: initramfs, Out: m.path}); err != nil {
		t.Fatal(err)
	}
	if m.data, err = os.ReadFile(m.path); err != nil {
		t.Fatal(err)
	}
	return m
}

// file reads a file out of the medium's ISO 9660 file system with xorriso.
func (m medium) file(t *testing.T, path string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "extracted")
	if msg, err := exec.Command("xorriso", "-osirrox", "on", "-indev", m.path, "-extract", path, out).CombinedOutput(); err != nil {
		t.Fatalf("extract %s: %v\n%s", path, err, msg)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestFilesAreOnTheMediumOnce(t *testing.T) {
	m := build(t)
	for _, f := range []struct {
		path string
		want []byte
	}{
		{"/boot/vmlinuz", m.kernel},
		{"/boot/initramfs.xz", m.initramfs},
		{"/boot/site.cpio", site.EmptySlot()},
	} {
		if got := m.file(t, f.path); !bytes.Equal(got, f.want) {
			t.Errorf("%s has %d bytes that are not the %d given", f.path, len(got), len(f.want))
		}
		// The slot's end is zeros, which are everywhere: look for its head.
		if n := bytes.Count(m.data, f.want[:1024]); n != 1 {
			t.Errorf("the head of %s is on the medium %d times; want once", f.path, n)
		}
	}
}

func TestPartsAddUp(t *testing.T) {
	m := build(t)
	sizes := map[string]int64{}
	var sum int64
	for _, p := range m.parts {
		sizes[p.Name] = p.Size
		sum += p.Size
	}
	if len(m.data)%readUnit != 0 {
		t.Errorf("the medium has %d bytes; want a multiple of %d, without which a BIOS damages the end of what it reads from CD", len(m.data), readUnit)
	}
	if sum != int64(len(m.data)) {
		t.Errorf("the parts add up to %d bytes; the medium has %d", sum, len(m.data))
	}
	for name, want := range map[string]int64{
		"kernel": int64(len(m.kernel)), "initramfs": int64(len(m.initramfs)), "site slot": site.SlotSize,
	} {
		if sizes[name] != want {
			t.Errorf("part %q has %d bytes; want %d", name, sizes[name], want)
		}
	}
	for _, name := range []string{"GRUB for BIOS", "UEFI loader and its FAT", "file systems and tables"} {
		if sizes[name] <= 0 {
			t.Errorf("part %q has %d bytes; want more than none", name, sizes[name])
		}
	}
}

// TestSlotCanBeOverwritten does to a medium what personalising it does.
func TestSlotCanBeOverwritten(t *testing.T) {
	m := build(t)
	at, err := site.FindSlot(bytes.NewReader(m.data), int64(len(m.data)))
	if err != nil {
		t.Fatal(err)
	}
	if got := m.data[at : at+site.SlotSize]; !bytes.Equal(got, site.EmptySlot()) {
		t.Fatal("the slot on the medium is not the empty slot, byte for byte")
	}
	archive, err := site.Archive(&site.Site{URLs: []string{"http://boot.example.org/"}}, []byte(`{"keys":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(m.path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(archive, at); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{
		"/boot/site.cpio": archive, "/boot/vmlinuz": m.kernel, "/boot/initramfs.xz": m.initramfs,
	} {
		if got := m.file(t, path); !bytes.Equal(got, want) {
			t.Errorf("after the slot was overwritten, %s is not what it should be", path)
		}
	}
}

// TestPartitionTable reads the MBR: the EFI system partition is listed, ends
// where the medium ends, and nothing is said about the room behind it.
func TestPartitionTable(t *testing.T) {
	const sector = 512
	m := build(t)
	if sig := m.data[510:512]; !bytes.Equal(sig, []byte{0x55, 0xaa}) {
		t.Fatalf("the MBR ends in % x; want 55 aa", sig)
	}
	type partition struct {
		Type       byte
		Start, End uint32 // sectors
	}
	var got []partition
	active := 0
	for i := range 4 {
		e := m.data[446+16*i:][:16]
		if e[0] == 0x80 {
			active++
		}
		if e[4] != 0 {
			start := binary.LittleEndian.Uint32(e[8:])
			got = append(got, partition{e[4], start, start + binary.LittleEndian.Uint32(e[12:])})
		}
	}
	end := uint32(len(m.data) / sector)
	if len(got) != 2 {
		t.Fatalf("the MBR lists %+v; want the ISO and the EFI system partition", got)
	}
	esp := got[1]
	want := []partition{{0x83, 0, esp.Start}, {0xef, esp.Start, end}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("partitions (-want +got):\n%s", d)
	}
	// Some BIOSes refuse to boot a disk without an active partition.
	if active != 1 {
		t.Errorf("%d partitions are active; want 1", active)
	}
	// The partition is a FAT file system with GRUB in the default place.
	image := fmt.Sprintf("%s@@%d", m.path, esp.Start*sector)
	program, err := exec.Command("mtype", "-i", image, "::/EFI/BOOT/BOOTX64.EFI").Output()
	if err != nil {
		t.Fatalf("read BOOTX64.EFI: %v", err)
	}
	efi := filepath.Join(t.TempDir(), "inetboot.efi")
	kernel, _ := part(t, "vmlinuz", 300_001, 1)
	initramfs, _ := part(t, "initramfs.xz", 200_004, 2)
	if _, err := BuildEFI(t.Context(), Options{Kernel: kernel, Initramfs: initramfs, Out: efi}); err != nil {
		t.Fatal(err)
	}
	alone, err := os.ReadFile(efi)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(program, alone) {
		t.Errorf("BOOTX64.EFI has %d bytes that are not the %d of the program that BuildEFI writes", len(program), len(alone))
	}
}

// TestProgram reads the program for UEFI: everything is in it, once, and the
// slot can be found.
func TestProgram(t *testing.T) {
	m := build(t)
	esp := int(binary.LittleEndian.Uint32(m.data[446+16+8:])) * 512
	f, err := pe.NewFile(io.NewSectionReader(bytes.NewReader(m.data[esp:]), int64(bytes.Index(m.data[esp:], []byte("MZ"))), int64(len(m.data))))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{
		".linux": m.kernel, ".cmdline": []byte(Cmdline), ".initrd": m.initramfs,
	} {
		s := f.Section(name)
		if s == nil {
			t.Fatalf("there is no section %s", name)
		}
		if got, err := s.Data(); err != nil || !bytes.HasPrefix(got, want) {
			t.Errorf("%s has %d bytes (%v) that do not begin with the %d given", name, len(got), err, len(want))
		}
	}
	initrd, err := f.Section(".initrd").Data()
	if err != nil || !bytes.HasSuffix(initrd, site.EmptySlot()) {
		t.Errorf(".initrd (%v) does not end with the site slot", err)
	}
}

// TestSmallModule checks that GRUB's modules are those that the small one was
// made for, and what happens when they are not.
func TestSmallModule(t *testing.T) {
	dir := "/usr/lib/grub/i386-pc/"
	if err := checkSmall(dir+"linux.mod", dir+"normal.mod"); err != nil {
		t.Errorf("checkSmall(linux, normal) = %v", err)
	}
	// menu and command line use much of normal.
	if err := checkSmall(dir+"ls.mod", dir+"normal.mod"); !errors.Is(err, ErrModule) {
		t.Errorf("checkSmall(ls, normal) = %v; want ErrModule", err)
	}
}

// TestLarge builds a medium that is too long for FAT12, and for the length in
// the boot catalog.
func TestLarge(t *testing.T) {
	kernel, _ := part(t, "vmlinuz", 100_001, 1)
	initramfs, want := part(t, "initramfs", 34<<20, 2)
	out := filepath.Join(t.TempDir(), "large.iso")
	if _, err := Build(t.Context(), Options{Kernel: kernel, Initramfs: initramfs, Out: out, MaxSize: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	esp := int(binary.LittleEndian.Uint32(data[446+16+8:])) * 512
	if kind := string(data[esp+54:][:5]); kind != "FAT16" {
		t.Errorf("the EFI system partition is %q; want FAT16", kind)
	}
	program, err := exec.Command("mtype", "-i", fmt.Sprintf("%s@@%d", out, esp), "::/EFI/BOOT/BOOTX64.EFI").Output()
	if err != nil || !bytes.Contains(program, want) || !bytes.HasSuffix(bytes.TrimRight(data, "\x00"), bytes.TrimRight(program, "\x00")) {
		t.Errorf("BOOTX64.EFI has %d bytes (%v) that are not the end of the medium with the initramfs in it", len(program), err)
	}
	catalog := data[int(binary.LittleEndian.Uint32(data[17*2048+0x47:]))*2048:]
	if n := binary.LittleEndian.Uint16(catalog[96+6:]); n != 0 {
		t.Errorf("the boot catalog says %d sectors; want 0, to the end of the medium", n)
	}
}

// TestElTorito reads the boot catalog: one entry for BIOS, one for UEFI (UEFI
// specification 2.10, 13.3.2.1).
func TestElTorito(t *testing.T) {
	const block = 2048
	m := build(t)
	record := m.data[17*block:][:block]
	if !bytes.HasPrefix(record[1:], []byte("CD001")) || !bytes.HasPrefix(record[7:], []byte("EL TORITO SPECIFICATION")) {
		t.Fatalf("block 17 begins with %q; want a boot record", record[:32])
	}
	catalog := m.data[int(binary.LittleEndian.Uint32(record[0x47:]))*block:][:block]
	const platformBIOS, platformEFI = 0x00, 0xef
	if catalog[0] != 1 || catalog[1] != platformBIOS || catalog[32] != 0x88 {
		t.Errorf("the first entry is % x, % x; want a bootable one for BIOS", catalog[:2], catalog[32])
	}
	if catalog[64] != 0x91 || catalog[65] != platformEFI || catalog[96] != 0x88 {
		t.Errorf("the second entry is % x, % x; want a bootable, last one for UEFI", catalog[64:66], catalog[96])
	}
	esp := int(binary.LittleEndian.Uint32(catalog[96+8:])) * block
	if want := int(binary.LittleEndian.Uint32(m.data[446+16+8:])) * 512; esp != want {
		t.Errorf("UEFI finds its file system on a CD at byte %d, on a disk at byte %d; want one place", esp, want)
	}
	if got, want := int(binary.LittleEndian.Uint16(catalog[96+6:]))*512, len(m.data)-esp; got != want {
		t.Errorf("UEFI finds a file system of %d bytes on a CD; want %d, to the end of the medium", got, want)
	}
}

func TestSizeLimit(t *testing.T) {
	m := build(t)
	kernel, _ := part(t, "vmlinuz", 300_001, 1)
	initramfs, _ := part(t, "initramfs.xz", 200_004, 2)
	size := int64(len(m.data))
	for _, tt := range []struct {
		limit int64
		ok    bool
	}{{size, true}, {size - 1, false}} {
		out := filepath.Join(t.TempDir(), "limited.iso")
		_, err := Build(t.Context(), Options{Kernel: kernel, Initramfs: initramfs, Out: out, MaxSize: tt.limit})
		if tt.ok {
			if err != nil {
				t.Errorf("Build of %d bytes with limit %d = %v; want success", size, tt.limit, err)
			}
			continue
		}
		if !errors.Is(err, ErrTooLarge) {
			t.Fatalf("Build of %d bytes with limit %d = %v; want ErrTooLarge", size, tt.limit, err)
		}
		for _, want := range []string{"kernel 300001", "initramfs 200004", "site slot 16384", "GRUB for BIOS", "UEFI loader", fmt.Sprint(size)} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("Build = %v; want %q in it", err, want)
			}
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("a medium that is too large was written all the same")
		}
	}
}

func TestDefaultSizeLimit(t *testing.T) {
	kernel, _ := part(t, "vmlinuz", 2<<20, 1)
	initramfs, _ := part(t, "initramfs.xz", 3<<20, 2)
	_, err := Build(t.Context(), Options{Kernel: kernel, Initramfs: initramfs, Out: filepath.Join(t.TempDir(), "large.iso")})
	if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "5242880") {
		t.Errorf("Build with 5 MiB of kernel and initramfs = %v; want ErrTooLarge and the limit of 5242880 bytes", err)
	}
}

// TestReproducible builds twice from files with other names and times, in
// another time zone, after the clock has moved on.
func TestReproducible(t *testing.T) {
	first := build(t)
	time.Sleep(1100 * time.Millisecond) // volume times count seconds
	t.Setenv("TZ", "Pacific/Auckland")
	t.Setenv("SOURCE_DATE_EPOCH", "1")
	kernel, _ := part(t, "another-kernel", 300_001, 1)
	initramfs, _ := part(t, "another-initramfs", 200_004, 2)
	if err := os.Chtimes(kernel, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "second.iso")
	if _, err := Build(t.Context(), Options{Kernel: kernel, Initramfs: initramfs, Out: out}); err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.data) != len(second) {
		t.Fatalf("the media have %d and %d bytes; want the same", len(first.data), len(second))
	}
	for i := range second {
		if first.data[i] != second[i] {
			t.Fatalf("the media differ at byte %d (%#x)", i, i)
		}
	}
}

func TestBuildFails(t *testing.T) {
	kernel, _ := part(t, "vmlinuz", 1000, 1)
	initramfs, _ := part(t, "initramfs.xz", 1000, 2)
	missing := filepath.Join(t.TempDir(), "missing")
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"no kernel", Options{Kernel: missing, Initramfs: initramfs}, "read the kernel"},
		{"no initramfs", Options{Kernel: kernel, Initramfs: missing}, "read the initramfs"},
		{"no GRUB", Options{Kernel: kernel, Initramfs: initramfs, GRUB: missing}, "make GRUB for BIOS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.o.Out = filepath.Join(t.TempDir(), "x.iso")
			if _, err := Build(t.Context(), tt.o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Build = %v; want an error with %q", err, tt.want)
			}
			if _, err := os.Stat(tt.o.Out); err == nil {
				t.Error("Build failed and left an output")
			}
		})
	}
}

// TestToolMissing is the first thing that happens to somebody without xorriso.
func TestToolMissing(t *testing.T) {
	err := tool(t.Context(), "no-such-tool-of-inetboot")
	if !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("tool = %v; want exec.ErrNotFound and what to do", err)
	}
}
