package ext4

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source"
)

const (
	maxDir     = 1 << 30 // bytes of one directory
	maxSymlink = 4096    // bytes of a target
)

// Read adds the tree of the filesystem in the size bytes of r to b, below the
// directory prefix, "" for the root. r has to last as long as the tree. Errors
// wrap ErrFormat, ErrUnclean, ErrFeature or [source.ErrRefused], or are those of
// reading.
func Read(ctx context.Context, b *source.Builder, r io.ReaderAt, size int64, prefix string) error {
	f, err := open(r, size)
	if err != nil {
		return err
	}
	return source.Walk(ctx, b, &walker{f: f, b: b}, prefix, rootInode)
}

// walker adds to a builder.
type walker struct {
	f *filesystem
	b *source.Builder
}

var _ source.Inodes[uint32, *inode] = (*walker)(nil)

// Inode implements [source.Inodes].
func (w *walker) Inode(number uint32) (*inode, error) { return w.f.inode(number) }

// IsDir implements [source.Inodes].
func (w *walker) IsDir(i *inode) bool { return i.mode&source.TypeMask == source.TypeDir }

// Names implements [source.Inodes].
func (w *walker) Names(i *inode) ([]source.Named[uint32], error) { return w.f.names(i) }

// Open implements [source.Contents]. The place is the number of the inode.
func (w *walker) Open(e *source.Entry) (io.ReadCloser, error) {
	i, err := w.f.inode(uint32(e.Place))
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", e.Path, err)
	}
	if i.mode&source.TypeMask != source.TypeRegular || i.size != e.Size {
		return nil, fmt.Errorf("%w: /%s", source.ErrChanged, e.Path)
	}
	c, err := w.f.content(i)
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", e.Path, err)
	}
	return &reader{io.NewSectionReader(c, 0, c.size), c}, nil
}

// reader reads one file. It is an io.ReaderAt and a [source.HoleSkipper], too.
type reader struct {
	*io.SectionReader
	c *file
}

func (*reader) Close() error { return nil }

func (r *reader) SkipHole() (int64, error) {
	at, err := r.Seek(0, io.SeekCurrent)
	if err != nil {
		return 0, err
	}
	n := r.c.hole(at)
	_, err = r.Seek(n, io.SeekCurrent)
	return n, err
}

// Add implements [source.Inodes].
func (w *walker) Add(path string, i *inode, number uint32) error {
	e := &source.Entry{Path: path, Mode: i.mode, UID: i.uid, GID: i.gid, Sec: i.sec, Nsec: i.nsec}
	switch e.Type() {
	case source.TypeRegular:
		e.Size = i.size
		if e.Size > 0 {
			e.Contents, e.Place = w, int64(number)
		}
	case source.TypeSymlink:
		target, err := w.f.target(i)
		if err != nil {
			return fmt.Errorf("/%s: %w", path, err)
		}
		e.Target = target
	case source.TypeChar, source.TypeBlock:
		e.Rdev = i.device()
	case source.TypeDir, source.TypeFIFO, source.TypeSocket:
	default:
		return bad("/%s is of the type %#o", path, e.Type())
	}
	if i.links > 1 && !e.IsDir() {
		e.Inode = uint64(number)
	}
	err := w.f.xattrs(i, func(name string, value []byte) error {
		if name != inlineName {
			source.SetXattr(w.b, e, name, string(value))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("/%s: %w", path, err)
	}
	return w.b.Add(e)
}

// target returns where a symbolic link leads.
func (f *filesystem) target(i *inode) (string, error) {
	if i.size == 0 || i.size > maxSymlink {
		return "", bad("a symbolic link of %d bytes", i.size)
	}
	var data []byte
	if i.size < blockField && i.flags&(flagInline|flagExtents) == 0 {
		data = i.block[:i.size]
	} else {
		c, err := f.content(i)
		if err != nil {
			return "", err
		}
		if data, err = c.all(maxSymlink); err != nil {
			return "", err
		}
	}
	for _, c := range data {
		if c == 0 {
			return "", bad("a symbolic link with a zero byte")
		}
	}
	return string(data), nil
}

// names reads a directory, except for "." and "..". Hashed directories
// can be read like the others: their inner nodes look like empty entries
// (Documentation/filesystems/ext4/directory.rst).
func (f *filesystem) names(i *inode) ([]source.Named[uint32], error) {
	if i.size > maxDir {
		return nil, bad("a directory of %d bytes", i.size)
	}
	c, err := f.content(i)
	if err != nil {
		return nil, err
	}
	if c.inline != nil {
		// Behind the number of the parent.
		if len(c.inline) < blockField {
			return nil, bad("a directory of %d bytes", len(c.inline))
		}
		out, err := f.dirBlock(nil, c.inline[4:blockField])
		if err != nil {
			return nil, err
		}
		return f.dirBlock(out, c.inline[blockField:])
	}
	if c.size%f.blockSize != 0 {
		return nil, bad("a directory of %d bytes", c.size)
	}
	var out []source.Named[uint32]
	b := make([]byte, f.blockSize)
	for at := int64(0); at < c.size; at += f.blockSize {
		if _, err := c.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if out, err = f.dirBlock(out, b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// dirBlock appends the entries of one block of a directory.
func (f *filesystem) dirBlock(out []source.Named[uint32], b []byte) ([]source.Named[uint32], error) {
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, bad("a directory entry")
		}
		inode, length, nameLen := le.Uint32(b), int(le.Uint16(b[4:])), int(b[6])
		if f.incompat&incompatFiletype == 0 {
			nameLen = int(le.Uint16(b[6:]))
		}
		if f.blockSize >= 1<<16 && (length == 0 || length == 0xffff) {
			length = int(f.blockSize)
		} else if f.blockSize > 1<<16 {
			length = length&0xfffc | length&3<<16
		}
		if length < 8 || length > len(b) || length%4 != 0 || inode != 0 && 8+nameLen > length {
			return nil, bad("a directory entry of %d bytes with a name of %d", length, nameLen)
		}
		if inode != 0 { // else it is free, or a checksum
			if s := string(b[8 : 8+nameLen]); s != "." && s != ".." {
				out = append(out, source.Named[uint32]{Name: s, Ref: inode})
			}
		}
		b = b[length:]
	}
	return out, nil
}
