package ext4_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/ext4"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

// format makes a filesystem of a folder with mke2fs.
func format(t testing.TB, dir string, size string, args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	sourcetest.Run(t, "mke2fs", append(append([]string{"-q", "-F", "-E", "root_owner=0:0", "-d", dir}, args...), image, size)...)
	return image
}

func read(t testing.TB, image string) (*source.Tree, error) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return build(f, fi.Size())
}

func build(r io.ReaderAt, size int64) (*source.Tree, error) {
	return sourcetest.Build(func(b *source.Builder) error { return ext4.Read(context.Background(), b, r, size, "") })
}

func TestSameTree(t *testing.T) {
	for _, tc := range []struct {
		name  string
		args  []string
		check bool // e2fsck -D makes hashed directories
	}{
		{"ext4", []string{"-t", "ext4"}, false},
		{"hashed directories", []string{"-t", "ext4"}, true},
		{"ext2", []string{"-t", "ext2"}, false},
		{"ext3, blocks of 1 KiB", []string{"-t", "ext3", "-b", "1024"}, true},
		{"blocks of 2 KiB, small inodes", []string{"-t", "ext4", "-b", "2048", "-I", "128", "-O", "^extra_isize"}, false},
		{"inline data", []string{"-t", "ext4", "-O", "inline_data", "-I", "512"}, false},
		{"meta_bg", []string{"-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode"}, false},
		{"32 bit", []string{"-t", "ext4", "-O", "^64bit,^metadata_csum"}, false},
		{"clusters", []string{"-t", "ext4", "-O", "bigalloc"}, false},
		{"attributes in inodes", []string{"-t", "ext4", "-O", "ea_inode"}, false},
		{"no file types, two copies", []string{"-t", "ext4", "-O", "^filetype,sparse_super2"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := sourcetest.Dir(t)
			sourcetest.Xattrs(t, dir, true)
			image := format(t, dir, "64M", tc.args...)
			if tc.check {
				sourcetest.Run(t, "e2fsck", "-f", "-y", "-D", image)
			}
			tree, err := read(t, image)
			if err != nil {
				t.Fatal(err)
			}
			if tree.Lookup("lost+found") == nil {
				t.Error("lost+found is missing")
			}
			leave := []string{"lost+found"}
			if strings.HasPrefix(tc.name, "inline") {
				leave = append(leave, "lib/hole") // mke2fs 1.47 makes it too short then
			}
			sourcetest.Compare(t, sourcetest.Open(t, dir), tree, leave...)
		})
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(format(t, dir, "2M", "-t", "ext4"))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for _, tc := range []struct {
		name   string
		change func(sb []byte)
		want   error
	}{
		{"magic number", func(sb []byte) { sb[0x38] = 0 }, ext4.ErrFormat},
		{"journal to replay", func(sb []byte) { sb[0x60] |= 4 }, ext4.ErrUnclean},
		{"encryption", func(sb []byte) { le.PutUint32(sb[0x60:], le.Uint32(sb[0x60:])|0x10000) }, ext4.ErrFeature},
		{"unknown feature", func(sb []byte) { le.PutUint32(sb[0x60:], le.Uint32(sb[0x60:])|1<<30) }, ext4.ErrFeature},
		{"too many blocks", func(sb []byte) { le.PutUint32(sb[0x4:], 1<<31) }, source.ErrRefused},
		{"block size", func(sb []byte) { sb[0x18] = 77 }, source.ErrRefused},
		{"no inodes", func(sb []byte) { le.PutUint32(sb[0x28:], 0) }, source.ErrRefused},
		{"inode size", func(sb []byte) { le.PutUint16(sb[0x58:], 3) }, source.ErrRefused},
	} {
		image := bytes.Clone(good)
		tc.change(image[1024:])
		if _, err := build(bytes.NewReader(image), int64(len(image))); !errors.Is(err, tc.want) {
			t.Errorf("%s: Read() = %v; want %v", tc.name, err, tc.want)
		}
	}
	if _, err := build(bytes.NewReader(good[:1<<20]), 1<<20); !errors.Is(err, source.ErrRefused) {
		t.Errorf("a cut-off image: Read() = %v; want ErrRefused", err)
	}
}

// Random damage is an error or a tree, and never a panic, a loop or much memory.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	for i := range 30 {
		if err := os.WriteFile(filepath.Join(dir, strings.Repeat("f", i+1)), bytes.Repeat([]byte("content"), i*i*20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{"ext4", "ext2"} {
		good, err := os.ReadFile(format(t, dir, "4M", "-t", kind, "-b", "1024", "-N", "64"))
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(3, 4))
		for range 150 {
			image := bytes.Clone(good)
			for range 1 + rnd.IntN(40) {
				image[1024+rnd.IntN(120<<10)] = byte(rnd.Uint32())
			}
			readAll(image)
		}
	}
}

// readAll reads what there is to be read of an image.
func readAll(image []byte) {
	tree, err := build(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		return
	}
	for _, e := range tree.Entries() {
		if !e.IsRegular() {
			continue
		}
		if r, err := tree.Open(e); err == nil {
			_, _ = io.CopyN(io.Discard, r, 1<<20)
			_ = r.Close()
		}
	}
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("content"), 500), 0o644); err != nil {
		f.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		f.Fatal(err)
	}
	for _, args := range [][]string{{"-t", "ext2"}, {"-t", "ext4", "-O", "inline_data,^has_journal"}} {
		image, err := os.ReadFile(format(f, dir, "100k", append(args, "-b", "1024", "-N", "16")...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(image)
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		if len(image) < 1<<20 {
			readAll(image)
		}
	})
}
