package root_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/root"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
)

// acl is "u::rwx,u:1000:rw-,g::r-x,m::rwx,o::r--" as setfacl stores it.
var acl = []byte{
	2, 0, 0, 0,
	1, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
	2, 0, 6, 0, 0xe8, 3, 0, 0,
	4, 0, 5, 0, 0xff, 0xff, 0xff, 0xff,
	0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff,
	0x20, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,
}

// makeTree builds a tree with everything that trees can have. Without root
// it leaves out what needs it.
func makeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, data []byte) {
		t.Helper()
		must(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		must(os.WriteFile(filepath.Join(dir, name), data, 0o644))
	}
	write("etc/hostname", []byte("host\n"))
	write("etc/empty", nil)
	write("usr/bin/page", bytes.Repeat([]byte("p"), root.PageSize))
	write("usr/bin/page1", bytes.Repeat([]byte("q"), root.PageSize+1))
	write("usr/lib/large", bytes.Repeat([]byte("0123456789abcdef"), 200_000))
	write("odd/new\nline", []byte("1"))
	write("odd/\xff\xfe", []byte("2"))
	write("odd/ ", []byte("3"))
	write("odd/-dash", []byte("3b"))
	write("odd/"+strings.Repeat("n", 255), []byte("4"))
	for i := range 600 { // more than fits into one directory block
		write(fmt.Sprintf("many/some-longer-name-%04d", i), []byte(fmt.Sprint(i)))
	}
	for i := range 40 {
		must(os.MkdirAll(filepath.Join(dir, fmt.Sprintf("deep%d/a/b/c", i)), 0o755))
		must(os.Symlink(strings.Repeat("x", 40*i+1), filepath.Join(dir, fmt.Sprintf("deep%d/link", i))))
	}
	must(os.Symlink("../usr/bin/page", filepath.Join(dir, "etc/link")))
	must(os.Symlink("/no/where", filepath.Join(dir, "etc/dangling")))
	must(os.Link(filepath.Join(dir, "usr/bin/page1"), filepath.Join(dir, "etc/hard")))
	must(os.Link(filepath.Join(dir, "usr/bin/page1"), filepath.Join(dir, "usr/hard2")))
	must(os.Link(filepath.Join(dir, "etc/empty"), filepath.Join(dir, "etc/empty2")))
	must(unix.Mkfifo(filepath.Join(dir, "fifo"), 0o640))
	if !strings.HasSuffix(t.Name(), "TarGivesTheSameRoot") { // tarballs cannot have any
		must(unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o600, 0))
	}
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(err)
	must(f.Truncate(5 << 20))
	_, err = f.WriteAt([]byte("middle"), 3<<20)
	must(err)
	must(f.Close())
	for i := range 9 { // attributes of all lengths: what follows them has to be aligned
		name := fmt.Sprintf("xattr/%d", i)
		write(name, []byte("content "+name))
		must(unix.Lsetxattr(filepath.Join(dir, name), "user.a", bytes.Repeat([]byte("v"), i), 0))
	}
	must(unix.Lsetxattr(filepath.Join(dir, "xattr"), "user.dir", []byte("d"), 0))
	must(os.Mkdir(filepath.Join(dir, "sticky"), 0o755))
	must(os.Chmod(filepath.Join(dir, "sticky"), 0o777|os.ModeSticky))
	must(os.Chmod(filepath.Join(dir, "usr/bin/page"), 0o755|os.ModeSetuid|os.ModeSetgid))
	if os.Getuid() == 0 {
		must(os.Mkdir(filepath.Join(dir, "dev"), 0o755))
		must(unix.Mknod(filepath.Join(dir, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(unix.Mknod(filepath.Join(dir, "dev/big"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
		must(os.Chown(filepath.Join(dir, "etc/hostname"), 1234, 70000))
		must(unix.Lsetxattr(filepath.Join(dir, "usr/bin/page1"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
		must(unix.Lsetxattr(filepath.Join(dir, "etc/hostname"), "system.posix_acl_access", acl, 0))
		must(unix.Lsetxattr(filepath.Join(dir, "etc"), "system.posix_acl_default", acl, 0))
		must(unix.Lsetxattr(filepath.Join(dir, "etc/link"), "trusted.t", []byte("on a link"), 0))
	}
	at := time.Unix(1_700_000_000, 123_456_789)
	must(os.Chtimes(filepath.Join(dir, "etc/hostname"), at, at))
	must(os.Chtimes(filepath.Join(dir, "etc/empty"), time.Unix(0, 0), time.Unix(0, 0)))
	return dir
}

// build writes both files of the tree at src.
func build(t *testing.T, src string) (meta, data string) {
	t.Helper()
	ctx := context.Background()
	tree, err := opener.Open(ctx, src, opener.Options{Options: source.Options{TempDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	plan, err := root.NewPlan(tree)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	meta, data = filepath.Join(out, "meta"), filepath.Join(out, "data")
	mf, err := os.Create(meta)
	if err != nil {
		t.Fatal(err)
	}
	defer mf.Close()
	if err := plan.Meta(mf); err != nil {
		t.Fatal(err)
	}
	df, err := os.Create(data)
	if err != nil {
		t.Fatal(err)
	}
	defer df.Close()
	r := plan.Data(ctx)
	defer r.Close()
	n, err := io.Copy(df, r)
	if err != nil {
		t.Fatal(err)
	}
	if n != plan.DataSize() {
		t.Fatalf("data has %d bytes, DataSize() = %d", n, plan.DataSize())
	}
	return meta, data
}

// mount mounts the root with the kernel.
// Without data it is one file.
func mount(t *testing.T, meta, data string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	loop := func(file string) string {
		out, err := exec.Command("losetup", "--find", "--show", "--read-only", file).CombinedOutput()
		if err != nil {
			t.Skipf("no loop device: %v: %s", err, out)
		}
		dev := strings.TrimSpace(string(out))
		t.Cleanup(func() { _ = exec.Command("losetup", "--detach", dev).Run() })
		return dev
	}
	m, options := loop(meta), ""
	if data != "" {
		options = "device=" + loop(data)
	}
	at := t.TempDir()
	if err := unix.Mount(m, at, "erofs", unix.MS_RDONLY, options); err != nil {
		if errors.Is(err, unix.ENODEV) {
			t.Skip("this kernel has no EROFS")
		}
		t.Fatalf("mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	return at
}

// describe returns everything about a tree that can be compared.
func describe(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	names := make(map[[2]uint64]string)
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		s := fmt.Sprintf("mode %o uid %d gid %d mtime %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" size %d sha256 %x nlink %d", st.Size, sha256.Sum256(b), st.Nlink)
			if st.Nlink > 1 {
				id := [2]uint64{st.Dev, st.Ino}
				if names[id] == "" {
					names[id] = rel
				}
				s += " same as " + names[id]
			}
		case unix.S_IFLNK:
			l, err := os.Readlink(p)
			if err != nil {
				return err
			}
			s += " to " + l
		case unix.S_IFCHR, unix.S_IFBLK:
			s += fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		list := make([]byte, 4096)
		n, err := unix.Llistxattr(p, list)
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return err
		}
		attrs := make(map[string]string)
		for _, name := range strings.FieldsFunc(string(list[:max(n, 0)]), func(r rune) bool { return r == 0 }) {
			v := make([]byte, 4096)
			n, err := unix.Lgetxattr(p, name, v)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", name, p, err)
			}
			attrs[name] = string(v[:n])
		}
		if len(attrs) > 0 {
			s += fmt.Sprintf(" xattrs %q", attrs) // fmt sorts the keys
		}
		out[rel] = s
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestKernelMountsTheSameTree(t *testing.T) {
	dir := makeTree(t)
	meta, data := build(t, dir)
	at := mount(t, meta, data)
	if diff := cmp.Diff(describe(t, dir), describe(t, at)); diff != "" {
		t.Errorf("source and mounted root differ (-source +root):\n%s", diff)
	}
}

func TestFsckFindsNothing(t *testing.T) {
	fsck, err := exec.LookPath("fsck.erofs")
	if err != nil {
		t.Skip("fsck.erofs is not installed")
	}
	meta, data := build(t, makeTree(t))
	if out, err := exec.Command(fsck, "--device="+data, meta).CombinedOutput(); err != nil {
		t.Errorf("fsck.erofs: %v\n%s", err, out)
	}
}

func TestReproducible(t *testing.T) {
	dir := makeTree(t)
	m1, d1 := build(t, dir)
	m2, d2 := build(t, dir)
	for _, pair := range [][2]string{{m1, m2}, {d1, d2}} {
		if a, b := hashFile(t, pair[0]), hashFile(t, pair[1]); a != b {
			t.Errorf("two builds of one tree differ in %s: %s, %s", filepath.Base(pair[0]), a, b)
		}
	}
}

func hashFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b))
}

func TestTarGivesTheSameRoot(t *testing.T) {
	dir := makeTree(t)
	// tar keeps access control lists as text; they are the one thing that a
	// tarball cannot bring along unchanged.
	for name, attr := range map[string]string{"etc/hostname": "system.posix_acl_access", "etc": "system.posix_acl_default"} {
		if err := unix.Lremovexattr(filepath.Join(dir, name), attr); err != nil && !errors.Is(err, unix.ENODATA) {
			t.Fatal(err)
		}
	}
	wantMeta, wantData := build(t, dir)
	wm, wd := hashFile(t, wantMeta), hashFile(t, wantData)
	for _, tc := range []struct {
		name string
		args []string
		pipe []string
	}{
		{"plain", nil, nil},
		{"sparse", []string{"--sparse"}, nil},
		{"reverse order", []string{"--sort=inode"}, nil},
		{"gzip", nil, []string{"gzip", "-1"}},
		{"xz", nil, []string{"xz", "-0"}},
		{"zstd", nil, []string{"zstd", "-q"}},
		{"bzip2", nil, []string{"bzip2", "-1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "t.tar")
			args := append([]string{"--create", "--file=" + file, "--directory=" + dir, "--format=pax", "--xattrs", "--xattrs-include=*", "--numeric-owner"}, tc.args...)
			if out, err := exec.Command("tar", append(args, ".")...).CombinedOutput(); err != nil {
				t.Skipf("tar: %v: %s", err, out)
			}
			if tc.pipe != nil {
				if _, err := exec.LookPath(tc.pipe[0]); err != nil {
					t.Skip(err)
				}
				in, err := os.Open(file)
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				out, err := os.Create(file + ".z")
				if err != nil {
					t.Fatal(err)
				}
				defer out.Close()
				cmd := exec.Command(tc.pipe[0], tc.pipe[1:]...)
				cmd.Stdin, cmd.Stdout = in, out
				if err := cmd.Run(); err != nil {
					t.Fatal(err)
				}
				file += ".z"
			}
			meta, data := build(t, file)
			if got := hashFile(t, data); got != wd {
				t.Errorf("data of the tarball = %s, of the directory = %s", got, wd)
			}
			if got := hashFile(t, meta); got != wm {
				t.Errorf("meta of the tarball = %s, of the directory = %s", got, wm)
			}
		})
	}
}

func TestDataReportsShrunkFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "f")
	if err := os.WriteFile(name, make([]byte, 10000), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := opener.Open(context.Background(), dir, opener.Options{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := root.NewPlan(tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, 5000); err != nil {
		t.Fatal(err)
	}
	r := plan.Data(context.Background())
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, source.ErrChanged) {
		t.Errorf("reading a file that shrank = %v; want ErrChanged", err)
	}
}
