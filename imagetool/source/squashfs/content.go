package squashfs

import (
	"errors"
	"io"
)

// file is the content of a regular file. It is safe for concurrent use.
type file struct {
	f        *filesystem
	size     int64
	starts   []uint64 // where the blocks begin
	sizes    []uint32 // as in the inode
	fragment uint32
	offset   uint32
}

const (
	sizeMask         = 1<<24 - 1
	flagUncompressed = 1 << 24

	// maxBlocks bounds the blocks of one file: 2 TiB with blocks of 128 KiB.
	maxBlocks = 1 << 24
)

// content reads the list of a file's blocks. It is as long as the file: 12
// bytes of memory for 128 KiB.
func (f *filesystem) content(i *inode) (*file, error) {
	c := &file{f: f, size: i.size, fragment: i.fragment, offset: i.offset}
	n := i.size / f.blockSize
	if i.fragment == noFragment {
		n = (i.size + f.blockSize - 1) / f.blockSize
	} else if i.fragment >= f.fragments {
		return nil, bad("fragment %d of %d", i.fragment, f.fragments)
	}
	if n > maxBlocks {
		return nil, bad("a file of %d blocks", n)
	}
	at := i.start
	var b [4]byte
	for range n {
		if err := i.blocks.read(b[:]); err != nil {
			return nil, err
		}
		size := le.Uint32(b[:])
		if size&^(sizeMask|flagUncompressed) != 0 || int64(size&sizeMask) > f.blockSize {
			return nil, bad("a block of %#x bytes", size)
		}
		c.starts, c.sizes = append(c.starts, at), append(c.sizes, size)
		at += uint64(size & sizeMask)
	}
	return c, nil
}

// block returns the plain bytes of the block at offset at.
func (f *filesystem) block(at uint64, size uint32) ([]byte, error) {
	if at > uint64(f.size) {
		return nil, bad("offset %d is not within the image", at)
	}
	return f.data.Get(int64(at), func() ([]byte, error) {
		packed := make([]byte, size&sizeMask)
		if err := f.readAt(packed, at); err != nil {
			return nil, err
		}
		if size&flagUncompressed != 0 {
			return packed, nil
		}
		out := make([]byte, f.blockSize)
		n, err := f.unpack(out, packed)
		if err != nil {
			return nil, bad("block at %d: %w", at, err)
		}
		return out[:n], nil
	})
}

// tail returns the end of a file, which lies in a fragment.
func (c *file) tail() ([]byte, error) {
	var e [16]byte
	if err := c.f.lookup(c.f.fragmentTable, c.fragment, 16, e[:]); err != nil {
		return nil, err
	}
	size := le.Uint32(e[8:])
	if size&^(sizeMask|flagUncompressed) != 0 || int64(size&sizeMask) > c.f.blockSize {
		return nil, bad("a fragment of %#x bytes", size)
	}
	b, err := c.f.block(le.Uint64(e[0:]), size)
	if err != nil {
		return nil, err
	}
	n := c.size % c.f.blockSize
	if int64(c.offset)+n > int64(len(b)) {
		return nil, bad("a fragment of %d bytes ends before offset %d", len(b), int64(c.offset)+n)
	}
	return b[c.offset : int64(c.offset)+n], nil
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
	bs := c.f.blockSize
	for n < len(p) {
		at := off + int64(n)
		i, skip := at/bs, at%bs
		part := p[n:]
		part = part[:min(int64(len(part)), bs-skip)]
		var data []byte
		var rerr error
		switch {
		case i >= int64(len(c.sizes)):
			data, rerr = c.tail()
		case c.sizes[i] == 0:
			clear(part)
			n += len(part)
			continue
		default:
			data, rerr = c.f.block(c.starts[i], c.sizes[i])
		}
		if rerr != nil {
			return n, rerr
		}
		if skip+int64(len(part)) > int64(len(data)) {
			return n, bad("a block of a file has %d bytes", len(data))
		}
		n += copy(part, data[skip:])
	}
	return n, err
}

// SkipHole of a reader of a file.
func (c *file) hole(off int64) int64 {
	bs := c.f.blockSize
	from := off
	for off < c.size {
		i := off / bs
		if i >= int64(len(c.sizes)) || c.sizes[i] != 0 {
			break
		}
		off = min((i+1)*bs, c.size)
	}
	return off - from
}
