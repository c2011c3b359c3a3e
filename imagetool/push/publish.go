package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/storepath"
)

// publishAttempts is how often another publisher may be faster.
const publishAttempts = 30

// DefaultLifetime is how long a catalog counts after it was signed.
const DefaultLifetime = 8760 * time.Hour

var (
	// ErrNoCatalog is wrapped when a store has not been set up.
	ErrNoCatalog = errors.New("the store has no catalog: run imagetool init first")
	// ErrHasCatalog is wrapped when a store has been set up already.
	ErrHasCatalog = errors.New("the store has a catalog already")
	// ErrLost is wrapped when other publishers were faster again and again.
	ErrLost = errors.New("other publishers keep changing the catalog")
)

// Edition is a catalog that is being changed.
type Edition struct {
	Old  *catalog.Catalog // what it replaces
	List catalog.List
	Menu *catalog.Menu

	targets map[string][]byte // to be stored
	menuWas []byte
}

// SetTarget lists data under name.
func (e *Edition) SetTarget(name string, data []byte) {
	e.List.Targets[name] = catalog.NewTarget(data)
	e.targets[name] = data
}

// Load reads and verifies the store's catalog with the publisher's own trust
// file. Expired catalogs are accepted: they are what refreshing is for.
func Load(ctx context.Context, st store.Store, trust *catalog.Trust) (c *catalog.Catalog, tag string, err error) {
	data, tag, err := st.Load(ctx, storepath.Catalog, catalog.MaxCatalog)
	if errors.Is(err, store.ErrNotExist) {
		return nil, "", fmt.Errorf("%s: %w", st, ErrNoCatalog)
	}
	if err != nil {
		return nil, "", err
	}
	c, err = catalog.Load(st, trust, data, catalog.Options{})
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", st, err)
	}
	return c, tag, nil
}

// ErrUnchanged is returned by an edit that has nothing to change.
var ErrUnchanged = errors.New("nothing to change")

// Publish changes the store's catalog with edit and signs the result. When
// another publisher was faster, it reads the new catalog and edits that.
// lifetime 0 keeps the lifetime that the catalog had.
func Publish(ctx context.Context, st store.Store, k *keys.Folder, lifetime time.Duration, edit func(*Edition) error) (version uint64, err error) {
	for n := range publishAttempts {
		if n > 0 {
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-time.After(rand.N(time.Duration(min(n, 10)) * 50 * time.Millisecond)):
			}
		}
		version, err = publishOnce(ctx, st, k, lifetime, edit)
		if !errors.Is(err, store.ErrConflict) {
			return version, err
		}
	}
	return 0, fmt.Errorf("publish on %s: %w", st, ErrLost)
}

func publishOnce(ctx context.Context, st store.Store, k *keys.Folder, lifetime time.Duration, edit func(*Edition) error) (uint64, error) {
	old, tag, err := Load(ctx, st, k.Trust)
	if err != nil {
		return 0, err
	}
	e := &Edition{Old: old, List: old.List(), targets: make(map[string][]byte)}
	if e.Menu, err = old.Menu(ctx); err != nil {
		return 0, err
	}
	if e.menuWas, err = e.Menu.Marshal(); err != nil {
		return 0, err
	}
	if err := edit(e); err != nil {
		return 0, err
	}
	menu, err := e.Menu.Marshal()
	if err != nil {
		return 0, err
	}
	if !bytes.Equal(menu, e.menuWas) {
		e.SetTarget(catalog.MenuName, menu)
	}
	if lifetime == 0 {
		lifetime = e.List.Expires.Sub(e.List.Created)
	}
	if lifetime <= 0 {
		lifetime = DefaultLifetime
	}
	e.List.Version++
	e.List.Created = time.Now().UTC().Truncate(time.Second)
	e.List.Expires = e.List.Created.Add(lifetime)
	return e.List.Version, put(ctx, st, k, &e.List, e.targets, tag)
}

// put stores targets, and then the signed list over the version tag.
func put(ctx context.Context, st store.Store, k *keys.Folder, list *catalog.List, targets map[string][]byte, tag string) error {
	signed, err := catalog.Sign(list, k.Key)
	if err != nil {
		return err
	}
	for name, data := range targets {
		t := list.Targets[name]
		if err := st.Put(ctx, storepath.Target(name, t.Hashes.SHA256), bytes.NewReader(data), int64(len(data))); err != nil {
			return err
		}
	}
	err = st.Replace(ctx, storepath.Catalog, signed, tag)
	if errors.Is(err, store.ErrConflict) {
		// An answer that was lost makes the second attempt of the same
		// request collide with the first.
		if now, _, lerr := st.Load(ctx, storepath.Catalog, catalog.MaxCatalog); lerr == nil && bytes.Equal(now, signed) {
			return nil
		}
	}
	return err
}

// Init publishes the trust file and an empty catalog, version 1, with a menu
// that has the title and what preboot does itself.
func Init(ctx context.Context, st store.Store, k *keys.Folder, title string, lifetime time.Duration) error {
	if _, _, err := st.Load(ctx, storepath.Catalog, catalog.MaxCatalog); err == nil {
		return fmt.Errorf("%s: %w", st, ErrHasCatalog)
	} else if !errors.Is(err, store.ErrNotExist) {
		return err
	}
	m := catalog.NewMenu(title)
	m.Entries = []catalog.Entry{
		{ID: "local-disk", Title: "Boot from the local disk", Action: catalog.ActionLocalDisk},
		{ID: "reboot", Title: "Restart", Action: catalog.ActionReboot},
		{ID: "poweroff", Title: "Switch off", Action: catalog.ActionPowerOff},
	}
	m.Default = "local-disk"
	menu, err := m.Marshal()
	if err != nil {
		return err
	}
	trust, err := k.Trust.Marshal()
	if err != nil {
		return fmt.Errorf("encode the trust file: %w", err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	list := &catalog.List{
		Type: catalog.Type, Version: 1, Created: now, Expires: now.Add(lifetime),
		Targets: map[string]catalog.Target{catalog.MenuName: catalog.NewTarget(menu)},
	}
	// The trust file first: a server may judge catalogs by it.
	_, tag, err := st.Load(ctx, storepath.Trust, 64<<10)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		return err
	}
	if err := st.Replace(ctx, storepath.Trust, append(trust, '\n'), tag); err != nil {
		return err
	}
	err = put(ctx, st, k, list, map[string][]byte{catalog.MenuName: menu}, "")
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%s: %w", st, ErrHasCatalog)
	}
	return err
}
