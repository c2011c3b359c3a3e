package keyfile_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/inetboot/inetboot/internal/keyfile"
)

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCreateAndRead(t *testing.T) {
	key := newKey(t)
	for _, tc := range []struct {
		name       string
		passphrase string
	}{{"encrypted", "correct horse"}, {"plain", ""}} {
		file := filepath.Join(t.TempDir(), "x.key")
		if err := keyfile.Create(file, key, "a comment", []byte(tc.passphrase)); err != nil {
			t.Fatal(err)
		}
		if fi, err := os.Stat(file); err != nil || fi.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", tc.name, fi.Mode(), err)
		}
		f, err := keyfile.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Public.Equal(key.Public()) || f.Encrypted != (tc.passphrase != "") || f.PKCS8 {
			t.Errorf("%s: Read() = %+v", tc.name, f)
		}
		got, err := f.Key([]byte(tc.passphrase))
		if err != nil || !got.Equal(key) {
			t.Errorf("%s: Key() = %v; want the key that was written", tc.name, err)
		}
		if f.Encrypted {
			if _, err := f.Key([]byte("Correct horse")); !errors.Is(err, keyfile.ErrPassphrase) {
				t.Errorf("%s: Key() with a wrong passphrase = %v", tc.name, err)
			}
			if _, err := f.Key(nil); !errors.Is(err, keyfile.ErrEncrypted) {
				t.Errorf("%s: Key() without passphrase = %v", tc.name, err)
			}
		}
		if err := keyfile.Create(file, newKey(t), "", nil); !errors.Is(err, keyfile.ErrExists) {
			t.Errorf("%s: Create() over a key = %v; want ErrExists", tc.name, err)
		}
		if again, err := keyfile.Read(file); err != nil || !again.Public.Equal(key.Public()) {
			t.Errorf("%s: the key was changed: %v", tc.name, err)
		}
	}
}

func TestReplace(t *testing.T) {
	key, dir := newKey(t), t.TempDir()
	file := filepath.Join(dir, "x.key")
	if err := keyfile.Create(file, key, "", nil); err != nil {
		t.Fatal(err)
	}
	if err := keyfile.Replace(file, key, "", []byte("new")); err != nil {
		t.Fatal(err)
	}
	f, err := keyfile.Read(file)
	if err != nil || !f.Encrypted {
		t.Fatalf("Read() after Replace = %+v, %v; want an encrypted key", f, err)
	}
	if got, err := f.Key([]byte("new")); err != nil || !got.Equal(key) {
		t.Errorf("Key() after Replace = %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("files in the folder: %v, %v; want the key alone", left, err)
	}
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// What older versions wrote is still read.
func TestReadPKCS8(t *testing.T) {
	key := newKey(t)
	f, err := keyfile.Parse(pkcs8(t, key))
	if err != nil || !f.PKCS8 || f.Encrypted || !f.Public.Equal(key.Public()) {
		t.Fatalf("Parse() = %+v, %v", f, err)
	}
	if got, err := f.Key(nil); err != nil || !got.Equal(key) {
		t.Errorf("Key() = %v", err)
	}
}

func openssh(t testing.TB, key any, passphrase string) []byte {
	t.Helper()
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(key, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

func TestReadRefuses(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := openssh(t, newKey(t), "")
	// The private half of one key, and the public half of another.
	mixed := append(bytes.Clone(newKey(t).Seed()), newKey(t).Public().(ed25519.PublicKey)...)
	for _, tc := range []struct {
		name string
		data []byte
		mode fs.FileMode
		want error
	}{
		{"others can read it", good, 0o604, keyfile.ErrOpen},
		{"the group can write it", good, 0o620, keyfile.ErrOpen},
		{"no PEM", []byte("key"), 0o600, keyfile.ErrFormat},
		{"empty", nil, 0o600, keyfile.ErrFormat},
		{"another PEM block", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600, keyfile.ErrFormat},
		{"no PKCS #8", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600, keyfile.ErrFormat},
		{"no OpenSSH key", []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), 0o600, keyfile.ErrFormat},
		{"ECDSA in PKCS #8", pkcs8(t, ec), 0o600, keyfile.ErrFormat},
		{"ECDSA", openssh(t, ec, ""), 0o600, keyfile.ErrFormat},
		{"encrypted ECDSA", openssh(t, ec, "x"), 0o600, keyfile.ErrFormat},
		{"halves of two keys", openssh(t, ed25519.PrivateKey(mixed), ""), 0o600, keyfile.ErrFormat},
		{"too large", make([]byte, 1<<20), 0o600, keyfile.ErrFormat},
	} {
		file := filepath.Join(t.TempDir(), "x.key")
		if err := os.WriteFile(file, tc.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, tc.mode); err != nil {
			t.Fatal(err)
		}
		if _, err := keyfile.Read(file); !errors.Is(err, tc.want) {
			t.Errorf("%s: Read() = %v; want %v", tc.name, err, tc.want)
		}
	}
	if _, err := keyfile.Read(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: Read() = %v; want fs.ErrNotExist", err)
	}
	if _, err := keyfile.Read(t.TempDir()); !errors.Is(err, keyfile.ErrFormat) {
		t.Errorf("a folder: Read() = %v; want ErrFormat", err)
	}
	// The public half in the clear is not that of the encrypted key.
	block, _ := pem.Decode(openssh(t, ed25519.PrivateKey(mixed), "x"))
	f, err := keyfile.Parse(pem.EncodeToMemory(block))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Key([]byte("x")); !errors.Is(err, keyfile.ErrFormat) {
		t.Errorf("halves of two keys, encrypted: Key() = %v; want ErrFormat", err)
	}
}

// ssh-keygen is the other implementation of the format: what it writes is
// read, and it reads what is written and changes the passphrase.
func TestSSHKeygen(t *testing.T) {
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Fatal("ssh-keygen is needed (Debian package openssh-client)")
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(keygen, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("ssh-keygen %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	dir := t.TempDir()
	theirs := filepath.Join(dir, "theirs")
	run("-q", "-t", "ed25519", "-N", "first", "-a", "1", "-f", theirs)
	f, err := keyfile.Read(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Key([]byte("first")); err != nil {
		t.Errorf("a key of ssh-keygen: Key() = %v", err)
	}

	ours, key := filepath.Join(dir, "ours"), newKey(t)
	if err := keyfile.Create(ours, key, "", []byte("first")); err != nil {
		t.Fatal(err)
	}
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := run("-y", "-P", "first", "-f", ours), base64.StdEncoding.EncodeToString(pub.Marshal()); !strings.Contains(got, want) {
		t.Errorf("ssh-keygen -y says %q; want %s", got, want)
	}
	run("-q", "-p", "-P", "first", "-N", "second", "-a", "1", "-f", ours)
	if f, err = keyfile.Read(ours); err != nil {
		t.Fatal(err)
	}
	if got, err := f.Key([]byte("second")); err != nil || !got.Equal(key) {
		t.Errorf("after ssh-keygen -p: Key() = %v", err)
	}
	if _, err := f.Key([]byte("first")); !errors.Is(err, keyfile.ErrPassphrase) {
		t.Errorf("the old passphrase after ssh-keygen -p: Key() = %v", err)
	}
}

func FuzzParse(f *testing.F) {
	key := newKey(f)
	f.Add(openssh(f, key, ""))
	f.Add(openssh(f, key, "x"))
	f.Add(pkcs8(f, key))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := keyfile.Parse(data)
		if err != nil {
			return
		}
		if len(k.Public) != ed25519.PublicKeySize {
			t.Fatalf("Parse() returns a public key of %d bytes", len(k.Public))
		}
		if !k.Encrypted {
			if got, err := k.Key(nil); err != nil || !k.Public.Equal(got.Public()) {
				t.Errorf("Key() = %v; want the key of the public half", err)
			}
		}
	})
}
