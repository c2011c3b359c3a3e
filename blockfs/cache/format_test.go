package cache

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/digest"
)

func testHeader() header {
	return header{kind: kindBlock, boot: true, length: 18, sum: digest.Of([]byte("InetBoot\n")), session: 3, segment: 7}
}

func TestHeader(t *testing.T) {
	h := testHeader()
	b := make([]byte, headerLen)
	h.put(b)
	back, err := parseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	if back != h {
		t.Errorf("parseHeader = %+v; want %+v", back, h)
	}
	for i := range b {
		for bit := range 8 {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << bit
			if _, err := parseHeader(bad); !errors.Is(err, errFormat) {
				t.Fatalf("a header with bit %d of byte %d flipped is taken: %v", bit, i, err)
			}
		}
	}
}

// docExample is the segment in docs/formats.md; "*" stands for lines of zeros.
const docExample = `
00000000  49 42 63 61 63 68 65 0a  01 01 01 00 12 00 00 00
00000010  51 9e f3 ea 85 5e ab 85  e3 ef f3 86 8f 80 d3 61
00000020  a4 4c f0 e5 70 31 df a0  3d 87 98 5a 79 c5 ef 21
00000030  03 00 00 00 07 00 00 00  00 00 00 00 2d c5 2f a3
00000040  28 b5 2f fd 20 09 49 00  00 49 6e 65 74 42 6f 6f
00000050  74 0a 00 00 00 00 00 00  00 00 00 00 00 00 00 00
*
00001000  51 9e f3 ea 85 5e ab 85  e3 ef f3 86 8f 80 d3 61
00001010  a4 4c f0 e5 70 31 df a0  3d 87 98 5a 79 c5 ef 21
00001020  00 00 00 00 12 00 00 00  01 01 00 00 03 00 00 00
00001030  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
*
00001fc0  49 42 73 65 61 6c 65 64  01 00 00 00 01 00 00 00
00001fd0  00 10 00 00 00 00 00 00  07 00 00 00 bd f2 fc f2
00001fe0  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00
00001ff0  00 00 00 00 00 00 00 00  00 00 00 00 1f 87 78 83
`

// The example is what is written and what is read.
func TestDocumentedSegment(t *testing.T) {
	docs, err := os.ReadFile("../../docs/formats.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(docs), docExample) {
		t.Error("docs/formats.md does not have this example")
	}
	b := make([]byte, 0x2000)
	for line := range strings.Lines(docExample) {
		if at, digits, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			off, err := strconv.ParseInt(at, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := hex.Decode(b[off:], []byte(strings.ReplaceAll(digits, " ", ""))); err != nil {
				t.Fatal(err)
			}
		}
	}
	h := testHeader()
	rec := make([]byte, recordLen(h.length))
	h.put(rec)
	copy(rec[headerLen:], b[headerLen:])
	entries := []entry{{header: h}}
	want := appendFooter(bytes.Clone(rec[:pageSize]), 7, pageSize, entries)
	if !bytes.Equal(b, want) {
		t.Errorf("the example is not what is written:\n%s", hex.Dump(want))
	}
	got, err := readContents(bytes.NewReader(b), 7, int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(contents{entries: entries, end: pageSize, sealed: true}, got, cmp.AllowUnexported(contents{}, entry{}, header{})); d != "" {
		t.Error(d)
	}
}

func testSegment(n int) ([]byte, []entry) {
	var b []byte
	var entries []entry
	for i := range n {
		payload := fixedBlock(i, 1+i*5000)
		h := header{kind: kindBlock, boot: i%2 == 0, length: len(payload), sum: digest.Of(payload), session: uint32(i), segment: 7}
		entries = append(entries, entry{header: h, page: uint32(len(b) / pageSize)})
		rec := make([]byte, recordLen(len(payload)))
		h.put(rec)
		copy(rec[headerLen:], payload)
		b = append(b, rec...)
	}
	return b, entries
}

func TestContents(t *testing.T) {
	for _, n := range []int{0, 1, 30} {
		records, want := testSegment(n)
		end := int64(len(records))
		sealed := appendFooter(bytes.Clone(records), 7, end, want)
		for _, tt := range []struct {
			name   string
			b      []byte
			sealed bool
			want   []entry
		}{
			{"sealed", sealed, true, want},
			{"not sealed", records, false, want},
			{"footer cut", sealed[:len(sealed)-1], false, want},
			{"bytes behind the footer", append(bytes.Clone(sealed), 0), false, want},
			{"table flipped", flip(sealed, int(end)+40), n == 0, want},
			{"trailer flipped", flip(sealed, len(sealed)-20), false, want},
		} {
			got, err := readContents(bytes.NewReader(tt.b), 7, int64(len(tt.b)))
			if err != nil {
				t.Errorf("%d records, %s: %v", n, tt.name, err)
			}
			if d := cmp.Diff(tt.want, got.entries, cmp.AllowUnexported(entry{}, header{})); d != "" || got.sealed != tt.sealed || got.end != end {
				t.Errorf("%d records, %s: sealed %v, end %d, want %v, %d; %s", n, tt.name, got.sealed, got.end, tt.sealed, end, d)
			}
		}
	}
	// Damage to a header costs its record alone; another segment's number all.
	records, want := testSegment(30)
	bad := flip(records, int(want[11].offset())+20)
	got, err := readContents(bytes.NewReader(bad), 7, int64(len(bad)))
	if err != nil || len(got.entries) != 29 {
		t.Errorf("with one bad header %d records are found, %v; want 29", len(got.entries), err)
	}
	if got, _ := readContents(bytes.NewReader(records), 8, int64(len(records))); len(got.entries) != 0 {
		t.Errorf("%d records of segment 7 are found in segment 8", len(got.entries))
	}
}

func flip(b []byte, i int) []byte {
	b = bytes.Clone(b)
	b[i] ^= 0x10
	return b
}

func FuzzHeader(f *testing.F) {
	h := testHeader()
	b := make([]byte, headerLen)
	h.put(b)
	f.Add(b)
	f.Add(b[:60])
	f.Add(flip(b, 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHeader(b)
		if err != nil {
			if !errors.Is(err, errFormat) {
				t.Errorf("error %v", err)
			}
			return
		}
		if h.length < 1 || h.length > maxPayload || !h.kind.valid() || h.session > maxSession {
			t.Errorf("parseHeader took %+v", h)
		}
		again := make([]byte, headerLen)
		h.put(again)
		if back, err := parseHeader(again); err != nil || back != h {
			t.Errorf("round trip of %+v = %+v, %v", h, back, err)
		}
	})
}

// Whatever is in a segment, what is found lies in it, in order.
func FuzzContents(f *testing.F) {
	for _, n := range []int{0, 1, 3} {
		records, entries := testSegment(n)
		f.Add(records, false)
		f.Add(appendFooter(records, 7, int64(len(records)), entries), false)
		f.Add(appendFooter(records, 7, int64(len(records)), entries), true)
	}
	f.Add(make([]byte, 3*pageSize), true)
	f.Fuzz(func(t *testing.T, b []byte, repair bool) {
		if repair && len(b) >= trailerLen { // so that the fuzzer gets behind the checksums
			tr := b[len(b)-trailerLen:]
			copy(tr, trailerMagic)
			tr[8], tr[9], tr[10], tr[11] = version, 0, 0, 0
			tr[24], tr[25], tr[26], tr[27] = 7, 0, 0, 0
			count, table := int(tr[12]), int(tr[17])<<8|int(tr[18])<<16
			if table+count*entryLen <= len(b)-trailerLen {
				c := crc(b[table : table+count*entryLen])
				tr[28], tr[29], tr[30], tr[31] = byte(c), byte(c>>8), byte(c>>16), byte(c>>24)
			}
			c := crc(tr[:60])
			tr[60], tr[61], tr[62], tr[63] = byte(c), byte(c>>8), byte(c>>16), byte(c>>24)
		}
		got, err := readContents(bytes.NewReader(b), 7, int64(len(b)))
		if err != nil {
			t.Fatalf("readContents = %v", err)
		}
		var end int64
		for _, e := range got.entries {
			if e.offset() < end || e.length < 1 || e.length > maxPayload || e.offset()+headerLen+int64(e.length) > int64(len(b)) || !e.kind.valid() {
				t.Fatalf("entry %+v in a segment of %d bytes, behind %d", e, len(b), end)
			}
			end = e.offset() + recordLen(e.length)
		}
		if got.end < end {
			t.Errorf("records end at %d, but %d is told", end, got.end)
		}
	})
}
