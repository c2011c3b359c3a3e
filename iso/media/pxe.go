package media

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed pxe.cfg
var pxeConfig string

// BuildPXE writes the network boot program for the PXE of a BIOS to out: GRUB,
// which loads vmlinuz, initramfs.xz and site.cpio by TFTP from the server that
// it came from itself. grub is the folder of GRUB's modules; "" is
// /usr/lib/grub. It returns the length in bytes.
func BuildPXE(ctx context.Context, grub, out string) (int64, error) {
	if grub == "" {
		grub = "/usr/lib/grub"
	}
	work, err := os.MkdirTemp("", "inetboot-pxe-*")
	if err != nil {
		return 0, fmt.Errorf("make a folder for the PXE program: %w", err)
	}
	defer os.RemoveAll(work)
	config, image := filepath.Join(work, "pxe.cfg"), filepath.Join(work, "core")
	if err := os.WriteFile(config, fmt.Appendf(nil, pxeConfig, Cmdline), 0o644); err != nil {
		return 0, err
	}
	if err := tool(ctx, "grub-mkimage", "-d", filepath.Join(grub, "i386-pc"), "-O", "i386-pc-pxe", "-c", config, "-p", "(pxe)/", "-o", image,
		"pxe", "tftp", "linux", "boot", "normal", "echo", "sleep", "reboot"); err != nil {
		return 0, fmt.Errorf("make GRUB for PXE: %w", err)
	}
	data, err := os.ReadFile(image)
	if err != nil {
		return 0, fmt.Errorf("make GRUB for PXE: %w", err)
	}
	// PXE specification 2.1, 2.4: a boot program has to fit below 640 KiB of memory.
	const most = 512 << 10
	if len(data) > most {
		return 0, fmt.Errorf("the PXE program would have %d bytes, at most %d are loaded: use fewer of GRUB's modules", len(data), most)
	}
	if err := os.WriteFile(out, data, 0o644); err != nil {
		return 0, fmt.Errorf("write the PXE program: %w", err)
	}
	return int64(len(data)), nil
}
