package setup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	f, err := Open(path, Source{}, Passphrase{})
	if err != nil {
		t.Fatal(err)
	}
	if !f.First || len(f.Token) != 64 || f.TokenFile != filepath.Join(path, "token") {
		t.Errorf("Open = %+v; want a first start with a token", f)
	}
	info, err := os.Stat(f.TokenFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token file: %v, %v; want 0600", info, err)
	}
	if _, err := Open(path, Source{}, Passphrase{}); !errors.Is(err, ErrInUse) {
		t.Errorf("second Open = %v; want ErrInUse", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path, Source{}, Passphrase{})
	if err != nil || again.First || again.Token != f.Token {
		t.Fatalf("Open again = %+v, %v; want the same token", again, err)
	}
	again.Close()

	if err := os.Remove(f.TokenFile); err != nil {
		t.Fatal(err)
	}
	fresh, err := Open(path, Source{}, Passphrase{})
	if err != nil || !fresh.First || fresh.Token == f.Token {
		t.Fatalf("Open without the token file = %+v, %v; want a new token, to be shown", fresh, err)
	}
	fresh.Close()
}

func TestTokenSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	const given = "0123456789abcdefg"
	f, err := Open(path, Source{Token: given}, Passphrase{})
	if err != nil || f.Token != given || f.TokenFile != "" || !f.First {
		t.Fatalf("Open with a token = %+v, %v", f, err)
	}
	f.Close()
	if _, err := os.Stat(TokenIn(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a token that was given was written to the disk: %v", err)
	}
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(given+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err = Open(path, Source{File: file}, Passphrase{})
	if err != nil || f.Token != given || f.TokenFile != file || f.First {
		t.Fatalf("Open with a token file = %+v, %v", f, err)
	}
	f.Close()
	if err := os.WriteFile(file, []byte("short\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range []Source{{File: file}, {Token: "short"}, {File: path}} {
		if f, err := Open(path, s, Passphrase{}); err == nil {
			f.Close()
			t.Errorf("Open with %+v succeeded", s)
		} else if strings.Contains(err.Error(), "short") {
			t.Errorf("the error tells the token: %v", err)
		}
	}
	if _, err := ReadToken(filepath.Join(path, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadToken of no file = %v; want fs.ErrNotExist", err)
	}
}
