package keyfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadPassphrase(t *testing.T) {
	credentials := t.TempDir()
	t.Setenv(credentialsVariable, credentials+"/")
	elsewhere := t.TempDir()
	for _, tc := range []struct {
		name, dir, data string
		mode            os.FileMode
		want            string
		err             error
	}{
		{"first line", elsewhere, "secret words\r\nmore\n", 0o600, "secret words", nil},
		{"no line feed", elsewhere, "secret", 0o400, "secret", nil},
		{"empty", elsewhere, "", 0o600, "", nil},
		{"longest", elsewhere, strings.Repeat("x", MaxPassphrase) + "\n", 0o600, strings.Repeat("x", MaxPassphrase), nil},
		{"too long", elsewhere, strings.Repeat("x", MaxPassphrase+1) + "\n", 0o600, "", ErrNoPassphrase},
		{"open", elsewhere, "secret", 0o640, "", ErrOpen},
		{"credential", credentials, "secret", 0o440, "secret", nil},
		{"credential that others read", credentials, "secret", 0o444, "", ErrOpen},
	} {
		name := filepath.Join(tc.dir, strings.ReplaceAll(tc.name, " ", "-"))
		if err := os.WriteFile(name, []byte(tc.data), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, tc.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadPassphrase(name)
		if string(got) != tc.want || !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
			t.Errorf("%s: ReadPassphrase() = %q, %v; want %q, %v", tc.name, got, err, tc.want, tc.err)
		}
	}
	if got, want := Credential("credential"), filepath.Join(credentials, "credential"); got != want {
		t.Errorf("Credential() = %q; want %q", got, want)
	}
	if got := Credential("none"); got != "" {
		t.Errorf("Credential() of what is not there = %q", got)
	}
	if _, err := ReadPassphrase(filepath.Join(elsewhere, "none")); !errors.Is(err, ErrNoPassphrase) {
		t.Errorf("ReadPassphrase() of no file = %v; want ErrNoPassphrase", err)
	}
}
