package keys_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/internal/keyfile"
)

// generate makes unencrypted keys in dir.
func generate(t testing.TB, dir string) *keys.Folder {
	t.Helper()
	k, err := keys.Generate(context.Background(), keys.OpenRing(dir, keys.Options{}), true, "root", "targets")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func load(dir string) (*keys.Folder, error) {
	return keys.Load(context.Background(), keys.OpenRing(dir, keys.Options{}))
}

func TestGenerateAndLoad(t *testing.T) {
	ctx, dir := context.Background(), filepath.Join(t.TempDir(), "new", "keys")
	made := generate(t, dir)
	got, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made.Keys(), got.Keys()); diff != "" || len(made.Keys()) != 2 {
		t.Errorf("Load() does not return what Generate() made:\n%s", diff)
	}
	if _, ok := got.Key("targets"); !ok || got.Root != nil || got.Anchor != nil {
		t.Error("there is no key targets, or a root that nobody made")
	}
	for _, s := range got.Signers() {
		verify(t, s)
	}
	file := keys.OpenRing(dir, keys.Options{}).Path("targets")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Generate(ctx, keys.OpenRing(dir, keys.Options{}), true, "new", "targets"); !errors.Is(err, keys.ErrExists) {
		t.Errorf("Generate() over a key = %v; want ErrExists", err)
	}
	if after, err := os.ReadFile(file); err != nil || !bytes.Equal(before, after) {
		t.Error("the key was changed")
	}
	repo := catalogtest.New(t, catalogtest.Options{})
	if err := got.SaveRoot(repo.Root()); err != nil || !bytes.Equal(got.Anchor.Root().Bytes(), repo.Root()) {
		t.Errorf("SaveRoot() = %v", err)
	}
	if err := got.SaveRoot([]byte("{}")); err == nil || !bytes.Equal(got.Root, repo.Root()) {
		t.Errorf("SaveRoot() of what is none = %v", err)
	}
	if again, err := load(dir); err != nil || !bytes.Equal(again.Root, repo.Root()) {
		t.Errorf("Load() does not return the root that was saved: %v", err)
	}
	if err := got.Remove(); err != nil {
		t.Errorf("Remove() = %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("files after Remove(): %v, %v", left, err)
	}
}

// verify checks that s signs so that its public key verifies it.
func verify(t *testing.T, s publish.Signer) {
	t.Helper()
	message := []byte(`{"signed":1}`)
	sig, err := s.Sign(context.Background(), message)
	if err != nil {
		t.Fatal(err)
	}
	if !ed25519.Verify(s.Public(), message, sig) {
		t.Error("the signature does not verify")
	}
}

// Keys of older versions keep on signing.
func TestLoadPKCS8(t *testing.T) {
	dir := t.TempDir()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "old.key")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if k, ok := got.Key("old"); !ok || !k.Public.Equal(key.Public()) {
		t.Errorf("Load() returns the keys %v; want the old one", got.Keys())
	}
	verify(t, got.Signers()[0])
	ring := keys.OpenRing(dir, keys.Options{})
	if err := ring.SetPassphrase(context.Background(), "old", fixed("long enough")); err != nil {
		t.Fatal(err)
	}
	if f, err := keyfile.Read(file); err != nil || f.PKCS8 || !f.Encrypted {
		t.Errorf("after SetPassphrase() the file is %+v, %v; want an encrypted OpenSSH key", f, err)
	}
}

// A passphrase is asked for only if its key has to sign.
func TestPassphraseOnlyWhenNeeded(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	if _, err := keys.Generate(ctx, keys.OpenRing(dir, keys.Options{Ask: fixed("long enough")}), false, "root", "targets"); err != nil {
		t.Fatal(err)
	}
	ask := &typist{list: []string{"long enough"}}
	k, err := keys.Load(ctx, keys.OpenRing(dir, keys.Options{Ask: ask}))
	if err != nil {
		t.Fatal(err)
	}
	targets, _ := k.Key("targets")
	mine := k.Signers().For([]string{targets.ID()})
	if len(mine) != 1 || ask.n != 0 {
		t.Errorf("%d signers for one key, asked %d times before anything is signed", len(mine), ask.n)
	}
	verify(t, mine[0])
	if ask.n != 1 {
		t.Errorf("asked %d times for one signature; want once", ask.n)
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(dir string) error
		want   error
	}{
		{"no key", func(dir string) error {
			return errors.Join(os.Remove(filepath.Join(dir, "root.key")), os.Remove(filepath.Join(dir, "targets.key")))
		}, keys.ErrNoKey},
		{"others can read it", func(dir string) error { return os.Chmod(filepath.Join(dir, "root.key"), 0o604) }, keyfile.ErrOpen},
		{"no key file", func(dir string) error { return os.WriteFile(filepath.Join(dir, "root.key"), []byte("key"), 0o600) }, keyfile.ErrFormat},
		{"no root", func(dir string) error { return os.WriteFile(filepath.Join(dir, keys.RootFile), []byte("{}"), 0o644) }, catalog.ErrFormat},
	} {
		dir := t.TempDir()
		generate(t, dir)
		if err := tc.change(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := load(dir); !errors.Is(err, tc.want) {
			t.Errorf("%s: Load() = %v; want %v", tc.name, err, tc.want)
		}
	}
}

// cheap encrypts keys in a folder with one round of bcrypt, so that trying
// passphrases takes no time, least of all with the race detector.
func cheap(t *testing.T, dir, passphrase string, names ...string) {
	t.Helper()
	for _, name := range names {
		f := filepath.Join(dir, name)
		if out, err := exec.Command("ssh-keygen", "-q", "-p", "-P", passphrase, "-N", passphrase, "-a", "1", "-f", f).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen (Debian package openssh-client): %v\n%s", err, out)
		}
	}
}

// fixed is an Asker with one passphrase.
func fixed(p string) keys.Fixed {
	return keys.Fixed{From: "a test", Read: func() ([]byte, error) { return []byte(p), nil }}
}

// typist is an Asker that has several passphrases to offer, and counts.
type typist struct {
	list []string
	n    int
}

func (a *typist) Passphrase(_ context.Context, _ string, attempt int) ([]byte, error) {
	if attempt >= len(a.list) {
		return nil, keyfile.ErrPassphrase
	}
	a.n++
	return []byte(a.list[attempt]), nil
}

func (a *typist) NewPassphrase(context.Context, string) ([]byte, error) {
	a.n++
	return []byte(a.list[0]), nil
}

func TestPassphrases(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	maker := &typist{list: []string{"first one"}}
	ring := keys.OpenRing(dir, keys.Options{Ask: maker})
	var pubs []ed25519.PublicKey
	for _, name := range []string{"a", "b"} {
		pub, err := ring.Create(ctx, name, false)
		if err != nil {
			t.Fatal(err)
		}
		pubs = append(pubs, pub)
	}
	ring.Close()
	cheap(t, dir, "first one", "a.key", "b.key")
	if maker.n != 1 {
		t.Errorf("asked %d times for a passphrase of two keys that are made together; want once", maker.n)
	}
	for _, tc := range []struct {
		name  string
		ask   keys.Asker
		asked int // of a typist
		want  error
	}{
		{"right", &typist{list: []string{"first one"}}, 1, nil}, // once for both
		{"right at last", &typist{list: []string{"x", "first one"}}, 2, nil},
		{"wrong", &typist{list: []string{"x", "y"}}, 2, keyfile.ErrPassphrase},
		{"wrong in a file", fixed("x"), 0, keyfile.ErrPassphrase},
		{"empty", fixed(""), 0, keys.ErrNoPassphrase},
		{"nobody to ask", nil, 0, keyfile.ErrEncrypted},
	} {
		ring := keys.OpenRing(dir, keys.Options{Ask: tc.ask})
		for _, pub := range pubs {
			s, err := ring.Signer(ctx, pub)
			if !errors.Is(err, tc.want) {
				t.Errorf("%s: Signer() = %v; want %v", tc.name, err, tc.want)
			}
			if err != nil {
				break
			}
			verify(t, publish.KeySigner(s.(ed25519.PrivateKey)))
		}
		if a, ok := tc.ask.(*typist); ok && a.n != tc.asked {
			t.Errorf("%s: asked %d times; want %d", tc.name, a.n, tc.asked)
		}
		ring.Close()
	}

	// Another passphrase, and none.
	if err := keys.OpenRing(dir, keys.Options{Ask: fixed("first one")}).SetPassphrase(ctx, "a", fixed("second one")); err != nil {
		t.Fatal(err)
	}
	cheap(t, dir, "second one", "a.key")
	if _, err := keys.OpenRing(dir, keys.Options{Ask: fixed("first one")}).Signer(ctx, pubs[0]); !errors.Is(err, keyfile.ErrPassphrase) {
		t.Errorf("the old passphrase: Signer() = %v", err)
	}
	if err := keys.OpenRing(dir, keys.Options{Ask: fixed("second one")}).SetPassphrase(ctx, "a", fixed("short")); !errors.Is(err, keys.ErrNoPassphrase) {
		t.Errorf("SetPassphrase() to a short one = %v", err)
	}
	if err := keys.OpenRing(dir, keys.Options{Ask: fixed("second one")}).SetPassphrase(ctx, "a", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := keys.OpenRing(dir, keys.Options{}).Signer(ctx, pubs[0]); err != nil {
		t.Errorf("without passphrase: Signer() = %v", err)
	}
}

// A closed ring's keys are overwritten.
func TestCloseForgets(t *testing.T) {
	ctx := context.Background()
	ring := keys.OpenRing(t.TempDir(), keys.Options{})
	pub, err := ring.Create(ctx, "a", true)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ring.Signer(ctx, pub)
	if err != nil {
		t.Fatal(err)
	}
	ring.Close()
	if key := s.(ed25519.PrivateKey); !bytes.Equal(key, make([]byte, ed25519.PrivateKeySize)) {
		t.Error("the key is still in memory")
	}
}

func TestFromFile(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		mode       os.FileMode
		want       string
		err        error
	}{
		{"a line", "pass phrase\n", 0o600, "pass phrase", nil},
		{"no end of line", "pass phrase", 0o400, "pass phrase", nil},
		{"written elsewhere", "pass phrase\r\nmore", 0o600, "pass phrase", nil},
		{"spaces count", " x \n", 0o600, " x ", nil},
		{"others can read it", "x\n", 0o644, "", keyfile.ErrOpen},
		{"too long", string(make([]byte, 5000)), 0o600, "", keys.ErrNoPassphrase},
	} {
		file := filepath.Join(t.TempDir(), "p")
		if err := os.WriteFile(file, []byte(tc.data), tc.mode); err != nil {
			t.Fatal(err)
		}
		f, forget, err := keys.FromFile(file)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: FromFile() = %v; want %v", tc.name, err, tc.err)
		}
		if err != nil {
			continue
		}
		got, err := f.Passphrase(context.Background(), "x", 0)
		if err != nil || string(got) != tc.want {
			t.Errorf("%s: passphrase %q, %v; want %q", tc.name, got, err, tc.want)
		}
		forget()
		if got, err := f.Read(); err != nil || bytes.ContainsAny(got, tc.want) {
			t.Errorf("%s: %q, %v is there after forget()", tc.name, got, err)
		}
	}
	if _, _, err := keys.FromFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, keys.ErrNoPassphrase) {
		t.Errorf("no file: FromFile() = %v", err)
	}
}
