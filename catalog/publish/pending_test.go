package publish_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func key(n byte) publish.KeySigner {
	return publish.KeySigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
}

// root returns a first root whose roles have the keys 1 to 4.
func root(t testing.TB) []byte {
	t.Helper()
	r := publish.NewRoot()
	for i, name := range publish.TopRoles() {
		if err := r.AddKey(name, key(byte(i+1)).Public()); err != nil {
			t.Fatal(err)
		}
	}
	data, err := r.Sign(context.Background(), now, publish.Signers{key(1)})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// begun returns a second root of 2 of 3 keys, signed by the first one's.
func begun(t testing.TB, old []byte) []byte {
	t.Helper()
	r, err := publish.NextRoot(old)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []byte{11, 12} {
		if err := r.AddKey(tuf.RoleRoot, key(n).Public()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.SetThreshold(tuf.RoleRoot, 2); err != nil {
		t.Fatal(err)
	}
	data, err := r.Sign(context.Background(), now, publish.Signers{key(1)})
	if !errors.Is(err, publish.ErrTooFew) {
		t.Fatalf("Sign() with one of two keys = %v; want ErrTooFew", err)
	}
	return data
}

func TestSeveralSign(t *testing.T) {
	ctx := context.Background()
	old := root(t)
	data := begun(t, old)
	sign := func(data []byte, n byte) []byte {
		t.Helper()
		r, err := publish.ResumeRoot(data, old)
		if err != nil {
			t.Fatal(err)
		}
		out, err := r.AddSignatures(ctx, publish.Signers{key(n)})
		if err != nil && !errors.Is(err, publish.ErrTooFew) {
			t.Fatal(err)
		}
		return out
	}
	first, err := tuf.ParseRoot(old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Next(data); err == nil {
		t.Error("a root with too few signatures counts")
	}
	if _, err := first.Next(sign(data, 9)); err == nil {
		t.Error("the signature of a foreign key counts")
	}
	if _, err := first.Next(sign(sign(data, 1), 1)); err == nil {
		t.Error("a signature counts twice")
	}
	if _, err := first.Next(sign(data, 11)); err != nil {
		t.Errorf("two of three have signed: %v", err)
	}

	// Copies, signed at the same time.
	r, err := publish.ResumeRoot(sign(data, 11), old)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Merge(sign(data, 12)); err != nil {
		t.Fatal(err)
	}
	if n := r.Needs()[0]; len(n.Signed) != 3 || !n.Met() || n.Threshold != 2 || n.Version != 2 {
		t.Errorf("Needs() of the new root = %+v", n)
	}
	if n := r.Needs()[1]; len(n.Signed) != 1 || !n.Met() || n.Version != 1 {
		t.Errorf("Needs() of the old root = %+v", n)
	}
	other := bytes.Replace(data, []byte(`"threshold":2`), []byte(`"threshold":3`), 1)
	if bytes.Equal(other, data) {
		t.Fatal("nothing to change")
	}
	if err := r.Merge(other); !errors.Is(err, tuf.ErrMismatch) {
		t.Errorf("Merge() of another root = %v; want ErrMismatch", err)
	}
	// A foreign key under the id of a known one.
	a, b := publish.Key(key(1).Public()).Value.PublicKey, publish.Key(key(99).Public()).Value.PublicKey
	if _, err := publish.ResumeRoot(bytes.ReplaceAll(data, []byte(a), []byte(b)), old); !errors.Is(err, tuf.ErrFormat) {
		t.Errorf("ResumeRoot() with a foreign key under a known id = %v; want ErrFormat", err)
	}
	if _, err := publish.ResumeRoot(old, old); !errors.Is(err, tuf.ErrMismatch) {
		t.Errorf("ResumeRoot() of the root that there is = %v; want ErrMismatch", err)
	}
	changes := strings.Join(r.Changes(), "\n")
	for _, want := range []string{"is added", "2 of 3 keys have to sign, not 1 of 1"} {
		if !strings.Contains(changes, want) {
			t.Errorf("Changes() = %q; want %q", changes, want)
		}
	}
}

// Whatever is on the stick: it does not crash, and what counts afterwards is
// signed by keys that the old root has.
func FuzzResumeRoot(f *testing.F) {
	old := root(f)
	data := begun(f, old)
	f.Add(data)
	f.Add(bytes.Replace(data, []byte(`"roles":{`), []byte(`"roles":{"x":null,`), 1))
	f.Add(bytes.Replace(data, []byte(`"keys":{`), []byte(`"keys":{"x":null,`), 1))
	f.Add(bytes.Replace(data, []byte(`"public":"`), []byte(`"publik":"`), 1))
	f.Add([]byte(`{"signed":{"_type":"root","version":2},"signatures":[]}`))
	first, err := tuf.ParseRoot(old)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := publish.ResumeRoot(data, old)
		if err != nil {
			return
		}
		r.Changes()
		met := r.Needs()[1].Met()
		_ = r.Merge(data)
		if _, err := first.Next(data); err == nil && !met {
			t.Error("a root that machines follow is said to lack signatures")
		}
		if out, err := r.AddSignatures(t.Context(), publish.Signers{key(11)}); err == nil {
			if _, err := first.Next(out); errors.Is(err, tuf.ErrUnknownKey) {
				t.Errorf("a root that is said to be signed is refused: %v", err)
			}
		}
	})
}
