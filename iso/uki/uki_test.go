package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func parts() Parts {
	return Parts{
		Kernel:  bytes.Repeat([]byte("kernel"), 1001),
		Initrd:  [][]byte{bytes.Repeat([]byte("first"), 777), bytes.Repeat([]byte("second"), 555)},
		Cmdline: "console=ttyS0,115200 console=tty0",
	}
}

// TestImage reads an image with Go's own reader of PE files.
func TestImage(t *testing.T) {
	p := parts()
	image, err := Build(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	f, err := pe.NewFile(bytes.NewReader(image.Data))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		t.Errorf("Machine = %#x; want %#x", f.Machine, pe.IMAGE_FILE_MACHINE_AMD64)
	}
	o, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok {
		t.Fatalf("optional header is a %T; want one of PE32+", f.OptionalHeader)
	}
	if o.Subsystem != pe.IMAGE_SUBSYSTEM_EFI_APPLICATION || o.AddressOfEntryPoint != f.Section(".text").VirtualAddress {
		t.Errorf("subsystem %d, entry %#x; want an EFI application that begins where .text does", o.Subsystem, o.AddressOfEntryPoint)
	}
	// Firmware walks the blocks to the end of the table, and stops at one without a length.
	dir, reloc := o.DataDirectory[pe.IMAGE_DIRECTORY_ENTRY_BASERELOC], f.Section(".reloc")
	block, err := reloc.Data()
	if err != nil || dir.VirtualAddress != reloc.VirtualAddress || dir.Size != reloc.VirtualSize || binary.LittleEndian.Uint32(block[4:]) != dir.Size {
		t.Errorf("the relocations are %d bytes at %#x, a block % x (%v); want them to be one block, all of .reloc at %#x", dir.Size, dir.VirtualAddress, block[:8], err, reloc.VirtualAddress)
	}
	var names []string
	memory, file := uint32(o.SizeOfHeaders), uint32(o.SizeOfHeaders)
	for _, s := range f.Sections {
		names = append(names, s.Name)
		if s.VirtualAddress%o.SectionAlignment != 0 || s.VirtualAddress < memory {
			t.Errorf("%s is at address %#x, the one before ends at %#x; want it behind that, aligned to %#x", s.Name, s.VirtualAddress, memory, o.SectionAlignment)
		}
		if s.Offset%o.FileAlignment != 0 || s.Offset < file {
			t.Errorf("%s is at offset %#x, the one before ends at %#x; want it behind that, aligned to %#x", s.Name, s.Offset, file, o.FileAlignment)
		}
		const write, execute = pe.IMAGE_SCN_MEM_WRITE, pe.IMAGE_SCN_MEM_EXECUTE
		if s.Characteristics&write != 0 || (s.Characteristics&execute != 0) != (s.Name == ".text") {
			t.Errorf("%s has flags %#x; want nothing writable and only .text to be run", s.Name, s.Characteristics)
		}
		memory, file = s.VirtualAddress+s.VirtualSize, s.Offset+s.Size
	}
	if o.SizeOfImage < memory || o.SizeOfImage%o.SectionAlignment != 0 || int(file) != len(image.Data) {
		t.Errorf("%#x bytes in memory, %#x in the file; want all of %#x and %#x", o.SizeOfImage, len(image.Data), memory, file)
	}
	if d := cmp.Diff([]string{".text", ".reloc", ".cmdline", ".linux", ".initrd"}, names); d != "" {
		t.Errorf("sections (-want +got):\n%s", d)
	}
	for name, want := range map[string][]byte{
		".cmdline": []byte(p.Cmdline + "\x00"),
		".linux":   Pad(p.Kernel),
		".initrd":  append(Pad(p.Initrd[0]), Pad(p.Initrd[1])...),
	} {
		s := f.Section(name)
		got, err := s.Data()
		if err != nil || !bytes.Equal(got[:s.VirtualSize], want) {
			t.Errorf("%s has %d bytes (%v) that are not the %d given", name, s.VirtualSize, err, len(want))
		}
	}
	if want := bytes.Join([][]byte{Pad(p.Kernel), Pad(p.Initrd[0]), Pad(p.Initrd[1])}, nil); image.Head%Align != 0 || !bytes.Equal(image.Data[image.Head:], want) {
		t.Errorf("behind the head of %d bytes are %d bytes; want the %d of the padded parts", image.Head, len(image.Data)-image.Head, len(want))
	}
	if again, err := Build(t.Context(), parts()); err != nil || !bytes.Equal(again.Data, image.Data) {
		t.Errorf("the same parts make another image (%v)", err)
	}
}

func TestPad(t *testing.T) {
	for _, tt := range []struct{ n, want int }{{0, 0}, {1, Align}, {Align, Align}, {Align + 1, 2 * Align}} {
		in := bytes.Repeat([]byte{1}, tt.n+1)
		got := Pad(in[:tt.n])
		if len(got) != tt.want || in[tt.n] != 1 {
			t.Errorf("Pad(%d bytes) has %d, and the byte behind them is %d; want %d, and 1", tt.n, len(got), in[tt.n], tt.want)
		}
	}
}

func TestPartsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Parts){
		"no kernel":    func(p *Parts) { p.Kernel = nil },
		"no initramfs": func(p *Parts) { p.Initrd = nil },
		"other script": func(p *Parts) { p.Cmdline = "name=Käse" },
		"two lines":    func(p *Parts) { p.Cmdline = "a\nb" },
		"end of text":  func(p *Parts) { p.Cmdline = "a\x00b" },
	} {
		p := parts()
		change(&p)
		if _, err := assemble([]byte{0xc3}, p); !errors.Is(err, ErrParts) {
			t.Errorf("%s: assemble = %v; want ErrParts", name, err)
		}
	}
}

// TestCompilerMissing is what somebody without a compiler sees.
func TestCompilerMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Build(t.Context(), parts()); err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("Build = %v; want what to do", err)
	}
}
