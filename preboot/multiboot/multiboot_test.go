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

func machine() *kexec.Machine { return &kexec.Machine{Memory: memory()} }

func TestPlan(t *testing.T) {
	h := header()
	p, err := ParseProgram(program32(h, 0x200010, 0x200000, 0x400000))
	if err != nil {
		t.Fatal(err)
	}
	kernel, initrd := bytes.Repeat([]byte{1}, 5000), bytes.Repeat([]byte{2}, 4096)
	l, err := Plan(p, "xen no-real-mode", []Module{{kernel, "vmlinuz quiet"}, {initrd, "initrd"}}, machine())
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

	if _, err := Plan(p, "xen", make([]Module, 13), machine()); err != nil {
		t.Errorf("13 modules: %v", err)
	}
	if _, err := Plan(p, "xen", make([]Module, 14), machine()); err == nil || !strings.Contains(err.Error(), "17 pieces of memory") {
		t.Errorf("14 modules = %v; want that there are 17 pieces", err)
	}
	if _, err := Plan(p, "xen", []Module{{make([]byte, 600<<20), "big"}}, machine()); !errors.Is(err, kexec.ErrMemory) {
		t.Errorf("a module that is too large: %v; want ErrMemory", err)
	}
	if _, err := Plan(p, "a\x00b", nil, machine()); err == nil {
		t.Error("a command line with a zero is taken")
	}
	high, err := ParseProgram(program32(h, 0x30000000, 0x30000000, 0x400000))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Plan(high, "xen", nil, machine()); !errors.Is(err, kexec.ErrMemory) {
		t.Errorf("a program for memory that is not there: %v; want ErrMemory", err)
	}
}

// On a machine with UEFI the ACPI tables' root is copied to where a program
// looks for it on one with a BIOS, and the screen is told of.
func TestUEFI(t *testing.T) {
	p, err := ParseProgram(program32(header(), 0x200010, 0x200000, 0x5000))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	info := make([]byte, 0x40)
	info[0x0f] = screenEFI
	for at, n := range map[int]uint16{0x12: 1280, 0x14: 800, 0x16: 32, 0x24: 5120, 0x1a: 0xc000} { // the base's upper half
		le.PutUint16(info[at:], n)
	}
	copy(info[0x26:], []byte{8, 16, 8, 8, 8, 0, 8, 24})
	const rsdp = 0x1f77d014
	// As firmware leaves it: a reserved page in low memory.
	low := []kexec.Range{{First: 0, End: 0x1000, Kind: kexec.Reserved}, {First: 0x1000, End: 0x87000, Kind: kexec.RAM}, {First: 0x87000, End: 0x88000, Kind: kexec.NVS}, {First: 0x88000, End: 0x93800, Kind: kexec.RAM}}
	m := &kexec.Machine{Memory: append(low, memory()[3:]...), Screen: info, RSDP: rsdp}
	l, err := Plan(p, "xen", nil, m)
	if err != nil {
		t.Fatal(err)
	}
	const page = 0x86000 // what is above the reserved page has no room for the program
	at := func(n uint64) []byte {
		for _, s := range l.Segments {
			if n >= s.At && n < s.At+s.Size {
				return append(bytes.Clone(s.Data), make([]byte, s.Size-uint64(len(s.Data)))...)[n-s.At:]
			}
		}
		t.Fatalf("nothing is at %#x", n)
		return nil
	}
	if len(l.Copies) != 3 || l.Copies[0] != (kexec.Copy{From: rsdp, To: page + 0x10, Size: 36}) {
		t.Fatalf("copies = %+v; want one of the root first", l.Copies)
	}
	words := map[uint32]uint16{}
	for _, c := range l.Copies[1:] {
		words[c.To] = le.Uint16(at(uint64(c.From)))
	}
	if diff := cmp.Diff(map[uint32]uint16{0x40e: page >> 4, 0x413: page >> 10}, words); diff != "" {
		t.Errorf("words of the BIOS (-want +got):\n%s", diff)
	}
	if at(page)[0] != 4 {
		t.Errorf("the extended data area has %d KiB; want 4", at(page)[0])
	}
	code := at(l.Entry)
	b := at(uint64(le.Uint32(code[bytes.Index(code, []byte{0xff, 0xe1})-9:])))
	tags := map[uint32][]byte{}
	for b = b[8:le.Uint32(b)]; len(b) > 0; {
		size := le.Uint32(b[4:])
		tags[le.Uint32(b)] = b[8:size]
		b = b[min((size+7)&^7, uint32(len(b))):]
	}
	var ranges []kexec.Range
	for e := tags[infoMap][8:]; len(e) > 0; e = e[24:] {
		ranges = append(ranges, kexec.Range{First: le.Uint64(e), End: le.Uint64(e) + le.Uint64(e[8:]), Kind: kexec.Kind(le.Uint32(e[16:]))})
	}
	want := append([]kexec.Range{{First: 0, End: 0x1000, Kind: kexec.Reserved}, {First: 0x1000, End: page, Kind: kexec.RAM}, {First: page, End: page + 0x1000, Kind: kexec.Reserved}}, m.Memory[2:]...)
	if diff := cmp.Diff(want, ranges); diff != "" {
		t.Errorf("memory map (-want +got):\n%s", diff)
	}
	vbe, fb := tags[infoVBE], tags[infoScreen]
	if len(vbe) != 8+512+256 || string(vbe[8:12]) != "VESA" || le.Uint16(vbe[8+18:]) != 63 {
		t.Fatalf("VBE's information = %x", vbe)
	}
	if m := vbe[520:]; le.Uint16(m)&0x9b != 0x9b || le.Uint16(m[16:]) != 5120 || le.Uint16(m[18:]) != 1280 || le.Uint16(m[20:]) != 800 || m[25] != 32 || !bytes.Equal(m[31:39], info[0x26:0x2e]) || le.Uint32(m[40:]) != 0xc0000000 {
		t.Errorf("VBE's mode = %x", m)
	}
	if want := append(le.AppendUint64(nil, 0xc0000000), 0, 0x14, 0, 0, 0, 5, 0, 0, 0x20, 3, 0, 0, 32, 1, 0, 0, 16, 8, 8, 8, 0, 8); !bytes.Equal(fb, want) {
		t.Errorf("framebuffer = %x; want %x", fb, want)
	}

	m.RSDP = 1<<32 + 4
	if _, err := Plan(p, "xen", nil, m); err == nil || !strings.Contains(err.Error(), "above 4 GiB") {
		t.Errorf("a root above 4 GiB: %v", err)
	}
	m.RSDP, m.Memory = rsdp, memory()[3:]
	if _, err := Plan(p, "xen", nil, m); !errors.Is(err, kexec.ErrMemory) {
		t.Errorf("without low memory: %v; want ErrMemory", err)
	}
}

// Screens that a program cannot use as they are are not told of.
func TestScreens(t *testing.T) {
	good := make([]byte, 0x40)
	good[0x0f], good[0x12], good[0x14], good[0x16], good[0x18], good[0x24] = screenVESA, 1, 1, 16, 1, 2
	if parseScreen(good) == nil {
		t.Fatal("a screen of one pixel is refused")
	}
	for name, change := range map[string]func(b []byte){
		"text": func(b []byte) { b[0x0f] = 1 }, "above 4 GiB": func(b []byte) { b[0x3a] = 1 }, "no width": func(b []byte) { b[0x12] = 0 },
		"no height": func(b []byte) { b[0x14] = 0 }, "palette": func(b []byte) { b[0x16] = 8 }, "nowhere": func(b []byte) { b[0x18] = 0 },
	} {
		b := bytes.Clone(good)
		change(b)
		if s := parseScreen(b); s != nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	if parseScreen(nil) != nil {
		t.Error("a screen out of nothing")
	}
}

// What is no program is refused, and what is one can be laid out or is refused.
func FuzzProgram(f *testing.F) {
	f.Add(program32(header(tag(tagRequest, 0, infoMap)), 0x200010, 0x200000, 0x5000))
	f.Add(program64(header(tag(tagRelocatable, 1, 0, 1, 2, 3)), 0x200010, 0xffffffff80000000, 0x200000, 0x5000))
	m := machine()
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
