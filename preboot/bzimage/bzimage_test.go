package bzimage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/preboot/kexec"
)

// image returns a kernel like memtest86+: two sectors of setup code, loaded at
// 1 MiB and nowhere else.
func image() []byte {
	le := binary.LittleEndian
	b := make([]byte, 3*sector)
	b[offHeader] = 2
	le.PutUint16(b[offBootFlag:], 0xaa55)
	copy(b[offJump:], "\xeb\x66HdrS")
	le.PutUint16(b[offVersion:], 0x20c)
	b[offLoadFlags] = loadedHigh
	le.PutUint32(b[offCode32:], 0x100000)
	le.PutUint32(b[offInitrdMax:], 0x17ffffff)
	le.PutUint32(b[offAlignment:], 0x1000)
	b[offXLoadFlags] = 1
	le.PutUint32(b[offCmdlineMax:], 255)
	le.PutUint64(b[offPreferred:], 0x100000)
	le.PutUint32(b[offInitSize:], 0x6acf8)
	return append(b, bytes.Repeat([]byte{0x90}, 5000)...)
}

// with returns a changed image.
func with(change func(b []byte)) []byte {
	b := image()
	change(b)
	return b
}

func TestParse(t *testing.T) {
	le := binary.LittleEndian
	got, err := Parse(image())
	if err != nil {
		t.Fatal(err)
	}
	want := &Kernel{header: image()[0x1f1:0x268], payload: image()[0x600:], size: 0x6acf8, preferred: 0x100000, align: 0x1000, initrdMax: 0x17ffffff, cmdlineMax: 255}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Kernel{})); diff != "" {
		t.Errorf("Parse (-want +got):\n%s", diff)
	}
	if k, err := Parse(with(func(b []byte) { b[offHeader] = 0 })); err != nil || len(k.payload) != len(image())-5*sector {
		t.Errorf("without a number of sectors: %v; want 4", err)
	}
	if k, err := Parse(with(func(b []byte) { le.PutUint32(b[offInitSize:], 1) })); err != nil || k.size != 5000 {
		t.Errorf("with less memory than it has bytes: %v", err)
	}
	for _, tt := range []struct {
		name, want string
		b          []byte
	}{
		{"empty", "no header", nil},
		{"short", "no header", image()[:endHeader-1]},
		{"no boot flag", "no header", with(func(b []byte) { b[offBootFlag] = 0 })},
		{"text", "no header", bytes.Repeat([]byte("text"), 1000)},
		{"old", "its boot protocol is 2.09", with(func(b []byte) { b[offVersion] = 9 })},
		{"zImage", "it is a zImage", with(func(b []byte) { b[offLoadFlags] = 0 })},
		{"nothing but setup", "setup code has 2 sectors", image()[:3*sector]},
		{"too much setup", "setup code has 65 sectors", append(with(func(b []byte) { b[offHeader] = 65 }), make([]byte, 70*sector)...)},
		{"header too short", "its header ends at 0x203", with(func(b []byte) { b[offJump+1] = 1 })},
		{"header too long", "its header ends at 0x301", with(func(b []byte) { b[offJump+1] = 0xff })},
		{"too large", "it takes 268435457 bytes of memory", with(func(b []byte) { le.PutUint32(b[offInitSize:], maxLoaded+1) })},
		{"at zero", "loaded at 0x0", with(func(b []byte) { le.PutUint64(b[offPreferred:], 0) })},
		{"within a page", "loaded at 0x100010", with(func(b []byte) { b[offPreferred] = 0x10 })},
		{"above 4 GiB", "loaded at 0x100000000", with(func(b []byte) { le.PutUint64(b[offPreferred:], 1<<32) })},
		{"no power of two", "aligned to 0x3000", with(func(b []byte) { b[offRelocates] = 1; le.PutUint32(b[offAlignment:], 0x3000) })},
		{"no alignment", "aligned to 0x0", with(func(b []byte) { b[offRelocates] = 1; le.PutUint32(b[offAlignment:], 0) })},
	} {
		if _, err := Parse(tt.b); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %s", tt.name, err, tt.want)
		}
	}
}

// machine has 256 MiB, and some more above 4 GiB.
func machine() *kexec.Machine {
	return &kexec.Machine{
		Memory: []kexec.Range{
			{First: 0x1000, End: 0x9fc00, Kind: kexec.RAM}, {First: 0x9fc00, End: 0xa0000, Kind: kexec.Reserved}, {First: 0x100000, End: 0xffe0000, Kind: kexec.RAM},
			{First: 0xffe0000, End: 0x10000000, Kind: kexec.ACPI}, {First: 1 << 32, End: 1<<32 + 1<<30, Kind: kexec.RAM},
		},
		Screen: []byte("the screen"), RSDP: 0x123456789a,
	}
}

func TestPlan(t *testing.T) {
	le := binary.LittleEndian
	initrd := bytes.Repeat([]byte{7}, 3*kexec.Page)
	for _, tt := range []struct {
		name   string
		b      []byte
		initrd []byte
		load   uint64
	}{
		{"fixed", image(), nil, 0x100000},
		{"fixed, with initrd", image(), initrd, 0x100000},
		{"relocates, but need not", with(func(b []byte) { b[offRelocates] = 1 }), initrd, 0x100000},
		{"relocates", with(func(b []byte) {
			b[offRelocates] = 1
			le.PutUint32(b[offAlignment:], 1<<21)
			le.PutUint64(b[offPreferred:], 0x20000000)
		}), initrd, 0x1000000},
	} {
		k, err := Parse(tt.b)
		if err != nil {
			t.Fatal(err)
		}
		l, err := Plan(k, "console=ttyS0", tt.initrd, machine())
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		at := func(n uint64) []byte {
			for _, s := range l.Segments {
				if n >= s.At && n < s.At+s.Size {
					return s.Data[n-s.At:]
				}
			}
			t.Fatalf("%s: nothing is at %#x", tt.name, n)
			return nil
		}
		if s := l.Segments[0]; s.At != tt.load || s.Size != 0x6b000 || !bytes.Equal(s.Data, tt.b[3*sector:]) {
			t.Errorf("%s: the kernel is at %#x, %#x bytes; want %#x", tt.name, s.At, s.Size, tt.load)
		}
		// The code ends with mov esi, ZERO PAGE; mov eax, 0; mov ebx, 0; mov ecx, ENTRY; jmp ecx.
		code := at(l.Entry)
		end := bytes.Index(code, []byte{0xff, 0xe1})
		if end < 20 || uint64(le.Uint32(code[end-4:])) != tt.load {
			t.Fatalf("%s: trampoline = %x", tt.name, code[:end+2])
		}
		zero := at(uint64(le.Uint32(code[end-19:])))
		if string(zero[:10]) != "the screen" || le.Uint64(zero[offRSDP:]) != 0x123456789a {
			t.Errorf("%s: the screen or the ACPI tables are not taken over", tt.name)
		}
		if zero[offLoader] != loaderOther || string(zero[offMagic:offMagic+4]) != "HdrS" || zero[0x268] != 0 || uint64(le.Uint32(zero[offCode32:])) != tt.load {
			t.Errorf("%s: header = %x", tt.name, zero[offHeader:maxHeader])
		}
		if line := at(uint64(le.Uint32(zero[offCmdline:]))); string(line) != "console=ttyS0\x00" {
			t.Errorf("%s: command line = %q", tt.name, line)
		}
		if n := le.Uint32(zero[offInitrdSize:]); int(n) != len(tt.initrd) || n > 0 && !bytes.Equal(at(uint64(le.Uint32(zero[offInitrd:]))), tt.initrd) || n == 0 && le.Uint32(zero[offInitrd:]) != 0 {
			t.Errorf("%s: the initrd of %d bytes is not where the zero page says", tt.name, n)
		}
		e := zero[offE820+4*sizeE820:]
		if zero[offE820Count] != 5 || le.Uint64(e) != 1<<32 || le.Uint64(e[8:]) != 1<<30 || le.Uint32(e[16:]) != 1 || le.Uint32(zero[offE820+3*sizeE820+16:]) != 3 {
			t.Errorf("%s: memory map of %d = %x", tt.name, zero[offE820Count], zero[offE820:offE820+6*sizeE820])
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	le := binary.LittleEndian
	for _, tt := range []struct {
		name, want string
		memory     bool // the error is ErrMemory
		b          []byte
		line       string
		initrd     []byte
	}{
		{"command line", "256 bytes, this kernel takes 255", false, image(), strings.Repeat("a", 256), nil},
		{"longer than a page", "4096 bytes, this kernel takes 4095", false, with(func(b []byte) { le.PutUint32(b[offCmdlineMax:], 1<<31|0xffff) }), strings.Repeat("a", 4096), nil},
		{"zero in the command line", "has a zero in it", false, image(), "a\x00b", nil},
		{"initrd above its limit", "the initrd", true, with(func(b []byte) { le.PutUint32(b[offInitrdMax:], 0x1000fff) }), "", make([]byte, 2*kexec.Page)},
		{"initrd too large", "the initrd", true, image(), "", make([]byte, 256<<20)},
		{"fixed where nothing is", "no RAM of this machine", true, with(func(b []byte) { le.PutUint64(b[offPreferred:], 0x20000000) }), "", nil},
	} {
		k, err := Parse(tt.b)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if _, err := Plan(k, tt.line, tt.initrd, machine()); err == nil || !strings.Contains(err.Error(), tt.want) || errors.Is(err, kexec.ErrMemory) != tt.memory {
			t.Errorf("%s: Plan = %v; want %s", tt.name, err, tt.want)
		}
	}
}

// A map of more ranges than the zero page has room for is cut.
func TestLongMap(t *testing.T) {
	k, err := Parse(image())
	if err != nil {
		t.Fatal(err)
	}
	m := machine()
	for i := range uint64(200) {
		m.Memory = append(m.Memory, kexec.Range{First: 1<<33 + i<<20, End: 1<<33 + i<<20 + kexec.Page, Kind: kexec.Reserved})
	}
	b := k.zeroPage(m)
	end := offE820 + maxE820*sizeE820
	if b[offE820Count] != maxE820 || b[end-4] != byte(kexec.Reserved) || !bytes.Equal(b[end:], make([]byte, kexec.Page-end)) {
		t.Errorf("%d ranges, then %x", b[offE820Count], b[end:])
	}
}

// What is no kernel is refused, and what is one is laid out or refused.
func FuzzKernel(f *testing.F) {
	f.Add(image(), "quiet")
	f.Add(with(func(b []byte) { b[offRelocates] = 1; b[offPreferred+3] = 0x20 }), "")
	f.Fuzz(func(t *testing.T, b []byte, line string) {
		k, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("Parse = %v; want ErrFormat", err)
			}
			return
		}
		l, err := Plan(k, line, b, machine())
		if err != nil {
			return
		}
		for i, s := range l.Segments {
			if s.At%kexec.Page != 0 || s.Size%kexec.Page != 0 || uint64(len(s.Data)) > s.Size || s.At+s.Size > 0xffe0000 {
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
