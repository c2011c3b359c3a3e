package main

import (
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
