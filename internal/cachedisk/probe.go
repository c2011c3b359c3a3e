package cachedisk

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The types of filesystems, by their names in mount(2).
const (
	FAT   = "vfat" // FAT12, FAT16, FAT32
	ExFAT = "exfat"
	Ext2  = "ext2"
	Ext3  = "ext3"
	Ext4  = "ext4"
	XFS   = "xfs"
	Btrfs = "btrfs"
)

// Errors of Probe, beside those of reading.
var (
	// ErrUnknown: none of the filesystems that may hold a cache.
	ErrUnknown = errors.New("no filesystem that can hold a cache")

	// ErrMember: part of something larger, which only that may write to.
	ErrMember = errors.New("part of a set of several disks")

	// ErrAmbiguous: the marks of two filesystems, of which one is stale.
	ErrAmbiguous = errors.New("marks of more than one filesystem")
)

// Superblock is what the beginning of a filesystem says about it.
type Superblock struct {
	Type  string // one of the constants above
	UUID  string // as blkid(8) prints it: "1234-ABCD" for FAT and exFAT, else 8-4-4-4-12 lower-case digits
	Label string // printable characters only; may be empty
	Dirty bool   // in use, or was not unmounted; always false for XFS and btrfs, which do not say
}

// headBytes has the boot sectors and the superblocks of all but btrfs.
const headBytes = 4096

// Probe looks for a filesystem in r, which has size bytes. It reads at most
// some 16 KiB, at fixed places. Errors wrap ErrUnknown, ErrMember or ErrAmbiguous,
// or are those of reading.
func Probe(r io.ReaderAt, size int64) (Superblock, error) {
	if size < 64<<10 {
		return Superblock{}, fmt.Errorf("%d bytes: %w", size, ErrUnknown)
	}
	head := make([]byte, headBytes)
	if _, err := r.ReadAt(head, 0); err != nil {
		return Superblock{}, fmt.Errorf("read the beginning: %w", err)
	}
	member, err := raidMember(r, size)
	if err != nil {
		return Superblock{}, err
	}
	if member {
		return Superblock{}, fmt.Errorf("RAID: %w", ErrMember)
	}

	var found []Superblock
	var refused error
	for _, probe := range []func([]byte, int64) (Superblock, error){probeFAT, probeExFAT, probeExt, probeXFS} {
		switch s, err := probe(head, size); {
		case err == nil:
			found = append(found, s)
		case !errors.Is(err, ErrUnknown):
			refused = err
		}
	}
	if size >= btrfsAt+btrfsLen {
		sb := make([]byte, btrfsLen)
		if _, err := r.ReadAt(sb, btrfsAt); err != nil {
			return Superblock{}, fmt.Errorf("read at %d: %w", int64(btrfsAt), err)
		}
		switch s, err := probeBtrfs(sb, size); {
		case err == nil:
			found = append(found, s)
		case !errors.Is(err, ErrUnknown):
			refused = err
		}
	}
	switch {
	case refused != nil:
		return Superblock{}, refused
	case len(found) == 0:
		return Superblock{}, ErrUnknown
	case len(found) > 1:
		return Superblock{}, fmt.Errorf("%s and %s: %w", found[0].Type, found[1].Type, ErrAmbiguous)
	}
	s := found[0]
	if s.Type == ExFAT {
		s.Label = exFATLabel(r, head, size)
	}
	return s, nil
}

// raidMember tells whether a superblock of Linux's software RAID lies at the
// end, where those of format 0.90 and 1.0 are, so that the beginning
// looks like a plain filesystem (md(4)).
func raidMember(r io.ReaderAt, size int64) (bool, error) {
	const magic = 0xa92b4efc
	for _, at := range []int64{
		size&^(64<<10-1) - 64<<10,     // 0.90
		(size - 8<<10) &^ (4<<10 - 1), // 1.0
	} {
		if at < 0 {
			continue
		}
		var b [4]byte
		if _, err := r.ReadAt(b[:], at); err != nil {
			return false, fmt.Errorf("read at %d: %w", at, err)
		}
		if binary.LittleEndian.Uint32(b[:]) == magic || binary.BigEndian.Uint32(b[:]) == magic {
			return true, nil
		}
	}
	return false, nil
}

// probeFAT reads a boot sector as of "FAT: General Overview of On-Disk Format",
// version 1.03. There is no sure mark, so every field has to make sense.
func probeFAT(b []byte, size int64) (Superblock, error) {
	le := binary.LittleEndian
	if b[510] != 0x55 || b[511] != 0xaa || (b[0] != 0xe9 && (b[0] != 0xeb || b[2] != 0x90)) {
		return Superblock{}, ErrUnknown
	}
	sector, perCluster := int(le.Uint16(b[11:])), int(b[13])
	reserved, fats, rootEntries := int64(le.Uint16(b[14:])), int64(b[16]), int64(le.Uint16(b[17:]))
	sectors := int64(le.Uint16(b[19:]))
	if sectors == 0 {
		sectors = int64(le.Uint32(b[32:]))
	}
	fatSectors := int64(le.Uint16(b[22:]))
	wide := fatSectors == 0
	if wide {
		fatSectors = int64(le.Uint32(b[36:]))
	}
	if sector < 512 || sector > 4096 || bits.OnesCount(uint(sector)) != 1 || bits.OnesCount(uint(perCluster)) != 1 ||
		reserved == 0 || fats < 1 || fats > 2 || (b[21] != 0xf0 && b[21] < 0xf8) || fatSectors == 0 ||
		wide != (rootEntries == 0) {
		return Superblock{}, ErrUnknown
	}
	data := reserved + fats*fatSectors + (rootEntries*32+int64(sector)-1)/int64(sector)
	if sectors <= data || sectors*int64(sector) > size {
		return Superblock{}, ErrUnknown
	}
	if clusters := (sectors - data) / int64(perCluster); clusters < 1 || (clusters >= 65525 && !wide) {
		return Superblock{}, ErrUnknown
	}
	ext := b[36:] // the extended part, which has a serial number if its mark is 0x29
	if wide {
		ext = b[64:]
	}
	s := Superblock{Type: FAT, Dirty: ext[1]&1 != 0}
	if ext[2] == 0x29 || ext[2] == 0x28 {
		s.UUID = volumeID(ext[3:7])
	}
	if ext[2] == 0x29 {
		if s.Label = label(ext[7:18]); s.Label == "NO NAME" {
			s.Label = ""
		}
	}
	return s, nil
}

// probeExFAT reads a boot sector as of the exFAT specification, section 3.1.
func probeExFAT(b []byte, size int64) (Superblock, error) {
	le := binary.LittleEndian
	if string(b[3:11]) != "EXFAT   " || b[510] != 0x55 || b[511] != 0xaa || !zero(b[11:64]) {
		return Superblock{}, ErrUnknown
	}
	sectorShift, clusterShift := b[108], b[109]
	if sectorShift < 9 || sectorShift > 12 || int(clusterShift) > 25-int(sectorShift) || b[110] < 1 || b[110] > 2 {
		return Superblock{}, ErrUnknown
	}
	if n := le.Uint64(b[72:]); n == 0 || n > uint64(size)>>sectorShift {
		return Superblock{}, ErrUnknown
	}
	return Superblock{Type: ExFAT, UUID: volumeID(b[100:104]), Dirty: le.Uint16(b[106:])&2 != 0}, nil
}

// exFATLabel looks for the label's entry among the first of the top folder
// (section 7.3). A filesystem without one is as good.
func exFATLabel(r io.ReaderAt, b []byte, size int64) string {
	le := binary.LittleEndian
	sectorShift, clusterShift := b[108], b[109]
	heap, first := int64(le.Uint32(b[88:])), int64(le.Uint32(b[96:]))
	at := heap<<sectorShift + (first-2)<<(sectorShift+clusterShift)
	dir := make([]byte, 512)
	if first < 2 || at < 0 || at > size-int64(len(dir)) {
		return ""
	}
	if _, err := r.ReadAt(dir, at); err != nil {
		return ""
	}
	for ; len(dir) >= 32; dir = dir[32:] {
		if n := int(dir[1]); dir[0] == 0x83 && n <= 11 {
			chars := make([]uint16, n)
			for i := range chars {
				chars[i] = le.Uint16(dir[2+2*i:])
			}
			return label([]byte(string(utf16.Decode(chars))))
		}
	}
	return ""
}

// Feature bits of ext2/3/4: Documentation/filesystems/ext4/super.rst.
const (
	extHasJournal    = 0x4 // compatible
	extRecover       = 0x4 // incompatible
	extJournalDevice = 0x8
	extIncompat3     = 0x2 | extRecover | 0x10 // filetype, recover, meta_bg: what ext3 knows
	extROCompat3     = 0x1 | 0x2 | 0x4         // sparse_super, large_file, btree_dir
)

func probeExt(b []byte, size int64) (Superblock, error) {
	le := binary.LittleEndian
	b = b[1024:2048]
	if le.Uint16(b[56:]) != 0xef53 {
		return Superblock{}, ErrUnknown
	}
	compat, incompat, roCompat := le.Uint32(b[92:]), le.Uint32(b[96:]), le.Uint32(b[100:])
	if incompat&extJournalDevice != 0 {
		return Superblock{}, fmt.Errorf("an ext journal: %w", ErrMember)
	}
	shift, blocks := le.Uint32(b[24:]), uint64(le.Uint32(b[4:]))
	if incompat&0x80 != 0 { // 64bit
		blocks |= uint64(le.Uint32(b[0x150:])) << 32
	}
	if shift > 6 || blocks == 0 || blocks > uint64(size)>>(10+shift) || le.Uint32(b[0:]) == 0 || le.Uint32(b[40:]) == 0 {
		return Superblock{}, ErrUnknown
	}
	s := Superblock{Type: Ext4, UUID: uuid(b[104:120]), Label: label(b[120:136])}
	s.Dirty = le.Uint16(b[58:])&1 == 0 || incompat&extRecover != 0
	if incompat&^extIncompat3 == 0 && roCompat&^extROCompat3 == 0 {
		if s.Type = Ext2; compat&extHasJournal != 0 {
			s.Type = Ext3
		}
	}
	return s, nil
}

// probeXFS reads the first superblock: Documentation of xfs_sb in "XFS
// Algorithms & Data Structures", chapter 13.
func probeXFS(b []byte, size int64) (Superblock, error) {
	be := binary.BigEndian
	if string(b[:4]) != "XFSB" {
		return Superblock{}, ErrUnknown
	}
	block, blocks, version := be.Uint32(b[4:]), be.Uint64(b[8:]), be.Uint16(b[100:])&15
	if block < 512 || block > 65536 || bits.OnesCount32(block) != 1 || blocks == 0 || blocks > uint64(size)/uint64(block) || version < 4 || version > 5 {
		return Superblock{}, ErrUnknown
	}
	return Superblock{Type: XFS, UUID: uuid(b[32:48]), Label: label(b[108:120])}, nil
}

const (
	btrfsAt  = 64 << 10
	btrfsLen = 4096
)

// probeBtrfs reads the first superblock: struct btrfs_super_block in the
// kernel's include/uapi/linux/btrfs_tree.h.
func probeBtrfs(b []byte, size int64) (Superblock, error) {
	le := binary.LittleEndian
	if string(b[64:72]) != "_BHRfS_M" || le.Uint64(b[48:]) != btrfsAt || le.Uint64(b[112:]) == 0 {
		return Superblock{}, ErrUnknown
	}
	if n := le.Uint64(b[136:]); n != 1 {
		return Superblock{}, fmt.Errorf("btrfs on %d disks: %w", n, ErrMember)
	}
	if le.Uint64(b[112:]) > uint64(size) {
		return Superblock{}, ErrUnknown
	}
	return Superblock{Type: Btrfs, UUID: uuid(b[32:48]), Label: label(b[299:555])}, nil
}

// volumeID writes the serial number of FAT and exFAT.
func volumeID(b []byte) string {
	n := binary.LittleEndian.Uint32(b)
	return fmt.Sprintf("%04X-%04X", n>>16, n&0xffff)
}

func uuid(b []byte) string {
	h := hex.EncodeToString(b[:16])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// label returns the text up to the first zero byte, without what would act on
// a console, and without spaces at its end.
func label(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	if !utf8.Valid(b) {
		return ""
	}
	return strings.TrimRight(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || (r >= 0x2028 && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069) {
			return -1
		}
		return r
	}, string(b)), " ")
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
