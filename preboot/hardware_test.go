package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestHardware(t *testing.T) {
	bus, none := t.TempDir(), filepath.Join(t.TempDir(), "none")
	modules := t.TempDir()
	dir := filepath.Join(bus, "pci/devices/0000:00:03.0")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{"class": "0x020000\n", "vendor": "0x1011\n", "device": "0x0019\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	said := func(lines ...string) func() ([]string, error) {
		return func() ([]string, error) { return lines, nil }
	}
	failed := "[    2.1] bnx2 0000:01:00.0: Direct firmware load for bnx2/bnx2-mips.fw failed with error -2"
	for _, tt := range []struct {
		name, bus, modules string
		log                func() ([]string, error)
		want               string
	}{
		{"nothing", none, none, said(failed), ""},
		{"small medium", bus, none, said(failed), "network hardware without a driver: PCI 1011:0019; the large boot medium (inetboot-full.iso) has more drivers"},
		{"large medium", bus, modules, said(), "network hardware without a driver: PCI 1011:0019"},
		{"large medium, no firmware", none, modules, said("[    1.0] fine", failed, failed),
			"firmware that drivers ask for and this medium lacks: bnx2/bnx2-mips.fw (build the medium on a machine that has it)"},
		{"large medium, both", bus, modules, said(failed),
			"network hardware without a driver: PCI 1011:0019; firmware that drivers ask for and this medium lacks: bnx2/bnx2-mips.fw (build the medium on a machine that has it)"},
		{"no messages", bus, modules, func() ([]string, error) { return nil, errors.New("no") }, "network hardware without a driver: PCI 1011:0019"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := hardware(tt.bus, tt.modules, tt.log); got != tt.want {
				t.Errorf("hardware() = %q; want %q", got, tt.want)
			}
		})
	}
}
