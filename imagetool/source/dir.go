package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// openDir reads the tree below dir. It stays on dir's filesystem: mount
// points are kept as empty directories.
func openDir(ctx context.Context, dir string) (*Tree, error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	t := &Tree{byPath: make(map[string]*Entry)}
	t.content = func(e *Entry) (io.ReadCloser, error) {
		f, err := openFile(filepath.Join(root, e.Path))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		return f, nil
	}
	var dev uint64
	var walk func(p string) error
	walk = func(p string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		full := filepath.Join(root, p)
		var st unix.Stat_t
		if err := unix.Lstat(full, &st); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrUnreadable, full, err)
		}
		if p == "" {
			dev = st.Dev
		}
		e := &Entry{
			Path: p, Mode: st.Mode, UID: st.Uid, GID: st.Gid,
			Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec),
		}
		switch e.Type() {
		case TypeRegular:
			e.Size = st.Size
		case TypeSymlink:
			if e.Target, err = os.Readlink(full); err != nil {
				return fmt.Errorf("%w: %w", ErrUnreadable, err)
			}
		case TypeBlock, TypeChar:
			e.Rdev = uint32(st.Rdev)
		case TypeSocket:
			t.note("sockets are left out, the first is /%s", p)
			return nil
		case TypeDir, TypeFIFO:
		default:
			return fmt.Errorf("%w: %s has the unknown type %#o", ErrUnreadable, full, e.Type())
		}
		if st.Nlink > 1 && !e.IsDir() {
			e.inode = [2]uint64{st.Dev + 1, st.Ino}
		}
		if e.Xattrs, err = t.xattrs(full, p); err != nil {
			return err
		}
		t.byPath[p] = e
		if !e.IsDir() {
			return nil
		}
		if st.Dev != dev {
			t.note("/%s is another filesystem: kept as an empty directory", p)
			return nil
		}
		names, err := readNames(full)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnreadable, err)
		}
		for _, name := range names {
			if err := walk(join(p, name)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(""); err != nil {
		return nil, err
	}
	t.root = t.byPath[""]
	t.assemble()
	return t, nil
}

func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// openFile opens a file that is being read once, without following a link
// that took its place and without touching its access time where that is
// allowed.
func openFile(name string) (*os.File, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// xattrs returns the extended attributes that belong to the tree.
func (t *Tree) xattrs(full, p string) (map[string]string, error) {
	var small [1024]byte
	list := small[:]
	n, err := unix.Llistxattr(full, list)
	for errors.Is(err, unix.ERANGE) {
		list = make([]byte, 2*len(list))
		n, err = unix.Llistxattr(full, list)
	}
	if errors.Is(err, unix.ENOTSUP) || n == 0 && err == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: extended attributes of %s: %w", ErrUnreadable, full, err)
	}
	var out map[string]string
	for _, raw := range bytes.Split(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0}) {
		name := string(raw)
		if !keepXattr(name) {
			t.note("extended attributes %s are left out, the first is of /%s", name, p)
			continue
		}
		value := make([]byte, maxXattrValue)
		vn, err := unix.Lgetxattr(full, name, value)
		if err != nil {
			return nil, fmt.Errorf("%w: extended attribute %s of %s: %w", ErrUnreadable, name, full, err)
		}
		if out == nil {
			out = make(map[string]string)
		}
		out[name] = string(value[:vn])
	}
	return out, nil
}
