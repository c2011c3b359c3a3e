package setup

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"

	"github.com/inetboot/inetboot/internal/keyfile"
)

// keyFile is the file of the key that signs snapshot and timestamp. It is not
// encrypted: the server starts without a person.
const keyFile = "online.key"

// openKey reads the key, or makes one at the first start. Whoever has it can
// make machines believe that an old list of images is the newest, not that a
// list is genuine which no publisher has signed.
func openKey(name string) (ed25519.PrivateKey, error) {
	f, err := keyfile.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return newKey(name)
	}
	if err != nil {
		return nil, fmt.Errorf("the server's key: %w", err)
	}
	key, err := f.Key(nil)
	if errors.Is(err, keyfile.ErrEncrypted) {
		return nil, fmt.Errorf("the server's key: %w: take the passphrase away with ssh-keygen -p -f %s", err, name)
	}
	if err != nil {
		return nil, fmt.Errorf("the server's key: %w", err)
	}
	return key, nil
}

func newKey(name string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make the server's key: %w", err)
	}
	if err := keyfile.Create(name, key, "inetboot server", nil); err != nil {
		return nil, fmt.Errorf("make the server's key: %w", err)
	}
	return key, nil
}
