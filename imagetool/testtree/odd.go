package testtree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ACL is "u::rwx,u:1000:rw-,g::r-x,m::rwx,o::r--" as the kernel returns it.
const ACL = "\x02\x00\x00\x00" +
	"\x01\x00\x07\x00\xff\xff\xff\xff" +
	"\x02\x00\x06\x00\xe8\x03\x00\x00" +
	"\x04\x00\x05\x00\xff\xff\xff\xff" +
	"\x10\x00\x07\x00\xff\xff\xff\xff" +
	"\x20\x00\x04\x00\xff\xff\xff\xff"

// capability is cap_net_raw=ep, as setcap(8) stores it.
const capability = "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// oddFile is one file of the table, with all that it should keep.
type oddFile struct {
	path   string
	mode   uint32 // as in stat(2); 0: a regular file of 0644
	data   string
	size   int64  // of a sparse file, with data at at
	at     int64  // of data
	target string // of a symbolic link
	link   string // another name of this file
	dev    [2]uint32
	uid    int
	gid    int
	xattrs map[string]string
	mtime  time.Time
}

// privileged tells whether it takes root to make the file.
func (f *oddFile) privileged() bool {
	if f.uid != 0 || f.gid != 0 || f.mode&unix.S_IFMT == unix.S_IFCHR || f.mode&unix.S_IFMT == unix.S_IFBLK {
		return true
	}
	for name := range f.xattrs {
		if !strings.HasPrefix(name, "user.") {
			return true
		}
	}
	return false
}

// page is the unit in which roots keep contents.
const page = 4096

// oddFiles is the table of files that sources have to bring along unchanged.
func oddFiles() []oddFile {
	at := time.Unix(1_700_000_000, 123_456_789)
	long := strings.Repeat("n", 255)
	list := []oddFile{
		{path: "plain", data: "plain\n", mtime: at},
		{path: "empty", mtime: time.Unix(0, 0)},
		{path: "old", data: "before 1970 is after it", mtime: time.Unix(1, 0)},
		{path: "late", data: "after 2106", mtime: time.Unix(1<<32+7, 1)},
		{path: "page", data: strings.Repeat("p", page), mode: unix.S_IFREG | 0o6755},
		{path: "page1", data: strings.Repeat("q", page+1)},
		{path: "large", data: strings.Repeat("0123456789abcdef", 200_000)},
		{path: "secret", data: "s", mode: unix.S_IFREG},
		{path: "hard1", link: "page1"},
		{path: "z/hard2", link: "page1"},
		{path: "a/hard3", link: "page1"},
		{path: "empty2", link: "empty"},
		{path: "symlink", target: "../plain"},
		{path: "dangling", target: "/no/where"},
		{path: "long target", target: strings.Repeat("x/", 1000) + "x"},
		{path: "longest target", target: strings.Repeat("y", page-1)},
		{path: "odd target", target: "new\nline \xff\xfe"},
		{path: "fifo", mode: unix.S_IFIFO | 0o640},
		{path: "socket", mode: unix.S_IFSOCK | 0o600},
		{path: "sticky", mode: unix.S_IFDIR | 0o1777},
		{path: "closed", mode: unix.S_IFDIR},
		{path: "setgid", mode: unix.S_IFDIR | 0o2775},
		// names
		{path: "names/new\nline", data: "1"},
		{path: "names/\xff\xfe not UTF-8", data: "2"},
		{path: "names/ ", data: "3"},
		{path: "names/-dash", data: "4"},
		{path: "names/" + long, data: "5"},
		{path: "names/back\\slash", data: "6"},
		{path: "names/quote'\"$(x)`x`", data: "7"},
		{path: "names/tab\tbell\a", data: "8"},
		{path: "names/...", data: "9"},
		{path: "names/..a", data: "10"},
		{path: "names/a\u0301", data: "11"},
		{path: "names/\u00e1", data: "12"},
		{path: "names/wh.x", data: "13"},
		{path: "names/" + strings.Repeat("\u00e1", 127), data: "14"},
		{path: "names/%s%n", data: "15"},
		{path: "names/=", data: "16"},
		{path: "names/" + long[:100] + "/" + long[:100] + "/" + long[:55], data: "more than a ustar header has room for"},
		{path: "deep/" + strings.Repeat("0123456789/", 60) + "file", data: "d"},
		{path: "beyond/" + strings.Repeat(long+"/", 18) + "file", data: "a path of more than PATH_MAX bytes"},
		// holes
		{path: "holes/all", size: 5 << 20},
		{path: "holes/middle", size: 5 << 20, at: 3 << 20, data: "middle"},
		{path: "holes/end", size: 3<<20 + 5, at: 3 << 20, data: "12345"},
		{path: "holes/start", size: 1<<20 + 1, data: "start"},
		{path: "holes/odd", size: 777_777, at: 70_001, data: strings.Repeat("o", 100_001)},
		// devices, owners, attributes
		{path: "dev/null", mode: unix.S_IFCHR | 0o666, dev: [2]uint32{1, 3}},
		{path: "dev/big", mode: unix.S_IFBLK | 0o660, dev: [2]uint32{259, 70000}, gid: 6},
		{path: "owned", data: "o", uid: 1234, gid: 70000},
		{path: "owned by many", data: "o", uid: 4_000_000_000, gid: 3_000_000_000},
		{path: "owned dir", mode: unix.S_IFDIR | 0o750, uid: 33, gid: 33},
		{path: "owned link", target: "x", uid: 7, gid: 8},
		{path: "capable", data: "c", mode: unix.S_IFREG | 0o755, xattrs: map[string]string{"security.capability": capability}},
		{path: "acl", data: "a", mode: unix.S_IFREG | 0o774, xattrs: map[string]string{"system.posix_acl_access": ACL}},
		{path: "acl dir", mode: unix.S_IFDIR | 0o774, xattrs: map[string]string{"system.posix_acl_access": ACL, "system.posix_acl_default": ACL}},
		{path: "trusted", data: "t", xattrs: map[string]string{"trusted.t": "t", "user.u": "u"}},
		{path: "trusted link", target: "x", xattrs: map[string]string{"trusted.t": "on a link"}},
		{path: "xattr dir", mode: unix.S_IFDIR | 0o755, xattrs: map[string]string{"user.dir": "d"}},
		{path: "xattr/binary", data: "b", xattrs: map[string]string{"user.binary": "\x00\xff=\n\x00", "user.empty": "", "user.a=b%": "c"}},
		{path: "xattr/large", data: "l", xattrs: map[string]string{"user.large": strings.Repeat("v", 2000)}},
		{path: "xattr/long name", data: "l", xattrs: map[string]string{"user." + long[:200]: "v"}},
		{path: "xattr/linked", link: "xattr/large"},
	}
	for i := range 9 { // attributes of all lengths: what follows them has to be aligned
		list = append(list, oddFile{
			path: fmt.Sprintf("xattr/%d", i), data: fmt.Sprintf("content %d", i),
			xattrs: map[string]string{"user.a": strings.Repeat("v", i)},
		})
	}
	for i := range 600 { // more than fits into one directory block
		list = append(list, oddFile{path: fmt.Sprintf("many/some-longer-name-%04d", i), data: fmt.Sprint(i)})
	}
	for n := 238; n <= 244; n++ { // folders of about a block
		for i := range 16 {
			list = append(list, oddFile{path: fmt.Sprintf("tails/%d/%c%s", n, 'a'+i, strings.Repeat("t", n-1))})
		}
	}
	for i := range 12 {
		list = append(list, oddFile{path: fmt.Sprintf("links/%d", i), target: strings.Repeat("x", 40*i+1)})
	}
	return list
}

// Odd fills dir with a file of each odd kind, below the folder "odd". Without
// root it leaves out what only root can make.
func Odd(t testing.TB, dir string) {
	t.Helper()
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%.100q: %v", what, err)
		}
	}
	must(dir, os.MkdirAll(filepath.Join(dir, "odd"), 0o755))
	files := oddFiles()
	for _, f := range files {
		if f.privileged() && os.Geteuid() != 0 {
			continue
		}
		parent, name := openParent(t, filepath.Join(dir, "odd"), f.path)
		must(f.path, f.make(parent, name, filepath.Join(dir, "odd")))
		must(f.path, parent.Close())
	}
	// Times last: making files changes those of their folders.
	for _, f := range files {
		if f.privileged() && os.Geteuid() != 0 {
			continue
		}
		if f.mtime.IsZero() {
			f.mtime = time.Unix(1_600_000_000, 0)
		}
		if f.link != "" {
			continue
		}
		parent, name := openParent(t, filepath.Join(dir, "odd"), f.path)
		ts := unix.NsecToTimespec(f.mtime.UnixNano())
		ts.Sec = f.mtime.Unix() // nanoseconds since 1970 end in 2262
		must(f.path, unix.UtimesNanoAt(int(parent.Fd()), name, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
		must(f.path, parent.Close())
	}
}

// openParent opens the folder that p lies in, and makes it.
func openParent(t testing.TB, dir, p string) (*os.File, string) {
	t.Helper()
	at, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	els := strings.Split(p, "/")
	for _, el := range els[:len(els)-1] {
		if err := unix.Mkdirat(int(at.Fd()), el, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatalf("%.100q: %v", p, err)
		}
		fd, err := unix.Openat(int(at.Fd()), el, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatalf("%.100q: %v", p, err)
		}
		_ = at.Close() // was only looked at
		at = os.NewFile(uintptr(fd), el)
	}
	return at, els[len(els)-1]
}

// make makes the file.
func (f *oddFile) make(parent *os.File, name, root string) error {
	fd := int(parent.Fd())
	full := fmt.Sprintf("/proc/self/fd/%d/%s", fd, name)
	mode := f.mode
	if mode == 0 {
		mode = unix.S_IFREG | 0o644
	}
	var err error
	switch {
	case f.link != "":
		return unix.Linkat(unix.AT_FDCWD, filepath.Join(root, f.link), fd, name, 0)
	case f.target != "":
		mode = unix.S_IFLNK
		err = unix.Symlinkat(f.target, fd, name)
	case mode&unix.S_IFMT == unix.S_IFDIR:
		err = unix.Mkdirat(fd, name, 0o700)
	case mode&unix.S_IFMT != unix.S_IFREG:
		err = unix.Mknodat(fd, name, mode, int(unix.Mkdev(f.dev[0], f.dev[1])))
	default:
		err = f.write(full)
	}
	if err != nil {
		return err
	}
	if f.uid != 0 || f.gid != 0 {
		if err := unix.Fchownat(fd, name, f.uid, f.gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	for k, v := range f.xattrs {
		if err := unix.Lsetxattr(full, k, []byte(v), 0); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
	}
	if mode&unix.S_IFMT == unix.S_IFLNK {
		return nil
	}
	return unix.Fchmodat(fd, name, mode&0o7777, 0)
}

func (f *oddFile) write(name string) error {
	w, err := os.Create(name)
	if err != nil {
		return err
	}
	if f.size > 0 {
		if err := w.Truncate(f.size); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	if f.data != "" {
		if _, err := w.WriteAt([]byte(f.data), f.at); err != nil {
			return errors.Join(err, w.Close())
		}
	}
	return w.Close()
}

// Describe returns what can be compared of a tree in the file system: a line
// for each path, with type, mode, owner, time, content, device, target,
// names of the same file and extended attributes.
func Describe(t testing.TB, dir string) map[string]string {
	t.Helper()
	d := &describer{out: make(map[string]string), names: make(map[[2]uint64]string)}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := d.one(f, "", "."); err != nil {
		t.Fatal(err)
	}
	if err := d.dir(f, ""); err != nil {
		t.Fatal(err)
	}
	return d.out
}

type describer struct {
	out   map[string]string
	names map[[2]uint64]string
}

// dir describes what is in a folder, sorted.
func (d *describer) dir(f *os.File, rel string) error {
	names, err := os.ReadDir(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return err
	}
	for _, n := range names {
		path := n.Name()
		if rel != "" {
			path = rel + "/" + n.Name()
		}
		if err := d.one(f, n.Name(), path); err != nil {
			return err
		}
		if !n.IsDir() {
			continue
		}
		fd, err := unix.Openat(int(f.Fd()), n.Name(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		sub := os.NewFile(uintptr(fd), n.Name())
		err = d.dir(sub, path)
		if err := errors.Join(err, sub.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (d *describer) one(parent *os.File, name, path string) error {
	full := fmt.Sprintf("/proc/self/fd/%d/%s", parent.Fd(), name)
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	s := fmt.Sprintf("mode %o uid %d gid %d mtime %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(full)
		if err != nil {
			return err
		}
		s += fmt.Sprintf(" size %d sha256 %x", st.Size, sha256.Sum256(b))
	case unix.S_IFLNK:
		l, err := os.Readlink(full)
		if err != nil {
			return err
		}
		s += fmt.Sprintf(" to %q", l)
	case unix.S_IFCHR, unix.S_IFBLK:
		s += fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		s += fmt.Sprintf(" nlink %d", st.Nlink)
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		id := [2]uint64{st.Dev, st.Ino}
		if d.names[id] == "" {
			d.names[id] = path
		}
		s += fmt.Sprintf(" same as %q", d.names[id])
	}
	attrs, err := xattrs(full)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if len(attrs) > 0 {
		s += fmt.Sprintf(" xattrs %q", attrs) // fmt sorts the keys
	}
	d.out[path] = s
	return nil
}

func xattrs(full string) (map[string]string, error) {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(full, list)
	if err != nil && !errors.Is(err, unix.ENOTSUP) {
		return nil, err
	}
	attrs := make(map[string]string)
	for name := range bytes.SplitSeq(list[:max(n, 0)], []byte{0}) {
		if len(name) == 0 {
			continue
		}
		v := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(full, string(name), v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		attrs[string(name)] = string(v[:n])
	}
	return attrs, nil
}
