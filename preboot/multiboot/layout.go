package multiboot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/inetboot/inetboot/preboot/kexec"
)

// Module is a file that a program finds in memory.
type Module struct {
	Data    []byte
	Cmdline string // its first word is a name
}

// Plan lays out a program with its command line, whose first word is a name,
// and its modules in the RAM of a machine.
//
// Where firmware is UEFI, its services are not handed over: firmware takes
// virtual addresses for them once, and Linux has given it those. The program
// finds a machine like one with a BIOS, but for the screen.
func Plan(p *Program, cmdline string, modules []Module, m *kexec.Machine) (*kexec.Layout, error) {
	l := &kexec.Layout{Memory: m.Memory}
	for _, s := range p.parts {
		if err := l.Put(s.data, s.at, s.size); err != nil {
			return nil, err
		}
	}
	var places []place
	for _, m := range modules {
		at, err := l.Place(m.Data, uint64(len(m.Data)), kexec.Page, highest)
		if err != nil {
			return nil, err
		}
		places = append(places, place{uint32(at), uint32(at) + uint32(len(m.Data)), m.Cmdline})
	}
	memory := m.Memory
	if m.RSDP != 0 {
		var err error
		if memory, err = placeTables(l, m.RSDP); err != nil {
			return nil, err
		}
	}
	b, err := information(cmdline, places, memory, m.Screen)
	if err != nil {
		return nil, err
	}
	info, err := l.Place(b, uint64(len(b)), kexec.Page, highest)
	if err != nil {
		return nil, err
	}
	return l, l.Enter(p.entry, kexec.Registers{EAX: bootMagic, EBX: uint32(info)})
}

// highest is the end of the memory that a program reaches in 32-bit mode.
const highest = 1 << 32

// place of a module.
type place struct {
	first, end uint32
	cmdline    string
}

// Types of boot information (section 3.6) that are given.
const (
	infoEnd     = 0
	infoCmdline = 1
	infoLoader  = 2
	infoModule  = 3
	infoMemory  = 4
	infoMap     = 6
	infoVBE     = 7
	infoScreen  = 8
)

// informs tells whether a type of boot information is given.
func informs(kind uint32) bool {
	switch kind {
	case infoCmdline, infoLoader, infoModule, infoMemory, infoMap:
		return true
	}
	return false
}

// loaderName is no name of GRUB's: so programs skip the first word of command
// lines, which is a file's name.
const loaderName = "InetBoot"

// information returns the boot information (section 3.6).
func information(cmdline string, modules []place, memory []kexec.Range, screen []byte) ([]byte, error) {
	le := binary.LittleEndian
	var b bytes.Buffer
	b.Write(make([]byte, 8))
	tag := func(kind uint32, content []byte) {
		b.Write(le.AppendUint32(le.AppendUint32(nil, kind), uint32(8+len(content))))
		b.Write(content)
		b.Write(make([]byte, -b.Len()&7))
	}
	text := func(prefix []byte, s string) ([]byte, error) {
		if strings.ContainsRune(s, 0) {
			return nil, fmt.Errorf("the command line %q has a zero in it", s)
		}
		return append(append(prefix, s...), 0), nil
	}
	line, err := text(nil, cmdline)
	if err != nil {
		return nil, err
	}
	tag(infoCmdline, line)
	tag(infoLoader, []byte(loaderName+"\x00"))
	for _, m := range modules {
		c, err := text(le.AppendUint32(le.AppendUint32(nil, m.first), m.end), m.cmdline)
		if err != nil {
			return nil, err
		}
		tag(infoModule, c)
	}
	low, high := uint64(0), uint64(0) // KiB below 640 KiB, and from 1 MiB up to the first hole
	entries := le.AppendUint32(le.AppendUint32(nil, 24), 0)
	for _, r := range memory {
		if r.Kind == kexec.RAM && r.First < 640<<10 {
			low = max(low, min(r.End, 640<<10)>>10)
		}
		if r.Kind == kexec.RAM && r.First <= 1<<20 && r.End > 1<<20 {
			high = (min(r.End, highest) - 1<<20) >> 10
		}
		entries = le.AppendUint64(entries, r.First)
		entries = le.AppendUint64(entries, r.End-r.First)
		entries = le.AppendUint32(le.AppendUint32(entries, uint32(r.Kind)), 0)
	}
	tag(infoMemory, le.AppendUint32(le.AppendUint32(nil, uint32(low)), uint32(high)))
	tag(infoMap, entries)
	if s := parseScreen(screen); s != nil {
		tag(infoVBE, s.vbe())
		tag(infoScreen, s.framebuffer())
	}
	tag(infoEnd, nil)
	le.PutUint32(b.Bytes(), uint32(b.Len()))
	return b.Bytes(), nil
}
