// Package storetest has the tests that every store has to pass.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Run tests the stores that open returns. Each is empty.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	t.Run("put and read", func(t *testing.T) { testPut(t, open(t)) })
	t.Run("put again", func(t *testing.T) { testPutAgain(t, open(t)) })
	t.Run("wrong content", func(t *testing.T) { testWrongContent(t, open(t)) })
	t.Run("wrong places", func(t *testing.T) { testWrongPlaces(t, open(t)) })
	t.Run("missing", func(t *testing.T) { testMissing(t, open(t)) })
	t.Run("read limit", func(t *testing.T) { testLimit(t, open(t)) })
	t.Run("versions", func(t *testing.T) { testVersions(t, open(t)) })
	t.Run("replace", func(t *testing.T) { testReplace(t, open(t)) })
	t.Run("replace at once", func(t *testing.T) { testReplaceAtOnce(t, open(t)) })
	t.Run("many at once", func(t *testing.T) { testParallel(t, open(t)) })
	t.Run("packs", func(t *testing.T) { testPacks(t, open(t)) })
	t.Run("marks", func(t *testing.T) { testMarks(t, open(t)) })
	t.Run("marks at once", func(t *testing.T) { testMarksAtOnce(t, open(t)) })
	t.Run("list and remove", func(t *testing.T) { testList(t, open(t)) })
	t.Run("cancelled", func(t *testing.T) { testCancelled(t, open(t)) })
}

func put(t *testing.T, st store.Store, path string, data []byte) {
	t.Helper()
	if err := st.Put(context.Background(), path, bytes.NewReader(data), int64(len(data))); err != nil {
		t.Fatalf("Put(%s) = %v", path, err)
	}
}

func newBlock(t *testing.T, plain []byte) (path string, stored []byte) {
	t.Helper()
	enc, err := block.NewEncoder(block.DefaultLevel, 1)
	if err != nil {
		t.Fatal(err)
	}
	return storepath.Block(digest.Of(plain)), enc.Encode(nil, plain)
}

func testPut(t *testing.T, st store.Store) {
	ctx := context.Background()
	data := bytes.Repeat([]byte("content "), 1000)
	blockPath, stored := newBlock(t, data)
	var b index.Builder
	b.Add(len(data), len(stored), digest.Of(data))
	idx, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string][]byte{
		storepath.File(digest.Of(data)):                            data,
		storepath.Index(digest.Of(idx)):                            idx,
		storepath.Target("images/a/1/amd64.json", digest.Of(data)): data,
		blockPath: stored,
	} {
		if _, _, err := st.Load(ctx, path, 1<<20); !errors.Is(err, store.ErrNotExist) {
			t.Errorf("Load(%s) of an empty store = %v; want ErrNotExist", path, err)
		}
		put(t, st, path, want)
		accepted := false
		got, err := st.Read(ctx, path, nil, int64(len(want)), func(b []byte) error {
			accepted = bytes.Equal(b, want)
			return nil
		})
		if err != nil || !bytes.Equal(got, want) || !accepted {
			t.Errorf("Read(%s) = %d bytes, %v; want what was put (accept saw it: %v)", path, len(got), err, accepted)
		}
	}
	refuse := errors.New("refused")
	if _, err := st.Read(ctx, blockPath, nil, 1<<20, func([]byte) error { return refuse }); !errors.Is(err, refuse) {
		t.Errorf("Read with accept that fails = %v; want its error", err)
	}
}

func testPutAgain(t *testing.T, st store.Store) {
	data := []byte("twice")
	path := storepath.File(digest.Of(data))
	put(t, st, path, data)
	put(t, st, path, data)
}

func testWrongContent(t *testing.T, st store.Store) {
	ctx := context.Background()
	data := []byte("content")
	for _, path := range []string{
		storepath.File(digest.Of([]byte("other"))), storepath.Index(digest.Of([]byte("other"))),
		storepath.Target("menu.json", digest.Of([]byte("other"))),
	} {
		if err := st.Put(ctx, path, bytes.NewReader(data), int64(len(data))); !errors.Is(err, store.ErrRejected) {
			t.Errorf("Put(%s) of other content = %v; want ErrRejected", path, err)
		}
		if missing, err := st.Missing(ctx, []string{path}); err != nil || len(missing) != 1 {
			t.Errorf("after that, Missing(%s) = %v, %v; want it", path, missing, err)
		}
	}
}

func testWrongPlaces(t *testing.T, st store.Store) {
	ctx := context.Background()
	data := []byte("x")
	for _, path := range []string{"", "x", "../x", "blocks/../../x", "catalog/x", "files/" + digest.Of(data).String() + "/..", storepath.Timestamp, storepath.RoleMetadata("root", 1)} {
		if err := st.Put(ctx, path, bytes.NewReader(data), 1); !errors.Is(err, store.ErrRejected) {
			t.Errorf("Put(%q) = %v; want ErrRejected", path, err)
		}
	}
	for _, path := range []string{"x", storepath.File(digest.Of(data))} {
		if err := st.Replace(ctx, path, data, ""); !errors.Is(err, store.ErrRejected) {
			t.Errorf("Replace(%q) = %v; want ErrRejected", path, err)
		}
	}
}

func testMissing(t *testing.T, st store.Store) {
	ctx := context.Background()
	if got, err := st.Missing(ctx, nil); err != nil || len(got) != 0 {
		t.Errorf("Missing() = %v, %v; want nothing", got, err)
	}
	var paths, want []string
	for i := range 25_000 { // more than a server answers at once
		data := fmt.Appendf(nil, "file %d", i)
		path := storepath.File(digest.Of(data))
		paths = append(paths, path)
		if i%5000 == 7 {
			put(t, st, path, data)
		} else {
			want = append(want, path)
		}
	}
	got, err := st.Missing(ctx, paths)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Missing(%d paths) = %d paths, %v; want %d in the same order", len(paths), len(got), err, len(want))
	}
}

func testLimit(t *testing.T, st store.Store) {
	data := bytes.Repeat([]byte("x"), 1000)
	path := storepath.File(digest.Of(data))
	put(t, st, path, data)
	if _, _, err := st.Load(context.Background(), path, 999); err == nil {
		t.Error("Load of more bytes than the limit succeeded")
	}
}

// catalogs stores everything of the catalogs 1 to n but their timestamps,
// which it returns.
func catalogs(t *testing.T, st store.Store, n int) (timestamps [][]byte) {
	t.Helper()
	ctx := context.Background()
	o := push.InitOptions{Title: "test"}
	k, err := keys.Generate(ctx, keys.OpenRing(t.TempDir(), keys.Options{}), true, push.InitKeys(o)...)
	if err != nil {
		t.Fatal(err)
	}
	rec := &recorder{files: make(map[string][]byte)}
	for i := range n {
		if i == 0 {
			err = push.Init(ctx, rec, k, o)
		} else {
			_, err = push.Publish(ctx, rec, k, 0, func(*push.Edition) error { return nil })
		}
		if err != nil {
			t.Fatal(err)
		}
		timestamps = append(timestamps, rec.files[storepath.Timestamp])
	}
	for path, data := range rec.files {
		if kind, _, _ := storepath.Parse(path); kind == storepath.KindTarget {
			put(t, st, path, data)
		}
	}
	create := func(role string, version int) {
		path := storepath.RoleMetadata(role, int64(version))
		if err := st.Create(ctx, path, rec.files[path], ""); err != nil {
			t.Fatalf("Create(%s) = %v", path, err)
		}
	}
	create("root", 1)
	for i := range n {
		create("targets", i+1)
		create("snapshot", i+1)
	}
	return timestamps
}

func testVersions(t *testing.T, st store.Store) {
	ctx := context.Background()
	catalogs(t, st, 2)
	path := storepath.RoleMetadata("targets", 1)
	old, tag, err := st.Load(ctx, path, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := st.Load(ctx, storepath.RoleMetadata("targets", 2), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, tag := range []string{"", tag} {
		if err := st.Replace(ctx, path, second, tag); !errors.Is(err, store.ErrConflict) {
			t.Errorf("Replace of a version with tag %q = %v; want ErrConflict", tag, err)
		}
	}
	if err := st.Create(ctx, path, second, ""); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Create of a version that is there = %v; want ErrConflict", err)
	}
	if err := st.Create(ctx, storepath.Timestamp, second, ""); !errors.Is(err, store.ErrRejected) {
		t.Errorf("Create of the timestamp = %v; want ErrRejected", err)
	}
	if now, _, err := st.Load(ctx, path, 1<<20); err != nil || !bytes.Equal(now, old) {
		t.Errorf("a version was changed: %v", err)
	}
	if _, _, err := st.Load(ctx, storepath.RoleMetadata("root", 2), 1<<20); !errors.Is(err, store.ErrNotExist) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load of a root that is not there = %v; want ErrNotExist, which is fs.ErrNotExist, too", err)
	}
}

func testReplace(t *testing.T, st store.Store) {
	ctx := context.Background()
	cats := catalogs(t, st, 3)
	if err := st.Replace(ctx, storepath.Timestamp, cats[0], `"no such tag"`); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Replace of nothing with a tag = %v; want ErrConflict", err)
	}
	if err := st.Replace(ctx, storepath.Timestamp, cats[0], ""); err != nil {
		t.Fatalf("Replace(timestamp 1) = %v", err)
	}
	if err := st.Replace(ctx, storepath.Timestamp, cats[1], ""); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Replace without a tag = %v; want ErrConflict", err)
	}
	got, tag, err := st.Load(ctx, storepath.Timestamp, 1<<20)
	if err != nil || !bytes.Equal(got, cats[0]) || tag == "" {
		t.Fatalf("Load(timestamp) = %d bytes, tag %q, %v; want timestamp 1", len(got), tag, err)
	}
	if err := st.Replace(ctx, storepath.Timestamp, cats[1], tag); err != nil {
		t.Fatalf("Replace(timestamp 2) = %v", err)
	}
	if err := st.Replace(ctx, storepath.Timestamp, cats[2], tag); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Replace with an old tag = %v; want ErrConflict", err)
	}
	if got, _, err = st.Load(ctx, storepath.Timestamp, 1<<20); err != nil || !bytes.Equal(got, cats[1]) {
		t.Errorf("Load(timestamp) = %d bytes, %v; want timestamp 2", len(got), err)
	}
}

func testReplaceAtOnce(t *testing.T, st store.Store) {
	ctx := context.Background()
	cats := catalogs(t, st, 9)
	if err := st.Replace(ctx, storepath.Timestamp, cats[0], ""); err != nil {
		t.Fatal(err)
	}
	_, tag, err := st.Load(ctx, storepath.Timestamp, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = st.Replace(ctx, storepath.Timestamp, cats[i+1], tag) })
	}
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Errorf("writers %d and %d both replaced one version", winner, i)
		case !errors.Is(err, store.ErrConflict):
			t.Errorf("writer %d: %v; want ErrConflict", i, err)
		}
	}
	if winner < 0 {
		t.Fatal("no writer succeeded")
	}
	got, _, err := st.Load(ctx, storepath.Timestamp, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(cats[winner+1]), string(got)); diff != "" {
		t.Errorf("the timestamp is not the winner's (-want +got):\n%s", diff)
	}
}

func testParallel(t *testing.T, st store.Store) {
	ctx := context.Background()
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				path, stored := newBlock(t, fmt.Appendf(nil, "block %d", (i+w)%20)) // all write the same ones
				if err := st.Put(ctx, path, bytes.NewReader(stored), int64(len(stored))); err != nil {
					t.Errorf("Put() = %v", err)
				}
			}
		})
	}
	wg.Wait()
	for i := range 20 {
		path, stored := newBlock(t, fmt.Appendf(nil, "block %d", i))
		if got, _, err := st.Load(ctx, path, 1<<20); err != nil || !bytes.Equal(got, stored) {
			t.Errorf("Load(block %d) = %d bytes, %v; want %d", i, len(got), err, len(stored))
		}
	}
}

// newPack returns a boot pack for a manifest with one block.
func newPack(t *testing.T, manifest digest.SHA256, plain []byte) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "pack"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := pack.NewWriter(f, manifest)
	if err != nil {
		t.Fatal(err)
	}
	_, stored := newBlock(t, plain)
	if err := errors.Join(w.Add(len(plain), digest.Of(plain), stored), w.Close()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func testPacks(t *testing.T, st store.Store) {
	ctx := context.Background()
	m := digest.Of([]byte("manifest"))
	if _, err := st.OpenPack(ctx, m); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("OpenPack of nothing = %v; want ErrNotExist", err)
	}
	if _, err := st.StatPack(ctx, m); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("StatPack of nothing = %v; want ErrNotExist", err)
	}
	if err := st.RemovePack(ctx, m); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("RemovePack of nothing = %v; want ErrNotExist", err)
	}
	check := func(want []byte) {
		t.Helper()
		r, err := st.OpenPack(ctx, m)
		if err != nil {
			t.Fatalf("OpenPack = %v", err)
		}
		defer r.Close()
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Errorf("OpenPack = %d bytes, %v; want the %d that were put", len(got), err, len(want))
		}
		if i, err := st.StatPack(ctx, m); err != nil || i.Path != storepath.Pack(m) || i.Size != int64(len(want)) || time.Since(i.Time).Abs() > time.Hour {
			t.Errorf("StatPack = %+v, %v; want %d bytes, written now", i, err, len(want))
		}
	}
	var last []byte
	for _, plain := range []string{"first", "second, which is longer", "3"} {
		last = newPack(t, m, []byte(plain))
		if err := st.PutPack(ctx, m, bytes.NewReader(last), int64(len(last))); err != nil {
			t.Fatalf("PutPack = %v", err)
		}
		check(last)
	}
	damaged := bytes.Clone(last)
	damaged[len(damaged)-1] ^= 1
	for name, bad := range map[string][]byte{
		"damaged": damaged, "truncated": last[:len(last)-1], "other manifest": newPack(t, digest.Of(nil), []byte("x")), "nothing": nil,
	} {
		if err := st.PutPack(ctx, m, bytes.NewReader(bad), int64(len(bad))); !errors.Is(err, store.ErrRejected) {
			t.Errorf("PutPack, %s = %v; want ErrRejected", name, err)
		}
		check(last)
	}
	if err := st.RemovePack(ctx, m); err != nil {
		t.Errorf("RemovePack = %v", err)
	}
	if _, err := st.OpenPack(ctx, m); !errors.Is(err, store.ErrNotExist) {
		t.Errorf("OpenPack of what was removed = %v; want ErrNotExist", err)
	}
}

func testCancelled(t *testing.T, st store.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	data := []byte("x")
	path := storepath.File(digest.Of(data))
	if err := st.Put(ctx, path, bytes.NewReader(data), 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Put() = %v; want context.Canceled", err)
	}
	if _, err := st.Missing(ctx, []string{path}); !errors.Is(err, context.Canceled) {
		t.Errorf("Missing() = %v; want context.Canceled", err)
	}
}
