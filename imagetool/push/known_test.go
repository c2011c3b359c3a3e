package push_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/digest"
)

// A tree that is remembered gives the same manifest as one that is read, also
// if a block stands in it twice.
func TestRememberedTree(t *testing.T) {
	ctx := t.Context()
	st, err := store.NewDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	k := initStore(t, st)
	src := testtree.New(t, 1)
	twin := make([]byte, 3<<20)
	random := rand.NewChaCha8([32]byte{7})
	if _, err := random.Read(twin); err != nil {
		t.Fatal(err)
	}
	testtree.Write(t, src, "srv/one", twin)
	testtree.Write(t, src, "srv/two", twin)
	o := options(src, testtree.Program(t), "1")
	first, err := push.Push(ctx, st, k, o, &quiet{})
	if err != nil {
		t.Fatal(err)
	}

	// Files that changed a moment ago are not trusted to stay as they are.
	o.CacheDir = t.TempDir()
	var names []string
	for deadline := time.Now().Add(time.Minute); len(names) == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the tree is not remembered after a minute")
		}
		if _, err := push.Push(ctx, st, k, o, &quiet{}); err != nil {
			t.Fatal(err)
		}
		if names, err = filepath.Glob(filepath.Join(o.CacheDir, "*")); err != nil {
			t.Fatal(err)
		}
	}
	if len(names) != 1 {
		t.Fatalf("one tree is remembered as %q", names)
	}
	res, err := push.Push(ctx, st, k, o, &quiet{})
	if err != nil || !res.Unchanged || res.Sent != 0 {
		t.Errorf("push of a remembered tree = %+v, %v; want unchanged, nothing sent", res, err)
	}
	o.Version = "2"
	if res, err = push.Push(ctx, st, k, o, &quiet{}); err != nil {
		t.Fatal(err)
	}
	want, got := first.Manifest, res.Manifest
	want.Created, got.Created, got.Version = time.Time{}, time.Time{}, want.Version
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifest of a remembered tree (-read +remembered):\n%s", diff)
	}

	// What was remembered does count: another index makes another image. A
	// damaged one is as none.
	o.Version = "1"
	kept, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	other := shorter(t, kept[len(digest.SHA256{}):])
	sum := digest.Of(other)
	for _, tt := range []struct {
		name string
		data []byte
		want error
	}{
		{"another index", append(sum[:], other...), push.ErrExists},
		{"damaged", append(bytes.Clone(kept[:len(kept)-1]), kept[len(kept)-1]^1), nil},
		{"empty", nil, nil},
	} {
		if err := os.WriteFile(names[0], tt.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := push.Push(ctx, st, k, o, &quiet{}); !errors.Is(err, tt.want) {
			t.Errorf("%s: push = %v; want %v", tt.name, err, tt.want)
		}
	}
}

// shorter returns an index without the last block.
func shorter(t *testing.T, raw []byte) []byte {
	t.Helper()
	x, err := index.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	b := index.Builder{Cutting: x.Cutting()}
	for i := range x.Len() - 1 {
		if e := x.Entry(i); e.Zero() {
			b.AddZero(int64(e.PlainLen))
		} else {
			b.Add(e.PlainLen, e.StoredLen, e.SHA256)
		}
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}
