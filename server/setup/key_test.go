package setup

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/inetboot/inetboot/internal/keyfile"
)

func TestKey(t *testing.T) {
	name := filepath.Join(t.TempDir(), keyFile)
	key, err := openKey(name)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(name); err != nil || fi.Mode() != 0o600 {
		t.Errorf("the key's file: %v, %v; want mode 0600", fi, err)
	}
	if again, err := openKey(name); err != nil || !again.Equal(key) {
		t.Errorf("the second start has another key: %v", err)
	}
	if err := keyfile.Replace(name, key, "", []byte("passphrase")); err != nil {
		t.Fatal(err)
	}
	if _, err := openKey(name); !errors.Is(err, keyfile.ErrEncrypted) {
		t.Errorf("an encrypted key: %v; want ErrEncrypted", err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := openKey(name); !errors.Is(err, keyfile.ErrOpen) {
		t.Errorf("a key that others can read: %v; want ErrOpen", err)
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
	if got, err := openKey(name); err != nil || !got.Equal(key) {
		t.Errorf("openKey() = %v", err)
	}
}
