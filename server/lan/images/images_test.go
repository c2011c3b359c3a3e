package images_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/erofs/go-erofs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/imagestest"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// What the files of a tree are, read through the blocks of a store, is what
// stat(2) said of them before they were published.
func TestTree(t *testing.T) {
	root, base := imagestest.NewRoot(t), t.TempDir()
	p := storetest.New(t, base)
	img := p.AddRoot(t, "debian", "12", "erofs", root.Files()...)
	l := imagestest.Library(t, p, base)
	i, err := l.Open(t.Context(), img.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := i.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	numbers := make(map[uint64]uint64) // of the root's inodes by those of the folder
	n := 0
	err = filepath.WalkDir(root.Dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n++
		rel, _ := filepath.Rel(root.Dir, name)
		got := lookup(t, tree, rel)
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			return err
		}
		want := images.Inode{
			Number: got.Number, Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Size: st.Size,
			Sec: st.Mtim.Sec, Nsec: uint32(st.Mtim.Nsec), Rdev: uint32(st.Rdev),
		}
		if got.Type() == images.TypeDir {
			want.Size = got.Size // another filesystem has another form
		}
		if diff := cmp.Diff(want, *got, cmp.FilterPath(func(p cmp.Path) bool {
			f := p.Last().String()
			return f == ".layout" || f == ".place" || f == ".tail"
		}, cmp.Ignore()), cmp.AllowUnexported(images.Inode{})); diff != "" {
			t.Errorf("/%s (-want +got):\n%s", rel, diff)
		}
		if was, ok := numbers[st.Ino]; ok && was != got.Number {
			t.Errorf("/%s has the inode %d, another name of it %d", rel, got.Number, was)
		}
		numbers[st.Ino] = got.Number
		switch got.Type() {
		case images.TypeRegular:
			want, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			have := make([]byte, got.Size+10)
			m, err := tree.ReadAt(t.Context(), got, have, 0)
			if err != nil || !bytes.Equal(have[:m], want) {
				t.Errorf("/%s: %d bytes are read, %v; want %d", rel, m, err, len(want))
			}
		case images.TypeSymlink:
			want, _ := os.Readlink(name)
			if have, err := tree.Readlink(t.Context(), got); have != want || err != nil {
				t.Errorf("/%s leads to %q, %v; want %q", rel, have, err, want)
			}
		case images.TypeDir:
			checkDir(t, tree, got, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 900 || uint64(len(numbers)) != tree.Inodes() {
		t.Errorf("%d names, %d files; the root says %d", n, len(numbers), tree.Inodes())
	}
	dir := lookup(t, tree, "usr/share/many")
	for _, name := range []string{"", "a", "zz", "a name of some length, number", "a name of some length, number 99999", string(make([]byte, 300))} {
		if _, err := tree.Lookup(t.Context(), dir, name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Lookup(%.40q) = %v; want ErrNotExist", name, err)
		}
	}
	for _, number := range []uint64{1 << 20, 1 << 39, 1 << 41, 1<<64 - 1} {
		if _, err := tree.Inode(t.Context(), number); !errors.Is(err, images.ErrInvalid) {
			t.Errorf("Inode(%d): %v; want ErrInvalid", number, err)
		}
	}
}

// checkDir lists a directory in pieces of seven names.
func checkDir(t *testing.T, tree *images.Tree, dir *images.Inode, name string) {
	t.Helper()
	entries, err := os.ReadDir(name)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{".": true, "..": true}
	for _, e := range entries {
		want[e.Name()] = true
	}
	got := map[string]bool{}
	for cookie, more := uint64(0), true; more; {
		n := 0
		if more, err = tree.ReadDir(t.Context(), dir, cookie, func(e images.Dirent) bool {
			if n == 7 {
				return false
			}
			n++
			if got[e.Name] {
				t.Errorf("%s has %s twice", name, e.Name)
			}
			got[e.Name], cookie = true, e.Cookie
			return true
		}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names in %s (-want +got):\n%s", name, diff)
	}
}

func lookup(t *testing.T, tree *images.Tree, p string) *images.Inode {
	t.Helper()
	i, err := tree.Inode(t.Context(), tree.Root())
	if err != nil {
		t.Fatal(err)
	}
	if p == "." {
		return i
	}
	for _, name := range splitPath(p) {
		number, err := tree.Lookup(t.Context(), i, name)
		if err != nil {
			t.Fatalf("look up %s of %s: %v", name, p, err)
		}
		if i, err = tree.Inode(t.Context(), number); err != nil {
			t.Fatal(err)
		}
	}
	return i
}

func splitPath(p string) []string {
	dir, name := filepath.Split(p)
	if dir == "" {
		return []string{name}
	}
	return append(splitPath(filepath.Clean(dir)), name)
}

// The disk of a root of two files is, byte for byte, what imagetool writes
// where one file is wanted, in whatever pieces it is read; another EROFS reader
// agrees.
func TestDisk(t *testing.T) {
	root, base := imagestest.NewRoot(t), t.TempDir()
	p := storetest.New(t, base)
	two := p.AddRoot(t, "two", "1", "erofs", root.Files()...)
	one := p.AddRoot(t, "one", "1", "squashfs", storetest.RootFile{Name: "root", Data: root.Image})
	l := imagestest.Library(t, p, base)
	for _, img := range []*storetest.Image{two, one} {
		i, err := l.Open(t.Context(), img.Manifest)
		if err != nil {
			t.Fatal(err)
		}
		d, err := i.Disk(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if d.Size() != int64(len(root.Image)) {
			t.Fatalf("%s has %d bytes; want %d", img.Name, d.Size(), len(root.Image))
		}
		for _, piece := range []int64{1 << 20, 4096, 4093} {
			for off := int64(0); off < d.Size(); off += piece {
				b := make([]byte, min(piece, d.Size()-off))
				if n, err := d.ReadAt(t.Context(), b, off); err != nil || !bytes.Equal(b[:n], root.Image[off:off+int64(len(b))]) {
					t.Fatalf("%s: %d bytes at %d differ: %v", img.Name, piece, off, err)
				}
			}
		}
		if n, err := d.ReadAt(t.Context(), make([]byte, 10), d.Size()-4); n != 4 || err == nil {
			t.Errorf("reading over the end = %d, %v; want 4 and an error", n, err)
		}
		fsys, err := erofs.Open(readerAt{t.Context(), d})
		if err != nil {
			t.Fatal(err)
		}
		have, err := fs.ReadFile(fsys, "usr/big")
		want, werr := os.ReadFile(filepath.Join(root.Dir, "usr/big"))
		if err != nil || werr != nil || !bytes.Equal(have, want) {
			t.Errorf("%s: another reader has another /usr/big: %v, %v", img.Name, err, werr)
		}
	}
	i, _ := l.Open(t.Context(), one.Manifest)
	if _, err := i.Tree(t.Context()); !errors.Is(err, images.ErrNoTree) {
		t.Errorf("the tree of a squashfs: %v; want ErrNoTree", err)
	}
	if s := l.Stats(); s.HeldBytes > 16<<20 {
		t.Errorf("%d bytes are kept; 8 MiB are allowed, and blocks under way", s.HeldBytes)
	}
}

type readerAt struct {
	ctx context.Context
	d   *images.Disk
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) { return r.d.ReadAt(r.ctx, p, off) }

func TestFind(t *testing.T) {
	base := t.TempDir()
	p := storetest.New(t, base)
	file := storetest.RootFile{Name: "root", Data: []byte("a root")}
	old := p.AddRoot(t, "debian", "12.1", "ext4", file)
	p.AddRoot(t, "debian", "11", "ext4", file)
	p.AddRoot(t, "tiny", "1", "ext4", file)
	l := imagestest.Library(t, p, base)
	for name, want := range map[string]string{
		"debian/12.1/amd64": "debian/12.1/amd64", "/debian/12.1": "debian/12.1/amd64", "debian/latest": "debian/11/amd64",
		"debian/": "debian/11/amd64", "/tiny/latest/amd64": "tiny/1/amd64", "debian/latest/arm64": "", "debian/12": "", "": "", "../x": "", "debian/11/amd64/etc": "",
	} {
		n, err := l.Find(t.Context(), name)
		if want == "" {
			if !errors.Is(err, images.ErrNoImage) {
				t.Errorf("Find(%q) = %s, %v; want ErrNoImage", name, n, err)
			}
		} else if err != nil || n.String() != want {
			t.Errorf("Find(%q) = %s, %v; want %s", name, n, err, want)
		}
	}
	if _, err := l.Open(t.Context(), old.Manifest); err != nil {
		t.Fatal(err)
	}
	p.Remove(t, old)
	if list, err := l.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("List() after one was taken out = %v, %v; want two", list, err)
	}
	if _, err := l.Open(t.Context(), old.Manifest); err != nil {
		t.Errorf("what is in use is gone with its listing: %v", err)
	}
	if _, err := imagestest.Library(t, p, base).Open(t.Context(), old.Manifest); !errors.Is(err, images.ErrNoImage) {
		t.Errorf("Open() of what is not listed: %v; want ErrNoImage", err)
	}
}

// memory is a file of a root.
type memory []byte

func (m memory) Size() int64 { return int64(len(m)) }

func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(p, m[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// FuzzTree walks metadata of anybody's making: it ends, with errors.
func FuzzTree(f *testing.F) {
	root := imagestest.NewRoot(f)
	f.Add(root.Meta[:64<<10])
	f.Add(root.Meta[:1300])
	f.Fuzz(func(t *testing.T, meta []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		tree, err := images.OpenTree(ctx, []images.File{memory(meta), memory(make([]byte, 1<<20))})
		if err != nil {
			return
		}
		dirs, seen := []uint64{tree.Root()}, map[uint64]bool{}
		for len(dirs) > 0 && len(seen) < 1000 {
			i, err := tree.Inode(ctx, dirs[0])
			dirs = dirs[1:]
			if err != nil {
				continue
			}
			n := 0
			_, _ = tree.ReadDir(ctx, i, 0, func(e images.Dirent) bool {
				if !seen[e.Number] {
					seen[e.Number] = true
					dirs = append(dirs, e.Number)
				}
				n++
				return n < 1000
			})
			_, _ = tree.Lookup(ctx, i, "etc")
			_, _ = tree.Readlink(ctx, i)
			b := make([]byte, 9000)
			for _, off := range []int64{0, i.Size / 2, i.Size - 1} {
				if n, err := tree.ReadAt(ctx, i, b, off); err == nil && off >= 0 && off < i.Size && n == 0 {
					t.Errorf("nothing is read at %d of %d", off, i.Size)
				}
			}
		}
	})
}
