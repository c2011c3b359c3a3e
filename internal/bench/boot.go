package main

import (
	"context"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/internal/vmtest"
)

// boot measures from QEMU's start to the menu and to the login prompt. Nobody
// waits at the menu: the entry is chosen as soon as it is there.
func (b *bench) boot(ctx context.Context) error {
	for _, fw := range []vmtest.Firmware{vmtest.BIOS, vmtest.UEFI} {
		b.say("boot by %s (%s)", fw, vmtest.Accel())
		menu, login, err := b.bootOnce(ctx, fw)
		if err != nil {
			return err
		}
		b.report(figure(fmt.Sprintf("boot by %s: menu", fw), "s", menu.Seconds()))
		b.report(figure(fmt.Sprintf("boot by %s: login prompt", fw), "s", login.Seconds()))
	}
	return nil
}

func (b *bench) bootOnce(ctx context.Context, fw vmtest.Firmware) (menu, login time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	vm, err := vmtest.Start(ctx, vmtest.Config{CD: b.bed.ISO, Firmware: fw, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{}}})
	if err != nil {
		return 0, 0, err
	}
	defer vm.Close()
	if _, err := vm.Expect(ctx, `inetboot: menu ready`); err != nil {
		return 0, 0, fmt.Errorf("%w\n%s", err, vm.Command)
	}
	menu = vm.Uptime()
	if err := vm.Send("1\r"); err != nil {
		return 0, 0, err
	}
	if _, err := vm.Expect(ctx, `login: `); err != nil {
		return 0, 0, fmt.Errorf("%w\n%s", err, vm.Command)
	}
	return menu, vm.Uptime(), nil
}
