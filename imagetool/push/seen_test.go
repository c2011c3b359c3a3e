package push_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
)

// Neither those who publish nor those who only read follow a store back to an
// older catalog.
func TestOldStateIsRefused(t *testing.T) {
	ctx := context.Background()
	dir, before := t.TempDir(), t.TempDir()
	st, k := newStore(t, dir)
	publishTitle := func(title string) error {
		_, err := push.Publish(ctx, st, k, 0, func(e *push.Edition) error { e.Menu.Title = title; return nil })
		return err
	}
	if err := os.CopyFS(before, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := publishTitle("newer"); err != nil {
		t.Fatal(err)
	}
	newer, err := os.ReadFile(filepath.Join(dir, "catalog/timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	restore := func(from []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "catalog/timestamp.json"), from, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	older, err := os.ReadFile(filepath.Join(before, "catalog/timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	restore(older)
	reader, err := keys.LoadTrust(k.Dir)
	if err != nil {
		t.Fatal(err)
	}
	file := reader.File(st.String())
	for what, err := range map[string]error{
		"read":    func() error { _, _, err := push.Load(ctx, st, reader); return err }(),
		"publish": publishTitle("on an old state"),
		"refresh": func() error { _, err := push.Refresh(ctx, st, k, push.RefreshOptions{All: true}); return err }(),
	} {
		if !errors.Is(err, catalog.ErrRollback) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s = %v; want ErrRollback and the file %s", what, err, file)
		}
	}
	// Elsewhere the same state is a copy that is behind, and nothing else.
	other, err := store.NewDir(before, false)
	if err != nil {
		t.Fatal(err)
	}
	if c, _, err := push.Load(ctx, other, reader); err != nil || c.Version() != 1 {
		t.Errorf("a copy of the old state: %v", err)
	}
	restore(newer)
	if c, _, err := push.Load(ctx, st, reader); err != nil || c.Version() != 2 {
		t.Errorf("the newer state again: %v", err)
	}

	// The way out.
	restore(older)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if c, _, err := push.Load(ctx, st, reader); err != nil || c.Version() != 1 {
		t.Errorf("after removing %s: %v", file, err)
	}
	restore(newer)
	if _, _, err := push.Load(ctx, st, reader); err != nil {
		t.Fatal(err)
	}

	// What is damaged is not passed over in silence.
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data[:len(data)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := push.Load(ctx, st, reader); !errors.Is(err, keys.ErrSeen) || !strings.Contains(err.Error(), file) {
		t.Errorf("half a file: %v; want ErrSeen and its name", err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := push.Load(ctx, st, reader); err != nil {
		t.Errorf("the file as it was: %v", err)
	}
}

// A root that is newer than the key folder's is followed from what was seen,
// and versions that replaced keys have signed do not count.
func TestSeenOverRotation(t *testing.T) {
	ctx := context.Background()
	st, k := newStore(t, t.TempDir())
	reader, err := keys.LoadTrust(k.Dir) // begins at root version 1
	if err != nil {
		t.Fatal(err)
	}
	if _, err := push.Refresh(ctx, st, k, push.RefreshOptions{All: true}); err != nil { // root version 2
		t.Fatal(err)
	}
	c, _, err := push.Load(ctx, st, reader)
	if err != nil || c.Trusted().Root().Version() != 2 {
		t.Fatalf("Load() = %v", err)
	}
	floor, err := reader.Floor(ctx, st.String())
	if err != nil || floor == nil || floor.Root().Version() != 2 || floor.Timestamp().Version() != c.Trusted().Timestamp().Version() || floor.Snapshot() == nil {
		t.Fatalf("Floor() = %+v, %v; want all that was seen", floor, err)
	}
	// Another store at the same place: its chain of roots is another one.
	st2, k2 := newStore(t, t.TempDir())
	c2, _, err := push.Load(ctx, st2, k2.Trust())
	if err != nil {
		t.Fatal(err)
	}
	reader.Remember(st.String(), c2.Trusted())
	floor, err = reader.Floor(ctx, st.String())
	if err != nil || floor.Timestamp() != nil {
		t.Errorf("Floor() of another chain of roots = %+v, %v; want nothing but the root", floor, err)
	}
	if err := reader.Forget(st.String()); err != nil {
		t.Error(err)
	}
	if floor, err := reader.Floor(ctx, st.String()); floor != nil || err != nil {
		t.Errorf("Floor() after Forget() = %+v, %v", floor, err)
	}
}
