package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// TestMissingDriver has an image whose kernel lacks the driver of the adapter
// that the machine has come over: it is asked before the jump.
func TestMissingDriver(t *testing.T) {
	b := newBed(t, -1)
	b.missing = []string{"tg3", "virtio_net", "e1000"}
	b.paths = b.publish(t, 2, time.Now().Add(time.Hour), b.kernel, b.target, -1)
	vm := b.start(t, &site.Site{URLs: []string{b.url}}, vmtest.Config{Name: "driver", NICs: []vmtest.NIC{{Model: "e1000"}}})
	vm.ExpectT(t, patience, `inetboot: menu ready`)
	vm.SendT(t, "1\r")
	vm.ExpectT(t, patience, `inetboot: kernel 6\.1\.0-test of tiny 1 has no driver e1000, which eth0 needs`)
	vm.ExpectT(t, patience, `> +1  Back to the menu`)
	vm.SendT(t, "1\r")
	vm.ExpectT(t, patience, `inetboot: failed: driver: the image's kernel has no driver for this machine's network adapter: e1000`)
	vm.ExpectT(t, patience, `> +1  Tiny Linux 1`)
	vm.SendT(t, "1\r")
	vm.ExpectT(t, patience, `2  Start it all the same`)
	vm.SendT(t, "2\r")
	expectTarget(t, vm)
}

// TestDrivers has one adapter of each kind that QEMU knows and the boot medium
// has a driver for, and one on each kind of USB controller that takes it (QEMU's
// is too slow for EHCI): each of them gets a lease.
func TestDrivers(t *testing.T) {
	b := newBed(t, -1)
	models := []string{"virtio-net-pci", "e1000", "e1000e", "i82550", "i82557b", "rtl8139", "pcnet", "ne2k_pci", "vmxnet3", "e1000-82544gc", "i82559er", "i82801", "virtio-net-pci-non-transitional", "usb-net"}
	c := vmtest.Config{Name: "drivers"}
	for _, m := range models {
		c.NICs = append(c.NICs, vmtest.NIC{Model: m})
	}
	for _, controller := range []string{"piix3-usb-uhci", "pci-ohci"} {
		id := fmt.Sprintf("card%d", len(models))
		c.Args = append(c.Args, "-device", controller+",id="+controller, "-netdev", "user,id="+id,
			"-device", fmt.Sprintf("usb-net,bus=%s.0,netdev=%s,mac=52:54:00:12:34:%02x", controller, id, 0x56+len(models)))
		models = append(models, "usb-net on "+controller)
	}
	// Nobody listens there, so every link is tried.
	vm := b.start(t, &site.Site{URLs: []string{"http://10.0.2.2:1"}}, c)
	vm.ExpectT(t, patience, `inetboot: failed: `)
	vm.ExpectT(t, 5*patience, `> +1  Try again`)
	text := vm.Text()
	for i, m := range models {
		up := regexp.MustCompile(fmt.Sprintf(`(\w+) \(52:54:00:12:34:%02x\) is up`, 0x56+i)).FindStringSubmatch(text)
		if up == nil {
			t.Errorf("%s: no link", m)
		} else if !strings.Contains(text, "lease 10.0.2.15/24 on "+up[1]+" from 10.0.2.2\n") {
			t.Errorf("%s: no lease on %s", m, up[1])
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	t.Logf("all tried after %.1f s", vm.Uptime().Seconds())
}
