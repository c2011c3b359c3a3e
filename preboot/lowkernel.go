package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/preboot/bzimage"
	"github.com/inetboot/inetboot/preboot/kexec"
)

// loadLow gives a kernel and its initrd, which may be nil, to the running kernel
// as pieces of memory below 4 GiB: for kernels that kexec_file_load does not
// take.
func loadLow(kernel, initrd *os.File, cmdline string) error {
	image, err := mapped(kernel)
	if err != nil {
		return err
	}
	defer unix.Munmap(image)
	k, err := bzimage.Parse(image)
	if err != nil {
		return err
	}
	var archive []byte
	if initrd != nil {
		if archive, err = mapped(initrd); err != nil {
			return err
		}
		defer unix.Munmap(archive)
	}
	machine, err := kexec.ThisMachine()
	if err != nil {
		return err
	}
	layout, err := bzimage.Plan(k, cmdline, archive, machine)
	if err != nil {
		return err
	}
	return layout.Load()
}

// mapped returns a file's contents, for unix.Munmap.
func mapped(f *os.File) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", f.Name(), err)
	}
	return b, nil
}
