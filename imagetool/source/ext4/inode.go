package ext4

import (
	"fmt"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Flags of an inode (Documentation/filesystems/ext4/inodes.rst).
const (
	flagEncrypted = 0x800
	flagExtents   = 0x80000
	flagEAInode   = 0x200000
	flagInline    = 0x10000000
)

// rootInode is the number of the root directory.
const rootInode = 2

// blockField is the length of i_block, in bytes: a map of blocks, the top of
// a tree of extents, a short symbolic link, or the beginning of inline data.
const blockField = 60

// maxFileSize is what 2^46 bytes of an InetBoot root allow.
const maxFileSize = 1 << 46

// inode is one file, directory or other thing.
type inode struct {
	number uint32
	mode   uint32
	uid    uint32
	gid    uint32
	size   int64
	sec    int64
	nsec   uint32
	flags  uint32
	links  uint16
	acl    uint64 // block of extended attributes, 0 if there is none
	block  [blockField]byte
	rest   []byte // behind the fields that are known: extended attributes
}

func (f *filesystem) inode(number uint32) (*inode, error) {
	if number == 0 || number > f.inodes {
		return nil, bad("inode %d of %d", number, f.inodes)
	}
	group := (number - 1) / f.inodesPerGroup
	index := int64((number - 1) % f.inodesPerGroup)
	var desc [64]byte
	d := desc[:min(f.descSize, 64)]
	block, offset := f.descriptorAt(group)
	if err := f.readBlocks(d, block, offset); err != nil {
		return nil, fmt.Errorf("descriptor of group %d: %w", group, err)
	}
	table := uint64(le.Uint32(desc[0x8:]))
	if f.descSize >= 64 {
		table |= uint64(le.Uint32(desc[0x28:])) << 32
	}
	raw := make([]byte, f.inodeSize)
	if err := f.readBlocks(raw, table, index*int64(f.inodeSize)); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	i := &inode{
		number: number,
		mode:   uint32(le.Uint16(raw[0x0:])),
		uid:    uint32(le.Uint16(raw[0x2:])) | uint32(le.Uint16(raw[0x78:]))<<16,
		gid:    uint32(le.Uint16(raw[0x18:])) | uint32(le.Uint16(raw[0x7A:]))<<16,
		size:   int64(le.Uint32(raw[0x4:])),
		sec:    int64(int32(le.Uint32(raw[0x10:]))),
		links:  le.Uint16(raw[0x1A:]),
		flags:  le.Uint32(raw[0x20:]),
		acl:    uint64(le.Uint32(raw[0x68:])) | uint64(le.Uint16(raw[0x76:]))<<32,
	}
	copy(i.block[:], raw[0x28:])
	if i.mode&source.TypeMask == source.TypeRegular || i.mode&source.TypeMask == source.TypeDir {
		i.size |= int64(le.Uint32(raw[0x6C:])) << 32
	}
	if i.size < 0 || i.size > maxFileSize {
		return nil, bad("inode %d has %d bytes", number, i.size)
	}
	if f.inodeSize > 128 {
		extra := int(le.Uint16(raw[0x80:]))
		if extra > f.inodeSize-128 || extra%4 != 0 {
			return nil, bad("inode %d has %d bytes behind the first 128", number, extra)
		}
		if extra >= 0x8C-0x80 { // i_mtime_extra
			x := le.Uint32(raw[0x88:])
			i.sec += int64(x&3) << 32
			i.nsec = min(x>>2, 999_999_999)
		}
		i.rest = raw[128+extra:]
	}
	if i.flags&flagEncrypted != 0 {
		return nil, fmt.Errorf("%w: inode %d is encrypted", ErrFeature, number)
	}
	if i.mode == 0 || i.links == 0 {
		return nil, bad("inode %d is in use and is not", number)
	}
	return i, nil
}

// device returns the device number in the form of source.Entry
// (fs/ext4/inode.c, ext4_iget: the old form in the first word, or the new one
// in the second).
func (i *inode) device() uint32 {
	if old := le.Uint32(i.block[0:]); old != 0 {
		return old & 0xffff
	}
	return le.Uint32(i.block[4:])
}
