package squashfs

import (
	"context"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source"
)

const maxDir = 1 << 30 // bytes of names of one directory

// Options says how to read a squashfs.
type Options struct {
	// Whiteouts has character devices 0:0 and the attribute overlay.opaque
	// take away what is in layers below, as in overlayfs.
	Whiteouts bool
}

// Read adds the tree of the squashfs in the size bytes of r to b. r has to
// last as long as the tree. Errors wrap ErrFormat, ErrFeature or
// [source.ErrRefused], or are those of reading.
func Read(ctx context.Context, b *source.Builder, r io.ReaderAt, size int64, o Options) error {
	f, err := open(r, size)
	if err != nil {
		return err
	}
	return source.Walk(ctx, b, &walker{f: f, b: b, o: o}, "", f.root)
}

// walker adds to a builder. Inodes are named by their references.
type walker struct {
	f *filesystem
	b *source.Builder
	o Options
}

var _ source.Inodes[uint64, *inode] = (*walker)(nil)

// Inode implements [source.Inodes].
func (w *walker) Inode(ref uint64) (*inode, error) { return w.f.inode(ref) }

// IsDir implements [source.Inodes].
func (w *walker) IsDir(i *inode) bool { return i.mode&source.TypeMask == source.TypeDir }

// Names implements [source.Inodes].
func (w *walker) Names(i *inode) ([]source.Named[uint64], error) { return w.f.names(i) }

// Open implements [source.Contents]. The place is the reference of the inode.
func (w *walker) Open(e *source.Entry) (io.ReadCloser, error) {
	i, err := w.f.inode(uint64(e.Place))
	if err != nil {
		return nil, fmt.Errorf("/%s: %w", e.Path, err)
	}
	if i.blocks == nil || i.size != e.Size {
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
func (w *walker) Add(path string, i *inode, ref uint64) error {
	e := &source.Entry{
		Path: path, Mode: i.mode, UID: i.uid, GID: i.gid, Sec: i.mtime, Target: i.target, Rdev: i.rdev,
	}
	if e.IsRegular() {
		e.Size = i.size
		if e.Size > 0 {
			e.Contents, e.Place = w, int64(ref)
		}
	}
	if i.links > 1 && !e.IsDir() {
		e.Inode = uint64(i.number)
	}
	if w.o.Whiteouts && e.Type() == source.TypeChar && e.Rdev == 0 {
		w.b.Remove(path)
		return nil
	}
	opaque := false
	err := w.f.xattrs(i, func(name, value string) {
		if name == "trusted.overlay.opaque" && value == "y" {
			opaque = true
		}
		source.SetXattr(w.b, e, name, value)
	})
	if err != nil {
		return fmt.Errorf("/%s: %w", path, err)
	}
	if err := w.b.Add(e); err != nil {
		return err
	}
	if w.o.Whiteouts && opaque && e.IsDir() {
		w.b.Opaque(path)
	}
	return nil
}

// names reads a directory.
func (f *filesystem) names(i *inode) ([]source.Named[uint64], error) {
	left := i.dirSize - 3 // "." and "..", in a way
	if left <= 0 {
		return nil, nil
	}
	if left > maxDir {
		return nil, bad("%d bytes of names", left)
	}
	s, err := f.stream(f.dirTable, uint64(i.dirBlock)<<16|uint64(i.dirOffset))
	if err != nil {
		return nil, err
	}
	var out []source.Named[uint64]
	for left > 0 {
		h, err := s.bytes(12)
		if err != nil {
			return nil, err
		}
		count, block := le.Uint32(h[0:]), le.Uint32(h[4:])
		if count >= 256 {
			return nil, bad("a run of %d names", uint64(count)+1)
		}
		left -= 12
		for range count + 1 {
			e, err := s.bytes(8)
			if err != nil {
				return nil, err
			}
			n, err := s.bytes(int(le.Uint16(e[6:])) + 1)
			if err != nil {
				return nil, err
			}
			if left -= int64(8 + len(n)); left < 0 {
				return nil, bad("names go on behind the end of the directory")
			}
			out = append(out, source.Named[uint64]{Name: string(n), Ref: uint64(block)<<16 | uint64(le.Uint16(e[0:]))})
		}
	}
	return out, nil
}
