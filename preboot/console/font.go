package console

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/kd.h.
const (
	kdFontOp    = 0x4b72
	fontOpSet   = 0
	fontOpGet   = 1
	fontRows    = 32  // that each character has in the data of a font, whatever its height
	maxFontChar = 512 // characters
)

// fontOp is struct console_font_op.
type fontOp struct {
	op, flags, width, height, charcount uint32
	data                                unsafe.Pointer
}

// smallCells is with how many characters on a screen these are too small to
// read: the kernel's own limit (lib/fonts/fonts.c), which counts where it has a
// choice of fonts. 8 by 16 pixels are on 2560 by 1440 pixels 28,800.
const smallCells = 20_000

// enlargeFont doubles the height and the width of the characters on a screen of
// the kernel's framebuffer console.
func enlargeFont(fd int) error {
	data := make([]byte, fontRows*fontRows/8*maxFontChar)
	op := fontOp{op: fontOpGet, width: fontRows, height: fontRows, charcount: maxFontChar, data: unsafe.Pointer(&data[0])}
	if err := op.do(fd, "read"); err != nil {
		return err
	}
	if op.width != 8 || op.height > fontRows/2 {
		return nil // none that can be doubled
	}
	double := doubled(data[:fontRows*op.charcount], int(op.height))
	op = fontOp{op: fontOpSet, width: 2 * op.width, height: 2 * op.height, charcount: op.charcount, data: unsafe.Pointer(&double[0])}
	return op.do(fd, "set")
}

func (o *fontOp) do(fd int, what string) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), kdFontOp, uintptr(unsafe.Pointer(o))); errno != 0 {
		return os.NewSyscallError(what+" the font", errno)
	}
	return nil
}

// doubled returns a font of 8 pixels' width, twice as wide and high. Each
// character has 32 rows, of which height are in use; of one byte, and two in
// what is returned.
func doubled(font []byte, height int) []byte {
	out := make([]byte, 2*len(font))
	for at := 0; at+fontRows <= len(font); at += fontRows {
		for y := range height {
			var row uint16
			for bit := range 8 {
				if font[at+y]>>bit&1 != 0 {
					row |= 3 << (2 * bit)
				}
			}
			for twice := range 2 {
				to := 2 * (at + 2*y + twice)
				out[to], out[to+1] = byte(row>>8), byte(row)
			}
		}
	}
	return out
}
