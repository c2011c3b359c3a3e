package keys

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/inetboot/inetboot/internal/keyfile"
)

// MaxPublic bounds a file with a public key, in bytes.
const MaxPublic = 8 << 10

// ParsePublic reads a public key as people hand it to each other: a line of
// OpenSSH ("ssh-ed25519 AAAA… comment"), a key in TUF's form, or 32 bytes in
// hexadecimal.
func ParsePublic(data []byte) (ed25519.PublicKey, error) {
	if len(data) > MaxPublic {
		return nil, fmt.Errorf("%w: a public key does not have %d bytes", keyfile.ErrFormat, len(data))
	}
	data = bytes.TrimSpace(data)
	if bytes.HasPrefix(data, []byte("{")) {
		var k struct {
			KeyType string `json:"keytype"`
			Scheme  string `json:"scheme"`
			KeyVal  struct {
				Public string `json:"public"`
			} `json:"keyval"`
		}
		if err := json.Unmarshal(data, &k); err != nil {
			return nil, fmt.Errorf("%w: public key: %w", keyfile.ErrFormat, err)
		}
		if k.KeyType != "ed25519" || k.Scheme != "ed25519" {
			return nil, fmt.Errorf("%w: public key: type %.20q, scheme %.20q, want ed25519", keyfile.ErrFormat, k.KeyType, k.Scheme)
		}
		data = []byte(k.KeyVal.Public)
	}
	if len(data) == hex.EncodedLen(ed25519.PublicKeySize) {
		if pub, err := hex.DecodeString(string(data)); err == nil {
			return pub, nil
		}
	}
	pub, _, _, _, err := ssh.ParseAuthorizedKey(data)
	if err != nil {
		return nil, fmt.Errorf("%w: want a public key of OpenSSH (ssh-ed25519 …), of TUF, or in hexadecimal", keyfile.ErrFormat)
	}
	if k, ok := pub.(ssh.CryptoPublicKey); ok {
		if p, ok := k.CryptoPublicKey().(ed25519.PublicKey); ok {
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: public key: want ssh-ed25519, have %s", keyfile.ErrFormat, pub.Type())
}

// FormatPublic writes a public key as a line of OpenSSH.
func FormatPublic(pub ed25519.PublicKey, comment string) (string, error) {
	k, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("encode the public key: %w", err)
	}
	return fmt.Sprintf("%s %s", bytes.TrimSpace(ssh.MarshalAuthorizedKey(k)), comment), nil
}
