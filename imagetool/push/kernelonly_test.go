package push_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/kernel"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// bzImage is a kernel that may lie anywhere, or only below 4 GiB.
func bzImage(anywhere bool) []byte {
	b := testtree.BzImage(testtree.Release)
	b[0x1fe], b[0x1ff], b[0x211] = 0x55, 0xAA, 1
	if anywhere {
		b[0x236] |= 2
	}
	return b
}

func TestKernelOnly(t *testing.T) {
	ctx := context.Background()
	st, k := newStore(t, t.TempDir())
	dir := t.TempDir()
	image, initrd := bzImage(true), bytes.Repeat([]byte("initrd"), 1000)
	testtree.Write(t, dir, "debian-installer/amd64/linux", image)
	testtree.Write(t, dir, "debian-installer/amd64/initrd.gz", initrd)
	testtree.Write(t, dir, "low", bzImage(false))
	wide := bzImage(true)
	wide[0x236] = 0
	testtree.Write(t, dir, "32 bits", wide)
	testtree.Write(t, dir, "text", bytes.Repeat([]byte("text"), 1000))
	file := func(name string) string { return filepath.Join(dir, name) }
	for _, tc := range []struct {
		version string
		o       push.Options
		initrd  bool
	}{
		{"files", push.Options{KernelFile: file("debian-installer/amd64/linux"), InitrdFile: file("debian-installer/amd64/initrd.gz")}, true},
		{"alone", push.Options{KernelFile: file("debian-installer/amd64/linux")}, false},
		{"tree", push.Options{Source: dir}, true},
	} {
		o := tc.o
		o.Name, o.Version, o.Cmdline, o.Title = "installer", tc.version, "quiet", "Installer"
		res, err := push.Push(ctx, st, k, o, &quiet{})
		if err != nil {
			t.Fatalf("%s: %v", tc.version, err)
		}
		m := res.Manifest
		want := []digest.Blob{digest.BlobOf(image)}
		if tc.initrd {
			want = append(want, digest.BlobOf(initrd))
		}
		if !slices.Equal(m.Files(), want) || !m.NoRoot() || m.Kernel.Release != testtree.Release || m.Arch != "amd64" || m.Cmdline != "quiet" {
			t.Errorf("%s: manifest %+v; want the files %v and no root", tc.version, m, want)
		}
		for _, f := range want {
			if _, err := st.Read(ctx, storepath.File(f.SHA256), nil, f.Size, func(b []byte) error { return f.SHA256.Check("file", b) }); err != nil {
				t.Errorf("%s: %v", tc.version, err)
			}
		}
		c, _, err := push.Load(ctx, st, k.Trust())
		if err != nil {
			t.Fatal(err)
		}
		menu, err := c.Menu(ctx)
		if err != nil {
			t.Fatal(err)
		}
		e := menu.Find("installer-" + tc.version)
		if e == nil || !slices.Equal(e.Requires, []string{catalog.FeatureNoRoot}) || e.Usable("amd64") != nil {
			t.Errorf("%s: menu entry %+v; want one that requires %s", tc.version, e, catalog.FeatureNoRoot)
		}
		if res, err := push.Push(ctx, st, k, o, &quiet{}); err != nil || !res.Unchanged {
			t.Errorf("%s again: %+v, %v; want nothing changed", tc.version, res, err)
		}
	}
	res, err := push.Push(ctx, st, k, push.Options{Name: "low", Version: "1", KernelFile: file("low")}, &quiet{})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := push.Load(ctx, st, k.Trust())
	if err != nil {
		t.Fatal(err)
	}
	menu, err := c.Menu(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{catalog.FeatureNoRoot, catalog.FeatureKexecLoad}
	if e := menu.Find("low-1"); !slices.Equal(res.Manifest.Requires, want) || e == nil || !slices.Equal(e.Requires, want) {
		t.Errorf("a kernel below 4 GiB requires %v, its entry is %+v; want %v", res.Manifest.Requires, e, want)
	}
	for name, want := range map[string]error{"32 bits": kernel.ErrKexec, "text": kernel.ErrNoKernel, "nothing": os.ErrNotExist} {
		o := push.Options{Name: "x", Version: "1", KernelFile: file(name)}
		if _, err := push.Push(ctx, st, k, o, &quiet{}); !errors.Is(err, want) {
			t.Errorf("%s: Push() = %v; want %v", name, err, want)
		}
	}
}
