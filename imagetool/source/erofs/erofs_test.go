package erofs_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/erofs"
	"github.com/inetboot/inetboot/imagetool/source/sourcetest"
)

func format(t *testing.T, dir string, args ...string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	sourcetest.Run(t, "mkfs.erofs", append(append([]string{"--quiet"}, args...), image, dir)...)
	return image
}

func read(t *testing.T, image string) (*source.Tree, error) {
	t.Helper()
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return sourcetest.Build(func(b *source.Builder) error { return erofs.Read(context.Background(), b, f, erofs.Options{}) })
}

// folder is what mkfs.erofs 1.5 takes: its paths have to be shorter.
func folder(t *testing.T) string {
	t.Helper()
	dir := sourcetest.Dir(t)
	if err := os.Remove(filepath.Join(dir, "odd", strings.Repeat("n", 255))); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSameTree(t *testing.T) {
	dir := folder(t)
	sourcetest.Xattrs(t, dir, true)
	for _, args := range [][]string{nil, {"--chunksize=65536"}, {"-E", "force-inode-compact", "--all-root"}} {
		tree, err := read(t, format(t, dir, args...))
		if err != nil {
			t.Fatal(err)
		}
		want := sourcetest.Open(t, dir)
		if len(args) == 3 { // small inodes have no times of their own
			for _, e := range slices.Concat(want.Entries(), tree.Entries()) {
				e.Sec, e.Nsec, e.UID, e.GID = 0, 0, 0, 0
			}
		}
		sourcetest.Compare(t, want, tree)
	}
}

func TestCompressedIsRefused(t *testing.T) {
	if _, err := read(t, format(t, folder(t), "-zlz4")); !errors.Is(err, erofs.ErrFeature) {
		t.Errorf("Read() of a compressed EROFS = %v; want ErrFeature", err)
	}
}
