package store

import (
	"fmt"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// ErrIncomplete is wrapped when a catalog lists what is not in the store.
var ErrIncomplete = fmt.Errorf("the catalog lists what the store does not have")

// Publish replaces the catalog, whose hash must still be old, by data. It is
// taken only if the keys in the store's trust file have signed it, its version
// is newer, and everything that it newly lists is there, down to the blocks.
func (d *Dir) Publish(old digest.SHA256, data []byte, now time.Time) error {
	raw, err := d.Read(storepath.Trust, 64<<10)
	if err != nil {
		return fmt.Errorf("publish a catalog: the trust file comes first: %w", err)
	}
	trust, err := catalog.ParseTrust(raw)
	if err != nil {
		return fmt.Errorf("publish a catalog: the store's %w", err)
	}
	return d.Replace(storepath.Catalog, old, data, func(present []byte) error {
		next, err := catalog.CheckSuccessor(trust, present, data, now)
		if err != nil {
			return err
		}
		known := map[string]bool{}
		if present != nil {
			if prev, err := catalog.Verify(trust, present, time.Time{}, 0); err == nil {
				for _, p := range prev.Paths() {
					known[p] = true
				}
			}
		}
		for name, t := range next.Targets {
			p := storepath.Target(name, t.Hashes.SHA256)
			if known[p] {
				continue
			}
			if err := d.complete(name, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// complete checks that a target, and all that it names if it is a manifest,
// is in the store.
func (d *Dir) complete(name, p string) error {
	data, err := d.Read(p, catalog.MaxTarget)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrIncomplete, name, err)
	}
	if name == catalog.MenuName {
		_, err := catalog.ParseMenu(data)
		return err
	}
	m, err := catalog.ParseManifest(data)
	if err != nil {
		return err
	}
	for _, f := range m.Files() {
		if !d.Has(storepath.File(f.SHA256)) {
			return fmt.Errorf("%w: %s names the file %s", ErrIncomplete, name, f.SHA256)
		}
	}
	for _, f := range m.Root.Files {
		raw, err := d.Read(storepath.Index(f.Index.SHA256), d.limits.Index)
		if err != nil {
			return fmt.Errorf("%w: %s names the index %s: %w", ErrIncomplete, name, f.Index.SHA256, err)
		}
		x, err := index.Parse(raw)
		if err != nil {
			return fmt.Errorf("%s names the index %s: %w", name, f.Index.SHA256, err)
		}
		for i := range x.Len() {
			if e := x.Entry(i); !e.Zero() && !d.Has(storepath.Block(e.SHA256)) {
				return fmt.Errorf("%w: %s needs the block %s", ErrIncomplete, name, e.SHA256)
			}
		}
	}
	return nil
}
