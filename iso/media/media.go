// Package media writes the boot medium: one image that boots by BIOS and by
// UEFI, from CD and, written as it is, from a USB stick or disk.
//
//	sector 0         MBR with GRUB's boot code; partition 2 is the EFI system partition
//	ISO 9660         /boot/{vmlinuz,initramfs.xz,site.cpio}, each once, and /boot/bios.img
//	behind it        a FAT file system with nothing but GRUB for UEFI
//
// By BIOS, GRUB's core (in bios.img for a CD, found by the MBR's code on a
// stick) takes the device it came from as root and reads the ISO file system
// there. By UEFI, GRUB looks for the device that has initramfs.xz. Neither has
// a menu or a configuration file: preboot has the menu.
package media

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/inetboot/inetboot/internal/site"
)

// MaxSize is the most that the medium may weigh, in bytes.
const MaxSize = 5 * 1024 * 1024

// Cmdline is the kernel command line of the media: both consoles show the
// menu, and preboot passes them on to the target.
const Cmdline = "console=ttyS0,115200 console=tty0"

// ErrTooLarge is wrapped when the medium would weigh more than MaxSize.
var ErrTooLarge = errors.New("the boot medium is too large")

//go:embed bios.cfg
var biosConfig string

//go:embed efi.cfg
var efiConfig string

// Options names the parts and the result.
type Options struct {
	Kernel, Initramfs string // files
	Out               string // the ISO to write
	GRUB              string // folder of GRUB's modules; "": /usr/lib/grub
	MaxSize           int64  // 0: MaxSize
}

// Part is a piece of the medium and its weight in bytes.
type Part struct {
	Name string
	Size int64
}

// Build writes the medium and says what weighs what. The last part is what
// the file systems and tables around the others take.
func Build(ctx context.Context, o Options) ([]Part, error) {
	if o.GRUB == "" {
		o.GRUB = "/usr/lib/grub"
	}
	if o.MaxSize == 0 {
		o.MaxSize = MaxSize
	}
	work, err := os.MkdirTemp("", "inetboot-media-*")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the medium: %w", err)
	}
	defer os.RemoveAll(work)
	tree := filepath.Join(work, "tree", "boot")
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return nil, err
	}
	var parts []Part
	put := func(label, name string, data []byte) error {
		parts = append(parts, Part{label, int64(len(data))})
		return os.WriteFile(filepath.Join(tree, name), data, 0o644)
	}
	for _, f := range []struct{ label, name, from string }{
		{"kernel", "vmlinuz", o.Kernel}, {"initramfs", "initramfs.xz", o.Initramfs},
	} {
		data, err := os.ReadFile(f.from)
		if err != nil {
			return nil, fmt.Errorf("read the %s: %w", f.label, err)
		}
		if err := put(f.label, f.name, data); err != nil {
			return nil, err
		}
	}
	if err := put("site slot", "site.cpio", site.EmptySlot()); err != nil {
		return nil, err
	}
	bios, err := grubBIOS(ctx, o.GRUB, work)
	if err != nil {
		return nil, err
	}
	if err := put("GRUB for BIOS", "bios.img", bios); err != nil {
		return nil, err
	}
	esp := filepath.Join(work, "esp.img")
	n, err := grubEFI(ctx, o.GRUB, work, esp)
	if err != nil {
		return nil, err
	}
	parts = append(parts, Part{"GRUB for UEFI", n})

	partial := filepath.Join(work, "medium.iso")
	if err := tool(ctx, "xorriso", "-as", "mkisofs", "-quiet", "-o", partial, "-V", "INETBOOT", "-no-pad",
		"--modification-date=2023111422132000",
		"--set_all_file_dates", "2023111422132000",
		"-b", "boot/bios.img", "-c", "boot/boot.cat", "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "--grub2-boot-info",
		"--grub2-mbr", filepath.Join(o.GRUB, "i386-pc", "boot_hybrid.img"),
		"-append_partition", "2", "0xef", esp,
		"-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot",
		filepath.Join(work, "tree")); err != nil {
		return nil, fmt.Errorf("write the ISO: %w", err)
	}
	data, err := os.ReadFile(partial)
	if err != nil {
		return nil, fmt.Errorf("write the ISO: %w", err)
	}
	total := int64(len(data))
	rest := total
	for _, p := range parts {
		rest -= p.Size
	}
	parts = append(parts, Part{"file systems and tables", rest})
	if total > o.MaxSize {
		return parts, fmt.Errorf("%w: %d bytes, at most %d are allowed: %s", ErrTooLarge, total, o.MaxSize, Table(parts))
	}
	if _, err := site.FindSlot(bytes.NewReader(data), total); err != nil {
		return nil, fmt.Errorf("check the ISO: %w", err)
	}
	if err := os.WriteFile(o.Out, data, 0o644); err != nil {
		return nil, fmt.Errorf("write the ISO: %w", err)
	}
	return parts, nil
}

// Table returns parts as one line.
func Table(parts []Part) string {
	var cols []string
	for _, p := range parts {
		cols = append(cols, fmt.Sprintf("%s %d", p.Name, p.Size))
	}
	return strings.Join(cols, ", ")
}

// grubBIOS returns the El Torito boot image: GRUB's loader for CDs and a core
// that reads ISO 9660 and starts Linux, nothing else.
func grubBIOS(ctx context.Context, grub, work string) ([]byte, error) {
	dir := filepath.Join(grub, "i386-pc")
	config := filepath.Join(work, "bios.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, biosConfig, Cmdline), 0o644); err != nil {
		return nil, err
	}
	core := filepath.Join(work, "core.img")
	if err := tool(ctx, "grub-mkimage", "-d", dir, "-O", "i386-pc", "-c", config, "-p", "/", "-o", core,
		"biosdisk", "iso9660", "linux", "boot"); err != nil {
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

// grubEFI writes a FAT12 file system with GRUB as the default UEFI program,
// and returns its size in bytes.
func grubEFI(ctx context.Context, grub, work, out string) (int64, error) {
	config := filepath.Join(work, "efi.cfg")
	if err := os.WriteFile(config, fmt.Appendf(nil, efiConfig, Cmdline), 0o644); err != nil {
		return 0, err
	}
	program := filepath.Join(work, "bootx64.efi")
	if err := tool(ctx, "grub-mkimage", "-d", filepath.Join(grub, "x86_64-efi"), "-O", "x86_64-efi", "-c", config, "-p", "/", "-o", program,
		"iso9660", "linuxefi", "search_fs_file"); err != nil {
		return 0, fmt.Errorf("make GRUB for UEFI: %w", err)
	}
	info, err := os.Stat(program)
	if err != nil {
		return 0, fmt.Errorf("make GRUB for UEFI: %w", err)
	}
	// One boot sector, two for the FAT, one for the root folder (16 entries),
	// one cluster for each of the two folders, and the program.
	const sector = 512
	sectors := (info.Size()+sector-1)/sector + 1 + 2 + 1 + 2
	// The ISO counts in units of four of them.
	sectors = (sectors + 3) / 4 * 4
	for _, args := range [][]string{
		{"mformat", "-C", "-i", out, "-T", fmt.Sprint(sectors), "-h", "1", "-s", "1", "-c", "1", "-r", "1", "-d", "1", "-L", "2", "-N", "494e4554", "-v", "INETBOOT", "::"},
		{"mmd", "-i", out, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-i", out, program, "::/EFI/BOOT/BOOTX64.EFI"},
	} {
		if err := tool(ctx, args[0], args[1:]...); err != nil {
			return 0, fmt.Errorf("make the EFI system partition: %w", err)
		}
	}
	return sectors * sector, nil
}

// tool runs a program with a fixed clock, so that the same parts give the
// same bytes.
func tool(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "SOURCE_DATE_EPOCH=1700000000", "MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1")
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%w (`make deps` installs it)", err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
