package tarball_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/tarball"
)

// archive writes a tarball of entries; regular files have the content "x".
func archive(t testing.TB, entries []tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		if h.Typeflag == tar.TypeReg && h.Size == 0 {
			h.Size = 1
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// read reads a tarball as a file and as a stream, and fails if those differ.
func read(t testing.TB, data []byte, l source.Limits) error {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.tar")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, o := context.Background(), source.Options{TempDir: t.TempDir()}
	file := source.NewBuilder(l, nil)
	defer file.Close()
	ferr := tarball.Read(ctx, file, name, o)
	stream := source.NewBuilder(l, nil)
	defer stream.Close()
	serr := tarball.ReadStream(ctx, stream, bytes.NewReader(data), -1, name, o)
	if (ferr == nil) != (serr == nil) || errors.Is(ferr, source.ErrRefused) != errors.Is(serr, source.ErrRefused) {
		t.Errorf("as a file: %v; as a stream: %v", ferr, serr)
	}
	return ferr
}

func TestRefusals(t *testing.T) {
	file := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644} }
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
	}
	symlink := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755} }
	many := make([]tar.Header, 50)
	for i := range many {
		many[i] = file(strings.Repeat("d/", i) + "f")
	}
	for _, tc := range []struct {
		name   string
		hdr    []tar.Header
		limits source.Limits
		want   string
	}{
		{"traversal", []tar.Header{file("../x")}, source.Limits{}, "leads outside"},
		{"traversal inside", []tar.Header{file("a/../../x")}, source.Limits{}, "leads outside"},
		{"traversal that stays inside", []tar.Header{file("a/../x")}, source.Limits{}, "leads outside"},
		{"absolute", []tar.Header{file("/etc/passwd")}, source.Limits{}, "absolute"},
		{"hard link to nothing", []tar.Header{link("x", "y")}, source.Limits{}, "hard link"},
		{"hard link to outside", []tar.Header{link("x", "../../etc/shadow")}, source.Limits{}, "leads outside"},
		{"hard link to an absolute name", []tar.Header{link("x", "/etc/shadow")}, source.Limits{}, "absolute"},
		{"hard link to a directory", []tar.Header{dir("d/"), link("x", "d")}, source.Limits{}, "hard link"},
		{"hard link to itself", []tar.Header{link("x", "x")}, source.Limits{}, "hard link"},
		{"through a symbolic link", []tar.Header{symlink("x", "/etc"), file("x/passwd")}, source.Limits{}, "not a directory"},
		{"through a symbolic link further up", []tar.Header{symlink("x", ".."), dir("x/y/"), file("x/y/z")}, source.Limits{}, "not a directory"},
		{"hard link through a symbolic link", []tar.Header{file("d/f"), symlink("x", "d"), link("y", "x/f")}, source.Limits{}, "hard link"},
		{"file as a directory", []tar.Header{file("x"), file("x/y")}, source.Limits{}, "not a directory"},
		{"directory becomes a symbolic link", []tar.Header{dir("x/"), symlink("x", "/etc"), file("x/y")}, source.Limits{}, "twice"},
		{"implied directory becomes a symbolic link", []tar.Header{file("x/y"), symlink("x", "/etc")}, source.Limits{}, "twice"},
		{"file becomes a device", []tar.Header{file("x"), {Name: "x", Typeflag: tar.TypeBlock}}, source.Limits{}, "twice"},
		{"symbolic link becomes a file", []tar.Header{symlink("x", "/etc/shadow"), file("x")}, source.Limits{}, "twice"},
		{"the root is a file", []tar.Header{file("./.")}, source.Limits{}, "root"},
		{"the root is a link", []tar.Header{symlink(".", "/etc")}, source.Limits{}, "root"},
		{"long element", []tar.Header{file(strings.Repeat("n", 256))}, source.Limits{}, "255 bytes"},
		{"long name", []tar.Header{file(strings.Repeat("n/", 10_000) + "n")}, source.Limits{}, "bytes"},
		{"owner", []tar.Header{{Name: "x", Typeflag: tar.TypeReg, Uid: 1 << 40}}, source.Limits{}, "owner"},
		{"many names", many, source.Limits{Entries: 20}, "--max-entries"},
		{"many implied directories", many[49:], source.Limits{Entries: 20}, "--max-entries"},
		{"large", []tar.Header{{Name: "x", Typeflag: tar.TypeReg, Size: 1000}, {Name: "y", Typeflag: tar.TypeReg, Size: 1000}}, source.Limits{Size: 1999}, "--max-size"},
		{"large metadata", []tar.Header{symlink("x", strings.Repeat("t", 5000))}, source.Limits{Metadata: 1000}, "names and attributes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := read(t, archive(t, tc.hdr), tc.limits)
			if !errors.Is(err, source.ErrRefused) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("read = %v; want ErrRefused with %q", err, tc.want)
			}
		})
	}
}

func TestNotWhole(t *testing.T) {
	entries := []tar.Header{
		{Name: "a", Typeflag: tar.TypeReg, Size: 2000},
		{Name: "b", Typeflag: tar.TypeReg, Size: 700, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}},
		{Name: "d/", Typeflag: tar.TypeDir},
	}
	whole := archive(t, entries)
	if err := read(t, whole, source.Limits{}); err != nil {
		t.Fatal(err)
	}
	end := len(whole) - 1024 // where the mark of the end begins
	for n := range end + 1 {
		if n%512 != 0 && n%1001 != 0 {
			continue
		}
		if err := read(t, whole[:n], source.Limits{}); !errors.Is(err, source.ErrUnreadable) {
			t.Errorf("the first %d bytes of %d: %v; want ErrUnreadable", n, len(whole), err)
		}
	}
	for name, data := range map[string][]byte{
		"two in one file": append(whole[:len(whole):len(whole)], whole...),
		"nothing":         nil,
		"empty":           archive(t, nil),
		"text":            bytes.Repeat([]byte("this is no tarball\n"), 100),
	} {
		if err := read(t, data, source.Limits{}); !errors.Is(err, source.ErrUnreadable) {
			t.Errorf("%s: %v; want ErrUnreadable", name, err)
		}
	}
}
