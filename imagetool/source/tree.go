// Package source reads the tree of an operating system from a directory or
// a tarball. Whatever it came from, the same tree has the same entries in
// the same order.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// The reasons for which a source cannot be used. Errors wrap them.
var (
	ErrUnreadable = errors.New("the source cannot be read")
	ErrChanged    = errors.New("the source changed while it was read")
	ErrNoRoom     = errors.New("not enough room for temporary files")
)

// The type bits of a mode, as in stat(2).
const (
	TypeMask    = 0o170000
	TypeSocket  = 0o140000
	TypeSymlink = 0o120000
	TypeRegular = 0o100000
	TypeBlock   = 0o060000
	TypeDir     = 0o040000
	TypeChar    = 0o020000
	TypeFIFO    = 0o010000
)

// maxLinks bounds how many symbolic links Resolve follows, as the kernel does.
const maxLinks = 40

// Entry is one name in a tree.
type Entry struct {
	Path   string // below the root, without a leading slash; "" is the root itself
	Mode   uint32 // type and permission bits, as in stat(2)
	UID    uint32
	GID    uint32
	Rdev   uint32 // as in stat(2) with glibc's encoding of the lower 32 bits
	Sec    int64  // modification time
	Nsec   uint32
	Size   int64  // of a regular file, in bytes
	Target string // of a symbolic link
	Xattrs map[string]string

	// First is the first of the names (in the order of the tree) that share
	// this file, or nil if this is it.
	First *Entry
	// Nlink is the number of names in the tree for this file.
	Nlink uint32

	children []*Entry
	offset   int64 // of the content in a tarball or spool
	spooled  bool  // the content is in the spool, not in the tarball
	inode    [2]uint64
}

// Type returns the type bits.
func (e *Entry) Type() uint32 { return e.Mode & TypeMask }

// IsDir tells whether e is a directory.
func (e *Entry) IsDir() bool { return e.Type() == TypeDir }

// IsRegular tells whether e is a regular file.
func (e *Entry) IsRegular() bool { return e.Type() == TypeRegular }

// Name returns the last element of the path.
func (e *Entry) Name() string { return path.Base(e.Path) }

// Children returns what is in a directory, sorted by name. The caller must
// not change the slice.
func (e *Entry) Children() []*Entry { return e.children }

// Tree is a tree that can be read. It is safe for concurrent use once it is
// open.
type Tree struct {
	// Notes are things that the publisher should know, such as sockets that
	// were left out.
	Notes []string

	root    *Entry
	byPath  map[string]*Entry
	ordered []*Entry
	content func(e *Entry) (io.ReadCloser, error)
	close   func() error
}

// Options says how to read a source.
type Options struct {
	TempDir string // for the contents of compressed tarballs; "": the system's
	// Progress is called with the number of bytes of a tarball that were
	// read and the total; it may be nil.
	Progress func(done, total int64)
}

// Open reads the tree at name: a directory, or a tarball that may be
// compressed with gzip, bzip2, xz or Zstandard.
func Open(ctx context.Context, name string, o Options) (*Tree, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	switch {
	case fi.IsDir():
		return openDir(ctx, name)
	case fi.Mode().IsRegular():
		return openTar(ctx, name, o)
	}
	return nil, fmt.Errorf("%w: %s is neither a directory nor a tarball", ErrUnreadable, name)
}

// Close removes temporary files.
func (t *Tree) Close() error {
	if t.close == nil {
		return nil
	}
	return t.close()
}

// Entries returns all entries, parents before children, siblings sorted by
// name byte for byte, the root first. The caller must not change the slice.
func (t *Tree) Entries() []*Entry { return t.ordered }

// Root returns the root directory.
func (t *Tree) Root() *Entry { return t.root }

// Lookup returns the entry at p itself, following no links, or nil.
func (t *Tree) Lookup(p string) *Entry { return t.byPath[strings.Trim(p, "/")] }

// Resolve returns the entry that p leads to, following symbolic links inside
// of the tree as chroot(2) would.
func (t *Tree) Resolve(p string) (*Entry, error) {
	rest := strings.Split(strings.Trim(p, "/"), "/")
	at := t.root
	links := 0
	for len(rest) > 0 {
		el := rest[0]
		rest = rest[1:]
		switch el {
		case "", ".":
			continue
		case "..":
			if at.Path != "" {
				at = t.byPath[strings.TrimPrefix(path.Dir("/"+at.Path), "/")]
			}
			continue
		}
		next := t.byPath[join(at.Path, el)]
		if next == nil {
			return nil, fmt.Errorf("%s: %w", p, fs.ErrNotExist)
		}
		if next.Type() != TypeSymlink {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return nil, fmt.Errorf("%s: too many symbolic links", p)
		}
		if strings.HasPrefix(next.Target, "/") {
			at = t.root
		}
		rest = append(strings.Split(next.Target, "/"), rest...)
	}
	return at, nil
}

// Open returns the content of a regular file.
func (t *Tree) Open(e *Entry) (io.ReadCloser, error) {
	if !e.IsRegular() {
		return nil, fmt.Errorf("/%s is not a regular file", e.Path)
	}
	if e.First != nil {
		e = e.First
	}
	return t.content(e)
}

// ReadFile returns the content of the file that p leads to, if it has at
// most limit bytes.
func (t *Tree) ReadFile(p string, limit int64) ([]byte, error) {
	e, err := t.Resolve(p)
	if err != nil {
		return nil, err
	}
	return t.ReadEntry(e, limit)
}

// ReadEntry returns the content of a regular file of at most limit bytes.
func (t *Tree) ReadEntry(e *Entry, limit int64) ([]byte, error) {
	if e.Size > limit {
		return nil, fmt.Errorf("/%s has %d bytes, at most %d are expected", e.Path, e.Size, limit)
	}
	r, err := t.Open(e)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data := make([]byte, e.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, readError(e, err)
	}
	return data, nil
}

func readError(e *Entry, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: /%s is shorter than it was", ErrChanged, e.Path)
	}
	return fmt.Errorf("%w: /%s: %w", ErrUnreadable, e.Path, err)
}

// ReadError describes an error of reading e's content.
func ReadError(e *Entry, err error) error { return readError(e, err) }

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

// assemble sorts the entries of byPath, finds the first of each group of
// names for one file, and counts them.
func (t *Tree) assemble() {
	for p, e := range t.byPath {
		if p == "" {
			continue
		}
		parent := t.byPath[strings.TrimPrefix(path.Dir("/"+p), "/")]
		parent.children = append(parent.children, e)
	}
	t.ordered = make([]*Entry, 0, len(t.byPath))
	var walk func(e *Entry)
	walk = func(e *Entry) {
		t.ordered = append(t.ordered, e)
		slices.SortFunc(e.children, func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
		for _, c := range e.children {
			walk(c)
		}
	}
	walk(t.root)

	firsts := make(map[[2]uint64]*Entry)
	for _, e := range t.ordered {
		e.Nlink = 1
		if e.IsDir() {
			e.Nlink = 2
			for _, c := range e.children {
				if c.IsDir() {
					e.Nlink++
				}
			}
			continue
		}
		if e.inode == [2]uint64{} {
			continue
		}
		if first, ok := firsts[e.inode]; ok {
			e.First = first
			first.Nlink++
		} else {
			firsts[e.inode] = e
		}
	}
	for _, e := range t.ordered {
		if e.First != nil {
			e.Nlink = e.First.Nlink
		}
	}
}

// note remembers something once.
func (t *Tree) note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if !slices.Contains(t.Notes, s) && len(t.Notes) < 100 {
		t.Notes = append(t.Notes, s)
	}
}
