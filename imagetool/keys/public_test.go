package keys_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/internal/keyfile"
)

func TestParsePublic(t *testing.T) {
	pub := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	line, err := keys.FormatPublic(pub, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(line, "ssh-ed25519 AAAA") || !strings.HasSuffix(line, " alice") {
		t.Errorf("FormatPublic() = %q", line)
	}
	tuf := fmt.Sprintf(`{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"%x"}}`, []byte(pub))
	for _, s := range []string{line, line + "\n", "# comment\n" + line, hex.EncodeToString(pub), tuf, "  " + tuf + "\n"} {
		if got, err := keys.ParsePublic([]byte(s)); err != nil || !got.Equal(pub) {
			t.Errorf("ParsePublic(%q) = %x, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "x", line[:40], hex.EncodeToString(pub[1:]), strings.Replace(tuf, "ed25519", "rsa", 1), `{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"00"}}`,
		"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQDWTIlR3iQnqBNnDmwLEOBJ4yKpqJ6cDR0k7n5A7OXEjGkYNdxCMHm7oQp0Qw==", strings.Repeat("x", 10000)} {
		if got, err := keys.ParsePublic([]byte(s)); !errors.Is(err, keyfile.ErrFormat) {
			t.Errorf("ParsePublic(%.40q) = %x, %v; want ErrFormat", s, got, err)
		}
	}
}

func FuzzParsePublic(f *testing.F) {
	pub := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	line, err := keys.FormatPublic(pub, "x")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(line))
	f.Add([]byte(hex.EncodeToString(pub)))
	f.Add(fmt.Appendf(nil, `{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"%x"}}`, []byte(pub)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if got, err := keys.ParsePublic(data); err == nil && len(got) != ed25519.PublicKeySize {
			t.Errorf("ParsePublic() returns %d bytes", len(got))
		}
	})
}
