package root

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Meta writes the meta file: everything but the contents. It goes with the
// data file that Data returns. Beside the tree it takes some bytes of memory
// for each entry.
//
// Inodes stand in the order of the tree, all in the extended form, with
// attributes, targets of links and the ends of directories behind them; then
// come the whole blocks of directories. All names of a file lead to one inode.
func (p *Plan) Meta(w io.Writer) error {
	_, err := p.meta(w, false)
	return err
}

// meta writes the metadata. If single is set, the contents are to follow in the
// same file. length is that of what was written.
func (p *Plan) meta(w io.Writer, single bool) (length int64, err error) {
	l, err := p.layOut()
	if err != nil {
		return 0, fmt.Errorf("lay out the EROFS metadata: %w", err)
	}
	super := superblock(l.nid(p.tree.Root()), l.count, l.blocks, uint32(p.size/PageSize))
	l.device = dataDevice
	if single {
		blocks := int64(l.blocks) + p.size/PageSize
		if blocks > maxBlocks {
			return 0, fmt.Errorf("%w: metadata and contents have %d blocks", ErrTooLarge, blocks)
		}
		super = singleSuperblock(l.nid(p.tree.Root()), l.count, uint32(blocks))
		l.device, l.base = primaryDevice, l.blocks
	}
	out := &writer{w: bufio.NewWriterSize(w, 1<<20)}
	out.pad(superOffset)
	out.write(super)
	l.write(out)
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return 0, fmt.Errorf("write the EROFS metadata: %w", out.err)
	}
	return out.n, nil
}

// layout says where everything in the meta file stands.
type layout struct {
	plan   *Plan
	at     []int64 // of inodes, by the entries' order
	blocks uint32  // all
	dirs   uint32  // the first block of directories
	count  uint64  // inodes
	device uint16  // that the contents are on
	base   uint32  // the first block of the contents there
}

// shape is what an inode has behind it.
type shape struct {
	xattrs int64 // bytes
	tail   int64 // bytes behind them: a target, the end of a directory, chunk indexes
	blocks int64 // whole blocks elsewhere
}

func (s *shape) length() int64 { return inodeLength + s.xattrs + s.tail }

// shapeOf measures an entry that is the first of its names. For a directory
// list is what is in it.
func shapeOf(e *source.Entry, list []dirent) shape {
	s := shape{xattrs: xattrLength(e.Xattrs)}
	switch e.Type() {
	case source.TypeDir:
		s.split(directoryLength(list))
	case source.TypeSymlink:
		s.split(int64(len(e.Target)))
	case source.TypeRegular:
		if e.Size > 0 {
			chunk := int64(PageSize) << chunkBits(e.Size)
			s.tail = (e.Size + chunk - 1) / chunk * chunkIndexLength
			s.tail += -(inodeLength + s.xattrs) & (chunkIndexLength - 1) // erofs_map_blocks aligns them
		}
	}
	return s
}

// split divides what has n bytes into whole blocks and an end that can stand
// behind any inode.
func (s *shape) split(n int64) {
	s.blocks, s.tail = n/PageSize, n%PageSize
	if s.tail > maxInline {
		s.blocks, s.tail = s.blocks+1, 0
	}
}

// place returns where an inode can stand, at at or behind it: neither it nor
// an end behind it may lie in two blocks.
func (s *shape) place(at int64, inline bool) int64 {
	at = (at + inodeUnit - 1) &^ (inodeUnit - 1)
	if at%PageSize+inodeLength > PageSize {
		at = (at + PageSize - 1) &^ (PageSize - 1)
	}
	if !inline || s.tail == 0 {
		return at
	}
	head := inodeLength + s.xattrs
	for start := (at + head) % PageSize; start+s.tail > PageSize; start = (at + head) % PageSize {
		at += (PageSize - start + inodeUnit - 1) &^ (inodeUnit - 1)
		if at%PageSize+inodeLength > PageSize {
			at = (at + PageSize - 1) &^ (PageSize - 1)
		}
	}
	return at
}

// each visits the entries that have inodes of their own, in order.
func (p *Plan) each(visit func(i int, e *source.Entry, list []dirent) error) error {
	parents := []*source.Entry{p.tree.Root()}
	for i, e := range p.tree.Entries() {
		if e.First != nil {
			continue
		}
		var list []dirent
		if e.IsDir() {
			// The directories above e, by depth.
			for len(parents) > 1 && !below(e.Path, parents[len(parents)-1].Path) {
				parents = parents[:len(parents)-1]
			}
			list = direntsOf(e, parents[len(parents)-1])
			if e.Path != "" {
				parents = append(parents, e)
			}
		}
		if err := visit(i, e, list); err != nil {
			return err
		}
	}
	return nil
}

// below tells whether p lies in dir.
func below(p, dir string) bool {
	return dir == "" || len(p) > len(dir) && p[len(dir)] == '/' && p[:len(dir)] == dir
}

func (p *Plan) layOut() (*layout, error) {
	l := &layout{plan: p, at: make([]int64, len(p.tree.Entries()))}
	at, blocks := int64(firstInode), int64(0)
	err := p.each(func(i int, e *source.Entry, list []dirent) error {
		s := shapeOf(e, list)
		if xattrCount(s.xattrs) == 0 && s.xattrs > 0 || s.xattrs > 4*(1<<16-2)+xattrHeaderLength {
			return fmt.Errorf("%w: /%s has %d bytes of extended attributes", ErrTooLarge, e.Path, s.xattrs)
		}
		at = s.place(at, !e.IsRegular())
		l.at[i] = at
		at += s.length()
		blocks += s.blocks
		l.count++
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, e := range p.tree.Entries() {
		if e.First != nil {
			l.at[i] = l.at[e.First.Index()]
		}
	}
	dirs := pages(at)
	if dirs+blocks > maxBlocks {
		return nil, fmt.Errorf("%w: the metadata have %d blocks", ErrTooLarge, dirs+blocks)
	}
	l.dirs, l.blocks = uint32(dirs), uint32(dirs+blocks)
	return l, nil
}

// nid returns the number of an entry's inode.
func (l *layout) nid(e *source.Entry) uint64 { return uint64(l.at[e.Index()]) / inodeUnit }

// write writes the inodes, and then the blocks.
func (l *layout) write(out *writer) {
	next := l.dirs
	var buf []byte
	_ = l.plan.each(func(i int, e *source.Entry, list []dirent) error {
		s := shapeOf(e, list)
		out.pad(l.at[i])
		var tail []byte
		buf, tail = l.inode(buf[:0], e, list, s, next)
		next += uint32(s.blocks)
		out.write(appendXattrs(buf, e.Xattrs))
		out.write(tail)
		return out.err
	})
	out.pad(int64(l.dirs) * PageSize)
	_ = l.plan.each(func(_ int, e *source.Entry, list []dirent) error {
		s := shapeOf(e, list)
		if s.blocks == 0 {
			return out.err
		}
		data := l.data(e, list)
		data = data[:min(int64(len(data)), s.blocks*PageSize)]
		out.write(data)
		out.pad(pages(out.n) * PageSize)
		return out.err
	})
	out.pad(int64(l.blocks) * PageSize)
}

// data returns the content of a directory or a symbolic link.
func (l *layout) data(e *source.Entry, list []dirent) []byte {
	if e.IsDir() {
		return appendDirectory(nil, list, l.nid)
	}
	return []byte(e.Target)
}

// inode appends an entry's inode to b and returns what stands behind it and
// its attributes. block is where its whole blocks begin.
func (l *layout) inode(b []byte, e *source.Entry, list []dirent, s shape, block uint32) (head, tail []byte) {
	n := inode{
		layout: layoutPlain, xattrCount: xattrCount(s.xattrs), mode: uint16(e.Mode),
		number: uint32(l.nid(e)), uid: e.UID, gid: e.GID, sec: uint64(e.Sec), nsec: e.Nsec, nlink: e.Nlink,
	}
	switch e.Type() {
	case source.TypeDir, source.TypeSymlink:
		data := l.data(e, list)
		n.size = uint64(len(data))
		n.place = block
		if s.tail > 0 {
			n.layout = layoutInline
			tail = data[s.blocks*PageSize:]
		}
	case source.TypeRegular:
		n.size = uint64(e.Size)
		if e.Size == 0 {
			break
		}
		n.layout = layoutChunks
		bits := chunkBits(e.Size)
		n.place = chunkIndexes | uint32(bits)
		tail = make([]byte, -(inodeLength+s.xattrs)&(chunkIndexLength-1), s.tail)
		for at := l.base + uint32(l.plan.offsets[e.Index()]/PageSize); int64(len(tail)) < s.tail; at += 1 << bits {
			tail = binary.LittleEndian.AppendUint16(tail, 0)
			tail = binary.LittleEndian.AppendUint16(tail, l.device)
			tail = binary.LittleEndian.AppendUint32(tail, at)
		}
	case source.TypeChar, source.TypeBlock:
		n.place = e.Rdev
	}
	return n.append(b), tail
}

// writer counts what is written and keeps the first error.
type writer struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (w *writer) write(b []byte) {
	if w.err != nil || len(b) == 0 {
		return
	}
	var n int
	n, w.err = w.w.Write(b)
	w.n += int64(n)
}

var zeroPage [PageSize]byte

// pad writes zeros up to an offset.
func (w *writer) pad(to int64) {
	for w.err == nil && w.n < to {
		w.write(zeroPage[:min(to-w.n, PageSize)])
	}
}
