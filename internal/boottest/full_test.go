package boottest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/inetboot/inetboot/internal/vmtest"
)

// TestFullMedium boots over a card that the small medium has no driver for.
// `make full-test` builds what it boots.
func TestFullMedium(t *testing.T) {
	full := os.Getenv("INETBOOT_FULL")
	if full == "" {
		t.Skip("INETBOOT_FULL names no large medium: use `make full-test`")
	}
	bed, _ := newBed(t)
	iso := filepath.Join(t.TempDir(), "full.iso")
	if err := bed.Imagetool(t.Context(), "media", "--iso", full, "--url", bed.GuestURL, "--timeout=-1", "-o", iso); err != nil {
		t.Fatal(err)
	}
	for _, fw := range []vmtest.Firmware{vmtest.BIOS, vmtest.UEFI} {
		t.Run(string(fw), func(t *testing.T) {
			vm := vmtest.StartT(t, vmtest.Config{Firmware: fw, CD: iso, Memory: 1024, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{Model: "tulip"}}})
			vm.ExpectT(t, 600, `inetboot: menu ready`)
			t.Logf("menu after %.1f s", vm.Uptime().Seconds())
			vm.SendT(t, "1\r")
			vm.ExpectT(t, 60, `inetboot: starting debian-12`)
			sh := login(t, vm, 900)
			if got := sh.run(t, 30, "basename $(readlink -f /sys/class/net/e*/device/driver)"); got != "tulip" {
				t.Errorf("the network's driver is %q; want tulip", got)
			}
		})
	}
}
