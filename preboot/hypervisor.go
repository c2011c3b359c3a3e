package main

import (
	"slices"
	"strings"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/preboot/download"
	"github.com/inetboot/inetboot/preboot/kexec"
	"github.com/inetboot/inetboot/preboot/multiboot"
)

// noRealMode keeps Xen from calling the BIOS, which Linux has left in no state
// for that: what it would ask for is in the boot information.
const noRealMode = "no-real-mode"

// loadHypervisor gives a hypervisor to the kernel, with the image's kernel,
// initrd and the hypervisor's own modules behind it.
func (s *session) loadHypervisor(man *catalog.Manifest, files *download.Files, cmdline string) error {
	program, err := multiboot.ReadProgram(files.Below[0], files.Below[0].Size())
	if err != nil {
		return part("hypervisor", err)
	}
	machine, err := kexec.ThisMachine()
	if err != nil {
		return part("hypervisor", err)
	}
	var modules []multiboot.Module
	add := func(f *download.File, line string) error {
		data, err := f.Map()
		if err == nil {
			modules = append(modules, multiboot.Module{Data: data, Cmdline: line})
		}
		return err
	}
	if err := add(files.Kernel, "vmlinuz "+cmdline); err != nil {
		return part("kernel", err)
	}
	if files.Initrd != nil {
		if err := add(files.Initrd, "initrd"); err != nil {
			return part("initrd", err)
		}
	}
	for i, m := range man.Hypervisor.Modules {
		if err := add(files.Below[i+1], strings.TrimSpace("module "+m.Cmdline)); err != nil {
			return part("hypervisor", err)
		}
	}
	line := hypervisorLine(man.Hypervisor.Cmdline, s.set.Pass)
	s.say("hypervisor's command line: %s", line)
	s.say("command line: %s", cmdline)
	layout, err := multiboot.Plan(program, "xen "+line, modules, machine)
	if err == nil {
		err = layout.Load()
	}
	if err != nil {
		return part("hypervisor", err)
	}
	s.say("hypervisor, kernel and initrd are loaded (kexec_load)")
	return nil
}

// serial are the options of Linux for consoles on serial ports, of which Xen
// names the first two.
const serial = "console=ttyS"

// firstDomain returns options for the kernel that a hypervisor starts. Serial
// ports are the hypervisor's, so that kernel writes to the hypervisor's console
// in their place.
func firstDomain(pass []string) []string {
	var out []string
	for _, o := range pass {
		if strings.HasPrefix(o, serial) {
			o = "console=hvc0"
			if slices.Contains(out, o) {
				continue
			}
		}
		out = append(out, o)
	}
	return out
}

// hypervisorLine returns a hypervisor's command line with what it needs here,
// and with the serial console of this machine's own command line unless it
// names one.
func hypervisorLine(line string, pass []string) string {
	options := strings.Fields(line)
	has := func(name string) bool {
		return slices.ContainsFunc(options, func(o string) bool { return o == name || strings.HasPrefix(o, name+"=") })
	}
	if !has(noRealMode) {
		options = append(options, noRealMode)
	}
	for _, o := range pass {
		rest, ok := strings.CutPrefix(o, serial)
		port, mode, _ := strings.Cut(rest, ",")
		com, known := map[string]string{"0": "com1", "1": "com2"}[port]
		if !ok || !known || has("console") || has(com) {
			continue
		}
		speed := mode[:len(mode)-len(strings.TrimLeft(mode, "0123456789"))]
		if speed == "" {
			speed = "9600" // Linux's own default
		}
		options = append(options, com+"="+speed+",8n1", "console="+com+",vga")
	}
	return strings.Join(options, " ")
}
