// Package keys keeps a publisher's signing keys: ed25519 private keys in files
// of a folder or in an SSH agent; and root.json, the root of the catalog that
// goes onto boot media and from which the publisher's own programs verify the
// store.
//
// What a key may sign is not a matter of its name: the catalog's root and
// delegations say it by the key's id.
package keys

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/keyfile"
)

// RootFile is the name of the root in a key folder.
const RootFile = "root.json"

// The reasons for which keys cannot be used. Errors wrap them, and those of
// package keyfile.
var (
	ErrExists = keyfile.ErrExists
	ErrNoKey  = errors.New("no signing key")
)

// Folder is what a folder with keys has.
type Folder struct {
	Dir    string
	Root   []byte          // root.json; nil before there is one
	Anchor *catalog.Anchor // of Root; nil before there is one

	ring *Ring
	keys []Key
}

// Key is a key whose private half can be found.
type Key struct {
	Name   string // of its file, without the suffix; "": the SSH agent has it
	Public ed25519.PublicKey
}

// ID returns the key's id in the catalog.
func (k Key) ID() string { return publish.KeyID(k.Public) }

// Keys returns the keys: those in files by their names, then those that only
// the agent has.
func (f *Folder) Keys() []Key { return f.keys }

// Ring returns where the private keys are.
func (f *Folder) Ring() *Ring { return f.ring }

// Key returns the key in the file of a name.
func (f *Folder) Key(name string) (Key, bool) {
	i := slices.IndexFunc(f.keys, func(k Key) bool { return k.Name == name && name != "" })
	if i < 0 {
		return Key{}, false
	}
	return f.keys[i], true
}

// signer asks the ring for a private key when it is needed, and not before: a
// passphrase is asked for only if its key has to sign.
type signer struct {
	ring *Ring
	pub  ed25519.PublicKey
}

var _ publish.Preparer = signer{}

// Public implements publish.Signer.
func (s signer) Public() ed25519.PublicKey { return s.pub }

// Prepare implements publish.Preparer.
func (s signer) Prepare(ctx context.Context) error {
	_, err := s.ring.Signer(ctx, s.pub)
	return err
}

// Sign implements publish.Signer.
func (s signer) Sign(ctx context.Context, message []byte) ([]byte, error) {
	key, err := s.ring.Signer(ctx, s.pub)
	if err != nil {
		return nil, err
	}
	return key.Sign(nil, message, crypto.Hash(0))
}

// Signers returns signers for all keys.
func (f *Folder) Signers() publish.Signers {
	var out publish.Signers
	for _, k := range f.keys {
		out = append(out, signer{f.ring, k.Public})
	}
	return out
}

// New returns a folder without keys, in the folder of ring.
func New(ring *Ring) *Folder { return &Folder{Dir: ring.dir, ring: ring} }

// Generate makes new keys in the folder of ring, which are encrypted unless
// plain is set. It never replaces one.
func Generate(ctx context.Context, ring *Ring, plain bool, names ...string) (*Folder, error) {
	f := New(ring)
	root := filepath.Join(f.Dir, RootFile)
	if _, err := os.Lstat(root); err == nil {
		return nil, fmt.Errorf("%w, or was: %s is of a store: choose another folder with --keys, or go on with its keys with --use-keys", ErrExists, root)
	}
	for _, name := range names {
		if err := f.Create(ctx, name, plain); err != nil {
			return nil, errors.Join(err, f.removeKeys()) // nothing is signed with them
		}
	}
	return f, nil
}

// Create makes a new key in the file of the name. It never replaces one.
func (f *Folder) Create(ctx context.Context, name string, plain bool) error {
	pub, err := f.ring.Create(ctx, name, plain)
	if err != nil {
		return err
	}
	f.keys = append(f.keys, Key{name, pub})
	return nil
}

// Load returns the keys of a ring, at least one, and the root in its folder if
// it is there.
func Load(ctx context.Context, ring *Ring) (*Folder, error) {
	f := &Folder{Dir: ring.dir, ring: ring}
	found, err := ring.Locations(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range found {
		if slices.ContainsFunc(f.keys, func(k Key) bool { return k.Public.Equal(l.Public) }) {
			continue // in the agent, too
		}
		k := Key{Public: l.Public}
		if l.File != nil {
			k.Name = strings.TrimSuffix(filepath.Base(l.File.Name), Suffix)
		}
		f.keys = append(f.keys, k)
	}
	if len(f.keys) == 0 {
		return nil, fmt.Errorf("%w: there is no key in %s or in an SSH agent (imagetool init makes some)", ErrNoKey, ring.dir)
	}
	f.Anchor, f.Root, err = LoadRoot(filepath.Join(ring.dir, RootFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return f, nil
}

// LoadRoot reads a root.json that is trusted because of where it lies.
func LoadRoot(name string) (*catalog.Anchor, []byte, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the root (run imagetool init first, or name the folder with --keys): %w", err)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the root: %w", err)
	}
	a, err := tuf.NewAnchor(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return a, data, nil
}

// SaveRoot keeps the root of the store, as it was verified, for the commands
// and the media that come after.
func (f *Folder) SaveRoot(data []byte) error {
	anchor, err := tuf.NewAnchor(data)
	if err != nil {
		return fmt.Errorf("keep the root: %w", err)
	}
	if err := replaceFile(filepath.Join(f.Dir, RootFile), data); err != nil {
		return fmt.Errorf("keep the root: %w", err)
	}
	f.Root, f.Anchor = data, anchor
	return nil
}

// replaceFile writes a file that everybody may read, so that there is the old
// or the new one.
func replaceFile(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// Remove deletes the files of keys that were made a moment ago and have been
// of no use, and the root.
func (f *Folder) Remove() error {
	err := f.removeKeys()
	if rerr := os.Remove(filepath.Join(f.Dir, RootFile)); !errors.Is(rerr, fs.ErrNotExist) {
		err = errors.Join(err, rerr)
	}
	return err
}

func (f *Folder) removeKeys() error {
	var errs []error
	for _, k := range f.keys {
		if k.Name != "" {
			errs = append(errs, os.Remove(f.ring.Path(k.Name)))
		}
	}
	return errors.Join(errs...)
}
