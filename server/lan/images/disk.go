package images

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/inetboot/inetboot/blockfs/read"
)

// Disk is a root as one read-only disk. It is safe for concurrent use.
//
// An EROFS root of two files would want two devices, which no ordinary initrd
// mounts. So its metadata come first, changed on the way to say that the
// contents follow behind them on the same device: the superblock loses its
// table of devices, and each chunk's index has another place. What comes out
// is what imagetool writes where a root of one file is wanted.
type Disk struct {
	meta, data File // data is nil for a root of one file
	end        int64
	super      []byte   // the new superblock; nil: as it is
	slot       int64    // where the table of devices was
	moved      []uint32 // chunk indexes that change, in order, in units of their length
	base       uint32   // block at which the contents begin
}

// maxInodes bounds the names that newDisk looks at.
const maxInodes = 1 << 24

func newDisk(ctx context.Context, t *Tree) (*Disk, error) {
	meta, data := t.files[0], t.files[1]
	if meta.Size()&(t.block-1) != 0 {
		return nil, invalid("the metadata have %d bytes, which are not whole blocks", meta.Size())
	}
	d := &Disk{meta: meta, data: data, end: meta.Size() + data.Size()}
	blocks := (d.end + t.block - 1) >> t.bits
	if blocks >= hole {
		return nil, invalid("%d blocks are too many for one device", blocks)
	}
	d.base = uint32(meta.Size() >> t.bits)
	le := binary.LittleEndian
	d.super = slices.Clone(t.super[:])
	le.PutUint32(d.super[4:], 0)                                 // checksum
	le.PutUint32(d.super[8:], le.Uint32(d.super[8:])&^uint32(1)) // nor is there one
	le.PutUint32(d.super[36:], uint32(blocks))
	le.PutUint32(d.super[80:], le.Uint32(d.super[80:])&^incompatDevices)
	d.slot = int64(le.Uint16(d.super[88:])) * slotLength
	le.PutUint16(d.super[86:], 0)
	le.PutUint16(d.super[88:], 0)
	if err := d.find(ctx, t); err != nil {
		return nil, err
	}
	return d, nil
}

// find notes where chunk indexes are.
func (d *Disk) find(ctx context.Context, t *Tree) error {
	seen := make(map[uint64]struct{})
	dirs := []uint64{t.root}
	seen[t.root] = struct{}{}
	for len(dirs) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		dir, err := t.Inode(ctx, dirs[len(dirs)-1])
		if err != nil {
			return err
		}
		dirs = dirs[:len(dirs)-1]
		var bad error
		_, err = t.ReadDir(ctx, dir, 0, func(e Dirent) bool {
			if _, ok := seen[e.Number]; ok || e.Name == "." || e.Name == ".." {
				return true
			}
			if len(seen) >= maxInodes {
				bad = invalid("more than %d files", maxInodes)
				return false
			}
			seen[e.Number] = struct{}{}
			i, err := t.Inode(ctx, e.Number)
			if err != nil {
				bad = err
				return false
			}
			if i.Type() == TypeDir {
				dirs = append(dirs, e.Number)
			}
			n, at := t.chunks(i), t.chunkIndex(i)
			if n > 0 && (n > d.meta.Size()/chunkLength || at+n*chunkLength > d.meta.Size()) {
				bad = invalid("inode %d has %d chunks", i.Number, n)
				return false
			}
			for ; n > 0; n-- {
				d.moved = append(d.moved, uint32(at/chunkLength))
				at += chunkLength
			}
			return true
		})
		if err == nil {
			err = bad
		}
		if err != nil {
			return err
		}
	}
	slices.Sort(d.moved)
	d.moved = slices.Clip(slices.Compact(d.moved))
	return nil
}

// Size returns the length of the disk in bytes.
func (d *Disk) Size() int64 { return d.end }

// ReadAt reads like io.ReaderAt.
func (d *Disk) ReadAt(ctx context.Context, p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: %w", off, ErrInvalid)
	}
	if size := d.meta.Size(); off < size {
		n, err = d.readMeta(ctx, p[:min(int64(len(p)), size-off)], off)
		if err != nil || n == len(p) {
			return n, err
		}
	}
	if d.data == nil {
		return n, io.EOF
	}
	m, err := d.data.ReadAt(ctx, p[n:], off+int64(n)-d.meta.Size())
	return n + m, err
}

// Spans returns n bytes from off on where they are in memory; nil without an
// error if they have to be changed on the way, and only ReadAt has them.
func (d *Disk) Spans(ctx context.Context, off int64, n int) (*read.Spans, error) {
	f, off := d.unchanged(off)
	if f == nil {
		return nil, nil
	}
	return f.Spans(ctx, off, n)
}

// Ready tells whether Spans returns n bytes from off on without having to wait.
func (d *Disk) Ready(off int64, n int) bool {
	f, off := d.unchanged(off)
	return f != nil && f.Ready(off, n)
}

// unchanged returns the file that has what is at off as it is, and where in
// it; nil if there is none.
func (d *Disk) unchanged(off int64) (*read.File, int64) {
	f := d.meta
	if d.data != nil {
		if off -= d.meta.Size(); off < 0 {
			return nil, 0
		}
		f = d.data
	}
	file, _ := f.(*read.File)
	return file, off
}

// readMeta fills p with what the metadata are on this disk.
func (d *Disk) readMeta(ctx context.Context, p []byte, off int64) (int, error) {
	if d.super == nil {
		return d.meta.ReadAt(ctx, p, off)
	}
	whole, from := p, off&^(chunkLength-1)
	if to := (off + int64(len(p)) + chunkLength - 1) &^ (chunkLength - 1); to-from != int64(len(p)) {
		whole = make([]byte, to-from) // so that no index is read in part
	}
	n, err := d.meta.ReadAt(ctx, whole, from)
	if n < len(whole) {
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return 0, err
	}
	d.change(whole, from)
	if len(whole) != len(p) {
		copy(p, whole[off-from:])
	}
	return len(p), nil
}

// change makes the metadata in p, which are those at off, into those of a
// single device. Both ends of p are between chunk indexes.
func (d *Disk) change(p []byte, off int64) {
	overlay(p, off, d.super, superOffset)
	if d.slot > 0 {
		overlay(p, off, make([]byte, slotLength), d.slot)
	}
	first, _ := slices.BinarySearch(d.moved, uint32(off/chunkLength))
	le := binary.LittleEndian
	for _, at := range d.moved[first:] {
		in := int64(at)*chunkLength - off
		if in >= int64(len(p)) {
			return
		}
		if e := p[in:]; le.Uint16(e[2:])&1 == 1 && le.Uint32(e[4:]) != hole {
			le.PutUint16(e[2:], 0)
			le.PutUint32(e[4:], le.Uint32(e[4:])+d.base)
		}
	}
}

// overlay copies what of b, which belongs at at, lies in p, which is at off.
func overlay(p []byte, off int64, b []byte, at int64) {
	if at < off {
		b = b[min(off-at, int64(len(b))):]
		at = off
	}
	if in := at - off; in < int64(len(p)) {
		copy(p[in:], b)
	}
}
