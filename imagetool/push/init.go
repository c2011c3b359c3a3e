package push

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/storepath"
)

// ErrHasCatalog is wrapped when a store has been set up already.
var ErrHasCatalog = errors.New("the store has a catalog already")

// InitOptions says what a new catalog is like.
type InitOptions struct {
	Title    string
	Lifetime time.Duration     // of targets, snapshot and timestamp; 0: the defaults
	Online   ed25519.PublicKey // the server's key for snapshot and timestamp; nil: keys in the folder
}

// InitKeys lists the names of the keys that Init needs in the key folder.
func InitKeys(o InitOptions) []string {
	if o.Online != nil {
		return []string{tuf.RoleRoot, tuf.RoleTargets}
	}
	return publish.TopRoles()
}

// Init publishes the first root, and a catalog with a menu that has the title
// and what preboot does itself. The folder keeps the root. A folder that has a
// root already uses it again: the store shall have the same publishers.
func Init(ctx context.Context, st store.Store, k *keys.Folder, o InitOptions) error {
	if _, _, err := st.Load(ctx, storepath.Timestamp, tuf.MaxTimestamp); err == nil {
		return fmt.Errorf("%s: %w", st, ErrHasCatalog)
	} else if !errors.Is(err, store.ErrNotExist) {
		return err
	}
	// What was there before is gone.
	if err := k.Trust().Forget(st.String()); err != nil {
		return err
	}
	now := time.Now()
	s := &submission{st: st, k: k, now: now}
	var err error
	if s.root, err = firstRoot(ctx, k, o, now); err != nil {
		return err
	}
	menu, err := firstMenu(o.Title)
	if err != nil {
		return err
	}
	r, err := publish.RootRole(s.root, tuf.RoleTargets)
	if err != nil {
		return err
	}
	t := publish.NewTargets(r)
	t.Set(catalog.MenuName, menu)
	data, err := t.Sign(ctx, now, 0, k.Signers())
	if err != nil {
		return err
	}
	s.targets = map[string][]byte{catalog.MenuName: menu}
	s.roles = map[string]role{tuf.RoleTargets: {t.Version(), data}}
	_, err = s.submit(ctx)
	if errors.Is(err, store.ErrConflict) {
		return fmt.Errorf("%s: %w", st, ErrHasCatalog)
	}
	if err != nil {
		return err
	}
	return k.SaveRoot(s.root)
}

func firstMenu(title string) ([]byte, error) {
	m := catalog.NewMenu(title)
	m.Entries = []catalog.Entry{
		{ID: "local-disk", Title: "Boot from the local disk", Action: catalog.ActionLocalDisk},
		{ID: "reboot", Title: "Restart", Action: catalog.ActionReboot},
		{ID: "poweroff", Title: "Switch off", Action: catalog.ActionPowerOff},
	}
	m.Default = "local-disk"
	return m.Marshal()
}

// firstRoot returns the folder's root, or makes one whose roles have the keys
// of their names.
func firstRoot(ctx context.Context, k *keys.Folder, o InitOptions, now time.Time) ([]byte, error) {
	if k.Root != nil {
		if k.Anchor.Root().Version() != 1 {
			return nil, fmt.Errorf("%s: its root has version %d: a new store begins with version 1, make another key folder for it", k.Dir, k.Anchor.Root().Version())
		}
		return k.Root, nil
	}
	r := publish.NewRoot()
	for _, name := range publish.TopRoles() {
		online := name == tuf.RoleSnapshot || name == tuf.RoleTimestamp
		pub := o.Online
		if pub == nil || !online {
			key, ok := k.Key(name)
			if !ok {
				return nil, fmt.Errorf("%w: %s has no key %s", keys.ErrNoKey, k.Dir, name)
			}
			pub = key.Public
		}
		if err := r.AddKey(name, pub); err != nil {
			return nil, err
		}
		if d := lifetime(name, o); d > 0 {
			if err := r.SetLifetime(name, d); err != nil {
				return nil, err
			}
		}
	}
	return r.Sign(ctx, now, k.Signers())
}

// lifetime returns how long a role's metadata counts, 0 for the default.
func lifetime(role string, o InitOptions) time.Duration {
	switch {
	case role == tuf.RoleRoot:
		return 0
	case o.Online != nil && role != tuf.RoleTargets:
		return publish.OnlineLifetime
	}
	return o.Lifetime
}
