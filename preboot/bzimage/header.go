package bzimage

import (
	"encoding/binary"
	"fmt"

	"github.com/inetboot/inetboot/preboot/kexec"
)

// Offsets in a kernel's file and, the same, in the zero page (boot.rst, "Details
// of Header Fields", and zero-page.rst).
const (
	offScreen     = 0x000 // struct screen_info, to be taken over
	offRSDP       = 0x070 // address of the ACPI tables' root
	offE820Count  = 0x1e8
	offHeader     = 0x1f1 // setup_sects, the first field of the header
	offBootFlag   = 0x1fe
	offJump       = 0x200 // its second byte tells where the header ends
	offMagic      = 0x202
	offVersion    = 0x206
	offLoader     = 0x210
	offLoadFlags  = 0x211
	offCode32     = 0x214
	offInitrd     = 0x218
	offInitrdSize = 0x21c
	offCmdline    = 0x228
	offInitrdMax  = 0x22c
	offAlignment  = 0x230
	offRelocates  = 0x234
	offXLoadFlags = 0x236
	offCmdlineMax = 0x238
	offPreferred  = 0x258
	offInitSize   = 0x260
	endHeader     = 0x264 // of version 2.10, the oldest that is taken
	maxHeader     = 0x290 // where the zero page has something else
	offE820       = 0x2d0
)

const (
	oldest      = 0x20a // version with pref_address and init_size
	loadedHigh  = 1 << 0
	sector      = 512
	maxSetup    = 64 // sectors of setup code, where 0 means 4
	maxLoaded   = 256 << 20
	maxE820     = 128 // E820_MAX_ENTRIES_ZEROPAGE
	sizeE820    = 20
	screenEnd   = 0x40
	loaderOther = 0xff // type_of_loader without a number of its own
)

// Kernel is a kernel that has been read and checked.
type Kernel struct {
	header     []byte // from offHeader on
	payload    []byte // what is loaded
	size       uint64 // in memory, to begin with
	preferred  uint64 // address
	relocates  bool
	align      uint64
	initrdMax  uint64 // the last address that an initrd may have
	cmdlineMax int    // bytes, without the zero at the end
}

// Parse reads a kernel. The result refers to data.
func Parse(data []byte) (*Kernel, error) {
	le := binary.LittleEndian
	bad := func(format string, args ...any) (*Kernel, error) {
		return nil, fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
	if len(data) < endHeader || le.Uint16(data[offBootFlag:]) != 0xaa55 || string(data[offMagic:offMagic+4]) != "HdrS" {
		return bad("it has no header of the Linux boot protocol")
	}
	if v := le.Uint16(data[offVersion:]); v < oldest {
		return bad("its boot protocol is %d.%02d, at least 2.10 is wanted", v>>8, v&0xff)
	}
	if data[offLoadFlags]&loadedHigh == 0 {
		return bad("it is a zImage, which is loaded below 1 MiB")
	}
	sectors := int(data[offHeader])
	if sectors == 0 {
		sectors = 4
	}
	begin := (1 + sectors) * sector
	// The header ends where the jump over it leads.
	end := offMagic + int(data[offJump+1])
	if sectors > maxSetup || begin >= len(data) || end < endHeader || end > maxHeader {
		return bad("its header ends at %#x, and its setup code has %d sectors of %d bytes", end, sectors, len(data))
	}
	k := &Kernel{
		header: data[offHeader:end], payload: data[begin:],
		size: uint64(le.Uint32(data[offInitSize:])), preferred: le.Uint64(data[offPreferred:]),
		relocates: data[offRelocates] != 0, align: uint64(le.Uint32(data[offAlignment:])),
		initrdMax: uint64(le.Uint32(data[offInitrdMax:])), cmdlineMax: int(le.Uint32(data[offCmdlineMax:]) & 0xffff),
	}
	k.size = max(k.size, uint64(len(k.payload)))
	switch {
	case k.size > maxLoaded:
		return bad("it takes %d bytes of memory, at most %d are allowed", k.size, maxLoaded)
	case k.preferred%kexec.Page != 0 || k.preferred == 0 || k.preferred > 1<<32-maxLoaded:
		return bad("it wants to be loaded at %#x", k.preferred)
	case k.relocates && (k.align < kexec.Page || k.align&(k.align-1) != 0 || k.align > 1<<30):
		return bad("it is to be aligned to %#x", k.align)
	}
	return k, nil
}
