package boottest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/root"
	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// TestImages boots what people have: a disk of a virtual machine, the same
// disk as it is, a live system's ISO, an installer, and a USB stick that keeps
// what it read. The small system of BusyBox is in all of them but the
// installer.
func TestImages(t *testing.T) {
	t.Parallel()
	bed := emptyBed(t)
	tree := unpack(t, debianroot.BusyBox())
	writeFile(t, filepath.Join(tree, "etc/fstab"), "UUID="+rootUUID+" / ext4 errors=remount-ro 0 1\n")
	want := treeSums(t, tree)
	disk := diskOf(t, tree)
	qcow2 := filepath.Join(t.TempDir(), "disk.qcow2")
	command(t, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, qcow2)
	for _, args := range [][]string{ // in the menu's order
		{qcow2, "--name", "disk"},
		{disk, "--as-is", "--name", "whole"},
		{liveISO(t, tree), "--as-is", "--name", "live"},
		{"/usr/lib/debian-installer/images/12/amd64/text", "--name", "installer", "--title", "Install Debian 12"},
		stickImage(t),
	} {
		if err := bed.Imagetool(t.Context(), append([]string{"push", "--version", "1", "--level", "1"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}

	for i, tt := range []struct {
		name    string
		kind    string // filesystem that the root is
		fstab   string // how /etc/fstab begins: as it was, or without the disk
		cmdline string
	}{
		{"disk", "erofs", "#", ""},
		{"whole", "ext4", "UUID", "fstab=no"},
		{"live", "squashfs", "UUID", "boot=live"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			vm, pcap := startEntry(t, vmtest.Config{CD: bed.ISO, Memory: 768}, fmt.Sprint(i+1), tt.name+"-1")
			sh := loginWith(t, vm, 900, "stty -echo; export PS1=")
			t.Logf("login prompt after %.0f s", vm.Uptime().Seconds())
			if got := lowerType(t, sh); got != tt.kind {
				t.Errorf("the root is %q; want %s", got, tt.kind)
			}
			if got := sh.run(t, 300, "cat /etc/fstab"); !strings.HasPrefix(got, tt.fstab) {
				t.Errorf("fstab = %q; want it to begin with %q", got, tt.fstab)
			}
			if got := sh.run(t, 300, "cat /proc/cmdline"); !strings.Contains(got, tt.cmdline) {
				t.Errorf("command line = %q; want %q in it", got, tt.cmdline)
			}
			for name, sum := range machineSums(t, sh) {
				if want[name] != sum && name != "/etc/fstab" && !slices.Contains(changedByBooting(), name) {
					t.Errorf("%s has the hash %s; want %q", name, sum, want[name])
				}
			}
			checkDHCP(t, pcap)
			checkEnd(t, vm, `reboot: Power down`)
		})
	}

	t.Run("installer", func(t *testing.T) {
		t.Parallel()
		vm := vmtest.StartT(t, vmtest.Config{CD: bed.ISO, Memory: 1024, NoReboot: true, NICs: []vmtest.NIC{{}}})
		vm.ExpectT(t, 600, `inetboot: menu ready`)
		vm.SendT(t, "4\r")
		vm.ExpectT(t, 600, `inetboot: leaving for installer-1`)
		vm.ExpectT(t, 900, `Select a language`)
		t.Logf("first screen after %.0f s", vm.Uptime().Seconds())
	})

	t.Run("stick", func(t *testing.T) {
		t.Parallel()
		checkStick(t, bed, "5")
	})
}

// checkStick boots from a USB stick with a cache partition: by BIOS with the
// network, until all is in the cache, and by UEFI without, from there alone.
func checkStick(t *testing.T, bed *testbed.Bed, number string) {
	stick := filepath.Join(t.TempDir(), "stick")
	if err := bed.Media(t.Context(), stick, bed.GuestURL, "--timeout=-1", "--cache", "300M"); err != nil {
		t.Fatal(err)
	}
	vm, _ := startEntry(t, vmtest.Config{USB: stick, KeepUSB: true, Memory: 768}, number, "stick-1")
	if text := vm.Text(); !strings.Contains(text, "inetboot: cache on ") {
		t.Errorf("preboot has not found the cache partition:\n%s", text)
	}
	sh := loginWith(t, vm, 900, "stty -echo; export PS1=")
	t.Logf("BIOS: login prompt after %.0f s", vm.Uptime().Seconds())
	s := bootOver(t, sh)
	if s.Cache == nil || s.Cache.State != "ok" {
		t.Fatalf("cache = %+v; want the stick's partition", s.Cache)
	}
	s = status(t, sh, 900, "the cache is not filled", func(s root.Status) bool { return s.Fill.State == "complete" || s.Fill.State == "stopped" })
	if s.Fill.State != "complete" {
		t.Fatalf("fill = %+v; want complete", s.Fill)
	}
	t.Logf("all is in the cache after %.0f s", vm.Uptime().Seconds())
	want := machineSums(t, sh)
	checkEnd(t, vm, `reboot: Power down`)

	vm = vmtest.StartT(t, vmtest.Config{USB: stick, KeepUSB: true, Firmware: vmtest.UEFI, Memory: 768, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{}}})
	if err := vm.SetLink(t.Context(), 0, false); err != nil {
		t.Fatal(err)
	}
	vm.ExpectT(t, 600, `inetboot: menu ready, offline`)
	if text := vm.Text(); !strings.Contains(text, "images complete in it: 1") {
		t.Errorf("preboot does not say that an image is complete in the cache:\n%s", text)
	}
	vm.SendT(t, number+"\r")
	sh = loginWith(t, vm, 900, "stty -echo; export PS1=")
	t.Logf("UEFI: login prompt after %.0f s", vm.Uptime().Seconds())
	s = bootOver(t, sh)
	if s.Origins["disk"].Blocks == 0 || s.Network.Blocks != 0 {
		t.Errorf("without a cable: %d blocks from the stick, %d over the network; want all from the stick", s.Origins["disk"].Blocks, s.Network.Blocks)
	}
	got := machineSums(t, sh)
	for name, sum := range want {
		if got[name] != sum && !slices.Contains(changedByBooting(), name) {
			t.Errorf("%s has the hash %q from the stick; want %s", name, got[name], sum)
		}
	}
	checkEnd(t, vm, `reboot: Power down`)
}

// hashed are the folders whose files are compared.
func hashed() []string { return []string{"/bin", "/boot", "/etc", "/root"} }

// machineSums returns the hash of every regular file in these on the machine.
func machineSums(t *testing.T, sh *shell) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for line := range strings.Lines(sh.run(t, 300, "find "+strings.Join(hashed(), " ")+" -xdev -type f -exec sha256sum {} +")) {
		if sum, name, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			sums[name] = sum
		}
	}
	if len(sums) < 6 {
		t.Errorf("%d files were hashed; want at least BusyBox, the kernel, and what is in /etc", len(sums))
	}
	return sums
}

// treeSums returns the same for a folder on this machine.
func treeSums(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, top := range hashed() {
		err := filepath.WalkDir(filepath.Join(dir, top), func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			sum := sha256.New()
			_, err = io.Copy(sum, f)
			sums[strings.TrimPrefix(name, dir)] = hex.EncodeToString(sum.Sum(nil))
			return errors.Join(err, f.Close())
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return sums
}

// lowerType returns the type of the filesystem below the overlay.
func lowerType(t *testing.T, sh *shell) string {
	t.Helper()
	for line := range strings.Lines(sh.run(t, 300, "cat /proc/self/mountinfo")) {
		left, right, ok := strings.Cut(line, " - ")
		if f, r := strings.Fields(left), strings.Fields(right); ok && len(f) > 4 && len(r) > 0 && strings.HasSuffix(f[4], "/inetboot/lower") {
			return r[0]
		}
	}
	return ""
}

// unpack returns a folder with a small system in it.
func unpack(t *testing.T, s debianroot.System) string {
	t.Helper()
	tarball, err := s.Tarball(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	command(t, "tar", "-xpf", tarball, "-C", dir, "--exclude=./dev/*")
	return dir
}

// rootUUID is of the disk's root.
const rootUUID = "5b0e4d0c-6f0f-4a51-9d4b-0d5ad1f4a001"

// diskOf makes a disk with a GPT whose second partition is the tree as ext4.
func diskOf(t *testing.T, tree string) string {
	t.Helper()
	const start, size = 4 << 20, 200 << 20
	dir := t.TempDir()
	part, disk := filepath.Join(dir, "part"), filepath.Join(dir, "disk")
	command(t, "mke2fs", "-q", "-F", "-t", "ext4", "-U", rootUUID, "-d", tree, part, fmt.Sprintf("%dk", size>>10))
	writeFile(t, disk, "")
	if err := os.Truncate(disk, start+size+1<<20); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tool("sfdisk"), "-q", disk)
	cmd.Stdin = strings.NewReader(fmt.Sprintf("label: gpt\nstart=2048, size=%d, type=uefi\nstart=%d, size=%d, type=linux\n", start/512-2048, start/512, size/512))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	command(t, "dd", "if="+part, "of="+disk, "bs=1M", fmt.Sprintf("seek=%d", start>>20), "conv=notrunc,sparse", "status=none")
	return disk
}

// liveISO makes an ISO in the layout of Debian's live systems: the kernel is
// beside the root only.
func liveISO(t *testing.T, tree string) string {
	t.Helper()
	dir := t.TempDir()
	live := filepath.Join(dir, "iso/live")
	for _, d := range []string{live, filepath.Join(dir, "iso/.disk")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(dir, "iso/.disk/info"), "A small live system\n")
	kernels, err := filepath.Glob(filepath.Join(tree, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("%d kernels, %v; want one", len(kernels), err)
	}
	kernel := filepath.Base(kernels[0])
	command(t, "mksquashfs", tree, filepath.Join(live, "filesystem.squashfs"), "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "1", "-e", "boot/"+kernel)
	command(t, "cp", kernels[0], live)
	writeFile(t, filepath.Join(live, "initrd.img"+strings.TrimPrefix(kernel, "vmlinuz")), "not used\n")
	iso := filepath.Join(dir, "live.iso")
	command(t, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", iso, filepath.Join(dir, "iso"))
	return iso
}

// stickImage returns the arguments for an image that is BusyBox on the kernel
// of the large Debian, which drives USB sticks, with a part of its modules.
func stickImage(t *testing.T) []string {
	t.Helper()
	small, err := debianroot.BusyBox().Tarball(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	large, err := debianroot.Tarball(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	args := []string{"-xf", large, "-C", dir, "--wildcards", "--no-wildcards-match-slash", "./boot/vmlinuz-*", "./boot/config-*", "./usr/lib/modules/*/modules.*"}
	for _, m := range []string{
		"arch", "block", "crypto", "lib", "net/core", "drivers/block/loop.ko", "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko", "drivers/scsi/sc*.ko", "drivers/scsi/sd_mod.ko",
		"drivers/usb", "drivers/virtio", "fs/erofs", "fs/fat", "fs/fscache", "fs/fuse", "fs/netfs", "fs/nls", "fs/overlayfs",
	} {
		args = append(args, "./usr/lib/modules/*/kernel/"+m)
	}
	command(t, "tar", args...)
	command(t, "mv", filepath.Join(dir, "usr/lib"), dir)
	command(t, "rmdir", filepath.Join(dir, "usr"))
	return []string{small, "--name", "stick", "--exclude", "/boot/*", "--exclude", "/lib/modules/*", "--overlay", dir}
}

func writeFile(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// tool returns the path of a program that may be among those for root.
func tool(name string) string {
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, name); exists(p) {
			return p
		}
	}
	return name
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, tool(name), args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}
