package setup

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/internal/keyfile"
)

// keyFile is the file of the key that signs snapshot and timestamp.
const keyFile = "online.key"

// settingsFile is the file of the key that signs the settings of machines.
const settingsFile = "settings.key"

// SettingsKeyIn returns the file of the settings key of a data folder.
func SettingsKeyIn(path string) string { return filepath.Join(path, settingsFile) }

// The places where the passphrase of the server's key may come from.
const (
	PassphraseVariable   = "INETBOOT_SERVER_PASSPHRASE" // environment variable
	PassphraseCredential = "inetboot-server-passphrase" // systemd credential
)

// Passphrase is that of the server's key; the zero value is none.
type Passphrase struct {
	Value []byte
	From  string // where it comes from, for messages
}

// ReadPassphrase returns the passphrase of the server's key: that in file, if
// one is named, in the environment, or a systemd credential. None at all is no
// error.
func ReadPassphrase(file string) (Passphrase, error) {
	if file == "" {
		if v := os.Getenv(PassphraseVariable); v != "" {
			return Passphrase{[]byte(v), "$" + PassphraseVariable}, nil
		}
		if file = keyfile.Credential(PassphraseCredential); file == "" {
			return Passphrase{}, nil
		}
	}
	v, err := keyfile.ReadPassphrase(file)
	if err == nil && len(v) == 0 {
		err = fmt.Errorf("%w: %s is empty", keyfile.ErrNoPassphrase, file)
	}
	if err != nil {
		return Passphrase{}, fmt.Errorf("the server's key: %w", err)
	}
	return Passphrase{v, file}, nil
}

// openKey reads the key, or makes one at the first start, encrypted if there is
// a passphrase. One that is not encrypted yet gets it then, which encrypted
// tells. Whoever has the key can make machines believe that an old list of
// images is the newest, not that a list is genuine which no publisher has
// signed.
func openKey(name string, p Passphrase) (key ed25519.PrivateKey, encrypted bool, err error) {
	if key, encrypted, err = readKey(name, p); err != nil {
		return nil, false, fmt.Errorf("the server's key: %w", err)
	}
	return key, encrypted, nil
}

func readKey(name string, p Passphrase) (key ed25519.PrivateKey, encrypted bool, err error) {
	f, err := keyfile.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = newKey(name, p)
		return key, false, err
	}
	if err != nil {
		return nil, false, err
	}
	key, err = f.Key(p.Value)
	switch {
	case errors.Is(err, keyfile.ErrEncrypted):
		return nil, false, fmt.Errorf("%w, and nothing says its passphrase: give --passphrase-file, $%s or the systemd credential %s", err, PassphraseVariable, PassphraseCredential)
	case errors.Is(err, keyfile.ErrPassphrase):
		return nil, false, fmt.Errorf("%w in %s", err, p.From)
	case err != nil || f.Encrypted || len(p.Value) == 0:
		return key, false, err
	}
	if err := keyfile.CheckNew(p.Value); err != nil {
		return nil, false, fmt.Errorf("encrypt it with %s: %w", p.From, err)
	}
	return key, true, keyfile.Replace(name, key, keyComment, p.Value)
}

// keyComment is what the key's file calls it.
const keyComment = "inetboot server"

func newKey(name string, p Passphrase) (ed25519.PrivateKey, error) {
	if len(p.Value) > 0 {
		if err := keyfile.CheckNew(p.Value); err != nil {
			return nil, fmt.Errorf("encrypt it with %s: %w", p.From, err)
		}
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make it: %w", err)
	}
	if err := keyfile.Create(name, key, keyComment, p.Value); err != nil {
		return nil, err
	}
	return key, nil
}
