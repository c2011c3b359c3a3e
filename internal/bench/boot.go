package main

import (
	"context"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/internal/vmtest"
)

// boot measures from QEMU's start to the menu and to the login prompt. Nobody
// waits at the menu: the entry is chosen as soon as it is there.
func (b *bench) boot(ctx context.Context) ([]result, error) {
	var rs []result
	for _, fw := range []vmtest.Firmware{vmtest.BIOS, vmtest.UEFI} {
		fmt.Fprintf(b.out, "bench: boot by %s (%s)\n", fw, vmtest.Accel())
		menu, login, err := b.bootOnce(ctx, fw)
		if err != nil {
			return nil, err
		}
		rs = append(rs,
			result{Name: fmt.Sprintf("boot by %s: menu", fw), Unit: "s", Ours: menu.Seconds()},
			result{Name: fmt.Sprintf("boot by %s: login prompt", fw), Unit: "s", Ours: login.Seconds()})
	}
	return rs, nil
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
