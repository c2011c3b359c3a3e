package kexec

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const iomem = `00000000-00000fff : Reserved
00001000-0009fbff : System RAM
  00001000-00001fff : something
0009fc00-0009ffff : Reserved
000a0000-000bffff : PCI Bus 0000:00
00100000-1ffdffff : System RAM
  01000000-01ffffff : Kernel code
1ffe0000-1fffffff : ACPI Tables
fffc0000-ffffffff : Reserved
100000000-13fffffff : System RAM
`

func memory(t *testing.T) []Range {
	t.Helper()
	m, err := ReadMap(strings.NewReader(iomem))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestReadMap(t *testing.T) {
	want := []Range{
		{0, 0x1000, Reserved}, {0x1000, 0x9fc00, RAM}, {0x9fc00, 0xa0000, Reserved}, {0x100000, 0x1ffe0000, RAM},
		{0x1ffe0000, 0x20000000, ACPI}, {0xfffc0000, 1 << 32, Reserved}, {1 << 32, 0x140000000, RAM},
	}
	if diff := cmp.Diff(want, memory(t)); diff != "" {
		t.Errorf("ReadMap (-want +got):\n%s", diff)
	}
	for _, s := range []string{"", "00000000-00000000 : System RAM\n", "x-y : System RAM\n", strings.Repeat("00100000-1ffdffff : System RAM\n", 513)} {
		if m, err := ReadMap(strings.NewReader(s)); err == nil {
			t.Errorf("ReadMap(%.40q) = %v; want an error", s, m)
		}
	}
}

// FuzzMap reads maps of memory.
func FuzzMap(f *testing.F) {
	f.Add(iomem)
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ReadMap(strings.NewReader(s))
		for _, r := range m {
			if err == nil && r.First >= r.End {
				t.Fatalf("ReadMap(%q) has %v", s, r)
			}
		}
	})
}
