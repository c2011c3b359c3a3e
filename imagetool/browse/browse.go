// Package browse shows a tree as a read-only FUSE filesystem.
package browse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"github.com/inetboot/inetboot/imagetool/source"
)

// forEver is how long the kernel may remember: the tree does not change.
const forEver = 24 * time.Hour

// Mount shows the tree at dir until ctx ends or it is unmounted. ready is
// called when it is there. Unless others is set, only the user who mounts it
// sees it.
func Mount(ctx context.Context, t *source.Tree, dir, name string, others bool, ready func()) error {
	ttl := forEver
	srv, err := fs.Mount(dir, &node{tree: t, e: t.Root()}, &fs.Options{
		EntryTimeout: &ttl, AttrTimeout: &ttl, NegativeTimeout: &ttl,
		MountOptions: fuse.MountOptions{
			FsName: name, Name: "inetboot", Options: []string{"ro", "default_permissions"}, AllowOther: others, MaxReadAhead: 1 << 20,
		},
	})
	if err != nil {
		return fmt.Errorf("mount at %s: %w", dir, err)
	}
	done := make(chan struct{})
	go func() { srv.Wait(); close(done) }()
	ready()
	for {
		select {
		case <-done:
			return nil
		case <-ctx.Done():
		}
		// Somebody may be in it: try again until they leave.
		if err := srv.Unmount(); err == nil {
			<-done
			return nil
		}
		select {
		case <-done:
			return nil
		case <-time.After(time.Second):
		}
	}
}

// node is an entry of the tree.
type node struct {
	fs.Inode
	tree *source.Tree
	e    *source.Entry
}

var (
	_ fs.NodeLookuper    = (*node)(nil)
	_ fs.NodeReaddirer   = (*node)(nil)
	_ fs.NodeGetattrer   = (*node)(nil)
	_ fs.NodeReadlinker  = (*node)(nil)
	_ fs.NodeOpener      = (*node)(nil)
	_ fs.NodeGetxattrer  = (*node)(nil)
	_ fs.NodeListxattrer = (*node)(nil)
)

// file is the entry that has content and attributes.
func (n *node) file() *source.Entry {
	if n.e.First != nil {
		return n.e.First
	}
	return n.e
}

func (n *node) attr(a *fuse.Attr) {
	e := n.file()
	a.Mode, a.Uid, a.Gid = e.Mode, e.UID, e.GID
	a.Owner = fuse.Owner{Uid: e.UID, Gid: e.GID}
	a.Rdev, a.Nlink, a.Size = e.Rdev, max(e.Nlink, 1), uint64(e.Size)
	if e.Type() == source.TypeSymlink {
		a.Size = uint64(len(e.Target))
	}
	a.Blocks = (a.Size + 511) / 512
	t := time.Unix(e.Sec, int64(e.Nsec))
	a.SetTimes(&t, &t, &t)
}

func (n *node) Getattr(_ context.Context, _ fs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	n.attr(&out.Attr)
	return 0
}

func (n *node) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fs.Inode, syscall.Errno) {
	p := name
	if n.e.Path != "" {
		p = n.e.Path + "/" + name
	}
	e := n.tree.Lookup(p)
	if e == nil {
		return nil, syscall.ENOENT
	}
	c := &node{tree: n.tree, e: e}
	c.attr(&out.Attr)
	return n.NewInode(ctx, c, fs.StableAttr{Mode: e.Type()}), 0
}

func (n *node) Readdir(context.Context) (fs.DirStream, syscall.Errno) {
	var list []fuse.DirEntry
	for _, c := range n.e.Children() {
		list = append(list, fuse.DirEntry{Name: c.Name(), Mode: c.Type()})
	}
	return fs.NewListDirStream(list), 0
}

func (n *node) Readlink(context.Context) ([]byte, syscall.Errno) { return []byte(n.file().Target), 0 }

func (n *node) Getxattr(_ context.Context, name string, dst []byte) (uint32, syscall.Errno) {
	v, ok := n.file().Xattrs[name]
	if !ok {
		return 0, syscall.ENODATA
	}
	if len(dst) < len(v) {
		return uint32(len(v)), syscall.ERANGE
	}
	return uint32(copy(dst, v)), 0
}

func (n *node) Listxattr(_ context.Context, dst []byte) (uint32, syscall.Errno) {
	var all []byte
	for name := range n.file().Xattrs {
		all = append(append(all, name...), 0)
	}
	if len(dst) < len(all) {
		return uint32(len(all)), syscall.ERANGE
	}
	return uint32(copy(dst, all)), 0
}

func (n *node) Open(_ context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return nil, 0, syscall.EROFS
	}
	return &handle{tree: n.tree, e: n.file()}, fuse.FOPEN_KEEP_CACHE, 0
}

// handle is an open file. Contents are streams, so reading backwards begins
// anew.
type handle struct {
	tree *source.Tree
	e    *source.Entry

	mu sync.Mutex
	r  io.ReadCloser
	at int64
}

var (
	_ fs.FileReader   = (*handle)(nil)
	_ fs.FileReleaser = (*handle)(nil)
)

func (h *handle) Read(_ context.Context, dst []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if off >= h.e.Size {
		return fuse.ReadResultData(nil), 0
	}
	if h.r == nil || off < h.at {
		h.close()
		r, err := h.tree.Open(h.e)
		if err != nil {
			return nil, syscall.EIO
		}
		h.r, h.at = r, 0
	}
	if skip := off - h.at; skip > 0 {
		n, err := io.CopyN(io.Discard, h.r, skip)
		if h.at += n; err != nil {
			h.close()
			return nil, syscall.EIO
		}
	}
	n, err := io.ReadFull(h.r, dst[:min(int64(len(dst)), h.e.Size-off)])
	h.at += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		h.close()
		return nil, syscall.EIO
	}
	return fuse.ReadResultData(dst[:n]), 0
}

func (h *handle) close() {
	if h.r != nil {
		_ = h.r.Close()
	}
	h.r, h.at = nil, 0
}

func (h *handle) Release(context.Context) syscall.Errno {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.close()
	return 0
}
