package setup

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// keyFile is the file of the key that signs snapshot and timestamp: PKCS #8 in
// PEM, which only its owner can read.
const keyFile = "online.key"

const (
	pemType = "PRIVATE KEY"
	maxKey  = 16 << 10
)

// openKey reads the key, or makes one at the first start. Whoever has it can
// make machines believe that an old list of images is the newest, not that a
// list is genuine which no publisher has signed.
func openKey(name string) (ed25519.PrivateKey, error) {
	fi, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return newKey(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	if fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("read the key: %s has mode %04o, others can read it: run chmod 600 on it", name, fi.Mode().Perm())
	}
	if fi.Size() > maxKey {
		return nil, fmt.Errorf("read the key: %s has %d bytes", name, fi.Size())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType {
		return nil, fmt.Errorf("read the key: %s is no PEM file with a %s", name, pemType)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the key: %s: %w", name, err)
	}
	key, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read the key: %s: want an ed25519 key, have %T", name, k)
	}
	return key, nil
}

func newKey(name string) (ed25519.PrivateKey, error) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the key: %w", err)
	}
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep the key: %w", err)
	}
	_, err = out.Write(pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}))
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return nil, fmt.Errorf("keep the key: %w", errors.Join(err, os.Remove(name)))
	}
	return key, nil
}
