// Package keyfile keeps ed25519 private keys in files that only their owner
// can read, encrypted with a passphrase.
//
// The format is that of OpenSSH (openssh-key-v1, described in PROTOCOL.key of
// its sources): bcrypt_pbkdf and AES-256-CTR. It is chosen over PKCS #8
// because ssh-keygen can change the passphrase and the number of rounds,
// ssh-add can hand the key to an agent, and the public half can be read
// without the passphrase. Unencrypted PKCS #8 (RFC 8410), which was written
// before, is still read.
package keyfile

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
)

// MaxSize is how large a file may be, in bytes.
const MaxSize = 16 << 10

// The reasons for which a key cannot be used. Errors wrap them.
var (
	ErrExists     = errors.New("there is a key already")
	ErrOpen       = errors.New("others can read the key")
	ErrFormat     = errors.New("malformed key file")
	ErrEncrypted  = errors.New("the key is encrypted")
	ErrPassphrase = errors.New("wrong passphrase")
)

const (
	pemOpenSSH = "OPENSSH PRIVATE KEY"
	pemPKCS8   = "PRIVATE KEY"
)

// File is a private key as it lies on the disk.
type File struct {
	Name      string
	Public    ed25519.PublicKey
	Encrypted bool
	PKCS8     bool // unencrypted PKCS #8, as older versions wrote it

	data []byte // PEM
}

// Read reads the file name. The passphrase is not needed for that. That the
// file does not exist is an error that wraps fs.ErrNotExist.
func Read(name string) (*File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is no file", ErrFormat, name)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%w: %s has mode %04o: run chmod 600 on it, and make a new key if others may have copied it", ErrOpen, name, fi.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrFormat, name, MaxSize)
	}
	k, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	k.Name = name
	return k, nil
}

// Parse reads a key in PEM.
func Parse(data []byte) (*File, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%w: want a PEM block %q", ErrFormat, pemOpenSSH)
	}
	f := &File{data: bytes.Clone(data)}
	switch block.Type {
	case pemPKCS8:
		f.PKCS8 = true
	case pemOpenSSH:
		_, err := ssh.ParseRawPrivateKey(data)
		var missing *ssh.PassphraseMissingError
		if errors.As(err, &missing) {
			f.Encrypted = true
			pub, ok := missing.PublicKey.(ssh.CryptoPublicKey)
			if !ok {
				return nil, fmt.Errorf("%w: it does not say what its public key is", ErrFormat)
			}
			if f.Public, ok = pub.CryptoPublicKey().(ed25519.PublicKey); !ok {
				return nil, fmt.Errorf("%w: want an ed25519 key, have %s", ErrFormat, missing.PublicKey.Type())
			}
			return f, nil
		}
	default:
		return nil, fmt.Errorf("%w: want a PEM block %q, have %q", ErrFormat, pemOpenSSH, block.Type)
	}
	key, err := f.Key(nil)
	if err != nil {
		return nil, err
	}
	f.Public = key.Public().(ed25519.PublicKey)
	clear(key)
	return f, nil
}

// Key returns the private key. The passphrase is of no meaning for a key that
// is not encrypted; it stays the caller's to overwrite.
func (f *File) Key(passphrase []byte) (ed25519.PrivateKey, error) {
	var k any
	var err error
	switch {
	case f.PKCS8:
		block, _ := pem.Decode(f.data)
		k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case !f.Encrypted:
		k, err = ssh.ParseRawPrivateKey(f.data)
	case len(passphrase) == 0:
		return nil, fmt.Errorf("%s: %w", f.Name, ErrEncrypted)
	default:
		if k, err = ssh.ParseRawPrivateKeyWithPassphrase(f.data, passphrase); errors.Is(err, x509.IncorrectPasswordError) {
			return nil, fmt.Errorf("%s: %w", f.Name, ErrPassphrase)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if p, is := k.(*ed25519.PrivateKey); is {
		key, ok = *p, true
	}
	if !ok {
		return nil, fmt.Errorf("%w: want an ed25519 key, have %T", ErrFormat, k)
	}
	// The halves stand side by side in the file; a signature that is made
	// with a wrong public half gives the private one away.
	if whole := ed25519.NewKeyFromSeed(key.Seed()); !whole.Equal(key) || f.Public != nil && !f.Public.Equal(whole.Public()) {
		return nil, fmt.Errorf("%w: its public key belongs to another private key", ErrFormat)
	}
	return key, nil
}

// Create writes key to the file name, which must not exist, and makes sure
// that it is on the disk: a lost key cannot be made again. An empty passphrase
// leaves the key unencrypted.
func Create(name string, key ed25519.PrivateKey, comment string, passphrase []byte) error {
	data, err := marshal(key, comment, passphrase)
	if err != nil {
		return err
	}
	defer clear(data)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %s", ErrExists, name)
	}
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	if err := finish(f, data); err != nil {
		_ = os.Remove(name)
		return fmt.Errorf("write the key: %w", err)
	}
	return syncFolder(name)
}

// Replace writes key to the file name in place of the one that is there: the
// old file stays until the new one is on the disk.
func Replace(name string, key ed25519.PrivateKey, comment string, passphrase []byte) error {
	data, err := marshal(key, comment, passphrase)
	if err != nil {
		return err
	}
	defer clear(data)
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // has mode 0600
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	err = finish(f, data)
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return fmt.Errorf("write the key: %w", err)
	}
	return syncFolder(name)
}

func marshal(key ed25519.PrivateKey, comment string, passphrase []byte) ([]byte, error) {
	var block *pem.Block
	var err error
	if len(passphrase) == 0 {
		block, err = ssh.MarshalPrivateKey(key, comment)
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(key, comment, passphrase)
	}
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	return pem.EncodeToMemory(block), nil
}

// finish writes data and closes f.
func finish(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(0o600) // whatever the umask is
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncFolder makes sure that the name of a file is on the disk, too.
func syncFolder(name string) error {
	d, err := os.Open(filepath.Dir(name))
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		return fmt.Errorf("write the key: %w", err)
	}
	return nil
}
