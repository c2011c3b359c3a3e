// Package full makes the large boot medium, for hardware that 5 MiB cannot know:
// Debian's own kernel, its modules for wired networks, disks and file systems with
// the firmware that they ask for, coldplug, which loads them, and preboot.
package full

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/inetboot/inetboot/iso/initramfs"
	"github.com/inetboot/inetboot/iso/media"
	"github.com/inetboot/inetboot/iso/uki"
)

// MaxSize is the most that the large medium may weigh, in bytes: what the FAT16
// file system that UEFI boots from can hold.
const MaxSize = 128 << 20

// Options says what to build from, and where to.
type Options struct {
	Package           string // Debian's kernel package; "": the one that linux-image-amd64 needs is downloaded
	Firmware          string // folder of firmware; "": /lib/firmware
	Cache             string // folder for packages and packed modules
	Preboot, Coldplug string // programs, built with CGO_ENABLED=0
	Out, OutEFI       string // the medium, and the same as one UEFI program; "": not written
	GRUB              string // folder of GRUB's modules; "": /usr/lib/grub
	Log               io.Writer
}

// Build writes the medium and says what weighs what.
func Build(ctx context.Context, o Options) ([]media.Part, error) {
	if o.Firmware == "" {
		o.Firmware = "/lib/firmware"
	}
	if err := os.MkdirAll(o.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("make the cache folder: %w", err)
	}
	if o.Package == "" {
		var err error
		if o.Package, err = download(ctx, o.Cache, o.Log); err != nil {
			return nil, err
		}
	}
	kernel, modules, err := unpacked(ctx, o)
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "inetboot-full-*")
	if err != nil {
		return nil, fmt.Errorf("make a folder for the medium: %w", err)
	}
	defer os.RemoveAll(work)
	programs := filepath.Join(work, "programs.xz")
	if err := initramfs.Pack(ctx, []initramfs.Program{{File: o.Coldplug, Name: "init"}, {File: o.Preboot, Name: "preboot"}}, programs); err != nil {
		return nil, err
	}
	archive := filepath.Join(work, "initramfs")
	if err := join(archive, modules, programs); err != nil {
		return nil, err
	}
	m := media.Options{Kernel: kernel, Initramfs: archive, Out: o.Out, GRUB: o.GRUB, MaxSize: MaxSize}
	parts, err := media.Build(ctx, m)
	if err != nil || o.OutEFI == "" {
		return parts, err
	}
	m.Out = o.OutEFI
	_, err = media.BuildEFI(ctx, m)
	return parts, err
}

// join puts archives behind one another, each at a multiple of uki.Align, which
// is one of the 4 bytes that the kernel wants.
func join(out string, files ...string) error {
	var all []byte
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("put the initramfs together: %w", err)
		}
		all = append(all, uki.Pad(data)...)
	}
	if err := os.WriteFile(out, all, 0o644); err != nil {
		return fmt.Errorf("put the initramfs together: %w", err)
	}
	return nil
}

// download gets the package that linux-image-amd64 needs into the cache, unless
// it is there, and returns its file.
func download(ctx context.Context, cache string, log io.Writer) (string, error) {
	out, err := output(ctx, cache, "apt-cache", "show", "--no-all-versions", "linux-image-amd64")
	if err != nil {
		return "", fmt.Errorf("ask which kernel is Debian's newest (or name a package): %w", err)
	}
	name, ok := depends(string(out))
	if !ok {
		return "", errors.New("ask which kernel is Debian's newest: linux-image-amd64 needs no package linux-image-…: name a package")
	}
	// Where the file is already, apt-get has nothing to say about it.
	dir, err := os.MkdirTemp(cache, "package-*")
	if err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	defer os.RemoveAll(dir)
	uris, err := output(ctx, dir, "apt-get", "download", "--print-uris", name)
	if err != nil {
		return "", fmt.Errorf("ask where %s is: %w", name, err)
	}
	// 'http://…/x.deb' x.deb 12345 SHA256:…
	fields := strings.Fields(string(uris))
	if len(fields) < 2 || filepath.Base(fields[1]) != fields[1] || !strings.HasSuffix(fields[1], ".deb") {
		return "", fmt.Errorf("ask where %s is: apt-get says %q", name, uris)
	}
	file := filepath.Join(cache, fields[1])
	if _, err := os.Stat(file); err == nil {
		return file, nil
	}
	fmt.Fprintf(log, "full: downloading %s\n", name)
	// apt-get checks the package against its signed lists.
	if _, err := output(ctx, dir, "apt-get", "-q", "download", name); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	if err := os.Rename(filepath.Join(dir, fields[1]), file); err != nil {
		return "", fmt.Errorf("download %s: %w", name, err)
	}
	return file, nil
}

// depends returns the package of a kernel that a package's description needs.
func depends(description string) (string, bool) {
	for line := range strings.Lines(description) {
		list, ok := strings.CutPrefix(line, "Depends:")
		if !ok {
			continue
		}
		for d := range strings.SplitSeq(list, ",") {
			if name, _, _ := strings.Cut(strings.TrimSpace(d), " "); strings.HasPrefix(name, "linux-image-") {
				return name, true
			}
		}
	}
	return "", false
}

// output runs a program in dir and returns what it prints.
func output(ctx context.Context, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%w (`make deps` installs it)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}
