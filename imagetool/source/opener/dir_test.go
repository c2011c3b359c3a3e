package opener_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// TestMounts stays on one filesystem, but where it is told not to.
func TestMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	for _, name := range []string{"boot", "srv"} {
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("none", at, "tmpfs", 0, "size=1m"); err != nil {
			t.Skipf("mount: %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
		testtree.Write(t, at, "x", []byte("content"))
	}
	tree, err := opener.Open(context.Background(), dir, opener.Options{Mounts: []string{"boot"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if b, err := tree.ReadFile("boot/x", 100); err != nil || string(b) != "content" {
		t.Errorf("boot/x = %q, %v", b, err)
	}
	if e := tree.Lookup("srv"); e == nil || len(e.Children()) > 0 {
		t.Errorf("srv is not an empty folder")
	}
	if notes := strings.Join(tree.Notes, "\n"); !strings.Contains(notes, "/srv is another filesystem") || strings.Contains(notes, "/boot") {
		t.Errorf("notes: %s", notes)
	}
}

// TestChangedMeanwhile reads files that are not any more what they were.
func TestChangedMeanwhile(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(dir, file string) error
	}{
		{"gone", func(_, file string) error { return os.Remove(file) }},
		{"shorter", func(_, file string) error { return os.Truncate(file, 3) }},
		{"a link to elsewhere", func(_, file string) error { return errors.Join(os.Remove(file), os.Symlink("/etc/passwd", file)) }},
		{"in a folder that is a link now", func(dir, _ string) error {
			return errors.Join(os.Rename(dir+"/d", dir+"/e"), os.Symlink(dir+"/e", dir+"/d"))
		}},
		{"another file", func(dir, file string) error {
			return errors.Join(os.WriteFile(dir+"/new", make([]byte, 1000), 0o644), os.Rename(dir+"/new", file))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			testtree.Write(t, dir, "d/f", []byte("something"))
			tree, err := opener.Open(context.Background(), dir, opener.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer tree.Close()
			if err := tc.change(dir, filepath.Join(dir, "d/f")); err != nil {
				t.Fatal(err)
			}
			if _, err := tree.ReadFile("d/f", 1000); !errors.Is(err, source.ErrChanged) {
				t.Errorf("ReadFile = %v; want ErrChanged", err)
			}
		})
	}
}
