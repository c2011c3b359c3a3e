package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/storepath"
)

// NewRoot is a root on its way into a store.
type NewRoot struct {
	Version   int64          `json:"version"`
	Published bool           `json:"published"`
	Changes   []string       `json:"changes"`
	Needs     []publish.Need `json:"needs"`
	Catalog   uint64         `json:"catalog,omitempty"` // version, once it is published
	Data      []byte         `json:"-"`
}

// Rotation makes the next root of a store.
type Rotation struct {
	Store   store.Store
	Keys    *keys.Folder
	Pending []byte   // the root that was begun; nil: none
	Copies  [][]byte // of it, with other people's signatures

	// Edit changes the root; nil leaves it as it is and signs it only.
	Edit func(*publish.Root) error
	// Hold leaves it unsigned and unpublished.
	Hold bool
	// Offline signs without a store: the root before it is that of Keys. It is
	// not published then.
	Offline bool
	// Keep is called with what has been signed so far, before it is published:
	// whatever happens then, the same bytes can be published again.
	Keep func(*NewRoot) error
}

// Run signs the next root with the keys at hand, and publishes it if that is
// enough. What the new keys have to sign at once, so that machines never see a
// catalog that fits its root no longer, is signed and published with it.
func (o *Rotation) Run(ctx context.Context) (*NewRoot, error) {
	now := time.Now()
	was, done, err := o.start(ctx)
	if done != nil || err != nil {
		return done, err
	}
	var r *publish.Root
	if o.Pending == nil {
		r, err = publish.NextRoot(was)
	} else {
		r, err = publish.ResumeRoot(o.Pending, was)
	}
	if err != nil {
		return nil, err
	}
	for _, c := range o.Copies {
		if err := r.Merge(c); err != nil {
			return nil, err
		}
	}
	var data []byte
	switch {
	case o.Edit != nil:
		if err := o.Edit(r); err != nil {
			return nil, err
		}
		if data, err = r.Draft(now); err != nil {
			return nil, err
		}
		if !o.Hold {
			data, err = r.Sign(ctx, now, o.Keys.Signers())
		}
	default:
		data, err = r.AddSignatures(ctx, o.Keys.Signers())
		if errors.Is(err, publish.ErrTooFew) && len(o.Keys.Signers().For(r.SignerIDs())) == 0 {
			return nil, fmt.Errorf("%w in %s that may sign root version %d", keys.ErrNoKey, o.Keys.Dir, r.Version())
		}
	}
	few := errors.Is(err, publish.ErrTooFew)
	if err != nil && !few {
		return nil, err
	}
	out := &NewRoot{Version: r.Version(), Changes: r.Changes(), Needs: r.Needs(), Data: data}
	if err := o.Keep(out); err != nil {
		return nil, err
	}
	if few || o.Hold || o.Offline {
		return out, nil
	}
	o.Pending = data
	err = retry(ctx, o.Store, func(again bool) error {
		out.Catalog, err = o.publish(ctx, again, now)
		return err
	})
	if err != nil {
		return nil, err
	}
	out.Published = true
	return out, o.Keys.SaveRoot(data)
}

// start returns the root before the one that is being made, or that nothing is
// left to do.
func (o *Rotation) start(ctx context.Context) (was []byte, done *NewRoot, err error) {
	if o.Offline {
		if o.Keys.Root == nil {
			return nil, nil, fmt.Errorf("%w: there is no %s in %s to compare with: get it from who made the store (imagetool key export --root)", keys.ErrNoKey, keys.RootFile, o.Keys.Dir)
		}
		return o.Keys.Root, nil, nil
	}
	if done, err = o.done(ctx); done != nil || err != nil {
		return nil, done, err
	}
	old, _, err := o.before(ctx)
	if err != nil {
		return nil, nil, err
	}
	keepRoot(o.Keys, old)
	return old.Trusted().Root().Bytes(), nil, nil
}

// done returns the root that was begun if it has been published and all of the
// catalog fits it, so that nothing is left to do.
func (o *Rotation) done(ctx context.Context) (*NewRoot, error) {
	if o.Pending == nil || o.Keys.Anchor == nil {
		return nil, nil
	}
	c, _, err := Load(ctx, o.Store, o.Keys.Trust())
	if err != nil || !bytes.Equal(c.Trusted().Root().Bytes(), o.Pending) {
		return nil, ctx.Err()
	}
	root := c.Trusted().Root()
	return &NewRoot{Version: root.Version(), Published: true, Changes: []string{}, Needs: []publish.Need{}, Catalog: c.Version(), Data: o.Pending}, o.Keys.SaveRoot(o.Pending)
}

// before returns the catalog as it is without the root that is being made: that
// may be there already, if publishing was interrupted.
func (o *Rotation) before(ctx context.Context) (*catalog.Catalog, string, error) {
	if o.Pending == nil {
		return Load(ctx, o.Store, o.Keys.Trust())
	}
	p, err := publish.RootVersion(o.Pending)
	if err != nil {
		return nil, "", fmt.Errorf("the root that was begun: %w", err)
	}
	path := storepath.RoleMetadata(tuf.RoleRoot, p)
	data, _, err := o.Store.Load(ctx, path, tuf.MaxRoot)
	switch {
	case errors.Is(err, store.ErrNotExist):
	case err != nil:
		return nil, "", err
	case !bytes.Equal(data, o.Pending):
		return nil, "", fmt.Errorf("the store has another root of version %d already: %w: begin again (imagetool key pending --drop)", p, store.ErrConflict)
	}
	// What was seen may be the catalog with the new root.
	return loadFrom(ctx, o.Store, hidden{o.Store, path}, keys.Believe(o.Keys.Anchor))
}

// publish publishes the signed root.
func (o *Rotation) publish(ctx context.Context, again bool, now time.Time) (uint64, error) {
	old, tag, err := o.before(ctx)
	if err != nil {
		return 0, err
	}
	next, err := old.Trusted().Root().Next(o.Pending)
	if err != nil {
		return 0, err
	}
	s := &submission{st: o.Store, k: o.Keys, old: old, tag: tag, now: now, again: again, root: o.Pending, roles: make(map[string]role), anew: true}
	list := old.Trusted().Targets()
	if _, err := next.CheckTargets(list.Bytes(), time.Time{}); err != nil {
		r, err := publish.RootRole(o.Pending, tuf.RoleTargets)
		if err != nil {
			return 0, err
		}
		t, err := publish.NextTargets(r, list.Bytes())
		if err != nil {
			return 0, err
		}
		if err := s.list(ctx, t); err != nil {
			return 0, fmt.Errorf("the list of targets has to be signed by the new keys at the same time: publish the root where they are: %w", err)
		}
	}
	return s.submit(ctx)
}

// hidden is a store without one file.
type hidden struct {
	catalog.Source
	path string
}

func (h hidden) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	if path == h.path {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return h.Source.Read(ctx, path, buf, limit, accept)
}
