package nfs

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/server/lan/images"
)

// NFS version 3, RFC 1813.
const (
	progNFS = 100003
	versNFS = 3

	procGetattr     = 1
	procSetattr     = 2
	procLookup      = 3
	procAccess      = 4
	procReadlink    = 5
	procRead        = 6
	procWrite       = 7
	procCreate      = 8
	procMkdir       = 9
	procSymlink     = 10
	procMknod       = 11
	procRemove      = 12
	procRmdir       = 13
	procRename      = 14
	procLink        = 15
	procReaddir     = 16
	procReaddirPlus = 17
	procFsstat      = 18
	procFsinfo      = 19
	procPathconf    = 20
	procCommit      = 21

	nfsOK        = 0
	nfsNoEntry   = 2
	nfsIO        = 5
	nfsNotDir    = 20
	nfsIsDir     = 21
	nfsInvalid   = 22
	nfsReadOnly  = 30
	nfsNameLong  = 63
	nfsStale     = 70
	nfsBadHandle = 10001
	nfsTooSmall  = 10005

	accessRead    = 0x01
	accessLookup  = 0x02
	accessExecute = 0x20

	maxHandle  = 64
	maxName    = 255
	maxRead    = 1 << 20
	maxWrite   = 64 << 10
	maxListing = 64 << 10 // bytes of names in one answer
)

// handle is a file, for as long as the image is there: it says the same after
// a restart of the server, and on another server with the same store.
type handle struct {
	manifest digest.SHA256
	inode    uint64
}

const (
	handleVersion = 1
	handleLength  = 1 + len(digest.SHA256{}) + 8
)

func (h handle) bytes() []byte {
	b := append(make([]byte, 0, handleLength), handleVersion)
	b = append(b, h.manifest[:]...)
	return binary.BigEndian.AppendUint64(b, h.inode)
}

func parseHandle(b []byte) (h handle, ok bool) {
	if len(b) != handleLength || b[0] != handleVersion {
		return handle{}, false
	}
	copy(h.manifest[:], b[1:])
	h.inode = binary.BigEndian.Uint64(b[1+len(h.manifest):])
	return h, true
}

// file is what a handle leads to.
type file struct {
	handle
	tree  *images.Tree
	inode *images.Inode
}

// at returns another file of the same tree.
func (f *file) at(ctx context.Context, number uint64) (*file, error) {
	i, err := f.tree.Inode(ctx, number)
	if err != nil {
		return nil, err
	}
	return &file{handle{f.manifest, number}, f.tree, i}, nil
}

// file reads a handle from the arguments of a call.
func (s *Service) file(ctx context.Context, c *call) (*file, uint32) {
	b := c.args.opaque(maxHandle)
	if c.args.bad {
		return nil, nfsBadHandle
	}
	h, ok := parseHandle(b)
	if !ok {
		return nil, nfsBadHandle
	}
	img, err := s.Library.Open(ctx, h.manifest)
	if errors.Is(err, images.ErrNoImage) {
		return nil, nfsStale
	}
	if err != nil {
		return nil, s.failed("open an image", err)
	}
	t, err := img.Tree(ctx)
	if err != nil {
		return nil, s.failed("open an image", err)
	}
	i, err := t.Inode(ctx, h.inode)
	if errors.Is(err, images.ErrInvalid) {
		return nil, nfsBadHandle
	}
	if err != nil {
		return nil, s.failed("read an inode", err)
	}
	return &file{h, t, i}, nfsOK
}

// failed says what a client is told of an error.
func (s *Service) failed(what string, err error) uint32 {
	if !errors.Is(err, context.Canceled) {
		s.Logger.Error("NFS: "+what, "error", err)
	}
	return nfsIO
}

func (f *file) attributes(e *encoder) {
	i := f.inode
	kind := map[uint32]uint32{
		images.TypeRegular: 1, images.TypeDir: 2, images.TypeBlock: 3, images.TypeChar: 4, images.TypeSymlink: 5, 0o140000: 6, 0o010000: 7,
	}[i.Type()]
	e.uint32(kind)
	e.uint32(i.Mode & 0o7777)
	e.uint32(i.Nlink)
	e.uint32(i.UID)
	e.uint32(i.GID)
	e.uint64(uint64(i.Size))
	e.uint64(uint64(i.Size+4095) &^ 4095)
	// glibc's makedev(3) for 32 bits.
	e.uint32(i.Rdev >> 8 & 0xfff)
	e.uint32(i.Rdev&0xff | i.Rdev>>12&0xfff00)
	e.uint64(binary.BigEndian.Uint64(f.manifest[:])) // fsid
	e.uint64(i.Number)
	for range 3 { // access, modification, change
		e.uint32(uint32(i.Sec))
		e.uint32(i.Nsec)
	}
}

// optional writes post_op_attr.
func (f *file) optional(e *encoder) {
	e.bool(f != nil)
	if f != nil {
		f.attributes(e)
	}
}

func (s *Service) nfs(ctx context.Context, c *call, e *encoder) (uint32, *stream) {
	switch c.proc {
	case procNull:
		return acceptSuccess, nil
	case procRename, procSetattr, procWrite, procCreate, procMkdir, procSymlink, procMknod, procRemove, procRmdir, procLink, procCommit:
		return s.refuseWrite(ctx, c, e), nil
	}
	f, status := s.file(ctx, c)
	if c.args.bad {
		return acceptGarbage, nil
	}
	if c.proc == procGetattr {
		e.uint32(status)
		if status == nfsOK {
			f.attributes(e)
		}
		return acceptSuccess, nil
	}
	ops := map[uint32]func(context.Context, *call, *encoder, *file) *stream{
		procLookup: s.lookup, procAccess: s.access, procReadlink: s.readlink, procRead: s.read,
		procReaddir: s.readdir, procReaddirPlus: s.readdir,
		procFsstat: s.fsstat, procFsinfo: s.fsinfo, procPathconf: s.pathconf,
	}
	op, ok := ops[c.proc]
	if !ok {
		return acceptProcUnavail, nil
	}
	if status != nfsOK {
		e.uint32(status)
		e.bool(false)
		return acceptSuccess, nil
	}
	return acceptSuccess, op(ctx, c, e, f)
}

// refuseWrite answers whatever would change something.
func (s *Service) refuseWrite(ctx context.Context, c *call, e *encoder) uint32 {
	f, status := s.file(ctx, c)
	if c.args.bad {
		return acceptGarbage
	}
	if status == nfsOK && c.proc != procCommit {
		status = nfsReadOnly
	}
	e.uint32(status)
	if c.proc == procLink { // post_op_attr, then wcc_data
		f.optional(e)
		e.bool(false)
		e.bool(false)
		return acceptSuccess
	}
	e.bool(false) // wcc_data: before and after
	f.optional(e)
	switch {
	case c.proc == procRename:
		e.bool(false)
		e.bool(false)
	case c.proc == procCommit && status == nfsOK:
		e.uint64(0) // verifier
	}
	return acceptSuccess
}

func (s *Service) fail(e *encoder, f *file, status uint32) *stream {
	e.uint32(status)
	f.optional(e)
	return nil
}

func (s *Service) lookup(ctx context.Context, c *call, e *encoder, dir *file) *stream {
	name := string(c.args.opaque(maxCall))
	switch {
	case dir.inode.Type() != images.TypeDir:
		return s.fail(e, dir, nfsNotDir)
	case len(name) > maxName:
		return s.fail(e, dir, nfsNameLong)
	}
	number, err := dir.tree.Lookup(ctx, dir.inode, name)
	if errors.Is(err, fs.ErrNotExist) {
		return s.fail(e, dir, nfsNoEntry)
	}
	var f *file
	if err == nil {
		f, err = dir.at(ctx, number)
	}
	if err != nil {
		return s.fail(e, dir, s.failed("look up a name", err))
	}
	e.uint32(nfsOK)
	e.opaque(f.bytes())
	f.optional(e)
	dir.optional(e)
	return nil
}

func (s *Service) access(_ context.Context, c *call, e *encoder, f *file) *stream {
	want := c.args.uint32()
	e.uint32(nfsOK)
	f.optional(e)
	e.uint32(want & f.allowed(c))
	return nil
}

// allowed returns what a caller may do, by owner, group and mode. Root may
// read everything.
func (f *file) allowed(c *call) uint32 {
	i := f.inode
	bits := i.Mode & 7
	switch {
	case c.uid == 0:
		bits = 4
		if i.Type() == images.TypeDir || i.Mode&0o111 != 0 {
			bits = 5
		}
	case c.uid == i.UID:
		bits = i.Mode >> 6 & 7
	case c.gid == i.GID || slices.Contains(c.groups, i.GID):
		bits = i.Mode >> 3 & 7
	}
	may := uint32(0)
	if bits&4 != 0 {
		may |= accessRead
	}
	if bits&1 != 0 {
		if i.Type() == images.TypeDir {
			may |= accessLookup
		} else {
			may |= accessExecute
		}
	}
	return may
}

func (s *Service) readlink(ctx context.Context, _ *call, e *encoder, f *file) *stream {
	if f.inode.Type() != images.TypeSymlink {
		return s.fail(e, f, nfsInvalid)
	}
	target, err := f.tree.Readlink(ctx, f.inode)
	if err != nil {
		return s.fail(e, f, s.failed("read a symbolic link", err))
	}
	e.uint32(nfsOK)
	f.optional(e)
	e.string(target)
	return nil
}

func (s *Service) read(ctx context.Context, c *call, e *encoder, f *file) *stream {
	off, count := c.args.uint64(), c.args.uint32()
	switch f.inode.Type() {
	case images.TypeRegular:
	case images.TypeDir:
		return s.fail(e, f, nfsIsDir)
	default:
		return s.fail(e, f, nfsInvalid)
	}
	size := uint64(f.inode.Size)
	n := uint32(0)
	if off < size {
		n = uint32(min(uint64(min(count, maxRead)), size-off))
	}
	// An error is still an answer while nothing has been sent: the first byte
	// of the content brings its whole block.
	if n > 0 {
		var b [1]byte
		if _, err := f.tree.ReadAt(ctx, f.inode, b[:], int64(off)); err != nil {
			return s.fail(e, f, s.failed("read a file", err))
		}
	}
	e.uint32(nfsOK)
	f.optional(e)
	e.uint32(n)
	e.bool(off+uint64(n) >= size)
	e.uint32(n)
	if n == 0 {
		return nil
	}
	return &stream{length: int(n), read: func(ctx context.Context, p []byte, at int) error {
		_, err := f.tree.ReadAt(ctx, f.inode, p, int64(off)+int64(at))
		if err != nil {
			s.failed("read a file", err)
		}
		return err
	}}
}

// readdir is READDIR and READDIRPLUS.
func (s *Service) readdir(ctx context.Context, c *call, e *encoder, dir *file) *stream {
	cookie := c.args.uint64()
	c.args.uint64() // verifier: directories never change
	plus := c.proc == procReaddirPlus
	names := int(min(c.args.uint32(), maxListing)) // what the names alone may take
	all := names
	if plus {
		all = int(min(c.args.uint32(), maxListing))
	}
	if dir.inode.Type() != images.TypeDir {
		return s.fail(e, dir, nfsNotDir)
	}
	start := len(e.b)
	e.uint32(nfsOK)
	dir.optional(e)
	e.uint64(0) // verifier
	first := len(e.b)
	const end = 8 // no more entries, end of directory
	var bad error
	more, err := dir.tree.ReadDir(ctx, dir.inode, cookie, func(d images.Dirent) bool {
		before := len(e.b)
		e.bool(true)
		e.uint64(d.Number)
		e.string(d.Name)
		e.uint64(d.Cookie)
		names -= len(e.b) - before
		if plus {
			var f *file
			if f, bad = dir.at(ctx, d.Number); bad != nil {
				return false
			}
			f.optional(e)
			e.bool(true)
			e.opaque(f.bytes())
		}
		if len(e.b)-start+end > all || names < 0 && before > first {
			e.b = e.b[:before]
			return false
		}
		return true
	})
	if err == nil {
		err = bad
	}
	switch {
	case err != nil:
		e.b = e.b[:start]
		return s.fail(e, dir, s.failed("read a directory", err))
	case more && len(e.b) == first:
		e.b = e.b[:start]
		return s.fail(e, dir, nfsTooSmall)
	}
	e.bool(false)
	e.bool(!more)
	return nil
}

func (s *Service) fsstat(_ context.Context, _ *call, e *encoder, f *file) *stream {
	e.uint32(nfsOK)
	f.optional(e)
	e.uint64(uint64(f.tree.Size()))
	e.uint64(0) // free
	e.uint64(0) // for the caller
	e.uint64(f.tree.Inodes())
	e.uint64(0)
	e.uint64(0)
	e.uint32(1<<32 - 1) // seconds for which this will not change
	return nil
}

func (s *Service) fsinfo(_ context.Context, _ *call, e *encoder, f *file) *stream {
	e.uint32(nfsOK)
	f.optional(e)
	for _, v := range []uint32{maxRead, maxRead, 4096, maxWrite, maxWrite, 4096, maxListing} {
		e.uint32(v)
	}
	e.uint64(1<<63 - 1)       // largest file
	e.uint32(0)               // times are exact to
	e.uint32(1)               // one nanosecond
	e.uint32(0x1 | 0x2 | 0x8) // hard links, symbolic links, the same for all files
	return nil
}

func (s *Service) pathconf(_ context.Context, _ *call, e *encoder, f *file) *stream {
	e.uint32(nfsOK)
	f.optional(e)
	e.uint32(1<<32 - 1) // hard links
	e.uint32(maxName)
	e.bool(true)  // longer names are an error
	e.bool(true)  // owners cannot be given away
	e.bool(false) // names differ by case
	e.bool(true)  // and keep theirs
	return nil
}
