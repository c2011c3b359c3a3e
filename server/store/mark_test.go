package store

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

func open(t *testing.T, base string) *Dir {
	t.Helper()
	d, err := Open(filepath.Join(base, "store"), filepath.Join(base, "tmp"), DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func putBlock(t *testing.T, d *Dir, seed byte) string {
	t.Helper()
	plain := make([]byte, 5000)
	rand.NewChaCha8([32]byte{seed}).Read(plain)
	e, err := block.NewEncoder(3, 1)
	if err != nil {
		t.Fatal(err)
	}
	p := storepath.Block(digest.Of(plain))
	if created, err := d.Put(t.Context(), p, bytes.NewReader(e.Encode(nil, plain))); err != nil || !created {
		t.Fatalf("Put = %v, %v", created, err)
	}
	return p
}

func marked(t *testing.T, base string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(base, "tmp", markName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// After a crash, blocks whose bytes did not reach the disk are removed, so
// that the next push brings them again.
func TestRecover(t *testing.T) {
	base := t.TempDir()
	crashed := open(t, base)
	defer crashed.root.Close()
	if marked(t, base) {
		t.Error("a store without new blocks is marked")
	}
	good, empty, zero, long, old := putBlock(t, crashed, 1), putBlock(t, crashed, 2), putBlock(t, crashed, 3), putBlock(t, crashed, 4), putBlock(t, crashed, 5)
	if !marked(t, base) {
		t.Fatal("a store with new blocks is not marked")
	}
	file := func(p string) string { return filepath.Join(base, "store", filepath.FromSlash(p)) }
	for p, data := range map[string][]byte{empty: nil, zero: make([]byte, 5000), long: make([]byte, 3<<20), old: nil} {
		if err := os.WriteFile(file(p), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(file(old), before, before); err != nil {
		t.Fatal(err)
	}
	upload := filepath.Join(base, "tmp", "upload-1")
	if err := os.WriteFile(upload, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}

	d := open(t, base)
	for p, want := range map[string]bool{good: true, empty: false, zero: false, long: false, old: true} {
		if got := d.Has(p); got != want {
			t.Errorf("Has(%s) after the crash = %v; want %v", p, got, want)
		}
	}
	if marked(t, base) {
		t.Error("the store is still marked after the check")
	}
	if _, err := os.Stat(upload); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unfinished upload is still there: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestMarkEnds(t *testing.T) {
	base := t.TempDir()
	d := open(t, base)
	putBlock(t, d, 1)
	repo := catalogtest.New(t, catalogtest.Options{})
	err := d.Publish(t.Context(), storepath.RoleMetadata("root", 1), digest.SHA256{}, digest.SHA256{}, repo.Root(), time.Now())
	if err != nil || marked(t, base) {
		t.Errorf("after Publish, %v, the store is marked: %v; everything is on the disk", err, marked(t, base))
	}
	putBlock(t, d, 2)
	if !marked(t, base) {
		t.Error("a block after Publish does not mark the store")
	}
	if err := d.Close(); err != nil || marked(t, base) {
		t.Errorf("after Close, %v, the store is marked: %v", err, marked(t, base))
	}
}
