package root

import (
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/inetboot/inetboot/imagetool/source"
)

// Meta writes the meta file: everything but the contents. It goes with
// the data file that Data returns.
func (p *Plan) Meta(out interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.WriterAt
}) error {
	w := erofs.Create(out, erofs.WithBuildTime(0, 0), erofs.WithBlockSize(PageSize))
	if err := w.CopyFrom(&treeFS{plan: p}, erofs.MetadataOnly()); err != nil {
		return fmt.Errorf("lay out the EROFS metadata: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("write the EROFS metadata: %w", err)
	}
	return p.joinLinks(out)
}

// treeFS shows a tree to the EROFS writer, which takes contents by place and
// not by reading them.
type treeFS struct{ plan *Plan }

var (
	_ fs.StatFS    = (*treeFS)(nil)
	_ fs.ReadDirFS = (*treeFS)(nil)
)

// BlockSize and DeviceBlocks are what the writer asks a source for.
func (t *treeFS) BlockSize() uint32    { return PageSize }
func (t *treeFS) DeviceBlocks() uint64 { return uint64(t.plan.size / PageSize) }

func (t *treeFS) entry(op, name string) (*source.Entry, error) {
	if name == "." {
		name = ""
	}
	if e := t.plan.tree.Lookup(name); e != nil {
		return e, nil
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// Open fails: nothing is read through this filesystem.
func (t *treeFS) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
}

func (t *treeFS) Stat(name string) (fs.FileInfo, error) {
	e, err := t.entry("stat", name)
	if err != nil {
		return nil, err
	}
	return t.info(e), nil
}

func (t *treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	e, err := t.entry("readdir", name)
	if err != nil {
		return nil, err
	}
	out := make([]fs.DirEntry, 0, len(e.Children()))
	for _, c := range e.Children() {
		out = append(out, fs.FileInfoToDirEntry(t.info(c)))
	}
	return out, nil
}

// ReadLink is what the writer asks for targets of symbolic links.
func (t *treeFS) ReadLink(name string) (string, error) {
	e, err := t.entry("readlink", name)
	if err != nil {
		return "", err
	}
	return e.Target, nil
}

func (t *treeFS) info(e *source.Entry) *info {
	i := &info{entry: e, offset: -1}
	first := e
	if e.First != nil {
		first = e.First
	}
	if off, ok := t.plan.offsets[first]; ok {
		i.offset = off
	}
	return i
}

// info describes one entry to the writer.
type info struct {
	entry  *source.Entry
	offset int64 // of the content, -1 if there is none
}

func (i *info) Name() string       { return path.Base("/" + i.entry.Path) }
func (i *info) Size() int64        { return i.entry.Size }
func (i *info) ModTime() time.Time { return time.Unix(i.entry.Sec, int64(i.entry.Nsec)) }
func (i *info) IsDir() bool        { return i.entry.IsDir() }

func (i *info) Mode() fs.FileMode {
	m := fs.FileMode(i.entry.Mode & 0o777)
	for bit, mode := range map[uint32]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if i.entry.Mode&bit != 0 {
			m |= mode
		}
	}
	switch i.entry.Type() {
	case source.TypeDir:
		m |= fs.ModeDir
	case source.TypeSymlink:
		m |= fs.ModeSymlink
	case source.TypeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case source.TypeBlock:
		m |= fs.ModeDevice
	case source.TypeFIFO:
		m |= fs.ModeNamedPipe
	case source.TypeSocket:
		m |= fs.ModeSocket
	}
	return m
}

// Sys carries what fs.FileInfo has no room for, in the writer's own type.
func (i *info) Sys() any {
	return &erofs.Stat{
		UID: i.entry.UID, GID: i.entry.GID, Rdev: i.entry.Rdev, Nlink: int(i.entry.Nlink),
		Mtime: uint64(i.entry.Sec), MtimeNs: i.entry.Nsec, Xattrs: xattrs(i.entry.Xattrs),
	}
}

// DataRange says where in the data file the content lies.
func (i *info) DataRange() []erofs.DataRange {
	if i.offset < 0 {
		return nil
	}
	return []erofs.DataRange{{Offset: i.offset, Size: i.entry.Size}}
}

// xattrs returns the extended attributes in the form that the writer needs
// to write what the kernel reads:
//
//   - access control lists have an index for the whole name and no rest
//     behind it (fs/erofs/xattr.h); the writer knows their names with a dot at
//     the end only, and would write others under an index that no one reads;
//   - what follows an inode's attributes has to begin at a multiple of eight
//     (fs/erofs/data.c, erofs_map_blocks), which the writer does not see to. An
//     entry without name and value is four bytes long and, having index 0,
//     visible to nobody.
func xattrs(in map[string]string) map[string]string {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]string, len(in)+1)
	size := 12 // header (erofs_xattr_ibody_header)
	for name, value := range in {
		short := name
		switch name {
		case "system.posix_acl_access", "system.posix_acl_default":
			name += "."
			short = ""
		default:
			for _, prefix := range []string{"user.", "trusted.", "security."} {
				if len(name) > len(prefix) && name[:len(prefix)] == prefix {
					short = name[len(prefix):]
				}
			}
		}
		out[name] = value
		size += (4 + len(short) + len(value) + 3) &^ 3
	}
	if size%8 != 0 {
		out[""] = ""
	}
	return out
}
