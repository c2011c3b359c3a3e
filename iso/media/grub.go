package media

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

//go:embed bios.cfg
var biosConfig string

//go:embed grub/normal.s
var normalModule []byte

// grubBIOS returns the El Torito boot image: GRUB's loader for CDs and a core
// that reads ISO 9660 and starts Linux, nothing else.
func grubBIOS(ctx context.Context, grub, work string) ([]byte, error) {
	dir := filepath.Join(grub, "i386-pc")
	config := filepath.Join(work, "bios.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, biosConfig, Cmdline), 0o644); err != nil {
		return nil, err
	}
	modules, err := grubModules(ctx, dir, work)
	if err != nil {
		return nil, fmt.Errorf("make GRUB for BIOS: %w", err)
	}
	core := filepath.Join(work, "core.img")
	if err := tool(ctx, "grub-mkimage", "-d", modules, "-O", "i386-pc", "-c", config, "-p", "/", "-o", core,
		"biosdisk", "iso9660", "linux16", "boot"); err != nil {
		return nil, fmt.Errorf("make GRUB for BIOS: %w", err)
	}
	loader, err := os.ReadFile(filepath.Join(dir, "cdboot.img"))
	if err != nil {
		return nil, fmt.Errorf("read GRUB's CD loader: %w", err)
	}
	image, err := os.ReadFile(core)
	if err != nil {
		return nil, fmt.Errorf("make GRUB for BIOS: %w", err)
	}
	return append(loader, image...), nil
}

// grubModules returns a folder like dir in which the module "normal" is the
// small one of this package.
func grubModules(ctx context.Context, dir, work string) (string, error) {
	const small = "normal"
	if err := checkSmall(filepath.Join(dir, "linux.mod"), filepath.Join(dir, small+".mod")); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", fmt.Errorf("list GRUB's modules: %w", err)
	}
	out := filepath.Join(work, "modules")
	if err := os.Mkdir(out, 0o755); err != nil {
		return "", err
	}
	for _, e := range entries {
		from, to := filepath.Join(dir, e.Name()), filepath.Join(out, e.Name())
		switch e.Name() {
		case small + ".mod":
			source := filepath.Join(work, "normal.s")
			if err := os.WriteFile(source, normalModule, 0o644); err != nil {
				return "", err
			}
			if err := tool(ctx, "as", "--32", "-o", to, source); err != nil {
				return "", err
			}
		case "moddep.lst":
			list, err := os.ReadFile(from)
			if err != nil {
				return "", fmt.Errorf("read the dependencies of GRUB's modules: %w", err)
			}
			list = regexp.MustCompile(`(?m)^`+small+`:.*$`).ReplaceAll(list, []byte(small+":"))
			if err := os.WriteFile(to, list, 0o644); err != nil {
				return "", err
			}
		default:
			if err := os.Symlink(from, to); err != nil {
				return "", err
			}
		}
	}
	return out, nil
}
