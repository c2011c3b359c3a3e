// Package keys keeps a publisher's signing keys in a folder: one ed25519 key
// as PKCS #8 (RFC 8410) in PEM that only its owner can read, and the trust
// file with the public half that goes onto boot media.
package keys

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/catalog"
)

// The files in a key folder.
const (
	KeyFile   = "publisher.key"
	TrustFile = "trust.json"
)

const (
	pemType    = "PRIVATE KEY"
	maxKeyFile = 16 << 10
)

// The reasons for which keys cannot be used. Errors wrap them.
var (
	ErrExists = errors.New("there is a key already")
	ErrNoKey  = errors.New("no signing key")
	ErrOpen   = errors.New("others can read the key")
	ErrFormat = errors.New("malformed key file")
)

// Folder is a folder with keys.
type Folder struct {
	Dir   string
	Key   ed25519.PrivateKey
	Trust *catalog.Trust
}

// Generate makes a new key in dir. It never replaces one.
func Generate(dir string) (*Folder, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	trust := catalog.NewTrust(1, catalog.NewKey(key.Public().(ed25519.PublicKey)))
	data, err := trust.Marshal()
	if err != nil {
		return nil, fmt.Errorf("encode the trust file: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the key folder: %w", err)
	}
	if err := create(filepath.Join(dir, KeyFile), pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), 0o600); err != nil {
		return nil, err
	}
	if err := create(filepath.Join(dir, TrustFile), append(data, '\n'), 0o644); err != nil {
		_ = os.Remove(filepath.Join(dir, KeyFile)) // made a moment ago, nothing is signed with it
		return nil, err
	}
	return &Folder{Dir: dir, Key: key, Trust: trust}, nil
}

// Exists tells whether dir has a key, without reading it.
func Exists(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, KeyFile))
	return err == nil
}

// create writes a file that must not exist yet, and makes sure that it is on
// the disk: a lost key cannot be made again.
func create(name string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s: choose another folder with --keys, or go on with this key", ErrExists, name)
	}
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // whatever the umask is
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(name)
		return fmt.Errorf("write the key: %w", err)
	}
	return nil
}

// Load reads the key folder dir.
func Load(dir string) (*Folder, error) {
	name := filepath.Join(dir, KeyFile)
	fi, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist (imagetool init makes one)", ErrNoKey, name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o: run chmod 600 on it, and make a new key if others may have copied it", ErrOpen, name, fi.Mode().Perm())
	}
	if fi.Size() > maxKeyFile {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrFormat, name, fi.Size())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	key, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	trust, err := LoadTrust(filepath.Join(dir, TrustFile))
	if err != nil {
		return nil, err
	}
	id := catalog.NewKey(key.Public().(ed25519.PublicKey)).ID()
	if _, ok := trust.Keys[id]; !ok {
		return nil, fmt.Errorf("%w: %s is not among the keys of %s", ErrFormat, name, filepath.Join(dir, TrustFile))
	}
	return &Folder{Dir: dir, Key: key, Trust: trust}, nil
}

func parse(data []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("%w: want a PEM block %q", ErrFormat, pemType)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: want an ed25519 key, have %T", ErrFormat, k)
	}
	return key, nil
}

// LoadTrust reads a trust file.
func LoadTrust(name string) (*catalog.Trust, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the trust file (run imagetool init first, or name the folder with --keys): %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the trust file: %w", err)
	}
	t, err := catalog.ParseTrust(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// ID returns the key's id.
func (f *Folder) ID() string { return f.PublicKey().ID() }

// PublicKey returns the public half of the key.
func (f *Folder) PublicKey() catalog.Key {
	return catalog.NewKey(f.Key.Public().(ed25519.PublicKey))
}

// Remove deletes the folder's files. It is for a key that was made a moment
// ago and has been of no use.
func (f *Folder) Remove() error {
	return errors.Join(os.Remove(filepath.Join(f.Dir, KeyFile)), os.Remove(filepath.Join(f.Dir, TrustFile)))
}
