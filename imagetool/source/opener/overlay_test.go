package opener_test

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// contents returns the files and folders of a tree, with the contents of the
// files.
func contents(t *testing.T, tree *source.Tree) map[string]string {
	t.Helper()
	out := make(map[string]string)
	for _, e := range tree.Entries() {
		switch e.Type() {
		case source.TypeRegular:
			b, err := tree.ReadEntry(e, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			out[e.Path] = string(b)
		case source.TypeSymlink:
			out[e.Path] = "-> " + e.Target
		case source.TypeDir:
			if len(e.Children()) == 0 {
				out[e.Path] = "empty folder"
			}
		}
	}
	return out
}

func TestOverlay(t *testing.T) {
	base, over := t.TempDir(), t.TempDir()
	for name, data := range map[string]string{
		"etc/hosts": "old", "etc/keep": "kept", "etc/secret/a": "a", "etc/secret/b": "b", "etc/gone": "x",
		"usr/lib/lib.so": "lib", "var/cache/x": "x", "var/cache/sub/y": "y", "excluded/key": "old key", "opt/whole/x": "x", "boot/upper/old": "x",
	} {
		testtree.Write(t, base, name, []byte(data))
	}
	for name, data := range map[string]string{
		"etc/hosts": "new", "etc/new/deep/file": "n", "etc/.wh.gone": "", "etc/.wh.secret": "", "etc/secret/c": "c",
		"lib/site.so": "site", "var/cache/.wh..wh..opq": "", "var/cache/z": "z", "excluded/key": "new key", "opt/.wh.whole": "", "boot/upper/new": "n",
	} {
		testtree.Write(t, over, name, []byte(data))
	}
	if err := os.Symlink("/usr/lib", filepath.Join(base, "lib")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(base, "etc"), 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(over, "etc"), 0o775); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"etc/hosts": "new", "etc/keep": "kept", "etc/new/deep/file": "n", "etc/secret/c": "c", "usr/lib/lib.so": "lib", "usr/lib/site.so": "site",
		"lib": "-> /usr/lib", "var/cache/z": "z", "excluded/key": "new key", "opt": "empty folder", "boot/upper/old": "x", "boot/upper/new": "n",
	}
	if os.Geteuid() == 0 { // what overlayfs leaves in its upper directory
		if err := unix.Mknod(filepath.Join(over, "usr-gone"), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
		testtree.Write(t, base, "usr-gone/x", []byte("x"))
		if err := unix.Lsetxattr(filepath.Join(over, "boot/upper"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
			t.Fatal(err)
		}
		delete(want, "boot/upper/old")
	}
	for _, tc := range []struct{ name, source, overlay string }{
		{"directory over directory", base, over},
		{"directory over tarball", makeTar(t, base), over},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree, err := opener.Open(context.Background(), tc.source, opener.Options{
				Options: source.Options{TempDir: t.TempDir()}, Overlays: []string{tc.overlay}, Exclude: []string{"excluded/key"},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			if diff := cmp.Diff(want, contents(t, tree)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
			if e := tree.Lookup("etc"); e.Mode&0o777 != 0o711 {
				t.Errorf("mode of a folder that is there = %o; want its own, 711", e.Mode)
			}
			if e := tree.Lookup("etc/new/deep/file"); e.UID != 0 || e.GID != 0 {
				t.Errorf("owner of a file of the overlay = %d:%d; want root", e.UID, e.GID)
			}
			for _, n := range tree.Notes {
				t.Errorf("note: %s", n)
			}
		})
	}
}

// TestOverlays lays several over each other, a tarball with owners among them.
func TestOverlays(t *testing.T) {
	base, first := t.TempDir(), t.TempDir()
	testtree.Write(t, base, "etc/a", []byte("base"))
	testtree.Write(t, base, "etc/b", []byte("base"))
	testtree.Write(t, first, "etc/a", []byte("first"))
	second := filepath.Join(t.TempDir(), "second.tar")
	if err := os.WriteFile(second, tarOf(t, tar.Header{Name: "etc/c", Uid: 7, Mode: 0o600}, tar.Header{Name: "etc/.wh.b"}), 0o644); err != nil {
		t.Fatal(err)
	}
	tree, err := opener.Open(context.Background(), base, opener.Options{Overlays: []string{first, second}})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if diff := cmp.Diff(map[string]string{"etc/a": "first", "etc/c": "etc/c"}, contents(t, tree)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	if e := tree.Lookup("etc/c"); e.UID != 7 || e.Mode&0o777 != 0o600 {
		t.Errorf("etc/c has owner %d and mode %o; want those of the tarball", e.UID, e.Mode)
	}
	if _, err := opener.Open(context.Background(), base, opener.Options{Overlays: []string{base + "/none"}}); !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), "overlay") {
		t.Errorf("an overlay that is not there: %v", err)
	}
}
