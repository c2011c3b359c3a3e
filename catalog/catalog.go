package catalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// Source reads files of a store. accept judges the bytes as they came: when it
// returns an error, a source that knows several mirrors asks the next one.
// *mirror.Client is a Source.
type Source interface {
	Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error)
}

// Catalog is a verified catalog and where its targets come from.
type Catalog struct {
	src  Source
	list List
}

// Options says what else besides signatures counts.
type Options struct {
	Now   time.Time // expiry is judged by this time; zero: expiry is not judged
	Floor uint64    // lowest version that is accepted
}

// Open reads the newest catalog of a store and verifies it.
func Open(ctx context.Context, src Source, trust *Trust, o Options) (*Catalog, error) {
	var list *List
	_, err := src.Read(ctx, storepath.Catalog, nil, MaxCatalog, func(data []byte) (err error) {
		list, err = Verify(trust, data, o.Now, o.Floor)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("load the catalog: %w", err)
	}
	return &Catalog{src: src, list: *list}, nil
}

// Load verifies the bytes of a catalog and returns it. Its targets are read
// from src. It is for publishers, who have to know which bytes they replace.
func Load(src Source, trust *Trust, data []byte, o Options) (*Catalog, error) {
	list, err := Verify(trust, data, o.Now, o.Floor)
	if err != nil {
		return nil, err
	}
	return &Catalog{src: src, list: *list}, nil
}

// Version returns the catalog's version.
func (c *Catalog) Version() uint64 { return c.list.Version }

// Expires returns when the catalog expires.
func (c *Catalog) Expires() time.Time { return c.list.Expires }

// Names returns the names of all targets.
func (c *Catalog) Names() []string {
	names := make([]string, 0, len(c.list.Targets))
	for n := range c.list.Targets {
		names = append(names, n)
	}
	return names
}

func (c *Catalog) target(ctx context.Context, name string) ([]byte, Target, error) {
	t, ok := c.list.Targets[name]
	if !ok {
		return nil, t, fmt.Errorf("%s is %w", name, ErrNotFound)
	}
	data, err := c.src.Read(ctx, storepath.Target(name, t.Hashes.SHA256), nil, t.Length, func(b []byte) error {
		return t.Hashes.SHA256.Check(name, b)
	})
	if err != nil {
		return nil, t, fmt.Errorf("load %s: %w", name, err)
	}
	return data, t, nil
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
	data, t, err := c.target(ctx, name)
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
	return &Image{m: *m, hash: t.Hashes.SHA256}, nil
}

// List returns a copy of the verified list, for writing the next version.
func (c *Catalog) List() List {
	l := c.list
	l.Targets = make(map[string]Target, len(c.list.Targets))
	for n, t := range c.list.Targets {
		l.Targets[n] = t
	}
	return l
}

// CheckSuccessor tells whether next may replace the catalog old (nil for the
// first one) in a store whose publishers are trust. Expired catalogs may be
// replaced and are refused as replacement.
func CheckSuccessor(trust *Trust, old, next []byte, now time.Time) (*List, error) {
	l, err := Verify(trust, next, now, 0)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return l, nil
	}
	prev, err := Verify(trust, old, time.Time{}, 0)
	if err != nil {
		if errors.Is(err, ErrUnknownKey) || errors.Is(err, ErrSignature) {
			return l, nil // the keys were changed; the new catalog is good by the new ones
		}
		return nil, fmt.Errorf("the catalog in the store: %w", err)
	}
	if l.Version <= prev.Version {
		return nil, fmt.Errorf("the new catalog is %w: version %d, the store has %d", ErrRollback, l.Version, prev.Version)
	}
	return l, nil
}
