package main

import (
	"strings"
	"testing"
)

func TestHypervisorConsoles(t *testing.T) {
	for _, tt := range []struct{ line, pass, want, kernel string }{
		{"", "", "no-real-mode", ""},
		{"dom0_mem=1G no-real-mode", "quiet console=tty0", "dom0_mem=1G no-real-mode", "quiet console=tty0"},
		{"", "console=tty0 console=ttyS0,115200n8", "no-real-mode com1=115200,8n1 console=com1,vga", "console=tty0 console=hvc0"},
		{"", "console=ttyS1 console=ttyS0,115200", "no-real-mode com2=9600,8n1 console=com2,vga", "console=hvc0"},
		{"", "console=ttyS4,115200", "no-real-mode", "console=hvc0"},
		{"console=vga", "console=ttyS0", "console=vga no-real-mode", "console=hvc0"},
		{"com1=9600,8n1", "console=ttyS0", "com1=9600,8n1 no-real-mode", "console=hvc0"},
	} {
		pass := strings.Fields(tt.pass)
		if got, kernel := hypervisorLine(tt.line, pass), strings.Join(firstDomain(pass), " "); got != tt.want || kernel != tt.kernel {
			t.Errorf("with %q and %q: hypervisor's line %q, kernel's options %q; want %q, %q", tt.line, tt.pass, got, kernel, tt.want, tt.kernel)
		}
	}
}
