package fstype_test

import (
	"bytes"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source/fstype"
)

func TestProbe(t *testing.T) {
	const size = 1 << 20
	at := func(offset int, mark string) []byte {
		b := make([]byte, size)
		copy(b[offset:], mark)
		return b
	}
	both := at(0, "hsqs")
	copy(both[32769:], "CD001")
	last := at(size-136, "#!/bin/sh\n#V4.0 Format\n")
	copy(last, "hsqs") // of its first block
	for _, tc := range []struct {
		name string
		data []byte
		want fstype.Type
	}{
		{"ext4", at(1080, "\x53\xef"), fstype.Ext4},
		{"squashfs", at(0, "hsqs"), fstype.Squashfs},
		{"EROFS", at(1024, "\xe2\xe1\xf5\xe0"), fstype.EROFS},
		{"ISO 9660", at(32769, "CD001"), fstype.ISO9660},
		{"a CD that begins otherwise", both, fstype.ISO9660},
		{"qcow2", at(0, "QFI\xfb"), fstype.QCOW2},
		{"LVM", at(512+24, "LVM2 001"), fstype.LVM},
		{"LUKS", at(0, "LUKS\xba\xbe"), fstype.LUKS},
		{"RAID 1.2", at(4096, "\xfc\x4e\x2b\xa9"), fstype.RAID},
		{"RAID 1.0, at the end", at(size-8192, "\xfc\x4e\x2b\xa9"), fstype.RAID},
		{"RAID 0.90, at the end", at(size-65536, "\xfc\x4e\x2b\xa9"), fstype.RAID},
		{"BitLocker", at(3, "-FVE-FS-"), fstype.BitLocker},
		{"XFS", at(0, "XFSB"), fstype.XFS},
		{"btrfs", at(0x10040, "_BHRfS_M"), fstype.Btrfs},
		{"NTFS", at(3, "NTFS    "), fstype.NTFS},
		{"FAT", at(82, "FAT32   "), fstype.FAT},
		{"swap", at(4086, "SWAPSPACE2"), fstype.Swap},
		{"VMDK", at(0, "KDMV"), fstype.VMDK},
		{"VDI", at(64, "\x7f\x10\xda\xbe"), fstype.VDI},
		{"cloop", at(0, "#!/bin/sh\n#V2.0 Format\n"), fstype.Cloop},
		{"cloop, header last", last, fstype.Cloop},
		{"a script", at(0, "#!/bin/sh\necho Format\n"), fstype.Unknown},
		{"nothing", make([]byte, size), fstype.Unknown},
		{"empty", nil, fstype.Unknown},
		{"short", []byte("hs"), fstype.Unknown},
	} {
		got, err := fstype.Probe(bytes.NewReader(tc.data), int64(len(tc.data)))
		if err != nil || got != tc.want {
			t.Errorf("%s: Probe() = %q, %v; want %q", tc.name, got, err, tc.want)
		}
		if got.Describe() == "" {
			t.Errorf("%s: nothing describes %q", tc.name, got)
		}
	}
}
