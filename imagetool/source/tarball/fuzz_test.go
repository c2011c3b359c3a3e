package tarball

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/source"
)

// small are limits under which no input can take long.
var small = source.Limits{Entries: 1000, Size: 8 << 20, Metadata: 4 << 20, Layers: 10}

// add reads a tarball, as a file or as a stream, into a new layer.
func add(t *testing.T, b *source.Builder, data []byte, stream, layer bool) error {
	t.Helper()
	spool := source.NewSpool("") // its file has no name
	b.OnClose(spool)
	in := &Input{Spool: spool, Name: "fuzz", Whiteouts: layer, Layer: layer}
	if stream {
		in.Stream = bytes.NewReader(data)
	} else {
		in.At, in.Size = bytes.NewReader(data), int64(len(data))
	}
	return Entries(context.Background(), b, in)
}

// describe checks a tree and returns what it has.
func describe(t *testing.T, b *source.Builder) map[string]string {
	t.Helper()
	tree, err := b.Tree()
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	out := make(map[string]string)
	for _, e := range tree.Entries() {
		if p, err := source.CleanPath(e.Path); err != nil || p != e.Path {
			t.Errorf("the path %q: %q, %v", e.Path, p, err)
		}
		for d := e.Path; d != ""; {
			d = d[:max(0, strings.LastIndexByte(d, '/'))]
			if up := tree.Lookup(d); up == nil || !up.IsDir() {
				t.Errorf("/%s lies in /%s, which is no directory", e.Path, d)
			}
		}
		if e.First != nil && (e.First.First != nil || e.First.IsDir() || e.First.Type() != e.Type()) {
			t.Errorf("/%s is another name of /%s", e.Path, e.First.Path)
		}
		for k := range e.Xattrs {
			if !source.KeepXattr(k) {
				t.Errorf("/%s has the attribute %q", e.Path, k)
			}
		}
		s := ""
		if e.IsRegular() {
			r, err := tree.Open(e)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(r)
			if err != nil || int64(len(data)) != e.Size {
				t.Errorf("/%s: %d bytes, %v; want %d", e.Path, len(data), err, e.Size)
			}
			s = string(data[:min(len(data), 1000)])
		}
		out[e.Path] = s + e.Target
	}
	return out
}

// seeds are tarballs of all formats.
func seeds(f *testing.F) [][]byte {
	var out [][]byte
	for _, format := range []tar.Format{tar.FormatUSTAR, tar.FormatPAX, tar.FormatGNU} {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		for _, h := range []tar.Header{
			{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
			{Name: "etc/passwd", Typeflag: tar.TypeReg, Size: 10, Mode: 0o644},
			{Name: "etc/link", Typeflag: tar.TypeLink, Linkname: "etc/passwd"},
			{Name: "sym", Typeflag: tar.TypeSymlink, Linkname: "/etc"},
			{Name: "dev", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
			{Name: "fifo", Typeflag: tar.TypeFifo},
			{Name: ".wh.gone", Typeflag: tar.TypeReg},
			{Name: "etc/.wh..wh..opq", Typeflag: tar.TypeReg},
			{Name: strings.Repeat("long/", 19) + "name", Typeflag: tar.TypeReg},
		} {
			h.Format = format
			if format == tar.FormatPAX {
				h.PAXRecords = map[string]string{
					"SCHILY.xattr.user.a": "b", "SCHILY.acl.access": "user::rwx,user:x:r--,group::r--,mask::r--,other::---",
					"LIBARCHIVE.xattr.user.c%41": "Yg",
				}
			}
			if err := w.WriteHeader(&h); err != nil {
				f.Fatal(err)
			}
			if h.Size > 0 {
				if _, err := w.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
					f.Fatal(err)
				}
			}
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		out = append(out, buf.Bytes())
	}
	return out
}

// FuzzTarball reads anything as a tarball: as a file and as a stream it is the
// same, and what is accepted is a tree that can be read.
func FuzzTarball(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, false)
		f.Add(s, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, layer bool) {
		var trees []map[string]string
		var errs []error
		for _, stream := range []bool{false, true} {
			b := source.NewBuilder(small, nil)
			err := add(t, b, data, stream, layer)
			errs = append(errs, err)
			if err == nil {
				trees = append(trees, describe(t, b))
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if (errs[0] == nil) != (errs[1] == nil) {
			t.Fatalf("as a file: %v; as a stream: %v", errs[0], errs[1])
		}
		if errs[0] == nil {
			if diff := cmp.Diff(trees[0], trees[1]); diff != "" {
				t.Errorf("as a file and as a stream (-file +stream):\n%s", diff)
			}
		}
	})
}

// FuzzLayers lays anything over a tree, as a layer of a container image.
func FuzzLayers(f *testing.F) {
	all := seeds(f)
	for _, s := range all {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b := source.NewBuilder(small, nil)
		defer b.Close()
		for i, layer := range [][]byte{all[1], data, data} {
			if i > 0 {
				if err := b.NextLayer(); err != nil {
					t.Fatal(err)
				}
			}
			if err := add(t, b, layer, i == 1, true); err != nil {
				return
			}
		}
		describe(t, b)
	})
}

// FuzzACL reads anything as an access control list: what is accepted is one
// that the kernel would take, and comes out in its order.
func FuzzACL(f *testing.F) {
	f.Add("user::rwx,user:1000:rw-,group::r-x,mask::rwx,other::r--")
	f.Add("user::rw-\nuser:name:r--:17\ngroup::r--\ngroup:3:rwx #effective:r--\nmask:r\nother:-")
	f.Add("u::,g::,o::")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseACL(text)
		if err != nil {
			return
		}
		if _, ok := a.resolve(map[string]uint32{"name": 1}, nil); !ok {
			return
		}
		b := a.binary(false)
		if len(a) == 0 && b == "" {
			return
		}
		if len(b) != 4+8*len(a) || a.mode() > 0o777 {
			t.Errorf("%q: %d bytes for %d entries, mode %o", text, len(b), len(a), a.mode())
		}
		last := byte(0)
		for i := 4; i < len(b); i += 8 {
			if b[i] < last {
				t.Errorf("%q: entries are not in order", text)
			}
			last = b[i]
		}
	})
}

// FuzzXZDictionary reads anything as the beginning of an xz file.
func FuzzXZDictionary(f *testing.F) {
	f.Add([]byte("\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if n := xzDictionary(data); n < 0 || n > 1<<32 {
			t.Errorf("a dictionary of %d bytes", n)
		}
	})
}
