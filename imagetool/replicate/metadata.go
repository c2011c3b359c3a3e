package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Metadata brings the metadata of c, the catalog of from, to another store,
// over the timestamp with the tag: the chain of roots from the first one on,
// because media may begin anywhere in it, roles, the snapshot, and at the end
// the timestamp, which makes the rest count. updated is false if it was there.
func Metadata(ctx context.Context, from, to store.Store, c *catalog.Catalog, tag string) (updated bool, err error) {
	// All roles have been read once their names are known.
	if _, err := c.Names(ctx); err != nil {
		return false, err
	}
	for v := int64(1); v < c.Trusted().Root().Version(); v++ {
		path := storepath.RoleMetadata(tuf.RoleRoot, v)
		data, _, err := from.Load(ctx, path, tuf.MaxRoot)
		if err != nil {
			return false, err
		}
		root, err := tuf.ParseRoot(data)
		if err != nil || root.Version() != v {
			return false, fmt.Errorf("%s of %s is not version %d of the root: %w", path, from, v, errors.Join(err, catalog.ErrFormat))
		}
		if err := create(ctx, to, path, data); err != nil {
			return false, err
		}
	}
	for _, f := range c.Trusted().Files() {
		if f.Path != storepath.Timestamp {
			if err := create(ctx, to, f.Path, f.Data); err != nil {
				return false, err
			}
			continue
		}
		now, _, err := to.Load(ctx, f.Path, tuf.MaxTimestamp)
		if err != nil && !errors.Is(err, store.ErrNotExist) {
			return false, err
		}
		if err == nil && bytes.Equal(now, f.Data) {
			return false, nil
		}
		if err := to.Replace(ctx, f.Path, f.Data, tag); err != nil {
			return false, err
		}
	}
	return true, nil
}

// create stores versioned metadata that may be there already.
func create(ctx context.Context, to store.Store, path string, data []byte) error {
	missing, err := to.Missing(ctx, []string{path})
	if err != nil || len(missing) == 0 {
		return err
	}
	return store.Settled(ctx, to, path, data, to.Create(ctx, path, data, ""))
}
