// Package dir reads a tree from a directory.
package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Options says more about how to read a directory.
type Options struct {
	// Whiteouts has files named .wh.NAME, character devices 0:0 and the
	// attribute overlay.opaque take away what is below, as in layers of
	// container images and in overlayfs.
	Whiteouts bool
	// Owner replaces the owner and group of files that belong to the user
	// and group who run this, unless those are 0.
	Owner bool
	// Progress is told how many bytes the files have that were found so far.
	// How many there will be is not known, so the total is negative. It may
	// be nil.
	Progress func(done, total int64)
	// Mounts are the paths below the directory where another filesystem is
	// read as well.
	Mounts []string
}

// Read adds the tree below name to b. It stays on name's filesystem: mount
// points are kept as empty directories. Nobody who changes the directory
// meanwhile can lead it elsewhere by symbolic links.
func Read(ctx context.Context, b *source.Builder, name string, o Options) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%w: open the directory %s: %w", source.ErrUnreadable, name, err)
	}
	files := &contents{root: fd}
	b.OnClose(files)
	r := &reader{ctx: ctx, b: b, o: o, name: name, root: fd, files: files, inodes: make(map[[2]uint64]uint64)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return r.fail("", err)
	}
	e, err := r.entry(fd, "", "", &st)
	if err != nil {
		return err
	}
	if err := b.Add(e); err != nil {
		return err
	}
	return r.dir("", st.Dev)
}

// reader reads one directory.
type reader struct {
	ctx    context.Context
	b      *source.Builder
	o      Options
	name   string
	root   int
	files  *contents
	inodes map[[2]uint64]uint64 // device and inode of files with several names
	found  int64                // bytes of files
	small  [1024]byte           // for the names of extended attributes
}

func (r *reader) fail(p string, err error) error {
	return fmt.Errorf("%w: %s/%s: %w", source.ErrUnreadable, r.name, p, err)
}

// subdir is a directory that is to be read.
type subdir struct {
	path string
	dev  uint64
}

// dir adds what is in the directory p. Its descriptor is closed before what
// is in it is gone into, so that depth takes none.
func (r *reader) dir(p string, dev uint64) error {
	sub, err := r.list(p, dev)
	if err != nil {
		return err
	}
	for _, s := range sub {
		if err := r.dir(s.path, s.dev); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) list(p string, dev uint64) (sub []subdir, err error) {
	if err := r.ctx.Err(); err != nil {
		return nil, err
	}
	f, err := openBeneath(r.root, p, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, r.fail(p, err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, r.fail(p, err)
	}
	slices.Sort(names) // so that places, and with them messages, are always the same
	fd := int(f.Fd())
	for _, name := range names {
		path := name
		if p != "" {
			path = p + "/" + name
		}
		if r.b.Excluded(path) {
			continue
		}
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, r.fail(path, err)
		}
		if r.o.Whiteouts && r.whiteout(p, name, &st) {
			continue
		}
		e, err := r.entry(fd, name, path, &st)
		if err != nil {
			return nil, err
		}
		if err := r.b.Add(e); err != nil {
			return nil, err
		}
		if !e.IsDir() {
			continue
		}
		if r.o.Whiteouts && r.isOpaque(fd, name) {
			r.b.Opaque(path)
		}
		switch {
		case st.Dev == dev, slices.Contains(r.o.Mounts, path):
			sub = append(sub, subdir{path, st.Dev})
		default:
			r.b.Note("/%s is another filesystem: kept as an empty directory", path)
		}
	}
	if r.o.Progress != nil {
		r.o.Progress(r.found, -1)
	}
	return sub, nil
}

// entry describes the file name in the directory dirfd, or dirfd itself.
func (r *reader) entry(dirfd int, name, path string, st *unix.Stat_t) (*source.Entry, error) {
	e := &source.Entry{
		Path: path, Mode: st.Mode, UID: st.Uid, GID: st.Gid,
		Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec),
	}
	if r.o.Owner {
		e.UID, e.GID = ownerless(e.UID, e.GID)
	}
	switch e.Type() {
	case source.TypeRegular:
		e.Size = st.Size
		r.found += st.Size
		if e.Size > 0 {
			e.Contents, e.Place = r.files, r.files.add(path, st)
		}
	case source.TypeSymlink:
		target, err := readLink(dirfd, name, st.Size)
		if err != nil {
			return nil, r.fail(path, err)
		}
		e.Target = target
	case source.TypeBlock, source.TypeChar:
		e.Rdev = uint32(st.Rdev)
	case source.TypeDir, source.TypeFIFO, source.TypeSocket:
	default:
		return nil, r.fail(path, fmt.Errorf("unknown type %#o", e.Type()))
	}
	if st.Nlink > 1 && !e.IsDir() {
		id := [2]uint64{st.Dev, st.Ino}
		if e.Inode = r.inodes[id]; e.Inode == 0 {
			e.Inode = uint64(len(r.inodes) + 1)
			r.inodes[id] = e.Inode
		}
	}
	var err error
	if e.Xattrs, err = r.xattrs(dirfd, name, path); err != nil {
		return nil, err
	}
	return e, nil
}

// ownerless gives files of the user who runs this to root, whose they are
// meant to be: a user cannot make files that are somebody else's.
func ownerless(uid, gid uint32) (uint32, uint32) {
	if uid == uint32(unix.Geteuid()) {
		uid = 0
	}
	if gid == uint32(unix.Getegid()) {
		gid = 0
	}
	return uid, gid
}

func readLink(dirfd int, name string, size int64) (string, error) {
	for n := max(size, 63) + 1; n <= 1<<20; n *= 2 {
		b := make([]byte, n)
		k, err := unix.Readlinkat(dirfd, name, b)
		if err != nil {
			return "", fmt.Errorf("read the symbolic link: %w", err)
		}
		if int64(k) < n {
			return string(b[:k]), nil
		}
	}
	return "", errors.New("a symbolic link of more than 1 MiB")
}

// contents opens the files of one directory.
type contents struct {
	root    int
	files   [][]file // by place, in pieces, so that growing copies nothing
	changed time.Time
}

// pieceLength is how many files a piece of the list has.
const pieceLength = 1024

type file struct {
	path  string
	inode uint64
	stamp source.Stamp
}

var (
	_ source.Contents = (*contents)(nil)
	_ source.Stamper  = (*contents)(nil)
	_ io.Closer       = (*contents)(nil)
)

func (c *contents) add(path string, st *unix.Stat_t) (place int64) {
	last := len(c.files) - 1
	if last < 0 || len(c.files[last]) == pieceLength {
		c.files = append(c.files, make([]file, 0, pieceLength))
		last++
	}
	c.files[last] = append(c.files[last], file{path, st.Ino, source.NewStamp(st)})
	if at := time.Unix(st.Ctim.Sec, st.Ctim.Nsec); at.After(c.changed) {
		c.changed = at
	}
	return int64(last*pieceLength + len(c.files[last]) - 1)
}

// at returns the file at a place.
func (c *contents) at(place int64) *file { return &c.files[place/pieceLength][place%pieceLength] }

// Stamp implements [source.Stamper].
func (c *contents) Stamp(e *source.Entry) source.Stamp { return c.at(e.Place).stamp }

// Changed implements [source.Stamper].
func (c *contents) Changed() time.Time { return c.changed }

// Open implements [source.Contents].
func (c *contents) Open(e *source.Entry) (io.ReadCloser, error) {
	at := c.at(e.Place)
	f, err := openBeneath(c.root, at.path, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ELOOP) {
			return nil, fmt.Errorf("%w: /%s is gone", source.ErrChanged, at.path)
		}
		return nil, fmt.Errorf("%w: /%s: %w", source.ErrUnreadable, at.path, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: /%s: %w", source.ErrUnreadable, at.path, err), f.Close())
	}
	if st.Ino != at.inode || st.Mode&source.TypeMask != source.TypeRegular {
		return nil, errors.Join(fmt.Errorf("%w: /%s is another file now", source.ErrChanged, at.path), f.Close())
	}
	if st.Blocks*512 >= st.Size {
		return &wholeFile{f, st.Size}, nil
	}
	return &sparseFile{f: f}, nil
}

// wholeFile is a file without holes, which says how long it is.
type wholeFile struct {
	*os.File
	size int64
}

func (w *wholeFile) Size() int64 { return w.size }

// Close implements [io.Closer].
func (c *contents) Close() error { return unix.Close(c.root) }
