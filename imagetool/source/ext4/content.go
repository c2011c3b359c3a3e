package ext4

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
)

// maxExtents bounds the pieces of one file. One of 2^46 bytes has that many
// with pieces of 8 MiB on average.
const maxExtents = 8 << 20

// extent is a run of blocks of a file. Files are zero between extents.
type extent struct {
	first  uint64 // block of the file
	count  uint64
	start  uint64 // block of the filesystem
	filled bool   // false: allocated, but reads as zero
}

// file is what an inode contains.
type file struct {
	f       *filesystem
	size    int64
	inline  []byte // if not nil, all of it
	extents []extent
	nodes   uint64 // blocks of the map or tree of extents that were read
}

// content returns what i contains: a regular file, a directory, or a symbolic
// link that is too long for the inode itself.
func (f *filesystem) content(i *inode) (*file, error) {
	c := &file{f: f, size: i.size}
	switch {
	case i.flags&flagInline != 0:
		data, err := f.inlineData(i)
		if err != nil {
			return nil, err
		}
		if int64(len(data)) < i.size {
			return nil, bad("inode %d has %d bytes, %d of them inline", i.number, i.size, len(data))
		}
		c.inline = data[:i.size]
		return c, nil
	case i.size == 0:
		return c, nil
	case i.flags&flagExtents != 0:
		if err := f.extentTree(c, i.block[:], -1, i.number); err != nil {
			return nil, err
		}
	default:
		if err := f.blockMap(c, i); err != nil {
			return nil, err
		}
	}
	for n, e := range c.extents {
		if n > 0 && e.first < c.extents[n-1].first+c.extents[n-1].count {
			return nil, bad("pieces of inode %d overlap", i.number)
		}
		if e.filled && (e.start == 0 || e.start >= f.blocks || e.count > f.blocks-e.start) {
			return nil, bad("a piece of inode %d is not within the filesystem", i.number)
		}
	}
	return c, nil
}

// extentTree reads a node and what is below it. depth is that of the node, or
// -1 for the one in the inode, which says it
// (Documentation/filesystems/ext4/ifork.rst).
func (f *filesystem) extentTree(c *file, node []byte, depth int, number uint32) error {
	entries, at := int(le.Uint16(node[2:])), int(le.Uint16(node[6:]))
	switch {
	case le.Uint16(node[0:]) != 0xF30A || 12+entries*12 > len(node):
		return bad("extents of inode %d", number)
	case depth < 0 && at > 5, depth >= 0 && at != depth:
		return bad("extents of inode %d nest %d deep", number, at)
	}
	for n := range entries {
		e := node[12+n*12:]
		if at > 0 {
			child, err := c.node(uint64(le.Uint32(e[4:]))|uint64(le.Uint16(e[8:]))<<32, number)
			if err != nil {
				return err
			}
			if err := f.extentTree(c, child, at-1, number); err != nil {
				return err
			}
			continue
		}
		x := extent{
			first: uint64(le.Uint32(e[0:])), count: uint64(le.Uint16(e[4:])), filled: true,
			start: uint64(le.Uint32(e[8:])) | uint64(le.Uint16(e[6:]))<<32,
		}
		if x.count > 1<<15 {
			x.count, x.filled = x.count-1<<15, false
		}
		if err := c.add(x, number); err != nil {
			return err
		}
	}
	return nil
}

// add appends a piece. Pieces come in order, else the tree is damaged, which
// also ends loops.
func (c *file) add(x extent, number uint32) error {
	last := len(c.extents) - 1
	switch {
	case x.count == 0 || last >= 0 && x.first < c.extents[last].first+c.extents[last].count:
		return bad("pieces of inode %d are not in order", number)
	case last+1 >= maxExtents:
		return bad("inode %d has more than %d pieces", number, maxExtents)
	case last >= 0 && c.extents[last].filled && x.filled && x.first == c.extents[last].first+c.extents[last].count && x.start == c.extents[last].start+c.extents[last].count:
		c.extents[last].count += x.count
		return nil
	}
	c.extents = append(c.extents, x)
	return nil
}

// node reads a block of the map of blocks, or of the tree of extents. A file
// cannot have more of them than the filesystem has blocks.
func (c *file) node(block uint64, number uint32) ([]byte, error) {
	if c.nodes++; c.nodes > min(c.f.blocks, maxExtents) {
		return nil, bad("the map of inode %d has too many blocks", number)
	}
	b := make([]byte, c.f.blockSize)
	if err := c.f.readBlocks(b, block, 0); err != nil {
		return nil, fmt.Errorf("map of inode %d: %w", number, err)
	}
	return b, nil
}

// blockMap reads the map of blocks of ext2 and ext3: twelve blocks, and three
// trees of one, two and three levels.
func (f *filesystem) blockMap(c *file, i *inode) error {
	perBlock := uint64(f.blockSize / 4)
	end := uint64((i.size + f.blockSize - 1) / f.blockSize)
	if end > 12+perBlock+perBlock*perBlock+perBlock*perBlock*perBlock {
		return bad("inode %d has %d bytes", i.number, i.size)
	}
	at := uint64(0)
	var tree func(block uint32, level int) error
	tree = func(block uint32, level int) error {
		span := uint64(1)
		for range level {
			span *= perBlock
		}
		switch {
		case at >= end:
			return nil
		case block == 0:
			at += span
			return nil
		case level == 0:
			err := c.add(extent{first: at, count: 1, start: uint64(block), filled: true}, i.number)
			at++
			return err
		}
		b, err := c.node(uint64(block), i.number)
		if err != nil {
			return err
		}
		for n := range perBlock {
			if err := tree(le.Uint32(b[n*4:]), level-1); err != nil {
				return err
			}
		}
		return nil
	}
	for n, level := range []int{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3} {
		if err := tree(le.Uint32(i.block[n*4:]), level); err != nil {
			return err
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (c *file) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	if off >= c.size {
		return 0, io.EOF
	}
	if int64(len(p)) > c.size-off {
		p, err = p[:c.size-off], io.EOF
	}
	if c.inline != nil {
		return copy(p, c.inline[off:]), err
	}
	bs := c.f.blockSize
	for n < len(p) {
		at := off + int64(n)
		block := uint64(at / bs)
		// The first extent that ends behind block.
		x := sort.Search(len(c.extents), func(i int) bool { return c.extents[i].first+c.extents[i].count > block })
		rest := p[n:]
		if x == len(c.extents) {
			clear(rest)
			return len(p), err
		}
		e := c.extents[x]
		from, to := int64(e.first)*bs, int64(e.first+e.count)*bs
		switch {
		case at < from:
			rest = rest[:min(int64(len(rest)), from-at)]
			clear(rest)
		case !e.filled:
			rest = rest[:min(int64(len(rest)), to-at)]
			clear(rest)
		default:
			rest = rest[:min(int64(len(rest)), to-at)]
			if rerr := c.f.readBlocks(rest, e.start, at-from); rerr != nil {
				return n, rerr
			}
		}
		n += len(rest)
	}
	return n, err
}

// hole returns how many bytes from off on are zero because nothing is stored
// for them.
func (c *file) hole(off int64) int64 {
	if c.inline != nil || off >= c.size {
		return 0
	}
	bs := c.f.blockSize
	x := sort.Search(len(c.extents), func(i int) bool { return int64(c.extents[i].first+c.extents[i].count)*bs > off })
	for x < len(c.extents) && !c.extents[x].filled {
		x++
	}
	if x == len(c.extents) {
		return c.size - off
	}
	return max(0, min(int64(c.extents[x].first)*bs, c.size)-off)
}

// all returns the whole content, of at most limit bytes.
func (c *file) all(limit int64) ([]byte, error) {
	if c.size > limit {
		return nil, bad("%d bytes, at most %d are expected", c.size, limit)
	}
	b := make([]byte, c.size)
	if _, err := c.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return slices.Clip(b), nil
}
