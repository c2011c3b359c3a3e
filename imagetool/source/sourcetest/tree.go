// Package sourcetest has what tests of readers of trees share: a folder with
// everything that a tree can have, and a comparison of trees.
package sourcetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/dir"
)

// Root tells whether owners, device nodes and protected extended attributes
// can be made here.
func Root() bool { return os.Getuid() == 0 }

// Tool skips the test if a program is not installed, and returns its path.
func Tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/sbin", "/usr/sbin"} {
			if p = filepath.Join(dir, name); unix.Access(p, unix.X_OK) == nil {
				return p
			}
		}
		t.Skip(err)
	}
	return p
}

// Run runs a program that has to succeed, and returns what it wrote.
func Run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Dir makes a folder with files of all kinds, and returns its name.
func Dir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := func(name string) string { return filepath.Join(dir, name) }
	rnd := rand.NewChaCha8([32]byte{7})
	random := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rnd.Read(b)
		return b
	}
	write := func(name string, data []byte, mode os.FileMode) {
		t.Helper()
		must(os.MkdirAll(filepath.Dir(p(name)), 0o755))
		must(os.WriteFile(p(name), data, 0o600))
		must(os.Chmod(p(name), mode))
	}
	write("etc/hostname", []byte("odd\n"), 0o644)
	write("etc/empty", nil, 0o600)
	write("bin/su", random(5000), 0o755|os.ModeSetuid)
	write("bin/wall", bytes.Repeat([]byte("text "), 40000), 0o755|os.ModeSetgid)
	write("lib/page", random(4096), 0o644)
	write("lib/big", slices.Concat(random(300000), make([]byte, 700000), random(1<<20), bytes.Repeat([]byte{'x'}, 123457)), 0o444)
	write("lib/small", random(40), 0o644)
	write("lib/hundred", random(100), 0o644)
	write("odd/name with space \t\n\"\\", []byte("1"), 0o644)
	write("odd/\xff\xfe latin \xe4", []byte("2"), 0o644)
	write("odd/"+strings.Repeat("n", 255), []byte("3"), 0o644)
	must(os.MkdirAll(p("tmp"), 0o755))
	must(os.Chmod(p("tmp"), 0o777|os.ModeSticky))
	must(os.MkdirAll(p("a/b/c/d/e/f"), 0o700))
	for i := range 700 { // more than a block of names
		write(fmt.Sprintf("many/file-%04d-%s", i, strings.Repeat("y", i%40)), []byte(fmt.Sprint(i)), 0o640)
	}
	must(os.Symlink("su", p("bin/short")))
	must(os.Symlink("/"+strings.Repeat("long/", 30)+"target", p("bin/long")))
	must(os.Symlink(strings.Repeat("x", 59), p("bin/l59")))
	must(os.Symlink(strings.Repeat("x", 60), p("bin/l60")))
	must(os.Link(p("lib/page"), p("odd/page-again")))
	must(os.Link(p("lib/page"), p("a/page-too")))
	must(unix.Mkfifo(p("odd/fifo"), 0o600))

	hole, err := os.Create(p("lib/hole"))
	must(err)
	_, err = hole.WriteAt([]byte("in the middle"), 1<<20)
	must(err)
	must(hole.Truncate(3<<20 + 5))
	must(hole.Close())

	if Root() {
		must(os.Lchown(p("etc/hostname"), 1000, 70000))
		must(os.Lchown(p("bin/short"), 65534, 1))
		must(unix.Mknod(p("odd/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		must(unix.Mknod(p("odd/disk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
	}
	must(filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		must(err)
		n := int64(len(name))
		// Reading changes no time of access that is this new: mksquashfs knows hard
		// links by all that stat says of them, and others read the files meanwhile.
		ts := []unix.Timespec{{Sec: time.Now().Unix()}, {Sec: 1_600_000_000 + n}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, ts, unix.AT_SYMLINK_NOFOLLOW)
	}))
	must(os.Chtimes(p("etc/empty"), time.Unix(0, 0), time.Unix(0, 0)))
	return dir
}

// Xattrs gives files of a folder that Dir made extended attributes,
// capabilities and, with lists, access control lists. Without root it does nothing.
func Xattrs(t testing.TB, dir string, lists bool) {
	t.Helper()
	if !Root() {
		return
	}
	set := func(name, attr, value string) {
		t.Helper()
		if err := unix.Lsetxattr(filepath.Join(dir, name), attr, []byte(value), 0); err != nil {
			t.Skipf("extended attribute %s: %v", attr, err)
		}
	}
	set("bin/su", "security.capability", string([]byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}))
	set("lib/big", "trusted.long", strings.Repeat("value", 120))
	set("lib/small", "trusted.empty", "")
	set("etc", "trusted.dir", "of a directory")
	set("lib/page", "trusted.shared", "of three names")
	if !lists {
		return
	}
	list := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 6, 0xffffffff}, {2, 4, 1234}, {4, 4, 0xffffffff}, {16, 4, 0xffffffff}, {32, 0, 0xffffffff}} {
		list = binary.LittleEndian.AppendUint16(list, uint16(e[0]))
		list = binary.LittleEndian.AppendUint16(list, uint16(e[1]))
		list = binary.LittleEndian.AppendUint32(list, e[2])
	}
	set("lib/hundred", "system.posix_acl_access", string(list))
	set("a", "system.posix_acl_default", string(list))
}

// Open reads the tree of a directory.
func Open(t testing.TB, name string) *source.Tree {
	t.Helper()
	tree, err := Build(func(b *source.Builder) error { return dir.Read(context.Background(), b, name, dir.Options{}) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tree.Close() })
	return tree
}

// Build returns the tree that read adds to a builder.
func Build(read func(b *source.Builder) error) (*source.Tree, error) {
	b := source.NewBuilder(source.Limits{}, nil)
	if err := read(b); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b.Tree()
}

// Describe says everything about a tree, by path.
func Describe(t testing.TB, tree *source.Tree) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, e := range tree.Entries() {
		s := fmt.Sprintf("mode %o owner %d:%d time %d.%09d links %d", e.Mode, e.UID, e.GID, e.Sec, e.Nsec, e.Nlink)
		switch e.Type() {
		case source.TypeRegular:
			r, err := tree.Open(e)
			if err != nil {
				t.Fatalf("/%s: %v", e.Path, err)
			}
			h := sha256.New()
			n, err := io.Copy(h, r)
			if err != nil {
				t.Fatalf("/%s: %v", e.Path, err)
			}
			_ = r.Close()
			checkHoles(t, tree, e)
			s += fmt.Sprintf(" size %d read %d sha256 %x", e.Size, n, h.Sum(nil))
		case source.TypeSymlink:
			s += " to " + e.Target
		case source.TypeChar, source.TypeBlock:
			s += fmt.Sprintf(" device %#x", e.Rdev)
		}
		if e.First != nil {
			s += " same as " + e.First.Path
		}
		for _, name := range slices.Sorted(maps.Keys(e.Xattrs)) {
			s += fmt.Sprintf(" %s=%x", name, e.Xattrs[name])
		}
		out[e.Path] = s
	}
	return out
}

// checkHoles reads a file once more, as one with holes.
func checkHoles(t testing.TB, tree *source.Tree, e *source.Entry) {
	t.Helper()
	read := func(skip bool) [sha256.Size]byte {
		r, err := tree.Open(e)
		if err != nil {
			t.Fatalf("/%s: %v", e.Path, err)
		}
		defer r.Close()
		h, ok := r.(source.HoleSkipper)
		sum := sha256.New()
		for at := int64(0); at < e.Size; {
			if ok && skip {
				n, err := h.SkipHole()
				if err != nil || n < 0 || n > e.Size-at {
					t.Fatalf("/%s: SkipHole() at %d = %d, %v", e.Path, at, n, err)
				}
				if n > 0 {
					_, _ = io.CopyN(sum, zeros{}, n)
					at += n
					continue
				}
			}
			n, err := io.CopyN(sum, r, min(64<<10, e.Size-at))
			if err != nil {
				t.Fatalf("/%s at %d: %v", e.Path, at, err)
			}
			at += n
		}
		return [sha256.Size]byte(sum.Sum(nil))
	}
	if read(true) != read(false) {
		t.Errorf("/%s reads differently where holes are skipped", e.Path)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Compare fails the test where two trees differ. Paths in leave, and what the
// root directory itself says, are not compared.
func Compare(t testing.TB, want, got *source.Tree, leave ...string) {
	t.Helper()
	a, b := Describe(t, want), Describe(t, got)
	for _, p := range append(leave, "") {
		delete(a, p)
		delete(b, p)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("the trees differ (-want +got):\n%s", diff)
	}
}
