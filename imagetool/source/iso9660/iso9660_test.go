package iso9660_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/source/iso9660"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

// files of the image, by path.
func files() map[string][]byte {
	long := strings.Repeat("A long name, ", 19) + "!"
	out := map[string][]byte{
		"live/filesystem.squashfs": bytes.Repeat([]byte("root"), 5000),
		"live/vmlinuz-6.1.0-1":     []byte("kernel"),
		"live/empty":               nil,
		long:                       []byte("long"),
	}
	for i := range 200 { // several sectors
		out[fmt.Sprintf("many/Name of File %03d.text", i)] = []byte(fmt.Sprint(i))
	}
	return out
}

func image(t testing.TB, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files() {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "cd.iso")
	sourcetest.Run(t, "xorriso", append(append([]string{"-as", "mkisofs", "-quiet", "-V", "TEST CD"}, args...), "-o", out, dir)...)
	return out
}

func open(t testing.TB, name string) *iso9660.Volume {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	fi, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	v, err := iso9660.Open(f, fi.Size())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRockRidge(t *testing.T) {
	v := open(t, image(t, "-R", "-J"))
	if v.Label != "TEST CD" {
		t.Errorf("Label = %q; want TEST CD", v.Label)
	}
	got := map[string][]byte{}
	var walk func(dir string)
	walk = func(dir string) {
		list, err := v.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			p := strings.TrimPrefix(dir+"/"+f.Name, "/")
			if f.Dir {
				walk(p)
				continue
			}
			found, err := v.Find(p)
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(io.NewSectionReader(found, 0, found.Size))
			if err != nil {
				t.Fatal(err)
			}
			got[p] = slices.Clip(data)
		}
	}
	walk("")
	want := files()
	want["live/empty"] = []byte{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if _, err := v.Find("live/nothing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Find of nothing = %v; want ErrNotExist", err)
	}
	if _, err := v.Find("live/vmlinuz-6.1.0-1/x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Find below a file = %v; want ErrNotExist", err)
	}
}

// Without Rock Ridge, names have capitals only.
func TestPlainNames(t *testing.T) {
	v := open(t, image(t, "-iso-level", "3", "--norock"))
	f, err := v.Find("live/filesystem.squashfs")
	if err != nil || f.Size != 20000 {
		t.Errorf("Find() = %+v, %v; want 20000 bytes", f, err)
	}
}

func TestDamage(t *testing.T) {
	good, err := os.ReadFile(image(t, "-R"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := iso9660.Open(bytes.NewReader(good[:1000]), 1000); !errors.Is(err, iso9660.ErrFormat) {
		t.Errorf("Open() of 1000 bytes = %v; want ErrFormat", err)
	}
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 500 {
		b := bytes.Clone(good)
		for range 1 + rnd.IntN(60) {
			b[16*2048+rnd.IntN(80<<10)] = byte(rnd.Uint32())
		}
		readAll(b)
	}
}

func readAll(b []byte) {
	v, err := iso9660.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return
	}
	for _, dir := range []string{"", "live", "many"} {
		list, err := v.List(dir)
		if err != nil {
			continue
		}
		for _, f := range list {
			_, _ = io.CopyN(io.Discard, io.NewSectionReader(f, 0, f.Size), 1<<20)
		}
	}
}

func FuzzOpen(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file with a name"), []byte("content"), 0o644); err != nil {
		f.Fatal(err)
	}
	out := filepath.Join(f.TempDir(), "cd.iso")
	sourcetest.Run(f, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", out, dir)
	b, err := os.ReadFile(out)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:min(len(b), 100<<10)])
	f.Fuzz(func(_ *testing.T, b []byte) { readAll(b) })
}
