package inroot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestResolve(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "usr/lib/d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "usr/lib/d/f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"lib": "usr/lib", "abs": "/usr/lib/d", "out": "../../../../usr/lib", "dangling": "/no/where", "a": "b", "b": "a"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		path string
		err  error // of Resolve
	}{
		"/": {"/", nil}, "/lib/d/f": {"/usr/lib/d/f", nil}, "abs/f": {"/usr/lib/d/f", nil}, "/out/d/../d/f": {"/usr/lib/d/f", nil}, "/../../lib": {"/usr/lib", nil},
		"/abs/new": {"/usr/lib/d/new", fs.ErrNotExist}, "/dangling": {"/no/where", fs.ErrNotExist}, "/dangling/x/../y": {"/no/where/y", fs.ErrNotExist},
	} {
		got, err := Resolve(root, name)
		if !errors.Is(err, want.err) || err == nil && got != want.path {
			t.Errorf("Resolve(%q) = %q, %v; want %q, %v", name, got, err, want.path, want.err)
		}
		if got, err := Create(root, name); err != nil || got != want.path {
			t.Errorf("Create(%q) = %q, %v; want %q", name, got, err, want.path)
		}
	}
	if got, err := Create(root, "/a"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("Create of a loop = %q, %v; want ELOOP", got, err)
	}
	if got, err := Create(root, "/lib/d/f/x"); err == nil {
		t.Errorf("Create below a file = %q; want an error", got)
	}
}
