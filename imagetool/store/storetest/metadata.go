package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

func testMarks(t *testing.T, st store.Store) {
	ctx := context.Background()
	for _, path := range []string{storepath.Mark("gc"), storepath.Mark("push-1")} {
		a, b := []byte(`{"version": 1}`), []byte(`{"version": 2}`)
		if err := st.Replace(ctx, path, a, ""); err != nil {
			t.Fatalf("Replace(%s) = %v", path, err)
		}
		if err := st.Replace(ctx, path, b, ""); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Replace(%s) without a tag = %v; want ErrConflict", path, err)
		}
		got, tag, err := st.Load(ctx, path, 1<<10)
		if err != nil || !bytes.Equal(got, a) || tag == "" {
			t.Fatalf("Load(%s) = %q, tag %q, %v; want %q", path, got, tag, err, a)
		}
		if err := st.Replace(ctx, path, b, tag); err != nil {
			t.Errorf("Replace(%s) with the tag = %v", path, err)
		}
		if err := st.Replace(ctx, path, a, tag); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Replace(%s) with an old tag = %v; want ErrConflict", path, err)
		}
		if err := st.Remove(ctx, []string{path}); err != nil {
			t.Errorf("Remove(%s) = %v", path, err)
		}
		if err := st.Replace(ctx, path, b, tag); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Replace(%s) of what is gone = %v; want ErrConflict", path, err)
		}
	}
}

// Publishers who add to one document, each reading it again after a conflict,
// lose nothing.
func testMarksAtOnce(t *testing.T, st store.Store) {
	ctx := context.Background()
	path := storepath.Mark("gc")
	const writers, each = 4, 5
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				entry := fmt.Sprintf("%d-%d", w, i)
				for {
					old, tag, err := st.Load(ctx, path, 1<<20)
					if errors.Is(err, store.ErrNotExist) {
						old = []byte(`{"list": "`)
					} else if err != nil {
						t.Errorf("Load() = %v", err)
						return
					}
					next := append(bytes.TrimSuffix(old, []byte(`"}`)), (entry + ` "}`)...)
					err = st.Replace(ctx, path, next, tag)
					if err == nil {
						break
					}
					if !errors.Is(err, store.ErrConflict) {
						t.Errorf("Replace() = %v", err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	got, _, err := st.Load(ctx, path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for w := range writers {
		for i := range each {
			if !bytes.Contains(got, fmt.Appendf(nil, "%d-%d ", w, i)) {
				t.Errorf("what writer %d wrote as number %d is lost: %s", w, i, got)
			}
		}
	}
}

func testList(t *testing.T, st store.Store) {
	ctx := context.Background()
	start := time.Now()
	want := make(map[storepath.Kind]map[string]int64)
	add := func(kind storepath.Kind, path string, data []byte) {
		if kind.Immutable() {
			put(t, st, path, data)
		} else if err := st.Replace(ctx, path, data, ""); err != nil {
			t.Fatal(err)
		}
		if want[kind] == nil {
			want[kind] = make(map[string]int64)
		}
		want[kind][path] = int64(len(data))
	}
	for i := range 20 {
		data := fmt.Appendf(nil, "file %d", i)
		sum := digest.Of(data)
		add(storepath.KindFile, storepath.File(sum), data)
		path, stored := newBlock(t, data)
		add(storepath.KindBlock, path, stored)
		// Names whose order in folders is not that of their bytes.
		for _, dir := range []string{"images/a/1/", "images/a/1.1/", "images/a+b/", ""} {
			add(storepath.KindTarget, storepath.Target(dir+"x.json", sum), data)
		}
	}
	first := catalogs(t, st, 2)[0]
	add(storepath.KindMetadata, storepath.Timestamp, first)
	for _, p := range []string{
		storepath.RoleMetadata("root", 1), storepath.RoleMetadata("targets", 1), storepath.RoleMetadata("targets", 2),
		storepath.RoleMetadata("snapshot", 1), storepath.RoleMetadata("snapshot", 2),
	} {
		data, _, err := st.Load(ctx, p, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		want[storepath.KindMetadata][p] = int64(len(data))
	}
	menu := catalogMenu(t, st)
	want[storepath.KindTarget][menu.Path] = menu.Size
	add(storepath.KindMark, storepath.Mark("gc"), []byte(`{}`))
	list := func(kind storepath.Kind) map[string]int64 {
		got := make(map[string]int64)
		err := st.List(ctx, kind, func(i store.Info) error {
			if _, twice := got[i.Path]; twice {
				t.Errorf("List(%s) has %s twice", kind, i.Path)
			}
			if d := i.Time.Sub(start); d < -time.Minute || d > 10*time.Minute {
				t.Errorf("List(%s): %s was written at %v; want now", kind, i.Path, i.Time)
			}
			got[i.Path] = i.Size
			return nil
		})
		if err != nil {
			t.Errorf("List(%s) = %v", kind, err)
		}
		return got
	}
	for kind, files := range want {
		if diff := cmp.Diff(files, list(kind)); diff != "" {
			t.Errorf("List(%s), -want +got:\n%s", kind, diff)
		}
	}
	if got := list(storepath.KindIndex); len(got) != 0 {
		t.Errorf("List(index) = %v; want nothing", got)
	}
	broken := errors.New("enough")
	if err := st.List(ctx, storepath.KindFile, func(store.Info) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("List with a function that fails = %v; want its error", err)
	}
	paths := slices.Collect(maps.Keys(want[storepath.KindFile]))
	if err := st.Remove(ctx, append(paths, storepath.File(digest.Of([]byte("not there"))))); err != nil {
		t.Errorf("Remove() = %v", err)
	}
	if got := list(storepath.KindFile); len(got) != 0 {
		t.Errorf("after Remove, List(file) = %v", got)
	}
	for _, p := range []string{storepath.Timestamp, storepath.RoleMetadata("root", 1), "x", "../x"} {
		if err := st.Remove(ctx, []string{p}); !errors.Is(err, store.ErrRejected) {
			t.Errorf("Remove(%q) = %v; want ErrRejected", p, err)
		}
	}
}

// catalogMenu finds the one target that catalogs stores.
func catalogMenu(t *testing.T, st store.Store) (menu store.Info) {
	t.Helper()
	err := st.List(context.Background(), storepath.KindTarget, func(i store.Info) error {
		if strings.HasSuffix(i.Path, ".menu.json") {
			menu = i
		}
		return nil
	})
	if err != nil || menu.Size == 0 {
		t.Fatalf("the menu is not listed: %v", err)
	}
	return menu
}
