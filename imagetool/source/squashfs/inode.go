package squashfs

import (
	"fmt"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Types of inodes; those of the longer form are 7 more.
const (
	typeDir = iota + 1
	typeRegular
	typeSymlink
	typeBlock
	typeChar
	typeFIFO
	typeSocket

	longForm = 7
)

const (
	noFragment = 0xffffffff
	noXattr    = 0xffffffff
	maxSymlink = 4096
	maxFile    = 1 << 46
)

// inode is one file, directory or other thing.
type inode struct {
	mode     uint32
	uid, gid uint32
	mtime    int64
	number   uint32
	links    uint32
	xattr    uint32

	target string // of a symbolic link
	rdev   uint32

	dirBlock  uint32 // of a directory: where its names are
	dirOffset uint16
	dirSize   int64 // bytes of names, and 3

	start    uint64 // of a regular file: where its blocks begin
	size     int64
	fragment uint32
	offset   uint32 // in the fragment
	blocks   *stream
}

// inode reads the inode at ref. For regular files, blocks is where the list of
// blocks begins.
func (f *filesystem) inode(ref uint64) (*inode, error) {
	s, err := f.stream(f.inodeTable, ref)
	if err != nil {
		return nil, err
	}
	h, err := s.bytes(16)
	if err != nil {
		return nil, err
	}
	kind := int(le.Uint16(h[0:]))
	long := kind > longForm
	if long {
		kind -= longForm
	}
	if kind < typeDir || kind > typeSocket {
		return nil, bad("an inode of type %d", le.Uint16(h[0:]))
	}
	i := &inode{
		mode: uint32(le.Uint16(h[2:]))&0o7777 | [...]uint32{
			0, source.TypeDir, source.TypeRegular, source.TypeSymlink, source.TypeBlock, source.TypeChar, source.TypeFIFO, source.TypeSocket,
		}[kind],
		mtime: int64(le.Uint32(h[8:])), number: le.Uint32(h[12:]), links: 1, xattr: noXattr,
	}
	for _, id := range []struct {
		to *uint32
		n  uint16
	}{{&i.uid, le.Uint16(h[4:])}, {&i.gid, le.Uint16(h[6:])}} {
		if int(id.n) >= len(f.ids) {
			return nil, bad("owner %d of %d", id.n, len(f.ids))
		}
		*id.to = f.ids[id.n]
	}
	if err := i.read(f, s, kind, long); err != nil {
		return nil, err
	}
	return i, nil
}

// read reads what depends on the type.
func (i *inode) read(f *filesystem, s *stream, kind int, long bool) error {
	length := map[bool][8]int{
		false: {0, 16, 16, 8, 8, 8, 4, 4},
		true:  {0, 24, 40, 8, 12, 12, 8, 8},
	}[long][kind]
	b, err := s.bytes(length)
	if err != nil {
		return err
	}
	switch {
	case kind == typeDir && !long:
		i.dirBlock, i.dirSize, i.dirOffset = le.Uint32(b[0:]), int64(le.Uint16(b[8:])), le.Uint16(b[10:])
	case kind == typeDir:
		i.dirSize, i.dirBlock = int64(le.Uint32(b[4:])), le.Uint32(b[8:])
		i.dirOffset, i.xattr = le.Uint16(b[18:]), le.Uint32(b[20:])
	case kind == typeRegular && !long:
		i.start, i.fragment, i.offset, i.size = uint64(le.Uint32(b[0:])), le.Uint32(b[4:]), le.Uint32(b[8:]), int64(le.Uint32(b[12:]))
		i.blocks = s
	case kind == typeRegular:
		i.start, i.size, i.links = le.Uint64(b[0:]), int64(le.Uint64(b[8:])), le.Uint32(b[24:])
		i.fragment, i.offset, i.xattr = le.Uint32(b[28:]), le.Uint32(b[32:]), le.Uint32(b[36:])
		i.blocks = s
	case kind == typeSymlink:
		i.links = le.Uint32(b[0:])
		n := le.Uint32(b[4:])
		if n == 0 || n > maxSymlink {
			return bad("a symbolic link of %d bytes", n)
		}
		t, err := s.bytes(int(n))
		if err != nil {
			return err
		}
		for _, c := range t {
			if c == 0 {
				return bad("a symbolic link with a zero byte")
			}
		}
		i.target = string(t)
		if long {
			x, err := s.bytes(4)
			if err != nil {
				return err
			}
			i.xattr = le.Uint32(x)
		}
	default: // devices, FIFOs, sockets
		i.links = le.Uint32(b[0:])
		if kind == typeBlock || kind == typeChar {
			i.rdev = le.Uint32(b[4:])
		}
		if long {
			i.xattr = le.Uint32(b[length-4:])
		}
	}
	if i.size < 0 || i.size > maxFile {
		return bad("a file of %d bytes", uint64(i.size))
	}
	return nil
}

// xattrs calls found for each extended attribute of i.
func (f *filesystem) xattrs(i *inode, found func(name, value string)) error {
	if i.xattr == noXattr || f.xattrTable == noTable {
		return nil
	}
	if i.xattr >= f.xattrIDs {
		return bad("extended attributes %d of %d", i.xattr, f.xattrIDs)
	}
	var id [16]byte
	if err := f.lookup(f.xattrTable+16, i.xattr, 16, id[:]); err != nil {
		return fmt.Errorf("extended attributes: %w", err)
	}
	s, err := f.stream(f.xattrAt, le.Uint64(id[0:]))
	if err != nil {
		return err
	}
	total := 0
	for range le.Uint32(id[8:]) {
		h, err := s.bytes(4)
		if err != nil {
			return err
		}
		kind := le.Uint16(h[0:])
		name, err := s.bytes(int(le.Uint16(h[2:])))
		if err != nil {
			return err
		}
		value, err := s.value()
		if err != nil {
			return err
		}
		if kind&0x100 != 0 { // the value is a reference to one that stands elsewhere
			if len(value) != 8 {
				return bad("a reference of %d bytes", len(value))
			}
			v, err := f.stream(f.xattrAt, le.Uint64(value))
			if err != nil {
				return err
			}
			if value, err = v.value(); err != nil {
				return err
			}
		}
		prefix, ok := map[uint16]string{0: "user.", 1: "trusted.", 2: "security."}[kind&0xff]
		if !ok {
			prefix = fmt.Sprintf("?%d.", kind&0xff)
		}
		if total += len(name) + len(value); total > 1<<20 {
			return bad("more than 1 MiB of extended attributes")
		}
		found(prefix+string(name), string(value))
	}
	return nil
}

// value reads a value of an extended attribute.
func (s *stream) value() ([]byte, error) {
	h, err := s.bytes(4)
	if err != nil {
		return nil, err
	}
	n := le.Uint32(h)
	if n > 64<<10 {
		return nil, bad("an extended attribute of %d bytes", n)
	}
	return s.bytes(int(n))
}
