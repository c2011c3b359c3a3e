package setup

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/keyfile"
)

func TestKey(t *testing.T) {
	name := filepath.Join(t.TempDir(), keyFile)
	key, _, err := openKey(name, Passphrase{})
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(name); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the key's file: %v, %v; want mode 0600", fi, err)
	}
	if again, encrypted, err := openKey(name, Passphrase{}); err != nil || encrypted || !again.Equal(key) {
		t.Errorf("the second start has another key: %v, %v", encrypted, err)
	}
	if _, _, err := openKey(name, Passphrase{[]byte("short"), "$X"}); !errors.Is(err, keyfile.ErrNoPassphrase) {
		t.Errorf("a short passphrase: %v; want ErrNoPassphrase", err)
	}
	p := Passphrase{[]byte("passphrase"), "$X"}
	if again, encrypted, err := openKey(name, p); err != nil || !encrypted || !again.Equal(key) {
		t.Errorf("a start with a passphrase for the first time: %v, %v; want the key encrypted", encrypted, err)
	}
	if f, err := keyfile.Read(name); err != nil || !f.Encrypted {
		t.Errorf("the key's file is encrypted: %+v, %v", f, err)
	}
	if again, encrypted, err := openKey(name, p); err != nil || encrypted || !again.Equal(key) {
		t.Errorf("the start after that: %v, %v; want the same key", encrypted, err)
	}
	if _, _, err := openKey(name, Passphrase{}); !errors.Is(err, keyfile.ErrEncrypted) || !strings.Contains(err.Error(), PassphraseVariable) {
		t.Errorf("an encrypted key without a passphrase: %v; want ErrEncrypted and what to do", err)
	}
	if _, _, err := openKey(name, Passphrase{[]byte("another one"), "the file X"}); !errors.Is(err, keyfile.ErrPassphrase) || !strings.Contains(err.Error(), "the file X") {
		t.Errorf("a wrong passphrase: %v; want ErrPassphrase and where it is from", err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := openKey(name, p); !errors.Is(err, keyfile.ErrOpen) {
		t.Errorf("a key that others can read: %v; want ErrOpen", err)
	}
}

// A key that is made with a passphrase never lies on the disk without it.
func TestNewKeyEncrypted(t *testing.T) {
	name := filepath.Join(t.TempDir(), keyFile)
	if _, _, err := openKey(name, Passphrase{[]byte("short"), "$X"}); !errors.Is(err, keyfile.ErrNoPassphrase) {
		t.Errorf("a short passphrase: %v; want ErrNoPassphrase", err)
	}
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a passphrase was refused, and yet there is a key: %v", err)
	}
	if _, encrypted, err := openKey(name, Passphrase{[]byte("passphrase"), "$X"}); err != nil || encrypted {
		t.Errorf("openKey() = %v, %v", encrypted, err)
	}
	if f, err := keyfile.Read(name); err != nil || !f.Encrypted {
		t.Errorf("the key's file is encrypted: %+v, %v", f, err)
	}
}

func TestPassphraseSources(t *testing.T) {
	dir := t.TempDir()
	file, credential := filepath.Join(dir, "file"), filepath.Join(dir, PassphraseCredential)
	for name, text := range map[string]string{file: "of the file\n", credential: "of systemd", filepath.Join(dir, "empty"): "\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check := func(name, want, from string) {
		t.Helper()
		if p, err := ReadPassphrase(name); err != nil || string(p.Value) != want || p.From != from {
			t.Errorf("ReadPassphrase(%q) = %q from %q, %v; want %q from %q", name, p.Value, p.From, err, want, from)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	t.Setenv(PassphraseVariable, "")
	check("", "", "")
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	check("", "of systemd", credential)
	t.Setenv(PassphraseVariable, "of the environment")
	check("", "of the environment", "$"+PassphraseVariable)
	check(file, "of the file", file)
	if _, err := ReadPassphrase(filepath.Join(dir, "empty")); !errors.Is(err, keyfile.ErrNoPassphrase) {
		t.Errorf("an empty file: %v; want ErrNoPassphrase", err)
	}
}

// What older versions wrote goes on working.
func TestKeyPKCS8(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), keyFile)
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _, err := openKey(name, Passphrase{}); err != nil || !got.Equal(key) {
		t.Errorf("openKey() = %v", err)
	}
}
