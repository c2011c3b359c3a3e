package bootmedia

import (
	"fmt"
	"os"

	"github.com/inetboot/inetboot/server/lan/efi"
)

// CheckARM64 checks that a file is a program for UEFI on arm64.
func CheckARM64(path string) error {
	fail := func(err error) error { return fmt.Errorf("the boot program for arm64: %w", err) }
	f, err := os.Open(path)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	if !fi.Mode().IsRegular() {
		return fail(fmt.Errorf("%s is no regular file", path))
	}
	head := make([]byte, min(fi.Size(), 4096))
	if _, err := f.ReadAt(head, 0); err != nil {
		return fail(err)
	}
	m, ok := efi.Machine(head)
	if !ok {
		return fail(fmt.Errorf("%s is no program of UEFI", path))
	}
	if m != efi.MachineARM64 {
		return fail(fmt.Errorf("%s is a program for another machine: its type is %#x, that of arm64 %#x", path, m, efi.MachineARM64))
	}
	return nil
}
