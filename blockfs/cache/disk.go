package cache

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// disk is what the cache has to know about its filesystem.
type disk struct {
	root     *os.Root
	total    int64
	readOnly bool
	memory   bool // tmpfs: there is no disk to bring anything to
}

func diskOf(root *os.Root) (disk, error) {
	d := disk{root: root}
	st, err := d.statfs()
	if err != nil {
		return disk{}, err
	}
	d.total = int64(st.Blocks) * st.Bsize
	d.readOnly = st.Flags&unix.ST_RDONLY != 0
	d.memory = st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC
	return d, nil
}

func (d *disk) statfs() (unix.Statfs_t, error) {
	var st unix.Statfs_t
	f, err := d.root.Open(".")
	if err != nil {
		return st, err
	}
	defer f.Close()
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return st, fmt.Errorf("ask for free space: %w", err)
	}
	return st, nil
}

// free returns how many bytes can still be written.
func (d *disk) free() (int64, error) {
	st, err := d.statfs()
	if err != nil {
		return 0, err
	}
	if st.Blocks == 0 { // ramfs does not count
		return 1 << 40, nil
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// push starts to bring the bytes from before to end to the disk, and waits for
// those from start to before, which were started the last time. So never much
// is on the way: readers of the same disk would have to wait for all of it.
func (d *disk) push(f *os.File, start, before, end int64) error {
	if d.memory {
		return nil
	}
	fd := int(f.Fd())
	err := unix.SyncFileRange(fd, before, end-before, unix.SYNC_FILE_RANGE_WRITE)
	if err == nil && before > start {
		err = unix.SyncFileRange(fd, start, before-start, unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESPIPE) {
		return nil
	}
	return err
}

// sync brings a file's contents and length to the disk.
func (d *disk) sync(f *os.File) error {
	if d.memory {
		return nil
	}
	err := unix.Fdatasync(int(f.Fd()))
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// syncDir brings the names in a folder to the disk.
func (d *disk) syncDir(name string) error {
	if d.memory {
		return nil
	}
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Fsync(int(f.Fd())); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("sync folder %s: %w", name, err)
	}
	return nil
}

// acquire locks the cache for this process. Where the filesystem knows no locks,
// it is nil.
func acquire(root *os.Root) (*os.File, error) {
	f, err := root.OpenFile(lockName, os.O_RDWR|os.O_CREATE|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case err == nil:
		return f, nil
	case errors.Is(err, unix.EWOULDBLOCK):
		f.Close()
		return nil, ErrInUse
	default:
		f.Close()
		return nil, nil
	}
}

// openFile opens a regular file for reading, or for both. Anything else there,
// such as a pipe, is not waited for.
func openFile(root *os.Root, name string, flag int) (*os.File, int64, error) {
	f, err := root.OpenFile(name, flag|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// full tells whether an error says that there is no room.
func full(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) || errors.Is(err, unix.EFBIG)
}
