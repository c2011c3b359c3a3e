// Package multiboot starts programs of the Multiboot2 specification (GNU,
// version 2.0), such as hypervisors, from Linux: it lays a program, its modules
// and the boot information out in memory for kexec_load(2).
//
// The machine's state at the program's entry is that of section 3.3, I386: 32-bit
// protected mode without paging, EAX the magic number, EBX the address of
// the boot information.
package multiboot

import "errors"

// ErrFormat is wrapped when a file is no program that can be started so.
var ErrFormat = errors.New("it is no Multiboot2 program for this machine")

// Numbers of the specification.
const (
	headerMagic  = 0xe85250d6
	bootMagic    = 0x36d76289
	searchLength = 32768 // section 3.1: the header is within so many bytes
)

// Bounds of programs.
const (
	maxProgram  = 64 << 20  // bytes of the file, without compression
	maxLoaded   = 256 << 20 // bytes in memory
	maxSegments = 64
)
