package images

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// File is one file of a root; *[read.File] is one.
type File interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
	Size() int64
}

// What EROFS looks like on disk (fs/erofs/erofs_fs.h), as far as a root uses
// it: without compression. Little-endian.
const (
	superOffset = 1024
	superLength = 128
	superMagic  = 0xe0f5e1e2

	incompatChunks  = 0x4
	incompatDevices = 0x8

	slotLength = 128

	inodeUnit     = 32 // numbers of inodes count these
	compactLength = 32
	extendedFlag  = 1
	layoutPlain   = 0
	layoutInline  = 2
	layoutChunks  = 4

	chunkBitsMask  = 0x1f
	chunkIndexes   = 0x20
	chunkLength    = 8
	hole           = 1<<32 - 1
	direntLength   = 12
	blockMapLength = 4
)

// maxTarget bounds a symbolic link's target, as PATH_MAX does.
const maxTarget = 4096

// maxName bounds a name, as NAME_MAX does.
const maxName = 255

// Tree is the inodes of an EROFS root, found by their numbers, which stay the
// same for as long as the image does. It is safe for concurrent use.
//
// It is not read with go-erofs because that finds files by their paths alone,
// leaves out the setuid, setgid and sticky bits, and reads contents block by
// block: a file server needs inodes by number, and where contents lie.
type Tree struct {
	files     []File // with the metadata, and with the contents
	block     int64  // bytes
	bits      uint8
	metaStart int64
	root      uint64
	inodes    uint64
	buildSec  uint64
	buildNsec uint32
	mask      uint16 // of device numbers
	super     [superLength]byte
}

// Inode is what is known of a file.
type Inode struct {
	Number   uint64
	Mode     uint32 // type and permissions, as in stat(2)
	UID, GID uint32
	Nlink    uint32
	Rdev     uint32 // glibc's encoding, see makedev(3)
	Size     int64
	Sec      int64
	Nsec     uint32

	layout uint16
	place  uint32
	tail   int64 // where what stands behind the inode begins
}

// The type bits of a mode, as in stat(2).
const (
	TypeMask    = 0o170000
	TypeSymlink = 0o120000
	TypeRegular = 0o100000
	TypeBlock   = 0o060000
	TypeDir     = 0o040000
	TypeChar    = 0o020000
)

// Type returns the type bits.
func (i *Inode) Type() uint32 { return i.Mode & TypeMask }

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: EROFS: %w", ErrInvalid, fmt.Errorf(format, args...))
}

// OpenTree reads the superblock of a root. files are those with the metadata
// and, where it is another one, with the contents.
func OpenTree(ctx context.Context, files []File) (*Tree, error) {
	if len(files) < 1 || len(files) > 2 {
		return nil, invalid("%d files, want 1 or 2", len(files))
	}
	t := &Tree{files: files}
	b := t.super[:]
	if err := t.read(ctx, b, superOffset); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	if m := le.Uint32(b); m != superMagic {
		return nil, invalid("the magic number is %#x", m)
	}
	if f := le.Uint32(b[80:]); f&^(incompatChunks|incompatDevices) != 0 {
		return nil, fmt.Errorf("%w: EROFS with the features %#x", ErrNoTree, f)
	}
	if t.bits = b[12]; t.bits < 9 || t.bits > 16 {
		return nil, invalid("blocks of 2^%d bytes", t.bits)
	}
	t.block = 1 << t.bits
	devices := 0
	if le.Uint32(b[80:])&incompatDevices != 0 {
		devices = int(le.Uint16(b[86:]))
	}
	if devices != len(files)-1 {
		return nil, invalid("%d further devices, but there are %d files", devices, len(files))
	}
	t.mask = uint16(devices) // 0 or 1: roundup_pow_of_two(devices + 1) - 1
	t.root = uint64(le.Uint16(b[14:]))
	t.inodes = le.Uint64(b[16:])
	t.buildSec, t.buildNsec = le.Uint64(b[24:]), le.Uint32(b[32:])
	t.metaStart = int64(le.Uint32(b[40:])) << t.bits
	return t, nil
}

// Root returns the number of the root directory.
func (t *Tree) Root() uint64 { return t.root }

// Inodes returns how many files there are.
func (t *Tree) Inodes() uint64 { return t.inodes }

// Size returns how many bytes the root's files have.
func (t *Tree) Size() int64 {
	var n int64
	for _, f := range t.files {
		n += f.Size()
	}
	return n
}

// read fills p from the metadata.
func (t *Tree) read(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off > t.files[0].Size()-int64(len(p)) {
		return invalid("%d bytes at %d lie outside of the metadata", len(p), off)
	}
	n, err := t.files[0].ReadAt(ctx, p, off)
	if n == len(p) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read the metadata: %w", err)
}

// Inode reads an inode. Errors wrap ErrInvalid if there is none with that
// number.
func (t *Tree) Inode(ctx context.Context, number uint64) (*Inode, error) {
	if number > 1<<40 {
		return nil, invalid("inode %d", number)
	}
	at := t.metaStart + int64(number)*inodeUnit
	var buf [64]byte
	b := buf[:]
	if t.files[0].Size()-at < int64(len(b)) {
		b = b[:compactLength]
	}
	if err := t.read(ctx, b, at); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	format := le.Uint16(b)
	i := &Inode{Number: number, Mode: uint32(le.Uint16(b[4:])), layout: format >> 1 & 7}
	if format&extendedFlag != 0 {
		if len(b) < 64 {
			return nil, invalid("inode %d is cut off", number)
		}
		i.Size = int64(le.Uint64(b[8:]))
		i.place = le.Uint32(b[16:])
		i.UID, i.GID = le.Uint32(b[24:]), le.Uint32(b[28:])
		i.Sec, i.Nsec = int64(le.Uint64(b[32:])), le.Uint32(b[40:])
		i.Nlink = le.Uint32(b[44:])
		at += 64
	} else {
		i.Nlink = uint32(le.Uint16(b[6:]))
		i.Size = int64(le.Uint32(b[8:]))
		i.place = le.Uint32(b[16:])
		i.UID, i.GID = uint32(le.Uint16(b[24:])), uint32(le.Uint16(b[26:]))
		i.Sec, i.Nsec = int64(t.buildSec), t.buildNsec
		at += compactLength
	}
	if n := int64(le.Uint16(b[2:])); n > 0 {
		at += 12 + 4*(n-1)
	}
	i.tail = at
	if i.Size < 0 || i.Nlink == 0 || i.Nsec >= 1e9 {
		return nil, invalid("inode %d: size %d, %d names, %d ns", number, i.Size, i.Nlink, i.Nsec)
	}
	switch i.Type() {
	case TypeRegular, TypeDir, TypeSymlink:
		if i.layout != layoutPlain && i.layout != layoutInline && i.layout != layoutChunks {
			return nil, invalid("inode %d has the layout %d", number, i.layout)
		}
	case TypeChar, TypeBlock:
		i.Rdev, i.Size = i.place, 0
	case 0o010000, 0o140000:
		i.Size = 0
	default:
		return nil, invalid("inode %d has the mode %#o", number, i.Mode)
	}
	return i, nil
}

// Extent is a piece of a file's content.
type Extent struct {
	File   int   // of the root's files; below 0: zeros
	Offset int64 // in it
	Length int64
}

// Extent says where the content at off lies, 0 <= off < i.Size. It ends at
// the latest where something else begins.
func (t *Tree) Extent(ctx context.Context, i *Inode, off int64) (Extent, error) {
	if off < 0 || off >= i.Size {
		return Extent{}, invalid("offset %d of inode %d, which has %d bytes", off, i.Number, i.Size)
	}
	switch i.layout {
	case layoutPlain:
		return Extent{Offset: int64(i.place)<<t.bits + off, Length: i.Size - off}, nil
	case layoutInline:
		whole := i.Size &^ (t.block - 1)
		if off < whole {
			return Extent{Offset: int64(i.place)<<t.bits + off, Length: whole - off}, nil
		}
		return Extent{Offset: i.tail + off - whole, Length: i.Size - off}, nil
	}
	return t.chunk(ctx, i, off)
}

// chunk is Extent for a file of chunks.
func (t *Tree) chunk(ctx context.Context, i *Inode, off int64) (Extent, error) {
	if i.place&^(chunkBitsMask|chunkIndexes) != 0 {
		return Extent{}, fmt.Errorf("%w: chunks of the form %#x", ErrNoTree, i.place)
	}
	bits := uint(t.bits) + uint(i.place&chunkBitsMask)
	k := off >> bits
	in := off - k<<bits
	e := Extent{Offset: in, Length: min(int64(1)<<bits-in, i.Size-off)}
	var b [chunkLength]byte
	le := binary.LittleEndian
	if i.place&chunkIndexes == 0 {
		if err := t.read(ctx, b[:blockMapLength], i.tail+k*blockMapLength); err != nil {
			return Extent{}, err
		}
		e.Offset += int64(le.Uint32(b[:])) << t.bits
		if le.Uint32(b[:]) == hole {
			e.File = -1
		}
		return e, nil
	}
	at := t.chunkIndex(i) + k*chunkLength
	if err := t.read(ctx, b[:], at); err != nil {
		return Extent{}, err
	}
	e.File = int(le.Uint16(b[2:]) & t.mask)
	e.Offset += int64(le.Uint32(b[4:])) << t.bits
	if le.Uint32(b[4:]) == hole {
		e.File = -1
	}
	return e, nil
}

// chunkIndex returns where the chunk indexes of a file begin.
func (t *Tree) chunkIndex(i *Inode) int64 { return (i.tail + chunkLength - 1) &^ (chunkLength - 1) }

// chunks returns how many chunk indexes a file has, 0 if it has none.
func (t *Tree) chunks(i *Inode) int64 {
	if i.Type() != TypeRegular || i.layout != layoutChunks || i.place&chunkIndexes == 0 || i.Size == 0 {
		return 0
	}
	return (i.Size-1)>>(uint(t.bits)+uint(i.place&chunkBitsMask)) + 1
}

// ReadAt fills p with the content of a file at off, as far as there is any.
func (t *Tree) ReadAt(ctx context.Context, i *Inode, p []byte, off int64) (n int, err error) {
	for n < len(p) && off < i.Size {
		e, err := t.Extent(ctx, i, off)
		if err != nil {
			return n, err
		}
		part := p[n:min(int64(len(p)), int64(n)+e.Length)]
		if e.File < 0 {
			clear(part)
		} else {
			f := t.files[e.File]
			if e.Offset > f.Size()-int64(len(part)) {
				return n, invalid("inode %d has content behind the end", i.Number)
			}
			if m, err := f.ReadAt(ctx, part, e.Offset); m < len(part) {
				return n + m, fmt.Errorf("read inode %d: %w", i.Number, err)
			}
		}
		n += len(part)
		off += int64(len(part))
	}
	return n, nil
}

// Readlink returns the target of a symbolic link.
func (t *Tree) Readlink(ctx context.Context, i *Inode) (string, error) {
	if i.Type() != TypeSymlink || i.Size > maxTarget {
		return "", invalid("inode %d is no symbolic link", i.Number)
	}
	b := make([]byte, i.Size)
	n, err := t.ReadAt(ctx, i, b, 0)
	return string(b[:n]), err
}

// Dirent is a name in a directory.
type Dirent struct {
	Name   string
	Number uint64 // of the inode
	Cookie uint64 // of the place behind it, for ReadDir
}

// cookieBits are for the place in a block of a directory.
const cookieBits = 16

// ReadDir calls visit for the names behind the place that cookie says, 0 for
// the beginning, "." and ".." included, until visit returns false. more tells
// whether that was before the end.
func (t *Tree) ReadDir(ctx context.Context, dir *Inode, cookie uint64, visit func(Dirent) bool) (more bool, err error) {
	skip := int(cookie & (1<<cookieBits - 1))
	for k := int64(cookie >> cookieBits); k >= 0 && k < t.dirBlocks(dir); k++ {
		d, err := t.dirBlock(ctx, dir, k)
		if err != nil {
			return false, err
		}
		for j := skip; j < d.n; j++ {
			name, err := d.name(j)
			if err != nil {
				return false, err
			}
			if !visit(Dirent{Name: name, Number: d.number(j), Cookie: uint64(k)<<cookieBits | uint64(j+1)}) {
				return true, nil
			}
		}
		skip = 0
	}
	return false, nil
}

// Lookup returns the number of the inode with a name in a directory; errors
// wrap [fs.ErrNotExist] if there is none.
func (t *Tree) Lookup(ctx context.Context, dir *Inode, name string) (uint64, error) {
	if len(name) > maxName {
		return 0, fs.ErrNotExist
	}
	// Names are sorted by their bytes. low is the last block whose first name
	// is not behind name.
	low, high := int64(0), t.dirBlocks(dir)
	for high-low > 1 {
		mid := low + (high-low)/2
		d, err := t.dirBlock(ctx, dir, mid)
		if err != nil {
			return 0, err
		}
		first, err := d.name(0)
		if err != nil {
			return 0, err
		}
		if first <= name {
			low = mid
		} else {
			high = mid
		}
	}
	if low >= t.dirBlocks(dir) {
		return 0, fs.ErrNotExist
	}
	d, err := t.dirBlock(ctx, dir, low)
	if err != nil {
		return 0, err
	}
	from, to := 0, d.n
	for from < to {
		mid := (from + to) / 2
		s, err := d.name(mid)
		if err != nil {
			return 0, err
		}
		switch strings.Compare(s, name) {
		case 0:
			return d.number(mid), nil
		case -1:
			from = mid + 1
		default:
			to = mid
		}
	}
	return 0, fs.ErrNotExist
}

func (t *Tree) dirBlocks(dir *Inode) int64 {
	if dir.Type() != TypeDir {
		return 0
	}
	return (dir.Size + t.block - 1) >> t.bits
}

// dirBlock is a block of a directory: places of names, then the names.
type dirBlock struct {
	b []byte
	n int
}

func (t *Tree) dirBlock(ctx context.Context, dir *Inode, k int64) (dirBlock, error) {
	b := make([]byte, min(t.block, dir.Size-k*t.block))
	if n, err := t.ReadAt(ctx, dir, b, k*t.block); err != nil {
		return dirBlock{}, err
	} else if n < direntLength || n != len(b) {
		return dirBlock{}, invalid("the directory %d is cut off", dir.Number)
	}
	first := int(binary.LittleEndian.Uint16(b[8:]))
	if first < direntLength || first > len(b) || first%direntLength != 0 {
		return dirBlock{}, invalid("the directory %d has names at %d", dir.Number, first)
	}
	return dirBlock{b, first / direntLength}, nil
}

func (d dirBlock) number(j int) uint64 { return binary.LittleEndian.Uint64(d.b[j*direntLength:]) }

func (d dirBlock) name(j int) (string, error) {
	at := func(j int) int { return int(binary.LittleEndian.Uint16(d.b[j*direntLength+8:])) }
	from, to := at(j), len(d.b)
	if j+1 < d.n {
		to = at(j + 1)
	}
	if from < d.n*direntLength || from >= to || to > len(d.b) {
		return "", invalid("a name from %d to %d", from, to)
	}
	name := d.b[from:to]
	if j+1 == d.n { // the last one may be followed by zeros
		if end := bytes.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
	}
	if len(name) == 0 || len(name) > maxName || bytes.ContainsAny(name, "/\x00") {
		return "", invalid("the name %.300q", name)
	}
	return string(name), nil
}
