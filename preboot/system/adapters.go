package system

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxAdapters bounds the list of Adapters.
const maxAdapters = 12

// Adapters lists the network hardware below bus (/sys/bus) that no driver has
// taken, for people who look for help: "network hardware without a driver: PCI
// 8086:15f3, USB 0bda:8156". It returns "" if there is none.
func Adapters(bus string) string {
	found := append(pciAdapters(filepath.Join(bus, "pci/devices")), usbAdapters(filepath.Join(bus, "usb/devices"))...)
	slices.Sort(found)
	if found = slices.Compact(found); len(found) == 0 {
		return ""
	}
	more := ""
	if len(found) > maxAdapters {
		more = fmt.Sprintf(" and %d more", len(found)-maxAdapters)
		found = found[:maxAdapters]
	}
	return "network hardware without a driver: " + strings.Join(found, ", ") + more
}

// pciAdapters returns the ids of devices of class 02 (network controller).
func pciAdapters(dir string) []string {
	devices, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return nil
	}
	var out []string
	for _, d := range devices {
		if strings.HasPrefix(attribute(d, "class"), "0x02") && !taken(d) {
			out = append(out, "PCI "+strings.TrimPrefix(attribute(d, "vendor"), "0x")+":"+strings.TrimPrefix(attribute(d, "device"), "0x"))
		}
	}
	return out
}

// usbAdapters returns the ids of devices with an interface that no driver has
// taken and that may be a network adapter's: class 02 (communication), RNDIS
// (e0/01/03), or one of the vendor's own.
func usbAdapters(dir string) []string {
	interfaces, err := filepath.Glob(filepath.Join(dir, "*:*"))
	if err != nil {
		return nil
	}
	var out []string
	for _, i := range interfaces {
		class := attribute(i, "bInterfaceClass")
		rndis := class == "e0" && attribute(i, "bInterfaceSubClass") == "01" && attribute(i, "bInterfaceProtocol") == "03"
		if class != "02" && class != "ff" && !rndis || taken(i) {
			continue
		}
		device := filepath.Join(dir, filepath.Base(i[:strings.LastIndexByte(i, ':')]))
		out = append(out, "USB "+attribute(device, "idVendor")+":"+attribute(device, "idProduct"))
	}
	return out
}

func attribute(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil || len(b) > 64 {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func taken(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "driver"))
	return err == nil
}
