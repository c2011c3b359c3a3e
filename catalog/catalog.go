package catalog

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Catalog is a verified catalog and where its targets come from.
type Catalog struct {
	src Source
	set *tuf.Trusted
}

// Options says what else besides signatures counts.
type Options struct {
	Now   time.Time    // expiry is judged by this time; zero: expiry is not judged
	Floor *tuf.Trusted // what was trusted before; nothing older is accepted
}

// Open reads the newest catalog of a store and verifies it.
func Open(ctx context.Context, src Source, anchor *Anchor, o Options) (*Catalog, error) {
	set, err := tuf.Update(ctx, anchor, src, tuf.Options{Now: o.Now, Floor: o.Floor})
	if err != nil {
		return nil, fmt.Errorf("load the catalog: %w", err)
	}
	return &Catalog{src: src, set: set}, nil
}

// From returns the same catalog with its targets read from src.
func (c *Catalog) From(src Source) *Catalog { return &Catalog{src: src, set: c.set.From(src)} }

// Trusted returns the catalog's metadata.
func (c *Catalog) Trusted() *tuf.Trusted { return c.set }

// Version returns the catalog's version, which is the snapshot's: it grows
// with each change of what the catalog lists.
func (c *Catalog) Version() uint64 { return uint64(c.set.Snapshot().Version()) }

// Expires returns when the catalog expires: the first of its top-level roles.
func (c *Catalog) Expires() time.Time {
	_, at := c.set.Expires()
	return at
}

// Names returns the names of all targets, sorted.
func (c *Catalog) Names(ctx context.Context) ([]string, error) {
	all, err := c.set.All(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(all))
	for n := range all {
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

// Blob returns the length and the hash of a target.
func (c *Catalog) Blob(ctx context.Context, name string) (digest.Blob, error) {
	_, b, err := c.find(ctx, name)
	return b, err
}

func (c *Catalog) find(ctx context.Context, name string) (tuf.Target, digest.Blob, error) {
	t, _, err := c.set.Lookup(ctx, name)
	if err != nil {
		return t, digest.Blob{}, err
	}
	b, err := blob(name, t)
	return t, b, err
}

// blob checks that a target is one of ours: a name that has a place in a
// store, a hash that is part of its path, and a length that can be read.
func blob(name string, t tuf.Target) (digest.Blob, error) {
	sum, err := digest.Parse(t.Hashes["sha256"])
	if err != nil || !storepath.ValidTarget(name) || t.Length <= 0 || t.Length > MaxTarget {
		return digest.Blob{}, fmt.Errorf("the target %.100q is %w: its name, its length of %d bytes or its SHA-256", name, ErrFormat, t.Length)
	}
	return digest.Blob{SHA256: sum, Size: t.Length}, nil
}

func (c *Catalog) target(ctx context.Context, name string) ([]byte, digest.Blob, error) {
	t, b, err := c.find(ctx, name)
	if err != nil {
		return nil, b, err
	}
	data, err := c.src.Read(ctx, storepath.Target(name, b.SHA256), nil, b.Size, func(data []byte) error {
		if err := b.SHA256.Check(name, data); err != nil {
			return err
		}
		return t.Check(name, data)
	})
	if err != nil {
		return nil, b, fmt.Errorf("load %s: %w", name, err)
	}
	return data, b, nil
}

// Menu reads the menu.
func (c *Catalog) Menu(ctx context.Context) (*Menu, error) {
	data, _, err := c.target(ctx, MenuName)
	if err != nil {
		return nil, err
	}
	return ParseMenu(data)
}

// Image reads the manifest that a menu entry names.
func (c *Catalog) Image(ctx context.Context, name string) (*Image, error) {
	data, b, err := c.target(ctx, name)
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, err
	}
	if want := ManifestName(m.Name, m.Version, m.Arch); want != name {
		return nil, fmt.Errorf("the manifest at %s is %w: it says that it is %s", name, ErrFormat, want)
	}
	return &Image{m: *m, hash: b.SHA256}, nil
}
