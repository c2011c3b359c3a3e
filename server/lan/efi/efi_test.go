package efi

import (
	"encoding/binary"
	"testing"
)

func program(at int, machine uint16) []byte {
	b := make([]byte, at+6)
	copy(b, "MZ")
	binary.LittleEndian.PutUint32(b[0x3c:], uint32(at))
	copy(b[at:], "PE\x00\x00")
	binary.LittleEndian.PutUint16(b[at+4:], machine)
	return b
}

func TestMachine(t *testing.T) {
	p := program(0x80, MachineARM64)
	for name, c := range map[string]struct {
		head []byte
		want uint16
		ok   bool
	}{
		"arm64":             {p, MachineARM64, true},
		"x86-64":            {program(0x40, MachineX64), MachineX64, true},
		"nothing":           {nil, 0, false},
		"a script":          {[]byte("#!ipxe\n"), 0, false},
		"cut off":           {p[:len(p)-1], 0, false},
		"header far behind": {p[:0x80], 0, false},
	} {
		if got, ok := Machine(c.head); got != c.want || ok != c.ok {
			t.Errorf("%s: %#x, %v; want %#x, %v", name, got, ok, c.want, c.ok)
		}
	}
}

func FuzzMachine(f *testing.F) {
	f.Add(program(0x80, MachineARM64))
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, ok := Machine(b); !ok && m != 0 {
			t.Errorf("%#x of what is no program", m)
		}
	})
}
