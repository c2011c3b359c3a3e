package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrKexec is wrapped when a kernel cannot be started by kexec.
var ErrKexec = errors.New("the kernel cannot be started by kexec, which is how InetBoot starts kernels")

// HeadLength is how much of a kernel file [Inspect] wants to see.
const HeadLength = headLength

// Inspect tells from the beginning of a kernel file which release it is, as
// uname -r, and for which architecture, as GOARCH; what is not known is empty.
// Errors wrap ErrKexec.
func Inspect(head []byte) (release, arch string, err error) {
	im := parseImage(head)
	if im.arch == "amd64" || im.arch == "386" {
		err = checkX86(head)
	}
	return im.release, im.arch, err
}

// checkX86 looks for what kexec_file_load(2) looks for
// (arch/x86/kernel/kexec-bzimage64.c, bzImage64_probe).
func checkX86(b []byte) error {
	le := binary.LittleEndian
	if len(b) < 0x264 || string(b[0x202:0x206]) != "HdrS" {
		return nil // an EFI image, which the machine judges
	}
	flags := le.Uint16(b[0x236:])
	switch {
	case le.Uint16(b[0x1fe:]) != 0xAA55 || b[0x211]&1 == 0:
		return fmt.Errorf("%w: it is no bzImage", ErrKexec)
	case le.Uint16(b[0x206:]) < 0x20c || flags&1 == 0:
		return fmt.Errorf("%w: it has no 64-bit entry", ErrKexec)
	case flags&2 == 0:
		return fmt.Errorf("%w: it says that it must not be loaded above 4 GiB (as memtest86+ does): start it from the machine's own boot loader", ErrKexec)
	}
	return nil
}
