package full

import (
	"path"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/internal/module"
)

// folders of a kernel's modules that are on the medium: what finds a wired
// network, keyboards, disks and the file systems on them.
func folders() []string {
	return []string{
		// Network cards, and what they hang on.
		"drivers/net/ethernet", "drivers/net/phy", "drivers/net/mdio", "drivers/net/usb", "drivers/net/hyperv", "drivers/net/vmxnet3",
		"drivers/net/fjes", "drivers/net/virtio_net.ko", "drivers/net/xen-netfront.ko", "drivers/net/net_failover.ko",
		"drivers/net/thunderbolt-net.ko", "drivers/thunderbolt", "net/8021q",
		// Disks.
		"drivers/ata", "drivers/nvme/host", "drivers/scsi", "drivers/block/virtio_blk.ko", "drivers/block/xen-blkfront.ko",
		"drivers/block/loop.ko", "drivers/cdrom", "drivers/message/fusion", "drivers/mmc", "drivers/firewire", "drivers/usb/storage",
		"drivers/md",
		// Buses, keyboards, randomness.
		"drivers/usb/host", "drivers/usb/core", "drivers/usb/common", "drivers/usb/class/cdc-acm.ko", "drivers/usb/typec", "drivers/usb/roles", "drivers/usb/dwc3",
		"drivers/usb/serial", "drivers/hid", "drivers/input/keyboard", "drivers/input/serio", "drivers/hv", "drivers/virtio",
		"drivers/char/hw_random", "drivers/pci", "drivers/xen", "drivers/rtc",
		// File systems.
		"fs/ext4", "fs/jbd2", "fs/fat", "fs/exfat", "fs/xfs", "fs/btrfs", "fs/ntfs3", "fs/f2fs", "fs/isofs", "fs/udf", "fs/nls",
	}
}

// chosen returns the files of the modules on the medium, sorted: those in
// folders, and what they depend on. files are paths below the kernel's folder,
// such as "kernel/drivers/net/virtio_net.ko".
func chosen(tree *module.Tree, files []string) ([]string, error) {
	want := map[string]bool{}
	for _, f := range files {
		if !strings.HasSuffix(f, ".ko") || !inFolders(f) {
			continue
		}
		order, err := tree.Order(module.Name(f))
		if err != nil {
			return nil, err
		}
		for _, name := range order {
			file, err := tree.File(name)
			if err != nil {
				return nil, err
			}
			want[file] = true
		}
	}
	out := make([]string, 0, len(want))
	for f := range want {
		out = append(out, f)
	}
	slices.Sort(out)
	return out, nil
}

func inFolders(file string) bool {
	rest, ok := strings.CutPrefix(path.Clean(file), "kernel/")
	if !ok {
		return false
	}
	return slices.ContainsFunc(folders(), func(f string) bool { return rest == f || strings.HasPrefix(rest, f+"/") })
}
