package keys_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/keys"
)

func TestGenerateAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "keys")
	made, err := keys.Generate(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keys.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Key.Equal(made.Key) || got.ID() != made.ID() || !cmp.Equal(got.Trust, made.Trust) {
		t.Error("Load() does not return what Generate() made")
	}
	before, err := os.ReadFile(filepath.Join(dir, keys.KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Generate(dir); !errors.Is(err, keys.ErrExists) {
		t.Errorf("Generate() over a key = %v; want ErrExists", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, keys.KeyFile)); err != nil || !bytes.Equal(before, after) {
		t.Error("the key was changed")
	}
	if err := got.Remove(); err != nil || keys.Exists(dir) {
		t.Errorf("Remove() = %v, key exists: %v", err, keys.Exists(dir))
	}
}

func TestLoadRefuses(t *testing.T) {
	other, err := keys.Generate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(filepath.Join(other.Dir, keys.TrustFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		change func(key, trust string) error
		want   error
	}{
		{"no key", func(key, _ string) error { return os.Remove(key) }, keys.ErrNoKey},
		{"others can read it", func(key, _ string) error { return os.Chmod(key, 0o604) }, keys.ErrOpen},
		{"the group can read it", func(key, _ string) error { return os.Chmod(key, 0o640) }, keys.ErrOpen},
		{"no PEM", func(key, _ string) error { return os.WriteFile(key, []byte("key"), 0o600) }, keys.ErrFormat},
		{"no PKCS #8", func(key, _ string) error {
			return os.WriteFile(key, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600)
		}, keys.ErrFormat},
		{"too large", func(key, _ string) error { return os.WriteFile(key, make([]byte, 1<<20), 0o600) }, keys.ErrFormat},
		{"trust file of another key", func(_, trust string) error { return os.WriteFile(trust, foreign, 0o644) }, keys.ErrFormat},
		{"no trust file", func(_, trust string) error { return os.Remove(trust) }, os.ErrNotExist},
	} {
		dir := t.TempDir()
		if _, err := keys.Generate(dir); err != nil {
			t.Fatal(err)
		}
		if err := tc.change(filepath.Join(dir, keys.KeyFile), filepath.Join(dir, keys.TrustFile)); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Load(dir); !errors.Is(err, tc.want) {
			t.Errorf("%s: Load() = %v; want %v", tc.name, err, tc.want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	k, err := keys.Generate(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(k.Dir, keys.KeyFile))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(k.Dir, keys.KeyFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := keys.Load(k.Dir); err == nil && !got.Key.Equal(k.Key) {
			t.Error("Load() returns a key that the trust file does not list")
		}
	})
}
