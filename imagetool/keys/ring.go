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
	"strings"

	"github.com/inetboot/inetboot/internal/keyfile"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Suffix ends the names of key files.
const Suffix = ".key"

// Options says how private keys become usable.
type Options struct {
	Agent *Agent // nil: none
	Ask   Asker  // nil: encrypted keys cannot be used
}

// Ring is where a person's private keys are: the files of a folder, and an SSH
// agent. Close it, so that passphrases do not stay in memory.
type Ring struct {
	dir string
	o   Options

	last  []byte // the passphrase that was right last: often keys have the same
	open  map[string]ed25519.PrivateKey
	agent error // why the agent is of no use
}

// OpenRing returns the ring of folder dir, which need not exist.
func OpenRing(dir string, o Options) *Ring {
	return &Ring{dir: dir, o: o, open: make(map[string]ed25519.PrivateKey)}
}

// Close forgets passphrases and keys.
func (r *Ring) Close() {
	clear(r.last)
	r.last = nil
	for id, k := range r.open {
		clear(k)
		delete(r.open, id)
	}
}

// Files returns the key files in the folder, by name. The keys in them need
// not be usable without a passphrase.
func (r *Ring) Files() ([]*keyfile.File, error) {
	list, err := os.ReadDir(r.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for keys: %w", err)
	}
	var out []*keyfile.File
	for _, e := range list {
		if name, ok := strings.CutSuffix(e.Name(), Suffix); !ok || !storepath.ValidElement(name) {
			continue
		}
		f, err := keyfile.Read(filepath.Join(r.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// Signer returns a signer for the key pub: the agent, if it has the key, else
// the file, whose passphrase is asked for. It wraps ErrNoKey if the private
// half is in neither. The signer is good until ctx ends or the ring is closed.
func (r *Ring) Signer(ctx context.Context, pub ed25519.PublicKey) (crypto.Signer, error) {
	if k, ok := r.open[string(pub)]; ok {
		return k, nil
	}
	if r.o.Agent != nil && r.agent == nil {
		s, err := r.o.Agent.Signer(ctx, pub)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if s != nil {
			return s, nil
		}
		r.agent = err // a file is as good
	}
	files, err := r.Files()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if !f.Public.Equal(pub) {
			continue
		}
		key, err := r.unlock(ctx, f)
		if err != nil {
			return nil, err
		}
		r.open[string(pub)] = key
		return key, nil
	}
	err = fmt.Errorf("%w: neither in %s nor in an SSH agent", ErrNoKey, r.dir)
	if r.agent != nil {
		err = fmt.Errorf("%w; %w", err, r.agent)
	}
	return nil, err
}

// Unlock returns the private key in a file.
func (r *Ring) unlock(ctx context.Context, f *keyfile.File) (ed25519.PrivateKey, error) {
	if !f.Encrypted {
		return f.Key(nil)
	}
	if r.last != nil {
		if key, err := f.Key(r.last); err == nil {
			return key, nil
		}
	}
	if r.o.Ask == nil {
		return nil, fmt.Errorf("%s: %w", f.Name, keyfile.ErrEncrypted)
	}
	for attempt := 0; ; attempt++ {
		p, err := r.o.Ask.Passphrase(ctx, f.Name, attempt)
		if err != nil {
			return nil, err
		}
		key, err := f.Key(p)
		if err == nil {
			clear(r.last)
			r.last = p
			return key, nil
		}
		clear(p)
		if !errors.Is(err, keyfile.ErrPassphrase) {
			return nil, err
		}
	}
}

// Create makes a new key in the file name.key of the folder, and never
// replaces one. It is encrypted with a passphrase that is asked for, unless
// plain is set; several keys that one ring makes get the same.
func (r *Ring) Create(ctx context.Context, name string, plain bool) (ed25519.PublicKey, error) {
	if !storepath.ValidElement(name) {
		return nil, fmt.Errorf("key name %q: use letters, digits and ._+~-", name)
	}
	file := r.Path(name)
	if _, err := os.Lstat(file); err == nil {
		return nil, fmt.Errorf("%w: %s: choose another name, another folder with --keys, or go on with this key", ErrExists, file)
	}
	var p []byte
	if !plain {
		if r.last == nil {
			if r.o.Ask == nil {
				return nil, fmt.Errorf("%s: %w", file, ErrNoPassphrase)
			}
			var err error
			if r.last, err = r.o.Ask.NewPassphrase(ctx, file); err != nil {
				return nil, err
			}
		}
		p = r.last
	}
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the key folder: %w", err)
	}
	if err := keyfile.Create(file, key, "inetboot "+name, p); err != nil {
		clear(key)
		return nil, err
	}
	r.open[string(pub)] = key
	return pub, nil
}

// SetPassphrase encrypts the key in the file name.key anew, with a passphrase
// that next knows; nil leaves it unencrypted. The file's format becomes that
// of OpenSSH.
func (r *Ring) SetPassphrase(ctx context.Context, name string, next Asker) error {
	file := r.Path(name)
	f, err := keyfile.Read(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s does not exist", ErrNoKey, file)
	}
	if err != nil {
		return err
	}
	key, err := r.unlock(ctx, f)
	if err != nil {
		return err
	}
	defer clear(key)
	var p []byte
	if next != nil {
		if p, err = next.NewPassphrase(ctx, file); err != nil {
			return err
		}
		defer clear(p)
	}
	return keyfile.Replace(file, key, "inetboot "+name, p)
}

// Dir returns the folder.
func (r *Ring) Dir() string { return r.dir }

// Path returns where the key called name is, or would be.
func (r *Ring) Path(name string) string { return filepath.Join(r.dir, name+Suffix) }

// Location is a place where the private half of a key is.
type Location struct {
	Public ed25519.PublicKey
	File   *keyfile.File // nil: the SSH agent has it
}

// Locations returns all private keys that can be found.
func (r *Ring) Locations(ctx context.Context) ([]Location, error) {
	files, err := r.Files()
	if err != nil {
		return nil, err
	}
	var out []Location
	for _, f := range files {
		out = append(out, Location{Public: f.Public, File: f})
	}
	if r.o.Agent == nil {
		return out, nil
	}
	have, err := r.o.Agent.Keys(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	r.agent = err // an agent that is not there has no keys
	for _, k := range have {
		out = append(out, Location{Public: k})
	}
	return out, nil
}
