package system

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAdapters(t *testing.T) {
	bus := t.TempDir()
	device := func(path string, attributes map[string]string, driver bool) {
		dir := filepath.Join(bus, path)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, value := range attributes {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if driver {
			if err := os.Symlink("../drivers/x", filepath.Join(dir, "driver")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := Adapters(bus); got != "" {
		t.Errorf("Adapters of nothing = %q", got)
	}
	pci := func(class, vendor, id string) map[string]string {
		return map[string]string{"class": class, "vendor": vendor, "device": id}
	}
	usb := func(class, sub, protocol string) map[string]string {
		return map[string]string{"bInterfaceClass": class, "bInterfaceSubClass": sub, "bInterfaceProtocol": protocol}
	}
	device("pci/devices/0000:00:03.0", pci("0x020000", "0x8086", "0x15f3"), false)
	device("pci/devices/0000:00:04.0", pci("0x028000", "0x8086", "0x2725"), false)
	device("pci/devices/0000:00:05.0", pci("0x020000", "0x1af4", "0x1000"), true)
	device("pci/devices/0000:00:06.0", pci("0x030000", "0x1234", "0x1111"), false)
	device("usb/devices/1-1", map[string]string{"idVendor": "0bda", "idProduct": "8156"}, true)
	device("usb/devices/1-1:1.0", usb("ff", "ff", "00"), false)
	device("usb/devices/1-1:2.0", usb("02", "0d", "00"), false)
	device("usb/devices/1-2", map[string]string{"idVendor": "0781", "idProduct": "5567"}, true)
	device("usb/devices/1-2:1.0", usb("08", "06", "50"), false)
	device("usb/devices/1-3", map[string]string{"idVendor": "04e8", "idProduct": "6863"}, true)
	device("usb/devices/1-3:1.0", usb("e0", "01", "03"), false)
	device("usb/devices/1-4", map[string]string{"idVendor": "0b95", "idProduct": "1790"}, true)
	device("usb/devices/1-4:1.0", usb("ff", "ff", "00"), true)
	if got, want := Adapters(bus), "network hardware without a driver: PCI 8086:15f3, PCI 8086:2725, USB 04e8:6863, USB 0bda:8156"; got != want {
		t.Errorf("Adapters() = %q; want %q", got, want)
	}
}
