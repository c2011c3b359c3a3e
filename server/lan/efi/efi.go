// Package efi reads what programs of UEFI say of themselves.
package efi

import "encoding/binary"

// Types of machines in programs of UEFI (Microsoft's PE format, "Machine types").
const (
	MachineX64   = 0x8664
	MachineARM64 = 0xaa64
)

// Machine reads the type of machine that a program of UEFI is for out of its
// first bytes. ok is false for what is no such program, or has its header
// further behind.
func Machine(head []byte) (machine uint16, ok bool) {
	const offset = 0x3c // of the header's place
	if len(head) < offset+4 || head[0] != 'M' || head[1] != 'Z' {
		return 0, false
	}
	at := uint64(binary.LittleEndian.Uint32(head[offset:]))
	if at+6 > uint64(len(head)) || string(head[at:at+4]) != "PE\x00\x00" {
		return 0, false
	}
	return binary.LittleEndian.Uint16(head[at+4:]), true
}
