package mount

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/inetboot/inetboot/blockfs/read"
)

// The contents never change, so the kernel need not ask again.
const timeout = 365 * 24 * time.Hour

// filesystem is one directory: inode 1 is the root, file i has inode i+2.
type filesystem struct {
	fuse.RawFileSystem
	files         []File
	uid, gid      uint32
	interruptible bool
	failed        func(name string, err error)
}

func (f *filesystem) String() string { return "blockfs" }

func (f *filesystem) attr(ino uint64, out *fuse.Attr) bool {
	*out = fuse.Attr{Ino: ino, Nlink: 1, Blksize: 4096, Owner: fuse.Owner{Uid: f.uid, Gid: f.gid}}
	if ino == fuse.FUSE_ROOT_ID {
		out.Mode, out.Nlink = syscall.S_IFDIR|0o555, 2
		return true
	}
	if ino-2 >= uint64(len(f.files)) {
		return false
	}
	out.Mode = syscall.S_IFREG | 0o444
	out.Size = uint64(f.files[ino-2].File.Size())
	out.Blocks = (out.Size + 511) / 512
	return true
}

func (f *filesystem) entry(ino uint64, out *fuse.EntryOut) {
	out.NodeId, out.Generation = ino, 1
	out.SetEntryTimeout(timeout)
	out.SetAttrTimeout(timeout)
	f.attr(ino, &out.Attr)
}

func (f *filesystem) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if h.NodeId != fuse.FUSE_ROOT_ID {
		return fuse.ENOTDIR
	}
	for i := range f.files {
		if f.files[i].Name == name {
			f.entry(uint64(i)+2, out)
			return fuse.OK
		}
	}
	// A node of 0 is a name that is not there, remembered by the kernel.
	out.NodeId = 0
	out.SetEntryTimeout(timeout)
	return fuse.OK
}

func (f *filesystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(timeout)
	if !f.attr(in.NodeId, &out.Attr) {
		return fuse.ENOENT
	}
	return fuse.OK
}

func (f *filesystem) Access(_ <-chan struct{}, in *fuse.AccessIn) fuse.Status {
	if in.Mask&2 != 0 {
		return fuse.EROFS
	}
	return fuse.OK
}

func (f *filesystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return fuse.EROFS
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH
	return fuse.OK
}

func (f *filesystem) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return fuse.OK
}

func (f *filesystem) dir(from uint64, add func(e fuse.DirEntry, ino uint64) bool) fuse.Status {
	for i := from; i < uint64(len(f.files))+2; i++ {
		e := fuse.DirEntry{Name: ".", Ino: fuse.FUSE_ROOT_ID, Mode: syscall.S_IFDIR, Off: i + 1}
		switch {
		case i == 1:
			e.Name = ".."
		case i >= 2:
			e = fuse.DirEntry{Name: f.files[i-2].Name, Ino: i, Mode: syscall.S_IFREG, Off: i + 1}
		}
		if !add(e, i) {
			break
		}
	}
	return fuse.OK
}

func (f *filesystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.dir(in.Offset, func(e fuse.DirEntry, _ uint64) bool { return out.AddDirEntry(e) })
}

func (f *filesystem) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return f.dir(in.Offset, func(e fuse.DirEntry, ino uint64) bool {
		eo := out.AddDirLookupEntry(e)
		if eo == nil {
			return false
		}
		if ino >= 2 {
			f.entry(ino, eo)
		}
		return true
	})
}

func (f *filesystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = 4096, 4096, 64
	for _, file := range f.files {
		out.Blocks += uint64(file.File.Size()+4095) / 4096
	}
	out.Files = uint64(len(f.files)) + 1
	return fuse.OK
}

// Read answers with slices of the blocks in memory; they are written to the
// kernel from where they lie.
func (f *filesystem) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	i := in.NodeId - 2
	if i >= uint64(len(f.files)) {
		return nil, fuse.EIO
	}
	var ctx context.Context = context.Background()
	if f.interruptible {
		ctx = &fuse.Context{Cancel: cancel}
	}
	s, err := f.files[i].File.Spans(ctx, int64(in.Offset), min(int(in.Size), len(buf)))
	switch {
	case err == nil:
		return &result{s}, fuse.OK
	case errors.Is(err, context.Canceled):
		return nil, fuse.EINTR
	}
	f.failed(f.files[i].Name, err)
	return nil, fuse.EIO
}

// result is a fuse.ReadResult without a copy.
type result struct{ spans *read.Spans }

func (r *result) Size() int { return r.spans.Len() }

func (r *result) Slices() ([][]byte, fuse.Status) { return r.spans.Slices(), fuse.OK }

func (r *result) Bytes(buf []byte) ([]byte, fuse.Status) {
	buf = buf[:0]
	for _, s := range r.spans.Slices() {
		buf = append(buf, s...)
	}
	return buf, fuse.OK
}

func (r *result) Done() { r.spans.Release() }
