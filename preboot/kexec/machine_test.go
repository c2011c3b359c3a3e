package kexec

import "testing"

func TestRSDP(t *testing.T) {
	for systab, want := range map[string]uint64{
		"": 0, "SMBIOS=0x1\n": 0, "ACPI20=0x1f77d014\nACPI=0x1f77d000\nSMBIOS=0x1": 0x1f77d014, "ACPI=0x1f77d000\nACPI20=0x1f77d014\n": 0x1f77d014,
		"MPS=0x1\nACPI=0x1f77d000\n": 0x1f77d000, "ACPI20=x\nACPI=0x5\n": 5,
	} {
		if got := rsdp(systab); got != want {
			t.Errorf("rsdp(%q) = %#x; want %#x", systab, got, want)
		}
	}
}
