// Package ext4 reads the tree of an ext2, ext3 or ext4 filesystem, without
// the kernel and without root.
//
// The layout is that of the kernel's documentation
// (Documentation/filesystems/ext4). Nothing in the image is believed: sizes are
// compared with limits before memory is taken for them, each directory is read
// once, and blocks outside of the filesystem are refused. Checksums are not
// looked at: what a push reads is named by its own hashes from then on.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// The reasons for which a filesystem is not read. Errors wrap them.
var (
	ErrFormat  = errors.New("not an ext2, ext3 or ext4 filesystem")
	ErrUnclean = errors.New("the filesystem was not unmounted cleanly")
	ErrFeature = errors.New("the filesystem has features that are not supported")
)

var le = binary.LittleEndian

// Incompatible features (Documentation/filesystems/ext4/super.rst).
const (
	incompatFiletype = 0x2
	incompatRecover  = 0x4
	incompatMetaBG   = 0x10
	incompat64bit    = 0x80

	incompatKnown = incompatFiletype | incompatMetaBG | incompat64bit |
		0x40 | // extents
		0x100 | // multiple mount protection
		0x200 | // flexible block groups
		0x400 | // large values of extended attributes in inodes of their own
		0x2000 | // checksum seed in the superblock
		0x4000 | // large directories
		0x8000 | // inline data
		0x20000 // case folding
)

// incompatNames are features that are refused, by name.
func incompatNames(bits uint32) string {
	var out []string
	for _, f := range []struct {
		bit  uint32
		name string
	}{{0x1, "compression"}, {0x8, "an external journal"}, {0x1000, "data in directory entries"}, {0x10000, "encryption"}} {
		if bits&f.bit != 0 {
			out = append(out, f.name)
			bits &^= f.bit
		}
	}
	if bits != 0 {
		out = append(out, fmt.Sprintf("incompatible feature bits %#x", bits))
	}
	return strings.Join(out, ", ")
}

// Features that matter to writers, mostly.
const (
	sparseSuper = 0x1   // copies of the superblock in some groups only
	bigAlloc    = 0x200 // groups are counted in clusters of blocks
)

// filesystem is an open filesystem.
type filesystem struct {
	r    io.ReaderAt
	size int64 // of what r has

	blockSize      int64
	blocks         uint64
	inodes         uint32
	inodeSize      int
	inodesPerGroup uint32
	blocksPerGroup uint32
	groups         uint32
	firstBlock     uint32 // of group 0
	incompat       uint32
	roCompat       uint32
	backups        [2]uint32 // groups with superblock copies, with sparse_super2
	sparse2        bool
	firstMetaBG    uint32
	descSize       int64
}

// superOffset is where the superblock lies, in bytes; it is superSize long.
const (
	superOffset = 1024
	superSize   = 1024
)

func open(r io.ReaderAt, size int64) (*filesystem, error) {
	if size < superOffset+superSize {
		return nil, ErrFormat
	}
	var sb [superSize]byte
	if _, err := r.ReadAt(sb[:], superOffset); err != nil {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	if le.Uint16(sb[0x38:]) != 0xEF53 {
		return nil, ErrFormat
	}
	logSize := le.Uint32(sb[0x18:])
	if logSize > 6 {
		return nil, bad("blocks of 2^%d KiB", logSize)
	}
	f := &filesystem{
		r: r, size: size,
		blockSize:      1024 << logSize,
		inodes:         le.Uint32(sb[0x0:]),
		blocks:         uint64(le.Uint32(sb[0x4:])),
		firstBlock:     le.Uint32(sb[0x14:]),
		blocksPerGroup: le.Uint32(sb[0x20:]),
		inodesPerGroup: le.Uint32(sb[0x28:]),
		inodeSize:      128,
		descSize:       32,
		firstMetaBG:    le.Uint32(sb[0x104:]),
	}
	if le.Uint32(sb[0x4C:]) >= 1 { // EXT4_DYNAMIC_REV
		f.inodeSize = int(le.Uint16(sb[0x58:]))
		f.sparse2 = le.Uint32(sb[0x5C:])&0x200 != 0
		f.incompat = le.Uint32(sb[0x60:])
		f.roCompat = le.Uint32(sb[0x64:])
		f.backups = [2]uint32{le.Uint32(sb[0x24C:]), le.Uint32(sb[0x250:])}
	}
	if f.incompat&incompatRecover != 0 {
		return nil, fmt.Errorf("%w: run e2fsck -p on it, or start and shut down the system, first", ErrUnclean)
	}
	if extra := f.incompat &^ incompatKnown; extra != 0 {
		return nil, fmt.Errorf("%w: %s", ErrFeature, incompatNames(extra))
	}
	if f.incompat&incompat64bit != 0 {
		f.descSize = int64(le.Uint16(sb[0xFE:]))
		f.blocks |= uint64(le.Uint32(sb[0x150:])) << 32
	}
	switch {
	case f.inodeSize < 128 || int64(f.inodeSize) > f.blockSize || f.inodeSize&(f.inodeSize-1) != 0:
		return nil, bad("inodes of %d bytes", f.inodeSize)
	case f.descSize < 32 || f.descSize > f.blockSize || f.descSize&(f.descSize-1) != 0,
		f.incompat&incompat64bit != 0 && f.descSize < 64:
		return nil, bad("group descriptors of %d bytes", f.descSize)
	case f.blocksPerGroup == 0 || f.roCompat&bigAlloc == 0 && int64(f.blocksPerGroup) > 8*f.blockSize:
		return nil, bad("%d blocks in a group", f.blocksPerGroup)
	case f.inodesPerGroup == 0 || int64(f.inodesPerGroup) > 8*f.blockSize:
		return nil, bad("%d inodes in a group", f.inodesPerGroup)
	case f.firstBlock > 1 || uint64(f.firstBlock) >= f.blocks:
		return nil, bad("first block %d of %d", f.firstBlock, f.blocks)
	case f.blocks > uint64(size)/uint64(f.blockSize):
		return nil, fmt.Errorf("%w: it has %d blocks of %d bytes, but there are only %d bytes", source.ErrRefused, f.blocks, f.blockSize, size)
	}
	groups := (f.blocks - uint64(f.firstBlock) + uint64(f.blocksPerGroup) - 1) / uint64(f.blocksPerGroup)
	if groups > 1<<31 || groups*uint64(f.inodesPerGroup) < uint64(f.inodes) {
		return nil, bad("%d inodes in %d groups", f.inodes, groups)
	}
	f.groups = uint32(groups)
	return f, nil
}

// bad describes a contradiction in the filesystem.
func bad(format string, args ...any) error {
	return fmt.Errorf("%w: ext4: %w", source.ErrRefused, fmt.Errorf(format, args...))
}

// readBlocks fills b from the block at number on. Reading outside of the
// filesystem is an error.
func (f *filesystem) readBlocks(b []byte, number uint64, skip int64) error {
	end := skip + int64(len(b))
	if number >= f.blocks || number == 0 || uint64(end) > (f.blocks-number)*uint64(f.blockSize) {
		return bad("block %d is not within the filesystem", number)
	}
	if _, err := f.r.ReadAt(b, int64(number)*f.blockSize+skip); err != nil {
		return fmt.Errorf("read block %d: %w", number, err)
	}
	return nil
}

// descriptorAt returns block and offset of a group's descriptor
// (ext4/group_descr.rst; fs/ext4/super.c, descriptor_loc).
func (f *filesystem) descriptorAt(group uint32) (block uint64, offset int64) {
	perBlock := uint32(f.blockSize / f.descSize)
	n := group / perBlock
	offset = int64(group%perBlock) * f.descSize
	if f.incompat&incompatMetaBG == 0 || n < f.firstMetaBG {
		super := uint64(0) // block of the superblock
		if f.blockSize == superOffset {
			super = 1
		}
		return super + 1 + uint64(n), offset
	}
	first := n * perBlock // the group that has the descriptors
	block = uint64(f.firstBlock) + uint64(first)*uint64(f.blocksPerGroup)
	if f.hasSuper(first) {
		block++
	}
	if f.blockSize == superOffset && n == 0 && f.firstBlock == 0 {
		block++ // the boot block
	}
	return block, offset
}

// hasSuper tells whether a group begins with a copy of the superblock.
func (f *filesystem) hasSuper(group uint32) bool {
	switch {
	case group == 0:
		return true
	case f.sparse2:
		return group == f.backups[0] || group == f.backups[1]
	case f.roCompat&sparseSuper == 0 || group == 1:
		return true
	case group%2 == 0:
		return false
	}
	for _, base := range []uint32{3, 5, 7} {
		n := base
		for n < group && n <= 1<<31/base {
			n *= base
		}
		if n == group {
			return true
		}
	}
	return false
}

// Identity returns the UUID and the label of the filesystem in r, as blkid(8)
// prints them. Errors wrap ErrFormat, or are those of reading.
func Identity(r io.ReaderAt) (uuid, label string, err error) {
	var sb [0x88]byte
	if _, err := r.ReadAt(sb[:], superOffset); err != nil {
		return "", "", fmt.Errorf("read the superblock: %w", err)
	}
	if le.Uint16(sb[0x38:]) != 0xEF53 {
		return "", "", ErrFormat
	}
	u := sb[0x68:0x78]
	name, _, _ := strings.Cut(string(sb[0x78:0x88]), "\x00")
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]), name, nil
}
