package squashfs_test

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

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
	"github.com/inetboot/inetboot/imagetool/source/squashfs"
)

// format makes a squashfs of a folder.
func format(t testing.TB, dir string, args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	sourcetest.Run(t, "mksquashfs", append([]string{dir, image, "-quiet", "-no-progress", "-processors", "2"}, args...)...)
	return image
}

func build(r io.ReaderAt, size int64, o squashfs.Options) (*source.Tree, error) {
	return sourcetest.Build(func(b *source.Builder) error { return squashfs.Read(context.Background(), b, r, size, o) })
}

func read(t testing.TB, image string) *source.Tree {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := build(f, fi.Size(), squashfs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestSameTree(t *testing.T) {
	dir := sourcetest.Dir(t)
	sourcetest.Xattrs(t, dir, false)
	want := sourcetest.Open(t, dir)
	for _, args := range []string{
		"-comp gzip",
		"-comp xz -b 1M",
		"-comp xz -Xbcj x86",
		"-comp lz4 -Xhc -b 4096",
		"-comp lzo",
		"-comp zstd",
		"-comp zstd -b 1M -Xcompression-level 19",
		"-noI -noD -noF -noX",
		"-no-fragments -no-exports",
		"-always-use-fragments -no-duplicates -no-sparse",
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			sourcetest.Compare(t, want, read(t, format(t, dir, strings.Fields(args)...)))
		})
	}
}

// A layer of overlayfs takes away what is below.
func TestWhiteouts(t *testing.T) {
	if !sourcetest.Root() {
		t.Skip("device nodes need root")
	}
	write := func(dir, name string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lower, upper := t.TempDir(), t.TempDir()
	for _, n := range []string{"kept", "gone", "d/gone-too", "e/gone-as-well"} {
		write(lower, n)
	}
	write(upper, "d/new")
	write(upper, "e/new")
	for _, n := range []string{"gone", "d/gone-too"} {
		if err := unix.Mknod(filepath.Join(upper, n), unix.S_IFCHR, 0); err != nil {
			t.Skip(err)
		}
	}
	if err := unix.Setxattr(filepath.Join(upper, "e"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Skip(err)
	}
	tree, err := sourcetest.Build(func(b *source.Builder) error {
		for n, dir := range []string{lower, upper} {
			if n > 0 {
				if err := b.NextLayer(); err != nil {
					return err
				}
			}
			data, err := os.ReadFile(format(t, dir))
			if err != nil {
				return err
			}
			if err := squashfs.Read(context.Background(), b, bytes.NewReader(data), int64(len(data)), squashfs.Options{Whiteouts: n > 0}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range tree.Entries() {
		if e.IsRegular() {
			got = append(got, e.Path)
		}
	}
	if want := "d/new e/new kept"; strings.Join(got, " ") != want {
		t.Errorf("files of both layers = %v; want %s", got, want)
	}
}

func TestRefused(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), bytes.Repeat([]byte("x"), 5000), 0o644); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(format(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for _, tc := range []struct {
		name   string
		change func(b []byte)
		want   error
	}{
		{"magic number", func(b []byte) { b[0] = 'q' }, squashfs.ErrFormat},
		{"version 3", func(b []byte) { b[28] = 3 }, squashfs.ErrFeature},
		{"LZMA", func(b []byte) { b[20] = 2 }, squashfs.ErrFeature},
		{"block size", func(b []byte) { le.PutUint32(b[12:], 1<<30); b[22] = 30 }, source.ErrRefused},
		{"cut off", func(b []byte) { le.PutUint64(b[40:], 1<<40) }, source.ErrRefused},
		{"owners outside", func(b []byte) { le.PutUint64(b[48:], 1<<40) }, source.ErrRefused},
		{"inodes outside", func(b []byte) { le.PutUint64(b[32:], 1<<60) }, source.ErrRefused},
	} {
		b := bytes.Clone(good)
		tc.change(b)
		if _, err := build(bytes.NewReader(b), int64(len(b)), squashfs.Options{}); !errors.Is(err, tc.want) {
			t.Errorf("%s: Read() = %v; want %v", tc.name, err, tc.want)
		}
	}
}

// Random damage is an error or a tree, and never a panic, a loop or much memory.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	for i := range 20 {
		if err := os.WriteFile(filepath.Join(dir, strings.Repeat("f", i+1)), bytes.Repeat([]byte("content"), i*i*20), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{"-noI -noD -noF", "-comp gzip", "-comp xz", "-comp zstd", "-comp lz4", "-comp lzo"} {
		good, err := os.ReadFile(format(t, dir, strings.Fields(args+" -b 4096")...))
		if err != nil {
			t.Fatal(err)
		}
		rnd := rand.New(rand.NewPCG(3, 4))
		for range 15 {
			b := bytes.Clone(good)
			for range 1 + rnd.IntN(30) {
				b[rnd.IntN(len(b))] = byte(rnd.Uint32())
			}
			copy(b, good[:32])
			readAll(b)
		}
	}
}

func readAll(b []byte) {
	tree, err := build(bytes.NewReader(b), int64(len(b)), squashfs.Options{Whiteouts: true})
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
	if err := os.WriteFile(filepath.Join(dir, "file"), bytes.Repeat([]byte("content"), 1500), 0o644); err != nil {
		f.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
		f.Fatal(err)
	}
	for _, args := range []string{"-noI -noD -noF -noX", "-comp gzip", "-comp xz", "-comp zstd", "-comp lzo", "-comp lz4"} {
		b, err := os.ReadFile(format(f, dir, strings.Fields(args+" -b 4096 -nopad")...))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(_ *testing.T, b []byte) { readAll(b) })
}
