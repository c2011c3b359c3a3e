package multiboot

import (
	"encoding/binary"
	"fmt"

	"github.com/inetboot/inetboot/preboot/kexec"
)

// Where a BIOS has the ACPI tables' root (ACPI 6.5, section 5.2.5.1): in the
// first KiB of its extended data area, whose segment is a word of its data area.
const (
	biosExtended = 0x40e // the word, in paragraphs of 16 bytes
	biosMemory   = 0x413 // KiB of memory below the extended data area
	sizeRSDP     = 36    // since ACPI 2.0

	offRSDP     = 0x10 // in the extended data area: any paragraph but the first, which tells its size
	offExtended = 0x800
	offMemory   = 0x802
)

const (
	lowEnd = 640 << 10
	// lowStart is the lowest place of an extended data area that Xen believes in, and
	// lowRoom is what it uses below that (xen/arch/x86/boot/head.S,
	// TRAMPOLINE_SPACE and TRAMPOLINE_STACK_SPACE).
	lowStart = 256 << 10
	lowRoom  = 64 << 10
)

// placeTables makes a program that looks for the ACPI tables as on a BIOS find
// those of UEFI firmware, whose root is at rsdp: a page becomes an extended data
// area with a copy of the root. It returns the memory map with that page
// reserved.
//
// The root itself can be read only by the code that leads to the program.
func placeTables(l *kexec.Layout, rsdp uint64) ([]kexec.Range, error) {
	if rsdp > highest-sizeRSDP {
		return nil, fmt.Errorf("the ACPI tables' root is at %#x, above 4 GiB, where the program cannot find it", rsdp)
	}
	at := uint64(0)
	for _, r := range l.Memory {
		end := min(r.End, lowEnd) &^ (kexec.Page - 1)
		if r.Kind == kexec.RAM && end >= lowStart+kexec.Page && end >= r.First+lowRoom+kexec.Page {
			at = max(at, end-kexec.Page)
		}
	}
	if at == 0 {
		return nil, fmt.Errorf("%w: the program and the ACPI tables' root need %d KiB in one piece from %d to %d KiB", kexec.ErrMemory, (lowRoom+kexec.Page)>>10, (lowStart-lowRoom)>>10, lowEnd>>10)
	}
	le := binary.LittleEndian
	page := make([]byte, kexec.Page)
	page[0] = kexec.Page >> 10 // KiB
	le.PutUint16(page[offExtended:], uint16(at>>4))
	le.PutUint16(page[offMemory:], uint16(at>>10))
	if err := l.Put(page, at, kexec.Page); err != nil {
		return nil, err
	}
	l.Copies = append(l.Copies,
		kexec.Copy{From: uint32(rsdp), To: uint32(at) + offRSDP, Size: sizeRSDP},
		kexec.Copy{From: uint32(at) + offExtended, To: biosExtended, Size: 2},
		kexec.Copy{From: uint32(at) + offMemory, To: biosMemory, Size: 2})
	var out []kexec.Range
	for _, r := range l.Memory {
		if at < r.First || at >= r.End {
			out = append(out, r)
			continue
		}
		out = append(out, kexec.Range{First: r.First, End: at, Kind: r.Kind}, kexec.Range{First: at, End: at + kexec.Page, Kind: kexec.Reserved})
		if at+kexec.Page < r.End {
			out = append(out, kexec.Range{First: at + kexec.Page, End: r.End, Kind: r.Kind})
		}
	}
	return out, nil
}
