// Package catalogtest makes catalogs in memory, for tests.
package catalogtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io/fs"
	"maps"
	"testing"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Key returns a key that depends on n only.
func Key(n byte) publish.KeySigner {
	return publish.KeySigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)))
}

// Options says what a Repo is like.
type Options struct {
	Key      byte          // the roles' keys are Key(this) and the three after it
	Now      time.Time     // when everything is signed; zero: the time of each call
	Lifetime time.Duration // 0: an hour
}

// Repo is the catalog of a store, and its publisher.
type Repo struct {
	Files map[string][]byte // by their paths in the store

	o       Options
	signers publish.Signers
	root    []byte
}

// New makes a catalog without targets.
func New(t testing.TB, o Options) *Repo {
	t.Helper()
	if o.Lifetime == 0 {
		o.Lifetime = time.Hour
	}
	if o.Key == 0 {
		o.Key = 1
	}
	r := &Repo{Files: make(map[string][]byte), o: o}
	root := publish.NewRoot()
	for i, name := range publish.TopRoles() {
		key := Key(o.Key + byte(i))
		r.signers = append(r.signers, key)
		if err := root.AddKey(name, key.Public()); err != nil {
			t.Fatal(err)
		}
		if name != tuf.RoleRoot {
			if err := root.SetLifetime(name, o.Lifetime); err != nil {
				t.Fatal(err)
			}
		}
	}
	var err error
	if r.root, err = root.Sign(t.Context(), r.now(), r.signers); err != nil {
		t.Fatal(err)
	}
	r.Files[storepath.RoleMetadata(tuf.RoleRoot, 1)] = r.root
	r.Publish(t, nil)
	return r
}

func (r *Repo) now() time.Time {
	if r.o.Now.IsZero() {
		return time.Now()
	}
	return r.o.Now
}

// Root returns the first root.
func (r *Repo) Root() []byte { return r.root }

// RootKey returns the public key of the root role.
func (r *Repo) RootKey() ed25519.PublicKey { return r.signers[0].Public() }

// Signers returns the keys of all roles.
func (r *Repo) Signers() publish.Signers { return r.signers }

// Anchor returns the anchor that a medium would have.
func (r *Repo) Anchor(t testing.TB) *catalog.Anchor {
	t.Helper()
	a, err := tuf.NewAnchor(r.root)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Publish lists exactly these targets from now on, and stores them.
func (r *Repo) Publish(t testing.TB, targets map[string][]byte) {
	t.Helper()
	r.PublishAt(t, targets, r.now())
}

// PublishAt is Publish with a time of its own.
func (r *Repo) PublishAt(t testing.TB, targets map[string][]byte, now time.Time) {
	t.Helper()
	r.change(t, now, func(list *publish.Targets) {
		for _, n := range list.Names() {
			list.Remove(n)
		}
		for name, data := range targets {
			list.Set(name, data)
			r.Files[storepath.Target(name, digest.Of(data))] = data
		}
	})
}

// EditTargets publishes what edit makes of the list of targets.
func (r *Repo) EditTargets(t testing.TB, edit func(*metadata.TargetsType)) {
	t.Helper()
	r.change(t, r.now(), func(list *publish.Targets) { edit(list.Metadata()) })
}

func (r *Repo) change(t testing.TB, now time.Time, edit func(*publish.Targets)) {
	t.Helper()
	role, err := publish.RootRole(r.root, tuf.RoleTargets)
	if err != nil {
		t.Fatal(err)
	}
	list, seal := publish.NewTargets(role), publish.Seal{Root: r.root, Signers: r.signers, Now: now}
	if r.Files[storepath.Timestamp] != nil {
		old, err := tuf.Update(t.Context(), r.Anchor(t), r, tuf.Options{})
		if err != nil {
			t.Fatal(err)
		}
		seal.Old = old
		if list, err = publish.NextTargets(role, old.Targets().Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	edit(list)
	data, err := list.Sign(t.Context(), now, 0, r.signers)
	if err != nil {
		t.Fatal(err)
	}
	r.Files[storepath.RoleMetadata(tuf.RoleTargets, list.Version())] = data
	seal.Roles = map[string][]byte{tuf.RoleTargets: data}
	sealed, err := seal.Sign(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.Files[storepath.RoleMetadata(tuf.RoleSnapshot, sealed.SnapshotVersion)] = sealed.Snapshot
	r.Files[storepath.Timestamp] = sealed.Timestamp
}

// Metadata returns the files of the catalog without its targets.
func (r *Repo) Metadata() map[string][]byte {
	out := maps.Clone(r.Files)
	maps.DeleteFunc(out, func(p string, _ []byte) bool {
		kind, _, _ := storepath.Parse(p)
		return kind != storepath.KindMetadata
	})
	return out
}

// Source reads files from memory.
type Source map[string][]byte

var _ catalog.Source = Source{}

// Read implements catalog.Source.
func (s Source) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, ok := s[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", path, len(data), limit)
	}
	if accept != nil {
		if err := accept(data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// Read implements catalog.Source.
func (r *Repo) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	return Source(r.Files).Read(ctx, path, buf, limit, accept)
}

// Open opens the catalog as it is.
func (r *Repo) Open(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Open(t.Context(), r, r.Anchor(t), catalog.Options{Now: r.now()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
