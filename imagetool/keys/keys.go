// Package keys keeps a publisher's signing keys: ed25519 private keys in files
// of a folder or in an SSH agent, and the trust file with the public half that
// goes onto boot media.
package keys

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/keyfile"
)

// The files in a key folder.
const (
	publisher = "publisher"
	KeyFile   = publisher + Suffix
	TrustFile = "trust.json"
)

// The reasons for which keys cannot be used. Errors wrap them, and those of
// package keyfile.
var (
	ErrExists = keyfile.ErrExists
	ErrNoKey  = errors.New("no signing key")
)

// Folder is what a folder with keys has.
type Folder struct {
	Dir   string
	Key   crypto.Signer // signs whole messages
	Trust *catalog.Trust
}

// Generate makes a new key in the folder of ring, which is encrypted unless
// plain is set. It never replaces one.
func Generate(ctx context.Context, ring *Ring, plain bool) (*Folder, error) {
	pub, err := ring.Create(ctx, publisher, plain)
	if err != nil {
		return nil, err
	}
	undo := func(err error) error { // nothing is signed with it
		return errors.Join(err, os.Remove(ring.Path(publisher)))
	}
	trust := catalog.NewTrust(1, catalog.NewKey(pub))
	data, err := trust.Marshal()
	if err != nil {
		return nil, undo(fmt.Errorf("encode the trust file: %w", err))
	}
	if err := createTrust(filepath.Join(ring.dir, TrustFile), append(data, '\n')); err != nil {
		return nil, undo(err)
	}
	key, err := ring.Signer(ctx, pub)
	if err != nil {
		return nil, err
	}
	return &Folder{Dir: ring.dir, Key: key, Trust: trust}, nil
}

// createTrust writes a trust file that must not exist yet.
func createTrust(name string, data []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w, or was: %s: choose another folder with --keys", ErrExists, name)
	}
	if err != nil {
		return fmt.Errorf("write the trust file: %w", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644) // whatever the umask is
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(name)
		return fmt.Errorf("write the trust file: %w", err)
	}
	return nil
}

// Load returns the keys of a ring: the trust file in its folder, and a signer
// for the first key in it whose private half can be found.
func Load(ctx context.Context, ring *Ring) (*Folder, error) {
	trust, err := LoadTrust(filepath.Join(ring.dir, TrustFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoKey, err)
	}
	if err != nil {
		return nil, err
	}
	key, err := ring.find(ctx, trust)
	if err != nil {
		return nil, err
	}
	return &Folder{Dir: ring.dir, Key: key, Trust: trust}, nil
}

// find returns a signer for one of the keys of trust.
func (r *Ring) find(ctx context.Context, trust *catalog.Trust) (crypto.Signer, error) {
	for _, id := range slices.Sorted(maps.Keys(trust.Keys)) {
		pub, err := hex.DecodeString(trust.Keys[id].KeyVal.Public)
		if err != nil {
			return nil, fmt.Errorf("%w: public key %s: %w", keyfile.ErrFormat, id, err)
		}
		s, err := r.Signer(ctx, pub)
		if !errors.Is(err, ErrNoKey) {
			return s, err
		}
	}
	files, err := r.Files()
	switch {
	case err != nil:
		return nil, err
	case len(files) == 0:
		return nil, fmt.Errorf("%w: there is no key in %s or in an SSH agent (imagetool init makes one)", ErrNoKey, r.dir)
	}
	return nil, fmt.Errorf("%w: %s is not among the keys of %s", keyfile.ErrFormat, files[0].Name, filepath.Join(r.dir, TrustFile))
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
