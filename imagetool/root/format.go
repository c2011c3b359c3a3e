package root

import "encoding/binary"

// What EROFS looks like on disk (fs/erofs/erofs_fs.h). Little-endian.
const (
	superOffset = 1024
	superLength = 128
	superMagic  = 0xe0f5e1e2
	blockBits   = 12 // of PageSize

	slotOffset = superOffset + superLength // of the slot of the data file's device
	slotLength = 128

	compatMtime       = 0x2 // the times of inodes are those of modification
	incompatChunks    = 0x4
	incompatDevices   = 0x8
	inodeLength       = 64 // of an extended one
	inodeUnit         = 32 // inode numbers count these from the beginning
	layoutPlain       = 0  // the data are in blocks of their own
	layoutInline      = 2  // what does not fill a block stands behind the inode
	layoutChunks      = 4
	chunkIndexes      = 0x20 // chunks have indexes of eight bytes
	chunkIndexLength  = 8
	maxChunkBits      = 31 // beyond those of a block
	primaryDevice     = 0  // the file that has the superblock
	dataDevice        = 1
	maxBlocks         = 1<<32 - 2
	xattrHeaderLength = 12
	xattrEntryLength  = 4
	direntLength      = 12
	firstInode        = slotOffset + slotLength
	maxInline         = PageSize - inodeUnit // what can be put behind any inode
)

// superblock returns the superblock and the slot of the data file's device.
func superblock(root uint64, inodes uint64, metaBlocks, dataBlocks uint32) []byte {
	b := make([]byte, superLength+slotLength)
	le := binary.LittleEndian
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], compatMtime)
	b[12] = blockBits
	le.PutUint16(b[14:], uint16(root))
	le.PutUint64(b[16:], inodes)
	le.PutUint32(b[36:], metaBlocks)
	le.PutUint32(b[80:], incompatChunks|incompatDevices)
	le.PutUint16(b[86:], 1) // devices beside this one
	le.PutUint16(b[88:], slotOffset/slotLength)
	slot := b[superLength:]
	le.PutUint32(slot[64:], dataBlocks)
	return b
}

// singleSuperblock returns the superblock of an image whose contents stand
// behind the metadata. As much room as a slot would take stays empty.
func singleSuperblock(root uint64, inodes uint64, blocks uint32) []byte {
	b := superblock(root, inodes, blocks, 0)
	le := binary.LittleEndian
	le.PutUint32(b[80:], incompatChunks)
	le.PutUint16(b[86:], 0)
	le.PutUint16(b[88:], 0)
	return b
}

// inode is an extended inode.
type inode struct {
	layout     uint16
	xattrCount uint16
	mode       uint16
	size       uint64
	place      uint32 // block of the data, device number, or form of the chunks
	number     uint32
	uid, gid   uint32
	sec        uint64
	nsec       uint32
	nlink      uint32
}

func (n *inode) append(b []byte) []byte {
	le := binary.LittleEndian
	b = le.AppendUint16(b, 1|n.layout<<1)
	b = le.AppendUint16(b, n.xattrCount)
	b = le.AppendUint16(b, n.mode)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint64(b, n.size)
	b = le.AppendUint32(b, n.place)
	b = le.AppendUint32(b, n.number)
	b = le.AppendUint32(b, n.uid)
	b = le.AppendUint32(b, n.gid)
	b = le.AppendUint64(b, n.sec)
	b = le.AppendUint32(b, n.nsec)
	b = le.AppendUint32(b, n.nlink)
	return append(b, make([]byte, 16)...)
}

// chunkBits returns how large a chunk is, beyond a block, so that a file needs
// as few as possible.
func chunkBits(size int64) uint16 {
	bits := uint16(0)
	for bits < maxChunkBits && int64(PageSize)<<bits < size {
		bits++
	}
	return bits
}
