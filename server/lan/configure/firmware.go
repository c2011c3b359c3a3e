package configure

import (
	"strings"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// tests are what a DHCP server's language has for the parts of a condition on
// a machine's firmware.
type tests struct {
	arch  func(a uint16) string                // option 93 says the architecture
	named func(vendor string, a uint16) string // the vendor class says it
	bare  string                               // a class of PXE without one
	whole func(vendor, arch, named string) string
}

// firmwareTest is true for firmware of a kind that is not iPXE. Option 93
// counts; without it, the class says the architecture.
func firmwareTest(k bootfile.Kind, t tests) string {
	var or []string
	for _, f := range firmwares() {
		vendor := "PXEClient"
		switch k {
		case f.pxe:
		case f.http:
			vendor = "HTTPClient"
		default:
			continue
		}
		var arch, named []string
		for _, a := range f.arch {
			arch, named = append(arch, t.arch(a)), append(named, t.named(vendor, a))
		}
		if k == bootfile.PXEBIOS { // PXE 2.0 and older know no architectures
			named = append(named, t.bare)
		}
		or = append(or, t.whole(vendor, strings.Join(arch, " or "), strings.Join(named, " or ")))
	}
	return strings.Join(or, " or ")
}
