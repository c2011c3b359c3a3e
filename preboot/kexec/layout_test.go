package kexec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLayout(t *testing.T) {
	l := &Layout{Memory: memory(t)}
	if err := l.Put([]byte{1, 2}, 0x200010, 0x1000); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		at, size uint64
		want     error // nil: some other error
	}{{0x201fff, 1, nil}, {0x1ffdf000, 0x2000, ErrMemory}, {1 << 61, 0x1000, ErrMemory}} {
		if err := l.Put(nil, tt.at, tt.size); err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("Put at %#x = %v", tt.at, err)
		}
	}
	for _, tt := range []struct {
		size, align, limit, want uint64 // want 0: no room
	}{
		{1, Page, 1 << 32, 0x1000000}, {0, Page, 1 << 32, 0x1001000}, {Page + 1, 1 << 20, 1 << 32, 0x1100000}, {Page, 0, 1 << 32, 0x1002000},
		{Page, Page, 0x1003000, 0}, {0x1000000, Page, 0x2200000, 0x1102000}, {0x1e000000, Page, 1 << 33, 0},
	} {
		got, err := l.Place([]byte{3}, tt.size, tt.align, tt.limit)
		if got != tt.want || (err == nil) != (tt.want > 0) || err != nil && !errors.Is(err, ErrMemory) {
			t.Errorf("Place(%#x, %#x, %#x) = %#x, %v; want %#x", tt.size, tt.align, tt.limit, got, err, tt.want)
		}
	}
	for at, want := range map[uint64]bool{0x200000: false, 0x202000: true, 0x1001000: false, 0x1ffdf000: true, 0x1ffe0000: false, 0xa0000: false} {
		if got := l.Free(at, 1); got != want {
			t.Errorf("Free(%#x) = %v", at, got)
		}
	}
	if err := l.Enter(0x200010, Registers{}); err != nil {
		t.Fatal(err)
	}
	want := []Segment{
		{append(make([]byte, 16), 1, 2), 0x200000, 0x2000}, {[]byte{3}, 0x1000000, Page}, {[]byte{3}, 0x1001000, Page}, {[]byte{3}, 0x1100000, 2 * Page}, {[]byte{3}, 0x1002000, Page},
		{[]byte{3}, 0x1102000, 0x1000000},
	}
	if diff := cmp.Diff(want, l.Segments[:6]); diff != "" {
		t.Errorf("segments (-want +got):\n%s", diff)
	}
	for range 9 {
		if _, err := l.Place(nil, 1, Page, 1<<32); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Enter(0x200010, Registers{}); err == nil || !strings.Contains(err.Error(), "17 pieces of memory") {
		t.Errorf("Enter with 17 pieces = %v; want that there are too many", err)
	}
}

// The code is that of the comments beside it: what it loads is where the
// descriptors and the registers' values are.
func TestTrampoline(t *testing.T) {
	const at = 0x1234000
	le := binary.LittleEndian
	b := trampoline(at, 0x100000, Registers{EAX: 1, EBX: 2, ESI: 3}, []Copy{{5, 6, 7}, {8, 9, 10}})
	if len(b) > Page {
		t.Fatalf("%d bytes; want a page at most", len(b))
	}
	copies := []byte{0xbe, 5, 0, 0, 0, 0xbf, 6, 0, 0, 0, 0xb9, 7, 0, 0, 0, 0xf3, 0xa4, 0xbe, 8, 0, 0, 0, 0xbf, 9, 0, 0, 0, 0xb9, 10, 0, 0, 0, 0xf3, 0xa4}
	code := append(copies, 0x31, 0xed, 0x31, 0xff, 0xbe, 3, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0xbb, 2, 0, 0, 0, 0xb9, 0, 0, 0x10, 0, 0xff, 0xe1)
	if !bytes.Contains(b, code) {
		t.Errorf("the code %x does not end with %x", b, code)
	}
	place := bytes.Index(b, []byte{0xbf}) // mov edi
	table := le.Uint32(b[place+1:]) - at
	if full := trampoline(at, 0x100000, Registers{}, make([]Copy, maxCopies)); len(full) != len(b) {
		t.Errorf("%d bytes with %d copies; want as many as with two, %d", len(full), maxCopies, len(b))
	}
	limit, gdt := le.Uint16(b[table:]), le.Uint64(b[table+2:])-at
	if limit != selectorData+7 {
		t.Errorf("the table's limit is %d; want %d", limit, selectorData+7)
	}
	if c, d := le.Uint64(b[gdt+selectorCode:]), le.Uint64(b[gdt+selectorData:]); c != 0xcf9a000000ffff || d != 0xcf92000000ffff {
		t.Errorf("descriptors %#x, %#x; want code and data of 4 GiB", c, d)
	}
}
