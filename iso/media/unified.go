package media

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/iso/uki"
)

// unified returns kernel, initramfs and an empty site slot as one UEFI program,
// and what each of them weighs.
func unified(ctx context.Context, o Options) (*uki.Image, []Part, error) {
	kernel, err := os.ReadFile(o.Kernel)
	if err != nil {
		return nil, nil, fmt.Errorf("read the kernel: %w", err)
	}
	initramfs, err := os.ReadFile(o.Initramfs)
	if err != nil {
		return nil, nil, fmt.Errorf("read the initramfs: %w", err)
	}
	slot := site.EmptySlot()
	program, err := uki.Build(ctx, uki.Parts{Kernel: kernel, Initrd: [][]byte{initramfs, slot}, Cmdline: Cmdline})
	if err != nil {
		return nil, nil, err
	}
	return program, []Part{
		{"kernel", int64(len(kernel))},
		{"initramfs", int64(len(initramfs))},
		{"site slot", int64(len(slot))},
	}, nil
}

// BuildEFI writes what UEFI boots from the medium as a file of its own, for UEFI
// HTTP boot, PXE and existing EFI system partitions. It returns the length in
// bytes.
func BuildEFI(ctx context.Context, o Options) (int64, error) {
	program, _, err := unified(ctx, o)
	if err != nil {
		return 0, err
	}
	if _, err := site.FindSlot(bytes.NewReader(program.Data), int64(len(program.Data))); err != nil {
		return 0, fmt.Errorf("check the program: %w", err)
	}
	if err := os.WriteFile(o.Out, program.Data, 0o644); err != nil {
		return 0, fmt.Errorf("write the program: %w", err)
	}
	return int64(len(program.Data)), nil
}
