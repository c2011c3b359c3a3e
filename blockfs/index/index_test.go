package index

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/internal/digest"
)

func build(t testing.TB, b *Builder) []byte {
	t.Helper()
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// example is the index of docs/formats.md: "InetBoot\n", 1 MiB of zero bytes,
// "InetBoot\n" again.
func example(t testing.TB) []byte {
	b := Builder{Cutting: CutPages}
	text := []byte("InetBoot\n")
	b.Add(len(text), 18, digest.Of(text))
	b.AddZero(1 << 19)
	b.AddZero(1 << 19)
	b.Add(len(text), 18, digest.Of(text))
	return build(t, &b)
}

func TestExampleInDocs(t *testing.T) {
	doc, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	dump := strings.TrimRight(hex.Dump(example(t)), "\n")
	// The documentation shows the dump without its column of characters.
	var lines []string
	for line := range strings.Lines(dump) {
		lines = append(lines, strings.TrimRight(line[:58], " "))
	}
	if want := "```\n" + strings.Join(lines, "\n") + "\n```"; !strings.Contains(string(doc), want) {
		t.Errorf("docs/formats.md does not hold the worked example:\n%s", want)
	}
	e, err := block.NewEncoder(3, 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(e.Encode(nil, []byte("InetBoot\n"))); n != 18 {
		t.Errorf("the stored block of the example has %d bytes; the documentation says 18", n)
	}
}

func TestParseExample(t *testing.T) {
	x, err := Parse(example(t))
	if err != nil {
		t.Fatal(err)
	}
	sum := digest.Of([]byte("InetBoot\n"))
	want := []Entry{{9, 18, sum}, {1 << 20, 0, digest.SHA256{}}, {9, 18, sum}}
	var got []Entry
	for i := range x.Len() {
		got = append(got, x.Entry(i))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if x.Size() != 1<<20+18 || x.StoredSize() != 36 || x.Blocks() != 2 || x.Largest() != 9 || x.Cutting() != CutPages {
		t.Errorf("Size, StoredSize, Blocks, Largest, Cutting = %d, %d, %d, %d, %v", x.Size(), x.StoredSize(), x.Blocks(), x.Largest(), x.Cutting())
	}
}

func TestFindAndOffset(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 63, 64, 65, 128, 1000} {
		var b Builder
		var offsets []int64
		at := int64(0)
		for i := range n {
			offsets = append(offsets, at)
			if rnd.IntN(5) == 0 && (i == 0 || b.zeroTail == 0) {
				k := 1 + rnd.Int64N(MaxZero)
				b.AddZero(k)
				at += k
			} else {
				k := 1 + rnd.IntN(block.MaxPlain)
				b.Add(k, 1+rnd.IntN(k), digest.Of([]byte{byte(i), byte(i >> 8)}))
				at += int64(k)
			}
		}
		x, err := Parse(build(t, &b))
		if err != nil {
			t.Fatal(err)
		}
		if x.Len() != n || x.Size() != at || x.Offset(n) != at {
			t.Fatalf("Len, Size, Offset(Len) = %d, %d, %d; want %d, %d, %[5]d", x.Len(), x.Size(), x.Offset(n), n, at)
		}
		for i, off := range offsets {
			if got := x.Offset(i); got != off {
				t.Errorf("Offset(%d) = %d; want %d", i, got, off)
			}
			last := off + int64(x.Entry(i).PlainLen) - 1
			for _, o := range []int64{off, (off + last) / 2, last} {
				if got := x.Find(o); got != i {
					t.Errorf("Find(%d) = %d; want %d", o, got, i)
				}
			}
		}
	}
}

func TestEmptyFile(t *testing.T) {
	x, err := Parse(build(t, &Builder{}))
	if err != nil || x.Len() != 0 || x.Size() != 0 || x.Offset(0) != 0 {
		t.Errorf("Parse of an empty file's index = %+v, %v", x, err)
	}
}

func TestLongZeroRunsAreSplit(t *testing.T) {
	var b Builder
	b.AddZero(MaxZero - 1)
	b.AddZero(2)
	b.AddZero(3 * MaxZero)
	x, err := Parse(build(t, &b))
	if err != nil {
		t.Fatal(err)
	}
	if x.Len() != 5 || x.Size() != 4*MaxZero+1 || x.Entry(4).PlainLen != 1 {
		t.Errorf("Len, Size, last = %d, %d, %d; want 5, %d, 1", x.Len(), x.Size(), x.Entry(x.Len()-1).PlainLen, int64(4*MaxZero+1))
	}
}

func TestParseRefuses(t *testing.T) {
	good := example(t)
	le := binary.LittleEndian
	tests := []struct {
		name   string
		change func(b []byte) []byte
		say    string
	}{
		{"empty", func(b []byte) []byte { return nil }, "header"},
		{"short header", func(b []byte) []byte { return b[:63] }, "header"},
		{"magic", func(b []byte) []byte { b[0] ^= 1; return b }, "magic"},
		{"version", func(b []byte) []byte { b[8] = 2; return b }, "version 2"},
		{"header length", func(b []byte) []byte { b[10] = 72; return b }, "header of 72"},
		{"incompatible feature", func(b []byte) []byte { b[15] = 0x80; return b }, "features 0x80000000"},
		{"reserved", func(b []byte) []byte { b[63] = 1; return b }, "not zero"},
		{"one entry less", func(b []byte) []byte { return b[:len(b)-EntryLength] }, "bytes with 3 entries"},
		{"cut", func(b []byte) []byte { return b[:len(b)-1] }, "bytes with 3 entries"},
		{"data behind", func(b []byte) []byte { return append(b, 0) }, "bytes with 3 entries"},
		{"huge number of entries", func(b []byte) []byte { le.PutUint32(b[20:], 1<<32-1); return b }, "at most"},
		{"huge file", func(b []byte) []byte { le.PutUint64(b[24:], 1<<63); return b }, "at most"},
		{"file length", func(b []byte) []byte { b[24]++; return b }, "add up"},
		{"largest over the limit", func(b []byte) []byte { le.PutUint32(b[32:], 1<<20+1); return b }, "at most"},
		{"block over largest", func(b []byte) []byte { le.PutUint32(b[32:], 8); return b }, "entry 0"},
		{"empty block", func(b []byte) []byte { le.PutUint32(b[64:], 0); return b }, "entry 0"},
		{"stored too long", func(b []byte) []byte { le.PutUint32(b[68:], 9+512+1); return b }, "entry 0"},
		{"block without hash", func(b []byte) []byte { clear(b[72:104]); return b }, "entry 0"},
		{"empty zero block", func(b []byte) []byte { le.PutUint32(b[104:], 0); return b }, "entry 1"},
		{"zero block too long", func(b []byte) []byte { le.PutUint32(b[104:], MaxZero+1); return b }, "entry 1"},
		{"zero block with hash", func(b []byte) []byte { b[143] = 1; return b }, "entry 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x, err := Parse(tt.change(bytes.Clone(good)))
			if !errors.Is(err, ErrInvalid) || x != nil || !strings.Contains(err.Error(), tt.say) {
				t.Errorf("Parse = %v, %v; want an error that says %q", x, err, tt.say)
			}
		})
	}
	for i, b := range []byte{1, 0xff} {
		data := bytes.Clone(good)
		data[16+i] = b
		if _, err := Parse(data); err != nil {
			t.Errorf("Parse with an unknown compatible feature = %v; want nil", err)
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	sum := digest.Of(nil)
	for name, add := range map[string]func(b *Builder){
		"no bytes":        func(b *Builder) { b.Add(0, 1, sum) },
		"too many bytes":  func(b *Builder) { b.Add(block.MaxPlain+1, 1, sum) },
		"not stored":      func(b *Builder) { b.Add(1, 0, sum) },
		"stored too long": func(b *Builder) { b.Add(1, 1000, sum) },
		"no hash":         func(b *Builder) { b.Add(1, 1, digest.SHA256{}) },
		"negative":        func(b *Builder) { b.AddZero(-1) },
		"file too long":   func(b *Builder) { b.AddZero(MaxSize); b.AddZero(1) },
	} {
		var b Builder
		add(&b)
		b.Add(1, 1, sum)
		if data, err := b.Bytes(); !errors.Is(err, ErrInvalid) || data != nil {
			t.Errorf("%s: Bytes = %d bytes, %v; want ErrInvalid", name, len(data), err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example(f))
	f.Add(build(f, &Builder{}))
	var b Builder
	for i := range 70 {
		b.Add(i+1, i+1, digest.Of([]byte{byte(i)}))
	}
	b.AddZero(MaxZero + 1)
	f.Add(build(f, &b))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := Parse(data)
		if err != nil {
			if x != nil || !errors.Is(err, ErrInvalid) {
				t.Fatalf("Parse = %v, %v", x, err)
			}
			return
		}
		at := int64(0)
		for i := range x.Len() {
			e := x.Entry(i)
			if x.Offset(i) != at || x.Find(at) != i || x.Find(at+int64(e.PlainLen)-1) != i || e.PlainLen < 1 {
				t.Fatalf("entry %d at %d is not found", i, at)
			}
			at += int64(e.PlainLen)
		}
		if at != x.Size() {
			t.Fatalf("Size() = %d; the entries have %d", x.Size(), at)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	var bld Builder
	sum := digest.Of(nil)
	for range 1_000_000 {
		bld.Add(256<<10, 100<<10, sum)
	}
	x, err := Parse(build(b, &bld))
	if err != nil {
		b.Fatal(err)
	}
	off := int64(0)
	for b.Loop() {
		off = (off + 0x9E3779B97F4A7C15&(1<<62-1)) % x.Size()
		x.Find(off)
	}
}
