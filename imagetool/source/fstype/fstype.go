// Package fstype tells by their content what a disk, a partition or an image
// file is. It looks for marks at fixed places and believes nothing else.
package fstype

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
)

// Type is what something is.
type Type string

// The types that can be read.
const (
	Ext4     Type = "ext4" // and ext2, ext3
	Squashfs Type = "squashfs"
	EROFS    Type = "erofs"
	ISO9660  Type = "iso9660"
	QCOW2    Type = "qcow2"
	Cloop    Type = "cloop"

	Unknown Type = ""
)

// Types that are known by name alone.
const (
	LVM       Type = "LVM"
	LUKS      Type = "LUKS"
	RAID      Type = "RAID"
	BitLocker Type = "BitLocker"
	Bcache    Type = "bcache"
	XFS       Type = "xfs"
	Btrfs     Type = "btrfs"
	F2FS      Type = "f2fs"
	ZFS       Type = "ZFS"
	FAT       Type = "vfat"
	ExFAT     Type = "exfat"
	NTFS      Type = "ntfs"
	HFS       Type = "hfsplus"
	APFS      Type = "apfs"
	Swap      Type = "swap"
	VMDK      Type = "VMDK"
	VDI       Type = "VDI"
	VHD       Type = "VHD"
	VHDX      Type = "VHDX"
)

// Describe says what t is, for people.
func (t Type) Describe() string {
	switch t {
	case LVM:
		return "a physical volume of LVM"
	case LUKS, BitLocker:
		return "encrypted with " + string(t)
	case RAID:
		return "a member of a Linux software RAID"
	case Bcache:
		return "a bcache device"
	case VMDK, VDI, VHD, VHDX:
		return "a disk image in " + string(t) + " format"
	case Cloop:
		return "a compressed loop device (cloop)"
	case Swap:
		return "swap space"
	case Ext4:
		return "an ext4 filesystem"
	case QCOW2:
		return "a qcow2 image"
	case ISO9660:
		return "an ISO 9660 image"
	case Unknown:
		return "of no known kind"
	}
	return "a filesystem of type " + string(t)
}

// mark is a string of bytes at an offset.
type mark struct {
	at   int64
	text string
	kind Type
}

// marks in the order in which they are looked for. Images of CDs may begin
// with anything, and a filesystem may have been made over an older one of
// another kind, so what lies first is looked at first, except for ISO 9660.
func marks() []mark {
	out := []mark{
		{32769, "CD001", ISO9660},
		{0, "QFI\xfb", QCOW2},
		{0, "LUKS\xba\xbe", LUKS},
		{0, "hsqs", Squashfs},
		{0, "XFSB", XFS},
		{0, "KDMV", VMDK},
		{0, "# Disk DescriptorFile", VMDK},
		{0, "vhdxfile", VHDX},
		{0, "conectix", VHD},
		{64, "\x7f\x10\xda\xbe", VDI},
		{3, "NTFS    ", NTFS},
		{3, "EXFAT   ", ExFAT},
		{3, "-FVE-FS-", BitLocker},
		{32, "NXSB", APFS},
		{1024, "\xe2\xe1\xf5\xe0", EROFS},
		{1024, "\x10\x20\xf5\xf2", F2FS},
		{1024, "H+", HFS},
		{1024, "HX", HFS},
		{1080, "\x53\xef", Ext4},
		{0x10040, "_BHRfS_M", Btrfs},
		{4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", Bcache},
		{0, "\xfc\x4e\x2b\xa9", RAID},
		{4096, "\xfc\x4e\x2b\xa9", RAID},
		{0x20000, "\x0c\xb1\xba\x00\x00\x00\x00\x00", ZFS},
		{54, "FAT12   ", FAT},
		{54, "FAT16   ", FAT},
		{82, "FAT32   ", FAT},
	}
	for sector := range int64(4) {
		out = append(out, mark{512*sector + 24, "LVM2 001", LVM})
	}
	for _, page := range []int64{4096, 8192, 16384, 65536} {
		out = append(out, mark{page - 10, "SWAPSPACE2", Swap})
	}
	return out
}

// Probe tells what the size bytes of r are: Unknown if there are none of the
// marks. Errors are those of reading.
func Probe(r io.ReaderAt, size int64) (Type, error) {
	head := make([]byte, min(size, 192<<10))
	if n, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return Unknown, err
	} else if n < len(head) {
		head = head[:n]
	}
	has := func(b []byte, at int64, text string) bool {
		return at >= 0 && at+int64(len(text)) <= int64(len(b)) && string(b[at:at+int64(len(text))]) == text
	}
	if line, _, _ := bytes.Cut(head[:min(len(head), 64)], []byte("Format")); strings.HasPrefix(string(line), "#!/bin/sh\n#V") {
		return Cloop, nil
	}
	// Its header may stand at the end as well, behind blocks that look like
	// anything (cloop.h).
	if at := size - 136; at > 0 {
		var b [15]byte
		if _, err := r.ReadAt(b[:], at); err != nil && !errors.Is(err, io.EOF) {
			return Unknown, err
		}
		if v := string(b[:]); v == "#!/bin/sh\n#V2.0" || v == "#!/bin/sh\n#V4.0" {
			return Cloop, nil
		}
	}
	// Older formats of a software RAID lie at the end, and what is inside looks
	// like itself from the beginning.
	for _, at := range []int64{size&^(64<<10-1) - 64<<10, (size - 8<<10) &^ (4<<10 - 1)} {
		var b [4]byte
		if at < 4096 {
			continue
		}
		if _, err := r.ReadAt(b[:], at); err != nil && !errors.Is(err, io.EOF) {
			return Unknown, err
		}
		if binary.LittleEndian.Uint32(b[:]) == 0xa92b4efc {
			return RAID, nil
		}
	}
	for _, m := range marks() {
		if has(head, m.at, m.text) {
			return m.kind, nil
		}
	}
	return Unknown, nil
}
