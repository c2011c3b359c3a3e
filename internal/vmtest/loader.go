package vmtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// LinuxFiles are what a boot loader loads to start Linux.
type LinuxFiles struct {
	Kernel  string   // file
	Initrds []string // files, the one behind the other
	Cmdline string
}

// IPXEScript returns a script for iPXE that loads the files by their names from
// below a URL.
func (l *LinuxFiles) IPXEScript(base string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "#!ipxe\nkernel %s/%s %s\n", base, filepath.Base(l.Kernel), l.Cmdline)
	for _, f := range l.Initrds {
		fmt.Fprintf(&b, "initrd %s/%s\n", base, filepath.Base(f))
	}
	return b.String() + "boot\n"
}

// GRUBDisk writes an image of a disk from which GRUB, as Debian packages it,
// starts the files on BIOS, and on UEFI where Debian's grub-efi-amd64-bin is
// installed.
func (l *LinuxFiles) GRUBDisk(ctx context.Context, out string) error {
	tree, err := os.MkdirTemp(filepath.Dir(out), "grub-*")
	if err != nil {
		return fmt.Errorf("disk with GRUB: %w", err)
	}
	defer os.RemoveAll(tree)
	if err := os.MkdirAll(filepath.Join(tree, "boot", "grub"), 0o755); err != nil {
		return fmt.Errorf("disk with GRUB: %w", err)
	}
	names := make([]string, 0, len(l.Initrds))
	for _, f := range append([]string{l.Kernel}, l.Initrds...) {
		data, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("disk with GRUB: %w", err)
		}
		name := "/boot/" + filepath.Base(f)
		if err := os.WriteFile(filepath.Join(tree, name), data, 0o644); err != nil {
			return fmt.Errorf("disk with GRUB: %w", err)
		}
		names = append(names, name)
	}
	config := fmt.Sprintf("linux %s %s\ninitrd %s\nboot\n", names[0], l.Cmdline, strings.Join(names[1:], " "))
	if err := os.WriteFile(filepath.Join(tree, "boot", "grub", "grub.cfg"), []byte(config), 0o644); err != nil {
		return fmt.Errorf("disk with GRUB: %w", err)
	}
	if b, err := exec.CommandContext(ctx, "grub-mkrescue", "--output="+out, tree).CombinedOutput(); err != nil {
		return fmt.Errorf("disk with GRUB: grub-mkrescue (`make deps` installs it): %w: %s", err, b)
	}
	return nil
}
