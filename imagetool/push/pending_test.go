package push_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/store"
)

// twoOfTwo sets up a store where the two keys of two people have to sign the
// list of targets.
func twoOfTwo(t *testing.T, st store.Store) (alice, bob *keys.Folder) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	load := func(dir string) *keys.Folder {
		k, err := keys.Load(ctx, keys.OpenRing(dir, keys.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k, err := keys.Generate(ctx, keys.OpenRing(dir, keys.Options{}), true, push.InitKeys(push.InitOptions{})...)
	if err != nil {
		t.Fatal(err)
	}
	if err := push.Init(ctx, st, k, push.InitOptions{Title: "Test", Lifetime: time.Hour}); err != nil {
		t.Fatal(err)
	}
	if err := k.Create(ctx, "bob", true); err != nil {
		t.Fatal(err)
	}
	second, _ := k.Key("bob")
	r := &push.Rotation{Store: st, Keys: k, Keep: func(*push.NewRoot) error { return nil }, Edit: func(r *publish.Root) error {
		return errors.Join(r.AddKey(tuf.RoleTargets, second.Public), r.SetThreshold(tuf.RoleTargets, 2))
	}}
	if res, err := r.Run(ctx); err != nil || !res.Published {
		t.Fatalf("two of two keys: %+v, %v", res, err)
	}
	other := t.TempDir()
	for _, name := range []string{"bob.key", "snapshot.key", "timestamp.key", keys.RootFile} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(other, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "bob.key")); err != nil {
		t.Fatal(err)
	}
	return load(dir), load(other)
}

func TestPending(t *testing.T) {
	ctx := context.Background()
	st, err := store.NewDir(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	alice, bob := twoOfTwo(t, st)
	title := func(text string) func(*push.Edition) error {
		return func(e *push.Edition) error { e.Menu.Title = text; return nil }
	}
	hold := func(text string) *push.Pending {
		t.Helper()
		_, err := push.Publish(ctx, st, alice, 0, title(text))
		var p *push.PendingError
		if !errors.As(err, &p) || !errors.Is(err, publish.ErrTooFew) {
			t.Fatalf("Publish() with one of two keys = %v; want a PendingError", err)
		}
		data, err := p.Pending.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		out, err := push.ParsePending(data)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	menu := func(want string) {
		t.Helper()
		c, _, err := push.Load(ctx, st, alice.Trust())
		if err != nil {
			t.Fatal(err)
		}
		if m, err := c.Menu(ctx); err != nil || m.Title != want {
			t.Errorf("menu %+v, %v; want the title %q", m, err, want)
		}
	}
	first, rival := hold("first"), hold("rival")
	menu("Test")

	// The same person again is not enough, and is no second signature.
	again := *first
	if res, err := push.SignPending(ctx, st, alice, &again, func(*push.Signed) error { return nil }); err != nil || res.Catalog != 0 || res.Missing == "" {
		t.Errorf("SignPending() by the same key = %+v, %v; want something missing", res, err)
	}
	refusal := errors.New("no")
	if _, err := push.SignPending(ctx, st, bob, first, func(*push.Signed) error { return refusal }); !errors.Is(err, refusal) {
		t.Errorf("SignPending() that is refused = %v", err)
	}
	menu("Test")
	res, err := push.SignPending(ctx, st, bob, first, func(s *push.Signed) error {
		if len(s.Changes) != 2 || !strings.HasPrefix(s.Changes[0], "menu.json is replaced") {
			t.Errorf("changes %q; want the menu", s.Changes)
		}
		return nil
	})
	if err != nil || res.Catalog == 0 {
		t.Fatalf("SignPending() by the second key = %+v, %v", res, err)
	}
	menu("first")
	if _, err := push.SignPending(ctx, st, bob, rival, func(*push.Signed) error { return nil }); !errors.Is(err, push.ErrStale) {
		t.Errorf("SignPending() of a list that was overtaken = %v; want ErrStale", err)
	}

	// What was changed on the way is not what the first person has signed.
	spoilt := hold("second")
	spoilt.List = []byte(strings.Replace(string(spoilt.List), `"length":`, `"length":1`, 1))
	if res, err := push.SignPending(ctx, st, bob, spoilt, func(*push.Signed) error { return nil }); err == nil && res.Catalog != 0 {
		t.Errorf("SignPending() of a spoilt list published %+v", res)
	}
	menu("first")
	_, stranger := newStore(t, t.TempDir())
	stranger.Anchor = alice.Anchor
	if _, err := push.SignPending(ctx, st, stranger, hold("third"), func(*push.Signed) error { return nil }); !errors.Is(err, keys.ErrNoKey) {
		t.Errorf("SignPending() by a stranger = %v; want ErrNoKey", err)
	}
}

func FuzzParsePending(f *testing.F) {
	f.Add([]byte(`{"format":"inetboot-pending/1","role":"targets","base":1,"list":{"signed":{}}}`))
	f.Add([]byte(`{"format":"inetboot-pending/1","role":"../x","base":-1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := push.ParsePending(data)
		if err != nil {
			if !errors.Is(err, catalog.ErrFormat) {
				t.Errorf("ParsePending(%q) = %v; want ErrFormat", data, err)
			}
			return
		}
		if strings.ContainsAny(p.Role, "/\\") || p.Base < 0 {
			t.Errorf("ParsePending(%q) = %+v", data, p)
		}
	})
}
