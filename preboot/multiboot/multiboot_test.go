package multiboot

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/preboot/kexec"
)

// header returns a Multiboot2 header with these tags.
func header(tags ...[]byte) []byte {
	le := binary.LittleEndian
	body := bytes.Join(append(tags, tag(tagEnd, 0)), nil)
	n := uint32(16 + len(body))
	magic := uint32(headerMagic)
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint32(b, n)
	b = le.AppendUint32(b, -(magic + n))
	return append(b, body...)
}

func tag(kind, flags uint16, words ...uint32) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(le.AppendUint16(nil, kind), flags)
	b = le.AppendUint32(b, uint32(8+4*len(words)))
	for _, w := range words {
		b = le.AppendUint32(b, w)
	}
	return append(b, make([]byte, -len(b)&7)...)
}

// program32 returns an ELF file as Xen's: of 32 bits, with one segment.
func program32(h []byte, entry, at, size uint32) []byte {
	le := binary.LittleEndian
	const start = 128
	b := make([]byte, start)
	copy(b, "\x7fELF\x01\x01\x01")
	le.PutUint16(b[16:], 2)
	le.PutUint16(b[18:], machine386)
	le.PutUint32(b[24:], entry)
	le.PutUint32(b[28:], 52)
	le.PutUint16(b[42:], 32)
	le.PutUint16(b[44:], 1)
	b = append(b, h...)
	for i, w := range []uint32{typeLoad, start, 0xffff0000, at, uint32(len(h)), size} {
		le.PutUint32(b[52+4*i:], w)
	}
	return b
}

// program64 is the same with 64 bits, and its entry among virtual addresses.
func program64(h []byte, entry, virtual, at, size uint64) []byte {
	le := binary.LittleEndian
	const start = 128
	b := make([]byte, start)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[18:], machineAMD64)
	le.PutUint64(b[24:], entry)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 1)
	b = append(b, h...)
	le.PutUint32(b[64:], typeLoad)
	for i, w := range []uint64{start, virtual, at, uint64(len(h)), size} {
		le.PutUint64(b[72+8*i:], w)
	}
	return b
}

func TestReadProgram(t *testing.T) {
	h := header(tag(tagRequest, 0, infoMemory, infoMap), tag(tagAlign, 0), tag(tagRelocatable, 1, 0, ^uint32(0), 1<<21, 2))
	want := &Program{0x200010, []part{{0x200000, h, 0x5000}}}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(program32(h, 0x200010, 0x200000, 0x5000))
	w.Close()
	for name, b := range map[string][]byte{
		"32 bits": program32(h, 0x200010, 0x200000, 0x5000), "gzip": z.Bytes(),
		"64 bits":          program64(h, 0x200010, 0xffffffff80000000, 0x200000, 0x5000),
		"entry is virtual": program64(h, 0xffffffff80000010, 0xffffffff80000000, 0x200000, 0x5000),
	} {
		got, err := ReadProgram(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(want, got, cmp.AllowUnexported(Program{}, part{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	broken := bytes.Clone(h)
	broken[12]++
	arch := header()
	arch[4], arch[12] = 4, arch[12]-4
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"empty", nil, "it has no Multiboot2 header"},
		{"wrong sum", program32(broken, 0x200000, 0x200000, 0x5000), "it has no Multiboot2 header"},
		{"late header", program32(append(make([]byte, searchLength), h...), 0x200000, 0x200000, 0x10000), "it has no Multiboot2 header"},
		{"MIPS", program32(arch, 0x200000, 0x200000, 0x5000), "its header is for architecture 4"},
		{"needs EFI", program32(header(tag(tagRequest, 0, 12)), 0x200000, 0x200000, 0x5000), "it needs boot information of type 12"},
		{"loads itself", program32(header(tag(2, 0, 1, 2, 3, 4)), 0x200000, 0x200000, 0x5000), "its header has the tag 2"},
		{"no ELF", append(make([]byte, 64), h...), "it is no little-endian ELF file"},
		{"entry outside", program32(h, 0x300000, 0x200000, 0x5000), "its entry at 0x300000 is in no segment"},
		{"too large", program32(h, 0x200000, 0x200000, 1<<30), "segment 0 is not where it says"},
		{"above 4 GiB", program64(h, 1<<32, 0, 1<<32, 0x5000), "segment 0 is not where it says"},
		{"bad gzip", []byte{0x1f, 0x8b, 1}, "decompress it"},
	} {
		if _, err := ReadProgram(bytes.NewReader(tt.b), int64(len(tt.b))); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %s", tt.name, err, tt.want)
		}
	}
	// Wishes that cannot be fulfilled are no obstacles.
	b := program32(header(tag(tagRequest, 1, 12), tag(99, 1)), 0x200000, 0x200000, 0x5000)
	if _, err := ParseProgram(b); err != nil {
		t.Errorf("optional tags: %v", err)
	}
}

// memory has 512 MiB, and some more above 4 GiB.
func memory() []kexec.Range {
	return []kexec.Range{
		{First: 0, End: 0x1000, Kind: kexec.Reserved}, {First: 0x1000, End: 0x9fc00, Kind: kexec.RAM}, {First: 0x9fc00, End: 0xa0000, Kind: kexec.Reserved},
		{First: 0x100000, End: 0x1ffe0000, Kind: kexec.RAM}, {First: 0x1ffe0000, End: 0x20000000, Kind: kexec.ACPI},
		{First: 0xfffc0000, End: 1 << 32, Kind: kexec.Reserved}, {First: 1 << 32, End: 0x140000000, Kind: kexec.RAM},
	}
}

func TestPlan(t *testing.T) {
	h := header()
	p, err := ParseProgram(program32(h, 0x200010, 0x200000, 0x400000))
	if err != nil {
		t.Fatal(err)
	}
	kernel, initrd := bytes.Repeat([]byte{1}, 5000), bytes.Repeat([]byte{2}, 4096)
	l, err := Plan(p, "xen no-real-mode", []Module{{kernel, "vmlinuz quiet"}, {initrd, "initrd"}}, memory())
	if err != nil {
		t.Fatal(err)
	}
	at := func(n uint64) []byte {
		for _, s := range l.Segments {
			if n >= s.At && n < s.At+s.Size {
				return s.Data[n-s.At:]
			}
		}
		t.Fatalf("nothing is at %#x", n)
		return nil
	}
	for i, s := range l.Segments {
		if s.At%kexec.Page != 0 || s.Size%kexec.Page != 0 || uint64(len(s.Data)) > s.Size || s.At+s.Size > 0x1ffe0000 {
			t.Errorf("segment %d: %#x, %#x", i, s.At, s.Size)
		}
		for _, o := range l.Segments[:i] {
			if s.At < o.At+o.Size && o.At < s.At+s.Size {
				t.Errorf("segments at %#x and %#x overlap", s.At, o.At)
			}
		}
	}
	if !bytes.HasPrefix(at(0x200000), h) {
		t.Error("the program is not in its place")
	}
	// The code ends with mov ebx, INFO; mov ecx, ENTRY; jmp ecx.
	code := at(l.Entry)
	end := bytes.Index(code, []byte{0xff, 0xe1})
	le := binary.LittleEndian
	if end < 15 || le.Uint32(code[end-14:]) != bootMagic || le.Uint32(code[end-4:]) != 0x200010 {
		t.Fatalf("trampoline = %x", code[:end+2])
	}
	info := at(uint64(le.Uint32(code[end-9:])))
	type parsed struct {
		Kind uint32
		Text string
	}
	var tags []parsed
	total := le.Uint32(info)
	var mods [][]byte
	for b := info[8:total]; len(b) > 0; {
		kind, size := le.Uint32(b), le.Uint32(b[4:])
		content := b[8:size]
		switch kind {
		case infoModule:
			first, last := le.Uint32(content), le.Uint32(content[4:])
			mods = append(mods, at(uint64(first))[:last-first])
			content = content[8:]
		case infoMemory:
			if low, high := le.Uint32(content), le.Uint32(content[4:]); low != 0x9fc00>>10 || high != (0x1ffe0000-1<<20)>>10 {
				t.Errorf("memory below and above = %d, %d KiB", low, high)
			}
			content = nil
		case infoMap:
			if le.Uint32(content) != 24 || len(content) != 8+24*len(memory()) || le.Uint64(content[8+24:]) != 0x1000 || le.Uint64(content[8+32:]) != 0x9ec00 || le.Uint32(content[8+40:]) != 1 {
				t.Errorf("memory map = %x", content)
			}
			content = nil
		}
		tags = append(tags, parsed{kind, string(content)})
		b = b[min((size+7)&^7, uint32(len(b))):]
	}
	want := []parsed{{1, "xen no-real-mode\x00"}, {2, "InetBoot\x00"}, {3, "vmlinuz quiet\x00"}, {3, "initrd\x00"}, {4, ""}, {6, ""}, {0, ""}}
	if diff := cmp.Diff(want, tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if len(mods) != 2 || !bytes.Equal(mods[0], kernel) || !bytes.Equal(mods[1], initrd) {
		t.Error("the modules are not where the information says")
	}

	if _, err := Plan(p, "xen", make([]Module, 13), memory()); err != nil {
		t.Errorf("13 modules: %v", err)
	}
	if _, err := Plan(p, "xen", make([]Module, 14), memory()); err == nil || !strings.Contains(err.Error(), "17 pieces of memory") {
		t.Errorf("14 modules = %v; want that there are 17 pieces", err)
	}
	if _, err := Plan(p, "xen", []Module{{make([]byte, 600<<20), "big"}}, memory()); !errors.Is(err, kexec.ErrMemory) {
		t.Errorf("a module that is too large: %v; want ErrMemory", err)
	}
	if _, err := Plan(p, "a\x00b", nil, memory()); err == nil {
		t.Error("a command line with a zero is taken")
	}
	high, err := ParseProgram(program32(h, 0x30000000, 0x30000000, 0x400000))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Plan(high, "xen", nil, memory()); !errors.Is(err, kexec.ErrMemory) {
		t.Errorf("a program for memory that is not there: %v; want ErrMemory", err)
	}
}

// What is no program is refused, and what is one can be laid out or is refused.
func FuzzProgram(f *testing.F) {
	f.Add(program32(header(tag(tagRequest, 0, infoMap)), 0x200010, 0x200000, 0x5000))
	f.Add(program64(header(tag(tagRelocatable, 1, 0, 1, 2, 3)), 0x200010, 0xffffffff80000000, 0x200000, 0x5000))
	m := memory()
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParseProgram(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("ParseProgram = %v; want ErrFormat", err)
			}
			return
		}
		l, err := Plan(p, "p", []Module{{b, "m"}}, m)
		if err != nil {
			return
		}
		for i, s := range l.Segments {
			if s.At%kexec.Page != 0 || s.Size%kexec.Page != 0 || uint64(len(s.Data)) > s.Size {
				t.Fatalf("segment %d: %d bytes at %#x, %#x", i, len(s.Data), s.At, s.Size)
			}
			for _, o := range l.Segments[:i] {
				if s.At < o.At+o.Size && o.At < s.At+s.Size {
					t.Fatalf("segments at %#x and %#x overlap", s.At, o.At)
				}
			}
		}
	})
}
