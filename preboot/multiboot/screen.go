package multiboot

import "encoding/binary"

// screen is a linear framebuffer with colours in the pixels.
type screen struct {
	base, size           uint32 // bytes
	width, height, depth uint16
	line                 uint16  // bytes
	colours              [8]byte // size and position of red, green, blue and the rest, in bits
}

// Kinds of screens in struct screen_info.
const (
	screenVESA = 0x23 // VIDEO_TYPE_VLFB
	screenEFI  = 0x70 // VIDEO_TYPE_EFI
)

// parseScreen reads struct screen_info of Linux
// (include/uapi/linux/screen_info.h). It returns nil if the screen is no
// framebuffer below 4 GiB: text is what a program expects without being told.
func parseScreen(b []byte) *screen {
	le := binary.LittleEndian
	if len(b) < 0x40 || b[0x0f] != screenVESA && b[0x0f] != screenEFI {
		return nil
	}
	s := &screen{width: le.Uint16(b[0x12:]), height: le.Uint16(b[0x14:]), depth: le.Uint16(b[0x16:]), base: le.Uint32(b[0x18:]), line: le.Uint16(b[0x24:])}
	copy(s.colours[:], b[0x26:0x2e])
	s.size = uint32(s.line) * uint32(s.height)
	if above := le.Uint32(b[0x3a:]); above != 0 || s.base == 0 || s.size == 0 || s.width == 0 || s.depth < 15 || s.depth > 32 {
		return nil
	}
	return s
}

// vbe returns the screen as the mode of a VESA BIOS (section 3.6.9; VBE 3.0,
// function 01h).
func (s *screen) vbe() []byte {
	const (
		control = 8
		mode    = control + 512
		end     = mode + 256
		// attributes: a mode of the hardware, with colours and graphics, and a
		// linear framebuffer.
		attributes  = 1<<0 | 1<<1 | 1<<3 | 1<<4 | 1<<7
		directModel = 6
		unit        = 64 << 10 // of the size of video memory
	)
	le := binary.LittleEndian
	b := make([]byte, end)
	copy(b[control:], "VESA")
	le.PutUint16(b[control+4:], 0x300)
	le.PutUint16(b[control+18:], uint16((s.size+unit-1)/unit))
	m := b[mode:]
	le.PutUint16(m[0:], attributes)
	le.PutUint16(m[16:], s.line)
	le.PutUint16(m[18:], s.width)
	le.PutUint16(m[20:], s.height)
	m[24], m[25], m[26], m[27], m[29] = 1, byte(s.depth), 1, directModel, 0
	copy(m[31:], s.colours[:])
	le.PutUint32(m[40:], s.base)
	le.PutUint16(m[50:], s.line)
	return b
}

// framebuffer returns the screen as section 3.6.12 has it.
func (s *screen) framebuffer() []byte {
	const direct = 1 // the kind of colours
	le := binary.LittleEndian
	b := le.AppendUint64(nil, uint64(s.base))
	for _, n := range []uint16{s.line, 0, s.width, 0, s.height, 0} { // of 32 bits
		b = le.AppendUint16(b, n)
	}
	b = append(b, byte(s.depth), direct, 0, 0)
	for i := 0; i < 6; i += 2 { // position before size
		b = append(b, s.colours[i+1], s.colours[i])
	}
	return b
}
