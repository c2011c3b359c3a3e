// Package source is the tree of an operating system, wherever it came from:
// the same tree has the same entries in the same order. The packages below it
// read trees of all kinds: each adds entries to a [Builder], and
// imagetool/source/opener chooses among them.
package source

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The reasons for which a source cannot be used. Errors wrap them.
var (
	ErrUnreadable = errors.New("the source cannot be read")
	ErrRefused    = errors.New("the source is refused")
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
	// There are as many as names in the tree: fields stand so that none needs
	// padding.

	Path   string // below the root, without a leading slash; "" is the root itself
	Mode   uint32 // type and permission bits, as in stat(2)
	UID    uint32
	GID    uint32
	Rdev   uint32 // as in stat(2) with glibc's encoding of the lower 32 bits
	Sec    int64  // modification time
	Size   int64  // of a regular file, in bytes
	Target string // of a symbolic link
	Xattrs map[string]string
	Nsec   uint32 // of the modification time
	// Nlink is the number of names in the tree for this file.
	Nlink uint32

	// Inode tells which names of one layer share a file: those with the same
	// number, if it is not 0. Readers of sources set it.
	Inode uint64
	// Contents opens the content of a regular file that has any. Place is
	// for its use alone, such as an offset or the number of an inode.
	Contents Contents
	Place    int64

	// First is the first of the names (in the order of the tree) that share
	// this file, or nil if this is it.
	First *Entry

	in      *[]*Entry // what is in a directory; nil: nothing
	index   int32     // in the order of the tree
	layer   int32
	inLayer int32 // the layer that Inode is a number of
	implied bool  // a directory that nothing describes, but something lies in
	gone    bool  // removed by a later layer
}

// Stamp identifies a file of a filesystem and the state that it is in: as long
// as it is the same, so is the content, unless the file changed in the moment
// of the change time. The zero Stamp says nothing.
type Stamp [16]byte

// NewStamp returns the Stamp of a file.
func NewStamp(st *unix.Stat_t) Stamp {
	var b [6 * 8]byte
	for i, v := range [...]uint64{
		st.Dev, st.Ino, uint64(st.Ctim.Sec), uint64(st.Ctim.Nsec), uint64(st.Mtim.Sec), uint64(st.Mtim.Nsec),
	} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	sum := sha256.Sum256(b[:])
	return Stamp(sum[:])
}

// Stamper is Contents that know, without reading a file, whether it may be
// another one than before.
type Stamper interface {
	// Stamp returns the Stamp of the file that Open would open.
	Stamp(e *Entry) Stamp
	// Changed returns the newest status change time, which nobody can set,
	// of all its files.
	Changed() time.Time
}

// Contents opens the contents of regular files. It is safe for concurrent
// use.
type Contents interface {
	// Open returns the content of e from its beginning, e.Size bytes. A
	// reader that knows where holes are implements [HoleSkipper] as well.
	Open(e *Entry) (io.ReadCloser, error)
}

// HoleSkipper is a reader of a file that knows where holes are.
type HoleSkipper interface {
	// SkipHole moves over a hole that begins where the reader is, and
	// returns its length in bytes: 0 if there is data, or the end.
	SkipHole() (int64, error)
}

// Type returns the type bits.
func (e *Entry) Type() uint32 { return e.Mode & TypeMask }

// IsDir tells whether e is a directory.
func (e *Entry) IsDir() bool { return e.Type() == TypeDir }

// IsRegular tells whether e is a regular file.
func (e *Entry) IsRegular() bool { return e.Type() == TypeRegular }

// Name returns the last element of the path.
func (e *Entry) Name() string { return path.Base(e.Path) }

// Index returns the place of e in the tree's Entries.
func (e *Entry) Index() int { return int(e.index) }

// Children returns what is in a directory, sorted by name. The caller must
// not change the slice.
func (e *Entry) Children() []*Entry {
	if e.in == nil {
		return nil
	}
	return *e.in
}

// contain makes list what is in a directory.
func (e *Entry) contain(list []*Entry) {
	switch {
	case len(list) == 0:
		e.in = nil
	case e.in == nil:
		e.in = &list
	default:
		*e.in = list
	}
}

// Tree is a tree that can be read. It is safe for concurrent use once it is
// open.
type Tree struct {
	// Notes are things that the publisher should know, such as sockets that
	// were left out.
	Notes []string
	// Origin is what is known beside the tree, if it was read from an image.
	Origin Origin

	ordered []*Entry
	closers []io.Closer
}

// Close removes temporary files.
func (t *Tree) Close() error {
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c.Close())
	}
	t.closers = nil
	return errors.Join(errs...)
}

// Entries returns all entries, parents before children, siblings sorted by
// name byte for byte, the root first. The caller must not change the slice.
func (t *Tree) Entries() []*Entry { return t.ordered }

// Root returns the root directory.
func (t *Tree) Root() *Entry { return t.ordered[0] }

// Lookup returns the entry at p itself, following no links, or nil.
func (t *Tree) Lookup(p string) *Entry {
	// A map would take more memory than anything else of a tree but its names.
	i, ok := slices.BinarySearchFunc(t.ordered, strings.Trim(p, "/"), func(e *Entry, p string) int { return comparePaths(e.Path, p) })
	if !ok {
		return nil
	}
	return t.ordered[i]
}

// Resolve returns the entry that p leads to, following symbolic links inside
// of the tree as chroot(2) would.
func (t *Tree) Resolve(p string) (*Entry, error) { return resolve(t.Lookup, p) }

// resolve is Resolve in the tree whose entries lookup finds.
func resolve(lookup func(string) *Entry, p string) (*Entry, error) {
	rest := strings.Split(strings.Trim(p, "/"), "/")
	at := lookup("")
	links := 0
	for len(rest) > 0 {
		el := rest[0]
		rest = rest[1:]
		switch el {
		case "", ".":
			continue
		case "..":
			if at.Path != "" {
				at = lookup(parentPath(at.Path))
			}
			continue
		}
		next := lookup(join(at.Path, el))
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
			at = lookup("")
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
	if e.Size == 0 || e.Contents == nil {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return e.Contents.Open(e)
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

// parentPath returns the path of the directory that p lies in.
func parentPath(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}
