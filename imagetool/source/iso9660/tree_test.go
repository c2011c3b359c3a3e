package iso9660_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/iso9660"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

// tree reads the tree of an image file.
func tree(t testing.TB, name string) *source.Tree {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := build(b)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func build(b []byte) (*source.Tree, error) {
	return sourcetest.Build(func(to *source.Builder) error {
		return iso9660.Read(context.Background(), to, bytes.NewReader(b), int64(len(b)))
	})
}

func TestSameTree(t *testing.T) {
	dir := sourcetest.Dir(t)
	deep := filepath.Join(dir, strings.Repeat("deep/", 15))
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"up": "../../a", "dots": "./.././x", "long": strings.Repeat("1234567890/", 40) + strings.Repeat("n", 250), "root": "/"} {
		if err := os.Symlink(target, filepath.Join(deep, name)); err != nil {
			t.Fatal(err)
		}
	}
	// Times have whole seconds.
	err := filepath.WalkDir(filepath.Join(dir, "deep"), func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		ts := []unix.Timespec{{Sec: 1_500_000_000}, {Sec: 1_500_000_000}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := sourcetest.Open(t, dir)
	for _, args := range []string{"", "-compliance new_rr", "-compliance deep_paths_off"} {
		t.Run(args, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "cd.iso")
			sourcetest.Run(t, "xorriso", append(strings.Fields(args), "-report_about", "SORRY", "-hardlinks", "on", "-rockridge", "on", "-outdev", out, "-map", dir, "/", "-commit")...)
			b, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			if moved := bytes.Contains(b, []byte("CL\x0c\x01")); moved != strings.Contains(args, "deep") {
				t.Errorf("directories are relocated: %t", moved)
			}
			sourcetest.Compare(t, want, tree(t, out), "rr_moved")
		})
	}
}

// Without Rock Ridge everything is root's.
func TestPlainTree(t *testing.T) {
	got := tree(t, image(t, "-iso-level", "3", "--norock"))
	dir, file := got.Lookup("LIVE"), got.Lookup("LIVE/EMPTY")
	if dir == nil || file == nil {
		t.Fatal("LIVE/EMPTY is missing")
	}
	for _, tc := range []struct {
		e    *source.Entry
		mode uint32
	}{{dir, source.TypeDir | 0o555}, {file, source.TypeRegular | 0o444}} {
		if tc.e.Mode != tc.mode || tc.e.UID != 0 || tc.e.GID != 0 {
			t.Errorf("/%s = mode %o, %d:%d; want %o, 0:0", tc.e.Path, tc.e.Mode, tc.e.UID, tc.e.GID, tc.mode)
		}
	}
}

// A directory that contains itself is refused.
func TestLoop(t *testing.T) {
	b, err := os.ReadFile(image(t, "-R"))
	if err != nil {
		t.Fatal(err)
	}
	root := bytes.Clone(b[16*2048+156+2 : 16*2048+156+18])
	at := bytes.Index(b, []byte("\x04LIVE"))
	if at < 0 {
		t.Fatal("there is no record of LIVE")
	}
	copy(b[at-30:], root)
	if _, err := build(b); !errors.Is(err, source.ErrRefused) {
		t.Errorf("Read() = %v; want ErrRefused", err)
	}
}

func readTree(b []byte) {
	tree, err := build(b)
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

func TestDamagedTree(t *testing.T) {
	good, err := os.ReadFile(image(t, "-R"))
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		b := bytes.Clone(good)
		for range 1 + rnd.IntN(60) {
			b[16*2048+rnd.IntN(80<<10)] = byte(rnd.Uint32())
		}
		readTree(b)
	}
}

func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file with a name"), []byte("content"), 0o644); err != nil {
		f.Fatal(err)
	}
	if err := os.Symlink("../some/where", filepath.Join(dir, "link")); err != nil {
		f.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "d/e"), 0o755); err != nil {
		f.Fatal(err)
	}
	out := filepath.Join(f.TempDir(), "cd.iso")
	sourcetest.Run(f, "xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", out, dir)
	b, err := os.ReadFile(out)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:min(len(b), 100<<10)])
	f.Fuzz(func(_ *testing.T, b []byte) { readTree(b) })
}
