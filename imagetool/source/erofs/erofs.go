// Package erofs reads the tree of an EROFS filesystem that is not compressed,
// with the go-erofs library.
package erofs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/erofs/go-erofs"

	"github.com/inetboot/inetboot/imagetool/source"
)

// ErrFeature is wrapped when an EROFS has something that is not supported.
var ErrFeature = errors.New("the EROFS has something that is not supported")

const maxDepth = 1000

// Options says how to read an EROFS.
type Options struct {
	// Whiteouts has character devices 0:0 and the attribute overlay.opaque
	// take away what is in layers below, as in overlayfs.
	Whiteouts bool
	// Devices are the further devices that contents lie on, in order.
	Devices []io.ReaderAt
}

// Read adds the tree of the EROFS in r to b. r has to last as long as the
// tree. Errors wrap ErrFeature or [source.ErrRefused], or are those of reading.
func Read(ctx context.Context, b *source.Builder, r io.ReaderAt, o Options) error {
	image, err := erofs.Open(r, erofs.WithExtraDevices(o.Devices...))
	if errors.Is(err, erofs.ErrNotImplemented) {
		return fmt.Errorf("%w: %w: unpack it with fsck.erofs --extract=DIRECTORY and push that directory", ErrFeature, err)
	}
	if err != nil {
		return refused("", err)
	}
	w := &walker{ctx: ctx, r: r, image: image, b: b, o: o, seen: make(map[int64]bool)}
	fi, err := fs.Stat(image, ".")
	if err != nil {
		return refused("", err)
	}
	if _, err := w.add("", fi); err != nil {
		return err
	}
	return w.dir("", 0)
}

func refused(p string, err error) error {
	if errors.Is(err, erofs.ErrNotImplemented) {
		return fmt.Errorf("%w: /%s: %w", ErrFeature, p, err)
	}
	return fmt.Errorf("%w: EROFS: /%s: %w", source.ErrRefused, p, err)
}

// walker adds to a builder.
type walker struct {
	ctx   context.Context
	r     io.ReaderAt
	image fs.FS
	b     *source.Builder
	o     Options
	seen  map[int64]bool // directories
}

// Open implements [source.Contents].
func (w *walker) Open(e *source.Entry) (io.ReadCloser, error) {
	f, err := w.image.Open(e.Path)
	if err != nil {
		return nil, refused(e.Path, err)
	}
	return f, nil
}

// add adds one entry, unless it is a whiteout, and tells whether it is a
// directory.
func (w *walker) add(p string, fi fs.FileInfo) (dir bool, err error) {
	st, ok := fi.Sys().(*erofs.Stat)
	if !ok {
		return false, refused(p, errors.New("nothing is said about it"))
	}
	mode, err := w.mode(st.Ino)
	if err != nil {
		return false, refused(p, err)
	}
	e := &source.Entry{
		Path: p, Mode: mode, UID: st.UID, GID: st.GID, Rdev: st.Rdev, Sec: int64(st.Mtime), Nsec: st.MtimeNs,
	}
	switch e.Type() {
	case source.TypeRegular:
		if e.Size = st.Size; e.Size > 0 {
			e.Contents = w
		}
	case source.TypeSymlink:
		target, err := fs.ReadLink(w.image, p)
		if err != nil {
			return false, refused(p, err)
		}
		e.Target = target
	case source.TypeChar:
		if w.o.Whiteouts && e.Rdev == 0 {
			w.b.Remove(p)
			return false, nil
		}
	case source.TypeBlock, source.TypeFIFO, source.TypeSocket:
	case source.TypeDir:
		// A directory has one name, so that this ends.
		if w.seen[st.Ino] {
			return false, refused(p, errors.New("the directory has two names"))
		}
		w.seen[st.Ino] = true
	default:
		return false, refused(p, fmt.Errorf("it has the unknown type %#o", e.Type()))
	}
	if st.Nlink > 1 && !e.IsDir() {
		e.Inode = uint64(st.Ino) + 1
	}
	for name, value := range st.Xattrs {
		// The library puts a dot behind each prefix.
		if n := strings.TrimSuffix(name, "."); strings.HasPrefix(n, "system.posix_acl_") {
			name = n
		}
		source.SetXattr(w.b, e, name, value)
	}
	if err := w.b.Add(e); err != nil {
		return false, err
	}
	if w.o.Whiteouts && e.IsDir() && st.Xattrs["trusted.overlay.opaque"] == "y" {
		w.b.Opaque(p)
	}
	return e.IsDir(), nil
}

// dir adds what is in the directory at p.
func (w *walker) dir(p string, depth int) error {
	if depth > maxDepth {
		return refused(p, fmt.Errorf("directories nest deeper than %d", maxDepth))
	}
	names, err := fs.ReadDir(w.image, path.Join(".", p))
	if err != nil {
		return refused(p, err)
	}
	for _, n := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		c, err := source.Child(p, n.Name())
		if err != nil {
			return err
		}
		if w.b.Excluded(c) {
			continue
		}
		fi, err := n.Info()
		if err != nil {
			return refused(c, err)
		}
		isDir, err := w.add(c, fi)
		if err != nil {
			return err
		}
		if isDir {
			if err := w.dir(c, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// mode returns type and permission bits as stat(2) has them. The library
// leaves out setuid, setgid and sticky, so they are read where they lie
// (struct erofs_inode_compact in fs/erofs/erofs_fs.h).
func (w *walker) mode(nid int64) (uint32, error) {
	var sb [128]byte
	if _, err := w.r.ReadAt(sb[:], 1024); err != nil {
		return 0, fmt.Errorf("read the superblock: %w", err)
	}
	at := int64(binary.LittleEndian.Uint32(sb[40:]))<<sb[12] + nid*32
	var i [6]byte
	if _, err := w.r.ReadAt(i[:], at); err != nil {
		return 0, fmt.Errorf("read an inode: %w", err)
	}
	return uint32(binary.LittleEndian.Uint16(i[4:])), nil
}
