package kexec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Machine is what a program is told about the machine.
type Machine struct {
	Memory []Range
	Screen []byte // struct screen_info of Linux (include/uapi/linux/screen_info.h), as the running kernel was started with
	RSDP   uint64 // address of the ACPI tables' root; 0: where a BIOS has it
}

const (
	// bootParams is the zero page that the running kernel was started with
	// (Linux, Documentation/ABI/testing/sysfs-kernel-boot_params), which begins
	// with struct screen_info.
	bootParams = "/sys/kernel/boot_params/data"
	sizeScreen = 0x40
	// systab has addresses that UEFI firmware has told (Linux,
	// Documentation/ABI/testing/sysfs-firmware-efi).
	systab = "/sys/firmware/efi/systab"
)

// ThisMachine asks the running kernel.
func ThisMachine() (*Machine, error) {
	memory, err := machineMap()
	if err != nil {
		return nil, err
	}
	params, err := os.ReadFile(bootParams)
	if err == nil && len(params) < sizeScreen {
		err = fmt.Errorf("%s has %d bytes", bootParams, len(params))
	}
	if err != nil {
		return nil, fmt.Errorf("read how this kernel was started: %w", err)
	}
	m := &Machine{Memory: memory, Screen: params[:sizeScreen]}
	tables, err := os.ReadFile(systab)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read where the ACPI tables are: %w", err)
	}
	m.RSDP = rsdp(string(tables))
	return m, nil
}

// rsdp finds the address of the ACPI tables' root, of the newest version, or 0.
func rsdp(systab string) uint64 {
	for _, name := range []string{"ACPI20=", "ACPI="} {
		for line := range strings.Lines(systab) {
			if s, ok := strings.CutPrefix(strings.TrimSpace(line), name); ok {
				if n, err := strconv.ParseUint(s, 0, 64); err == nil {
					return n
				}
			}
		}
	}
	return 0
}
