package bzimage

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/inetboot/inetboot/preboot/kexec"
)

// zeroPages is the room for the zero page, of one page, and the command line
// behind it.
const zeroPages = 2 * kexec.Page

// Plan lays out a kernel with its initrd, which may be empty, in the RAM of a
// machine.
//
// The services of UEFI are not handed over: firmware takes virtual addresses for
// them once, and Linux has given it those. The kernel finds a machine without.
func Plan(k *Kernel, cmdline string, initrd []byte, m *kexec.Machine) (*kexec.Layout, error) {
	if limit := min(k.cmdlineMax, zeroPages-kexec.Page-1); len(cmdline) > limit {
		return nil, fmt.Errorf("the command line has %d bytes, this kernel takes %d: shorten the options of the image, the menu's entry, the settings or the medium", len(cmdline), limit)
	}
	if strings.ContainsRune(cmdline, 0) {
		return nil, fmt.Errorf("the command line %q has a zero in it", cmdline)
	}
	l := &kexec.Layout{Memory: m.Memory}
	load := k.preferred
	var err error
	if k.relocates && !l.Free(load, k.size) {
		load, err = l.Place(k.payload, k.size, k.align, 1<<32)
	} else {
		err = l.Put(k.payload, load, k.size)
	}
	if err != nil {
		return nil, err
	}
	var at uint64
	if len(initrd) > 0 {
		if at, err = l.Place(initrd, uint64(len(initrd)), kexec.Page, k.initrdMax+1); err != nil {
			return nil, fmt.Errorf("the initrd: %w", err)
		}
	}
	zero, err := l.Place(nil, zeroPages, kexec.Page, 1<<32)
	if err != nil {
		return nil, err
	}
	b := k.zeroPage(m)
	le := binary.LittleEndian
	le.PutUint32(b[offCode32:], uint32(load))
	le.PutUint32(b[offInitrd:], uint32(at))
	le.PutUint32(b[offInitrdSize:], uint32(len(initrd)))
	le.PutUint32(b[offCmdline:], uint32(zero)+kexec.Page)
	l.Segments[len(l.Segments)-1].Data = append(append(b, cmdline...), 0)
	return l, l.Enter(uint32(load), kexec.Registers{ESI: uint32(zero)})
}

// zeroPage returns the zero page without addresses.
func (k *Kernel) zeroPage(m *kexec.Machine) []byte {
	le := binary.LittleEndian
	b := make([]byte, kexec.Page, zeroPages)
	copy(b[offScreen:screenEnd], m.Screen)
	le.PutUint64(b[offRSDP:], m.RSDP)
	copy(b[offHeader:], k.header)
	b[offLoader] = loaderOther
	// What does not fit is not used; it is the highest memory.
	memory := m.Memory[:min(len(m.Memory), maxE820)]
	b[offE820Count] = byte(len(memory))
	for i, r := range memory {
		e := b[offE820+i*sizeE820:]
		le.PutUint64(e, r.First)
		le.PutUint64(e[8:], r.End-r.First)
		le.PutUint32(e[16:], uint32(r.Kind))
	}
	return b
}
