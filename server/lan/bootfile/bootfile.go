// Package bootfile decides what a client of the LAN loads first: from what its
// firmware says of itself in DHCP, and from the client's settings.
package bootfile

import (
	"path"
	"strings"
)

// Names of the boot files, below the root of the TFTP service and below the
// HTTP service's folder for boot files.
const (
	BIOS   = "pxelinux.0"         // network boot program for BIOS, by TFTP
	UEFI   = "inetboot.efi"       // for UEFI on x86-64, by TFTP or HTTP
	ARM64  = "inetboot-arm64.efi" // for UEFI on arm64, by TFTP or HTTP
	Script = "boot.ipxe"          // script for iPXE, by HTTP
	Loader = "ipxe.efi"           // iPXE for UEFI on x86-64, which then asks for the script
)

// Kind is what kind of program asks.
type Kind int

// What can ask for an address.
const (
	Ordinary    Kind = iota // no network boot: an operating system
	PXEBIOS                 // PXE of a BIOS
	PXEUEFI                 // PXE of UEFI on x86-64
	PXEARM64                // PXE of UEFI on arm64
	HTTPUEFI                // UEFI HTTP boot on x86-64
	HTTPARM64               // UEFI HTTP boot on arm64
	IPXE                    // iPXE with HTTP
	Unsupported             // firmware for which there is no boot file
)

// String returns the name that pools are written with.
func (k Kind) String() string {
	switch k {
	case Ordinary:
		return "ordinary"
	case PXEBIOS:
		return "bios"
	case PXEUEFI:
		return "uefi"
	case PXEARM64:
		return "arm64"
	case HTTPUEFI:
		return "http"
	case HTTPARM64:
		return "http-arm64"
	case IPXE:
		return "ipxe"
	}
	return "unsupported"
}

// ParseKind is the inverse of String.
func ParseKind(s string) (Kind, bool) {
	for k := Ordinary; k < Unsupported; k++ {
		if k.String() == s {
			return k, true
		}
	}
	return 0, false
}

// HTTP tells whether the firmware loads its file from a URL.
func (k Kind) HTTP() bool { return k == HTTPUEFI || k == HTTPARM64 || k == IPXE }

// PXE tells whether the firmware is PXE, which loads its file by TFTP.
func (k Kind) PXE() bool { return k == PXEBIOS || k == PXEUEFI || k == PXEARM64 }

// Architectures of RFC 4578 and of IANA's registry "Processor Architecture
// Types" that firmware sends in option 93.
const (
	archBIOS      = 0
	archIA32      = 6
	archX64       = 7 // by IANA "x64 UEFI" after an erratum; RFC 4578's text says EFI BC
	archBC        = 9 // x64 in RFC 4578; much firmware sends one, much the other
	archARM32     = 10
	archARM64     = 11
	archIA32HTTP  = 15
	archX64HTTP   = 16
	archBCHTTP    = 17
	archARM32HTTP = 18
	archARM64HTTP = 19
)

// Client is what a client says of itself. Each part may be missing.
type Client struct {
	Vendor string   // option 60
	User   []string // option 77
	Arch   []uint16 // option 93
	IPXE   bool     // option 175 is there
	NoHTTP bool     // option 175 lists what iPXE can, and HTTP is not in it
}

// Classify says what kind of program the client is.
func Classify(c Client) Kind {
	pxe, http := strings.HasPrefix(c.Vendor, "PXEClient"), strings.HasPrefix(c.Vendor, "HTTPClient")
	if !pxe && !http {
		// iPXE always says PXEClient, unless somebody set another class.
		if isIPXE(c) && !c.NoHTTP {
			return IPXE
		}
		return Ordinary
	}
	if isIPXE(c) && !c.NoHTTP {
		return IPXE
	}
	arch := c.Arch
	if len(arch) == 0 {
		arch = archOfClass(c.Vendor)
	}
	for _, a := range arch {
		switch a {
		case archBIOS:
			if pxe {
				return PXEBIOS
			}
		case archX64, archBC:
			if http {
				return HTTPUEFI
			}
			return PXEUEFI
		case archARM32, archARM64: // mixed up by firmware as 7 and 9 are
			if http {
				return HTTPARM64
			}
			return PXEARM64
		case archIA32HTTP, archX64HTTP, archBCHTTP:
			if pxe {
				return PXEUEFI
			}
			return HTTPUEFI
		case archARM32HTTP, archARM64HTTP:
			if pxe {
				return PXEARM64
			}
			return HTTPARM64
		case archIA32:
			// There is no boot file for 32 bits.
		}
	}
	if len(arch) == 0 && pxe {
		return PXEBIOS // PXE 2.0 and older know no architectures
	}
	return Unsupported
}

func isIPXE(c Client) bool {
	if c.IPXE {
		return true
	}
	for _, u := range c.User {
		if u == "iPXE" {
			return true
		}
	}
	return false
}

// archOfClass reads the architecture out of a class such as
// "PXEClient:Arch:00007:UNDI:003001" (PXE specification 2.1, 2.2.3).
func archOfClass(class string) []uint16 {
	_, rest, ok := strings.Cut(class, ":Arch:")
	if !ok || len(rest) < 5 {
		return nil
	}
	n := 0
	for _, d := range []byte(rest[:5]) {
		if d < '0' || d > '9' {
			return nil
		}
		n = n*10 + int(d-'0')
	}
	if n > 0xffff {
		return nil
	}
	return []uint16{uint16(n)}
}

// Settings are what the administrator wants of a client.
type Settings struct {
	File  string // instead of the boot file: a name, or a URL for firmware that takes one
	Local bool   // boots from its own disk: no boot file
	Root  bool   // boots without preboot, with its root on the network: UEFI needs iPXE for that
}

// Files says which boot files there are.
type Files struct {
	Base  string // URL of the folder with the boot files, ending in "/"; empty without HTTP
	BIOS  bool
	UEFI  bool
	ARM64 string // name of the program for UEFI on arm64, a URL that HTTP boot alone takes, or "" for none
	IPXE  bool
}

// Choose returns the boot file: a name for TFTP where the kind is PXE, a URL
// where it is HTTP, "" where there is none.
func Choose(k Kind, s Settings, f Files) string {
	if s.Local || k == Ordinary || k == Unsupported {
		return ""
	}
	name := s.File
	if k == IPXE && name != "" && !strings.Contains(name, "://") && path.Ext(name) != ".ipxe" {
		// The file is the one that brought iPXE: it must not load itself for ever.
		name = ""
	}
	if strings.Contains(name, "://") {
		if k.HTTP() {
			return name
		}
		name = "" // PXE takes no URLs
	}
	if name == "" {
		switch {
		case (k == PXEUEFI || k == HTTPUEFI) && s.Root && f.IPXE:
			name = Loader
		case k == PXEBIOS && f.BIOS:
			name = BIOS
		case (k == PXEUEFI || k == HTTPUEFI) && f.UEFI:
			name = UEFI
		case k == HTTPARM64 && strings.Contains(f.ARM64, "://"):
			return f.ARM64
		case (k == PXEARM64 || k == HTTPARM64) && !strings.Contains(f.ARM64, "://"):
			name = f.ARM64
		case k == IPXE:
			name = Script
		}
	}
	if name == "" || !k.HTTP() {
		return name
	}
	if f.Base == "" {
		return ""
	}
	return f.Base + strings.TrimPrefix(name, "/")
}

// Missing says why there is no boot file for a kind of firmware that has none of
// its own in its settings; "" if there is one, or it wants none.
func Missing(k Kind, f Files) string {
	switch {
	case k == Ordinary || Choose(k, Settings{}, f) != "":
		return ""
	case k == PXEARM64 && f.ARM64 != "":
		return "the program for arm64 is at a URL, which PXE cannot load"
	case k == PXEARM64 || k == HTTPARM64:
		return "there is no program for arm64"
	case k == PXEBIOS:
		return "there is no program for the PXE of a BIOS"
	case k == Unsupported:
		return "there is no program for this architecture"
	}
	return "there are no boot files"
}
