package media

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/internal/site"
)

//go:embed single.cfg
var singleConfig string

// BuildEFI writes everything of the medium into one UEFI program, for UEFI HTTP
// boot, PXE and existing EFI system partitions: GRUB with a memory disk of
// kernel, initramfs and an empty site slot. It returns the length in bytes.
func BuildEFI(ctx context.Context, o Options) (int64, error) {
	if o.GRUB == "" {
		o.GRUB = "/usr/lib/grub"
	}
	work, err := os.MkdirTemp("", "inetboot-efi-*")
	if err != nil {
		return 0, fmt.Errorf("make a folder for the program: %w", err)
	}
	defer os.RemoveAll(work)
	for name, from := range map[string]string{"vmlinuz": o.Kernel, "initramfs.xz": o.Initramfs} {
		data, err := os.ReadFile(from)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", from, err)
		}
		if err := os.WriteFile(filepath.Join(work, name), data, 0o644); err != nil {
			return 0, err
		}
	}
	for name, data := range map[string][]byte{"site.cpio": site.EmptySlot(), "config": fmt.Appendf(nil, singleConfig, Cmdline)} {
		if err := os.WriteFile(filepath.Join(work, name), data, 0o644); err != nil {
			return 0, err
		}
	}
	disk, program := filepath.Join(work, "disk.tar"), filepath.Join(work, "inetboot.efi")
	if err := tool(ctx, "tar", "--format=ustar", "--mtime=@1700000000", "--owner=0:0", "--group=0:0", "-C", work, "-cf", disk, "site.cpio", "vmlinuz", "initramfs.xz"); err != nil {
		return 0, fmt.Errorf("make the memory disk: %w", err)
	}
	if err := tool(ctx, "grub-mkimage", "-d", filepath.Join(o.GRUB, "x86_64-efi"), "-O", "x86_64-efi", "-m", disk, "-c", filepath.Join(work, "config"),
		"-p", "/", "-o", program, "memdisk", "tar", "linuxefi"); err != nil {
		return 0, fmt.Errorf("make GRUB for UEFI: %w", err)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		return 0, err
	}
	if _, err := site.FindSlot(bytes.NewReader(data), int64(len(data))); err != nil {
		return 0, fmt.Errorf("check the program: %w", err)
	}
	if err := os.WriteFile(o.Out, data, 0o644); err != nil {
		return 0, fmt.Errorf("write the program: %w", err)
	}
	return int64(len(data)), nil
}
