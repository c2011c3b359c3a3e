// Package media writes the boot medium: one image that boots by BIOS and by
// UEFI, from CD and, written as it is, from a USB stick or disk.
//
//	sector 0         MBR with GRUB's boot code; partition 2 is the EFI system partition
//	ISO 9660         /boot/bios.img: GRUB for BIOS, and four files that lie side by side at the end:
//	                 /boot/esp.img, /boot/{vmlinuz,initramfs.xz,site.cpio}
//	the same bytes   a FAT file system whose one file, EFI/BOOT/BOOTX64.EFI, goes on over
//	                 the end of esp.img: a unified kernel image (package uki)
//
// By BIOS, GRUB's core (in bios.img for a CD, found by the MBR's code on a
// stick) takes the device it came from as root and reads the ISO file system
// there. By UEFI, the firmware loads BOOTX64.EFI, which has all the rest in it.
// Neither has a menu or a configuration file: preboot has the menu.
package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/iso/uki"
)

// MaxSize is the most that the medium may weigh, in bytes.
const MaxSize = 5 * 1024 * 1024

// Cmdline is the kernel command line of the media: both consoles show the
// menu, and preboot passes them on to the target. One processor is enough for
// preboot, and waking the others takes longer than what they would do.
const Cmdline = "console=ttyS0,115200 console=tty0 nr_cpus=1"

// ErrTooLarge is wrapped when the medium would weigh more than MaxSize.
var ErrTooLarge = errors.New("the boot medium is too large")

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
	bios, err := grubBIOS(ctx, o.GRUB, work)
	if err != nil {
		return nil, err
	}
	program, parts, err := unified(ctx, o)
	if err != nil {
		return nil, err
	}
	esp, err := systemPartition(ctx, work, program)
	if err != nil {
		return nil, err
	}
	own := len(esp) - (len(program.Data) - program.Head) // what is not kernel, initramfs or slot
	files := []file{{"esp.img", esp[:own]}}
	at := own
	for i, name := range []string{"vmlinuz", "initramfs.xz", "site.cpio"} {
		size := int(parts[i].Size)
		files = append(files, file{name, esp[at : at+size]})
		at += roundUp(size, uki.Align)
	}
	parts = append(parts, Part{"GRUB for BIOS", int64(len(bios))}, Part{"UEFI loader and its FAT", int64(own)})
	data, err := image(ctx, o.GRUB, work, bios, files, esp)
	if err != nil {
		return nil, err
	}
	total := int64(len(data))
	around := total
	for _, p := range parts {
		around -= p.Size
	}
	parts = append(parts, Part{"file systems and tables", around})
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
