package cachedisk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Device is a partition, or a disk without partitions.
type Device struct {
	Name      string // as below /sys/class/block: "sda1", "nvme0n1p2"
	Node      string // "/dev/sda1"
	Size      int64  // bytes
	Partition bool
	ReadOnly  bool // write-protected
}

const (
	sysBlock = "/sys/class/block"
	devDir   = "/dev"

	// maxDevices is more than any machine that boots from here has.
	maxDevices = 256

	// minDevice is the size in bytes below which nothing is of use as a cache.
	minDevice = 1 << 20
)

// Devices lists what may hold a filesystem, partitions first, each kind in the order
// of names. sysDir and devDir are "/sys/class/block" and "/dev" if empty.
//
// Left out are loop devices, RAM disks, what is empty or smaller than 1 MiB,
// and disks with partitions: what looks like a filesystem at their beginning is
// left over from before they were partitioned, and writing to it would destroy
// the partitions.
func Devices(sys, dev string) ([]Device, error) {
	if sys == "" {
		sys = sysBlock
	}
	if dev == "" {
		dev = devDir
	}
	entries, err := os.ReadDir(sys)
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	var devs []Device
	for _, e := range entries {
		name := e.Name()
		if virtual(name) {
			continue
		}
		dir := filepath.Join(sys, name)
		sectors, err := strconv.ParseInt(attribute(dir, "size"), 10, 64)
		// The unit is 512 bytes whatever the disk's sectors are.
		if err != nil || sectors < minDevice/512 || sectors > 1<<53 {
			continue
		}
		d := Device{
			Name: name,
			// A slash in a name stands as "!" in sysfs.
			Node:      filepath.Join(dev, strings.ReplaceAll(name, "!", "/")),
			Size:      sectors * 512,
			Partition: attribute(dir, "partition") != "",
			ReadOnly:  attribute(dir, "ro") == "1",
		}
		if !d.Partition && partitioned(dir) {
			continue
		}
		if devs = append(devs, d); len(devs) == maxDevices {
			break
		}
	}
	slices.SortStableFunc(devs, func(a, b Device) int {
		switch {
		case a.Partition == b.Partition:
			return strings.Compare(a.Name, b.Name)
		case a.Partition:
			return -1
		default:
			return 1
		}
	})
	return devs, nil
}

// virtual tells whether a name is that of a device that lives in memory or in
// a file.
func virtual(name string) bool {
	for _, prefix := range []string{"loop", "ram", "zram"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			return true
		}
	}
	return false
}

// partitioned tells whether a disk's folder in sysfs has a partition's folder.
func partitioned(dir string) bool {
	found, _ := filepath.Glob(filepath.Join(dir, "*", "partition"))
	return len(found) > 0
}

// attribute reads a small file of sysfs; "" if it is not there.
func attribute(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
