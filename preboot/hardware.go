package main

import (
	"strings"

	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/system"
)

// hardware says which of the machine's network hardware cannot be used, and
// what would help; "": there is none. modules is the folder of kernel modules,
// which the large medium has, and kernelLog reads the kernel's messages.
func hardware(bus, modules string, kernelLog func() ([]string, error)) string {
	adapters := system.Adapters(bus)
	if !system.IsFolder(modules) {
		if adapters == "" {
			return ""
		}
		return adapters + "; the large boot medium (inetboot-full.iso) has more drivers"
	}
	parts := []string{}
	if adapters != "" {
		parts = append(parts, adapters)
	}
	if lines, err := kernelLog(); err == nil {
		if files := system.MissingFirmware(lines); len(files) > 0 {
			parts = append(parts, "firmware that drivers ask for and this medium lacks: "+strings.Join(files, ", ")+" (build the medium on a machine that has it)")
		}
	}
	return console.Printable(strings.Join(parts, "; "))
}
