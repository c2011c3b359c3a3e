package iso9660

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source"
)

// node is a file or a directory with what Rock Ridge says of it.
type node struct {
	File
	rockRidge
}

// directory returns the directory that lies at an offset, as its own record
// describes it.
func (v *Volume) directory(at int64, name string) (*node, error) {
	if at > v.size-sector {
		return nil, bad("the directory %q is not within the image", name)
	}
	var b [sector]byte
	if _, err := v.r.ReadAt(b[:], at); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the image: %w", err)
	}
	if b[0] < 34 {
		return nil, bad("the directory %q has no entries", name)
	}
	f, use, err := v.record(b[:b[0]])
	if err != nil {
		return nil, err
	}
	if !f.Dir || f.Name != "\x00" || f.pieces[0].start != at {
		return nil, bad("the directory %q does not begin with itself", name)
	}
	rr, err := v.rockRidge(use)
	if err != nil {
		return nil, err
	}
	if !rr.dated {
		rr.mtime = shortTime(b[18:25])
	}
	f.Name = name
	rr.child, rr.relocated = 0, false
	return &node{File: f, rockRidge: rr}, nil
}

// Read adds the tree of the image in the size bytes of r to b. r has to last as
// long as the tree. Without Rock Ridge everything is root's and may be read by
// all. Errors wrap ErrFormat or [source.ErrRefused], or are those of reading.
func Read(ctx context.Context, b *source.Builder, r io.ReaderAt, size int64) error {
	v, err := Open(r, size)
	if err != nil {
		return err
	}
	root, err := v.directory(v.root.pieces[0].start, "")
	if err != nil {
		return err
	}
	w := &walker{v: v, b: b, dirs: make(map[int64]bool), links: make(map[uint64]identity)}
	return source.Walk(ctx, b, w, "", root)
}

// walker adds to a builder.
type walker struct {
	v     *Volume
	b     *source.Builder
	dirs  map[int64]bool // by where they begin
	links map[uint64]identity
}

// identity is what all names of one file have in common.
type identity struct {
	mode, uid, gid, rdev uint32
	start, size, mtime   int64
	target               string
}

var _ source.Inodes[*node, *node] = (*walker)(nil)

// Inode implements [source.Inodes].
func (*walker) Inode(n *node) (*node, error) { return n, nil }

// IsDir implements [source.Inodes].
func (*walker) IsDir(n *node) bool { return n.Dir }

// Names implements [source.Inodes].
func (w *walker) Names(n *node) ([]source.Named[*node], error) {
	// Each directory is read once, so that this ends.
	at := n.pieces[0].start
	if w.dirs[at] {
		return nil, bad("it is in two places")
	}
	w.dirs[at] = true
	nodes, err := w.v.nodes(n.File)
	if err != nil {
		return nil, err
	}
	out := make([]source.Named[*node], len(nodes))
	for i, c := range nodes {
		out[i] = source.Named[*node]{Name: c.Name, Ref: c}
	}
	return out, nil
}

// Add implements [source.Inodes].
func (w *walker) Add(path string, n *node, _ *node) error {
	e := &source.Entry{Path: path, Mode: source.TypeRegular | 0o444, Sec: n.mtime}
	if n.Dir {
		e.Mode = source.TypeDir | 0o555
	}
	if n.posix {
		e.Mode, e.UID, e.GID = n.mode&(source.TypeMask|0o7777), n.uid, n.gid
	}
	if e.IsDir() != n.Dir {
		return bad("/%s is a directory and is none", path)
	}
	switch e.Type() {
	case source.TypeDir, source.TypeFIFO, source.TypeSocket:
	case source.TypeRegular:
		if n.packed {
			return bad("/%s is compressed with zisofs, which is not supported: mount the image and push that directory", path)
		}
		if e.Size = n.Size; e.Size > 0 {
			e.Contents = contents{n.File}
		}
	case source.TypeSymlink:
		if e.Target = n.target; e.Target == "" {
			return bad("the symbolic link /%s leads nowhere", path)
		}
	case source.TypeChar, source.TypeBlock:
		e.Rdev = n.rdev
	default:
		return bad("/%s has the mode %o", path, n.mode)
	}
	if !n.Dir && n.posix && n.links > 1 {
		e.Inode = w.inode(e, n)
	}
	return w.b.Add(e)
}

// inode returns a number that all names of a file have, 0 if it has no other.
// RRIP 1.12 numbers files; before, their content lies at one place.
func (w *walker) inode(e *source.Entry, n *node) uint64 {
	var number uint64
	start := n.pieces[0].start
	switch {
	case n.serial != 0:
		number = uint64(n.serial)<<1 | 1
	case e.Size > 0:
		number = uint64(start) // sectors are even
	default:
		return 0
	}
	same := identity{e.Mode, e.UID, e.GID, e.Rdev, start, e.Size, e.Sec, e.Target}
	if e.Size == 0 {
		same.start = 0
	}
	if first, ok := w.links[number]; ok && first != same {
		return 0
	}
	w.links[number] = same
	return number
}

// contents is the content of one file.
type contents struct{ f File }

// Open implements [source.Contents].
func (c contents) Open(*source.Entry) (io.ReadCloser, error) {
	return &reader{io.NewSectionReader(c.f, 0, c.f.Size)}, nil
}

// reader reads one file. It is an io.ReaderAt, too.
type reader struct{ *io.SectionReader }

func (*reader) Close() error { return nil }
