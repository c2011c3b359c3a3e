// Package faultdisk has a filesystem for tests whose files begin to fail when
// told to: reads and writes that return an error of the test's choice, or that
// never return, as on a disk that was pulled out or has died.
//
// It is a FUSE mount that passes everything on to a folder. The kernel keeps
// none of the files' contents, so each read gets there. Mounting needs root.
package faultdisk

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Hang in place of an error number means never to return.
const Hang = syscall.Errno(1 << 20)

// Disk is a mounted folder.
type Disk struct {
	Dir string // the mount point

	mu          sync.Mutex
	read, write syscall.Errno
	healed      chan struct{} // closed by Heal, ends what hangs
}

// New mounts a new disk, which shows the files in folder, until the test ends.
func New(t testing.TB, folder string) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a FUSE mount")
	}
	d := &Disk{Dir: filepath.Join(t.TempDir(), "disk"), healed: make(chan struct{})}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	data := &fs.LoopbackRoot{Path: folder}
	root := &node{LoopbackNode: fs.LoopbackNode{RootData: data}, disk: d}
	data.RootNode = root
	none := time.Duration(0)
	srv, err := fs.Mount(d.Dir, root, &fs.Options{
		AttrTimeout:  &none,
		EntryTimeout: &none,
		MountOptions: fuse.MountOptions{FsName: "faultdisk", Name: "faultdisk", DirectMountStrict: true},
	})
	if err != nil {
		t.Fatalf("mount a disk for faults: %v", err)
	}
	t.Cleanup(func() {
		d.Heal()
		err := srv.Unmount()
		for end := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(end); err = srv.Unmount() {
			time.Sleep(20 * time.Millisecond) // what hung a moment ago still has files open
		}
		if err != nil {
			unix.Unmount(d.Dir, unix.MNT_DETACH)
			t.Errorf("unmount the disk for faults: %v", err)
			return
		}
		srv.Wait()
	})
	return d
}

// FailReads makes each read fail with err from now on, or hang.
func (d *Disk) FailReads(err syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read = err
}

// FailWrites makes each write, and each making of a file, fail or hang.
func (d *Disk) FailWrites(err syscall.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.write = err
}

// Heal ends all faults, and lets go on what hangs.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.read, d.write = 0, 0
	close(d.healed)
	d.healed = make(chan struct{})
}

// fault returns the error of a read or write that begins now.
func (d *Disk) fault(write bool) syscall.Errno {
	d.mu.Lock()
	err, healed := d.read, d.healed
	if write {
		err = d.write
	}
	d.mu.Unlock()
	if err == Hang {
		<-healed
		return syscall.EIO
	}
	return err
}

type node struct {
	fs.LoopbackNode
	disk *Disk
}

var (
	_ fs.NodeWrapChilder = (*node)(nil)
	_ fs.NodeOpener      = (*node)(nil)
	_ fs.NodeCreater     = (*node)(nil)
)

func (n *node) WrapChild(_ context.Context, ops fs.InodeEmbedder) fs.InodeEmbedder {
	child, ok := ops.(*fs.LoopbackNode)
	if !ok {
		return ops
	}
	return &node{LoopbackNode: fs.LoopbackNode{RootData: child.RootData}, disk: n.disk}
}

func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	h, f, errno := n.LoopbackNode.Open(ctx, flags)
	if errno != 0 {
		return nil, 0, errno
	}
	return n.wrap(h, f)
}

func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	if errno := n.disk.fault(true); errno != 0 {
		return nil, nil, 0, errno
	}
	inode, h, f, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	if errno != 0 {
		return nil, nil, 0, errno
	}
	h, f, errno = n.wrap(h, f)
	return inode, h, f, errno
}

func (n *node) wrap(h fs.FileHandle, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	lf, ok := h.(*fs.LoopbackFile)
	if !ok {
		return nil, 0, syscall.EIO
	}
	return &file{LoopbackFile: lf, disk: n.disk}, flags | fuse.FOPEN_DIRECT_IO, 0
}

type file struct {
	*fs.LoopbackFile
	disk *Disk
}

func (f *file) Read(ctx context.Context, buf []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if errno := f.disk.fault(false); errno != 0 {
		return nil, errno
	}
	return f.LoopbackFile.Read(ctx, buf, off)
}

func (f *file) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	if errno := f.disk.fault(true); errno != 0 {
		return 0, errno
	}
	return f.LoopbackFile.Write(ctx, data, off)
}

// PassthroughFd hides the method of the file beneath: the kernel would go
// around the faults.
func (f *file) PassthroughFd() (int, bool) { return 0, false }
