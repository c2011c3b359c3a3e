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

// Facts are what the beginning of a kernel file tells. What is not known is
// empty.
type Facts struct {
	Release string // as uname -r
	Arch    string // as GOARCH
	Low     bool   // it has to be loaded below 4 GiB, which kexec_file_load(2) does not do
}

// Inspect tells from the beginning of a kernel file what it is. Errors wrap
// ErrKexec.
func Inspect(head []byte) (Facts, error) {
	im := parseImage(head)
	f := Facts{Release: im.release, Arch: im.arch}
	var err error
	if im.arch == "amd64" || im.arch == "386" {
		f.Low, err = checkX86(head)
	}
	return f, err
}

// checkX86 looks for what kexec_file_load(2) looks for
// (arch/x86/kernel/kexec-bzimage64.c, bzImage64_probe), and tells whether the
// address is all that it would object to.
func checkX86(b []byte) (low bool, err error) {
	le := binary.LittleEndian
	if len(b) < 0x264 || string(b[0x202:0x206]) != "HdrS" {
		return false, nil // an EFI image, which the machine judges
	}
	flags := le.Uint16(b[0x236:])
	switch {
	case le.Uint16(b[0x1fe:]) != 0xAA55 || b[0x211]&1 == 0:
		return false, fmt.Errorf("%w: it is no bzImage", ErrKexec)
	case le.Uint16(b[0x206:]) < 0x20c || flags&1 == 0:
		return false, fmt.Errorf("%w: it has no 64-bit entry", ErrKexec)
	}
	return flags&2 == 0, nil
}
