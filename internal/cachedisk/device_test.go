package cachedisk

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDevices(t *testing.T) {
	m := newMachine(t)
	for _, name := range []string{"sda", "sda2", "sda1", "sdb", "loop0", "ram3", "zram0", "cciss!c0d0", "nvme0n1p1", "loopy"} {
		m.list(t, name, 64*mib)
	}
	m.list(t, "sdc", 0)
	m.list(t, "fd0", 1440<<10)
	m.list(t, "fd1", 720<<10)
	for _, p := range []string{"sda1", "sda2", "nvme0n1p1"} {
		if err := os.WriteFile(filepath.Join(m.sys, p, "partition"), []byte("1\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if p != "nvme0n1p1" { // sysfs shows partitions in their disk's folder, too
			if err := os.Symlink(filepath.Join(m.sys, p), filepath.Join(m.sys, "sda", p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(m.sys, "sdb", "ro"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	devs, err := Devices(m.sys, "/dev")
	if err != nil {
		t.Fatal(err)
	}
	want := []Device{
		{Name: "nvme0n1p1", Node: "/dev/nvme0n1p1", Size: 64 * mib, Partition: true},
		{Name: "sda1", Node: "/dev/sda1", Size: 64 * mib, Partition: true},
		{Name: "sda2", Node: "/dev/sda2", Size: 64 * mib, Partition: true},
		{Name: "cciss!c0d0", Node: "/dev/cciss/c0d0", Size: 64 * mib},
		{Name: "fd0", Node: "/dev/fd0", Size: 1440 << 10},
		{Name: "loopy", Node: "/dev/loopy", Size: 64 * mib},
		{Name: "sdb", Node: "/dev/sdb", Size: 64 * mib, ReadOnly: true},
	}
	if d := cmp.Diff(want, devs); d != "" {
		t.Error(d)
	}
}
