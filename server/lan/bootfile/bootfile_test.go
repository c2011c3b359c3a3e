package bootfile

import (
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	for _, c := range []struct {
		name string
		in   Client
		want Kind
	}{
		{"nothing said", Client{}, Ordinary},
		{"Windows", Client{Vendor: "MSFT 5.0"}, Ordinary},
		{"BIOS", Client{Vendor: "PXEClient:Arch:00000:UNDI:002001", Arch: []uint16{0}}, PXEBIOS},
		{"an old ROM that does not send option 93", Client{Vendor: "PXEClient"}, PXEBIOS},
		{"the architecture in the class alone", Client{Vendor: "PXEClient:Arch:00007:UNDI:003016"}, PXEUEFI},
		{"UEFI x64, number 7", Client{Vendor: "PXEClient:Arch:00007:UNDI:003000", Arch: []uint16{7}}, PXEUEFI},
		{"UEFI x64, number 9", Client{Vendor: "PXEClient:Arch:00009:UNDI:003000", Arch: []uint16{9}}, PXEUEFI},
		{"several: the first that there is a file for", Client{Vendor: "PXEClient", Arch: []uint16{6, 7}}, PXEUEFI},
		{"UEFI with 32 bits", Client{Vendor: "PXEClient:Arch:00006:UNDI:003000", Arch: []uint16{6}}, Unsupported},
		{"arm64", Client{Vendor: "PXEClient:Arch:00011:UNDI:003000", Arch: []uint16{11}}, PXEARM64},
		{"UEFI HTTP", Client{Vendor: "HTTPClient:Arch:00016:UNDI:003001", Arch: []uint16{16}}, HTTPUEFI},
		{"UEFI HTTP, number 15", Client{Vendor: "HTTPClient:Arch:00015:UNDI:003001", Arch: []uint16{15}}, HTTPUEFI},
		{"UEFI HTTP with the number of PXE", Client{Vendor: "HTTPClient", Arch: []uint16{7}}, HTTPUEFI},
		{"UEFI HTTP on arm64", Client{Vendor: "HTTPClient:Arch:00019:UNDI:003001", Arch: []uint16{19}}, HTTPARM64},
		{"iPXE by its user class", Client{Vendor: "PXEClient:Arch:00000:UNDI:002001", User: []string{"iPXE"}, Arch: []uint16{0}}, IPXE},
		{"iPXE by option 175", Client{Vendor: "PXEClient:Arch:00007:UNDI:003010", IPXE: true, Arch: []uint16{7}}, IPXE},
		{"iPXE without HTTP is a PXE ROM", Client{Vendor: "PXEClient:Arch:00000:UNDI:002001", IPXE: true, NoHTTP: true, Arch: []uint16{0}}, PXEBIOS},
		{"POWER", Client{Vendor: "PXEClient", Arch: []uint16{14}}, Unsupported},
		{"no number", Client{Vendor: "PXEClient:Arch:0x007:UNDI"}, PXEBIOS},
	} {
		if got := Classify(c.in); got != c.want {
			t.Errorf("%s: Classify = %v; want %v", c.name, got, c.want)
		}
	}
}

func TestChoose(t *testing.T) {
	all := Files{Base: "http://10.0.0.1/boot/", BIOS: true, UEFI: true, ARM64: ARM64}
	withIPXE := all
	withIPXE.IPXE = true
	for _, c := range []struct {
		name string
		kind Kind
		s    Settings
		f    Files
		want string
	}{
		{"BIOS", PXEBIOS, Settings{}, all, BIOS},
		{"UEFI", PXEUEFI, Settings{}, all, UEFI},
		{"UEFI HTTP", HTTPUEFI, Settings{}, all, "http://10.0.0.1/boot/inetboot.efi"},
		{"iPXE", IPXE, Settings{}, all, "http://10.0.0.1/boot/boot.ipxe"},
		{"ordinary", Ordinary, Settings{File: "x"}, all, ""},
		{"arm64", PXEARM64, Settings{}, all, ARM64},
		{"arm64 by HTTP", HTTPARM64, Settings{}, all, "http://10.0.0.1/boot/inetboot-arm64.efi"},
		{"URL for arm64", HTTPARM64, Settings{}, Files{ARM64: "https://other/arm.efi"}, "https://other/arm.efi"},
		{"URL for arm64 by PXE", PXEARM64, Settings{}, Files{ARM64: "https://other/arm.efi"}, ""},
		{"a file of its own, for arm64", HTTPARM64, Settings{File: "x.efi"}, Files{Base: "http://10.0.0.1/boot/", ARM64: "https://other/arm.efi"}, "http://10.0.0.1/boot/x.efi"},
		{"no file for arm64 by HTTP", HTTPARM64, Settings{}, Files{Base: all.Base}, ""},
		{"no file for arm64", PXEARM64, Settings{}, Files{BIOS: true}, ""},
		{"no HTTP", IPXE, Settings{}, Files{BIOS: true}, ""},
		{"file of a host", PXEBIOS, Settings{File: "pxelinux.0"}, all, "pxelinux.0"},
		{"file of a host by HTTP", HTTPUEFI, Settings{File: "/other.efi"}, all, "http://10.0.0.1/boot/other.efi"},
		{"URL", IPXE, Settings{File: "http://h/x.ipxe"}, all, "http://h/x.ipxe"},
		{"URL for PXE", PXEBIOS, Settings{File: "http://h/x.ipxe"}, all, BIOS},
		{"iPXE is not loaded by iPXE", IPXE, Settings{File: "undionly.kpxe"}, all, "http://10.0.0.1/boot/boot.ipxe"},
		{"a root on the network, BIOS", PXEBIOS, Settings{Root: true}, withIPXE, BIOS},
		{"a root on the network, UEFI", PXEUEFI, Settings{Root: true}, withIPXE, Loader},
		{"a root on the network, UEFI HTTP", HTTPUEFI, Settings{Root: true}, withIPXE, "http://10.0.0.1/boot/ipxe.efi"},
		{"a root on the network, iPXE", IPXE, Settings{Root: true}, withIPXE, "http://10.0.0.1/boot/boot.ipxe"},
		{"a root on the network, without iPXE for UEFI", PXEUEFI, Settings{Root: true}, all, UEFI},
		{"no root on the network", PXEUEFI, Settings{}, withIPXE, UEFI},
		{"local disk", PXEBIOS, Settings{Local: true}, all, ""},
	} {
		if got := Choose(c.kind, c.s, c.f); got != c.want {
			t.Errorf("%s: Choose = %q; want %q", c.name, got, c.want)
		}
	}
}

func TestMissing(t *testing.T) {
	some := Files{Base: "http://10.0.0.1/boot/", UEFI: true}
	for _, c := range []struct {
		kind Kind
		f    Files
		want string
	}{
		{PXEUEFI, some, ""}, {Ordinary, Files{}, ""}, {PXEBIOS, some, "BIOS"}, {PXEARM64, some, "no program for arm64"}, {HTTPARM64, some, "no program for arm64"},
		{HTTPARM64, Files{ARM64: "http://h/x"}, ""}, {PXEARM64, Files{ARM64: "http://h/x"}, "PXE cannot load"}, {Unsupported, some, "this architecture"}, {IPXE, Files{}, "no boot files"},
	} {
		if got := Missing(c.kind, c.f); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("Missing(%v, %+v) = %q; want %q", c.kind, c.f, got, c.want)
		}
	}
}

func TestParseKind(t *testing.T) {
	for k := Ordinary; k < Unsupported; k++ {
		if got, ok := ParseKind(k.String()); !ok || got != k {
			t.Errorf("ParseKind(%v) = %v, %v", k, got, ok)
		}
	}
	if _, ok := ParseKind("unsupported"); ok {
		t.Error("ParseKind takes what no pool can be for")
	}
}
