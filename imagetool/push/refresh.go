package push

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/store"
)

// RefreshOptions says what is signed anew.
type RefreshOptions struct {
	All      bool          // everything whose keys are there; else what is due
	Lifetime time.Duration // not 0: all but the root, to count that long
	Warn     time.Duration // how long before the end what is not signed is told, and what can be is due; 0: a quarter of each lifetime
}

// due tells whether what a role has signed is to be signed anew.
func (o RefreshOptions) due(expires time.Time, r publish.Role, now time.Time) bool {
	return publish.Due(expires, r.Lifetime, now) || expires.Sub(now) < o.Warn
}

// Refreshed is what Refresh found and did.
type Refreshed struct {
	Catalog uint64 `json:"catalog"` // version
	Parts   []Part `json:"parts"`
}

// Part is the metadata of a role.
type Part struct {
	Role    string    `json:"role"`
	Version int64     `json:"version"`
	Expires time.Time `json:"expires"`
	Signed  bool      `json:"signed"` // just now
	Online  bool      `json:"online"` // the server signs it
	Warn    bool      `json:"warn"`   // it expires soon
}

// errNothing ends an attempt that has nothing to do.
var errNothing = errors.New("nothing is due")

// Refresh signs anew what is due and can be signed with the keys of the
// folder.
func Refresh(ctx context.Context, st store.Store, k *keys.Folder, o RefreshOptions) (*Refreshed, error) {
	now := time.Now()
	var before *catalog.Catalog
	err := retry(ctx, st, func(again bool) error {
		old, tag, err := Load(ctx, st, k.Trust())
		if err != nil {
			return err
		}
		keepRoot(k, old)
		if before == nil {
			before = old
		}
		s := &submission{st: st, k: k, old: old, tag: tag, now: now, lifetime: o.Lifetime, again: again, roles: make(map[string]role)}
		if err := s.refresh(ctx, o); err != nil {
			return err
		}
		_, err = s.submit(ctx)
		return err
	})
	if err != nil && !errors.Is(err, errNothing) {
		return nil, err
	}
	after, _, err := Load(ctx, st, k.Trust())
	if err != nil {
		return nil, err
	}
	keepRoot(k, after)
	return report(ctx, st, k, before, after, o.Warn, now)
}

// refresh collects what has to be signed. It returns errNothing if that is
// nothing.
func (s *submission) refresh(ctx context.Context, o RefreshOptions) error {
	set, signers := s.old.Trusted(), s.k.Signers()
	all := o.All || o.Lifetime > 0
	wanted := func(expires time.Time, r publish.Role) bool {
		return signers.Suffice(r) && (all || o.due(expires, r, s.now))
	}
	root, err := publish.NextRoot(set.Root().Bytes())
	if err != nil {
		return err
	}
	if r := root.Role(tuf.RoleRoot); signers.Suffice(r) && (o.All || o.due(set.Root().Expires(), r, s.now)) {
		if s.root, err = root.Sign(ctx, s.now, signers); err != nil {
			return err
		}
	}
	lists, err := lists(ctx, s.old)
	if err != nil {
		return err
	}
	for _, l := range lists {
		if !wanted(l.meta.Expires(), l.role) {
			continue
		}
		t, err := publish.NextTargets(l.role, l.meta.Bytes())
		if err != nil {
			return err
		}
		if s.again {
			skip, err := gap(ctx, s.st, l.role.Name, t.Version())
			if err != nil {
				return err
			}
			t.Skip(skip)
		}
		data, err := t.Sign(ctx, s.now, o.Lifetime, signers)
		if err != nil {
			return err
		}
		s.roles[l.role.Name] = role{t.Version(), data}
	}
	snapshot, timestamp := root.Role(tuf.RoleSnapshot), root.Role(tuf.RoleTimestamp)
	ours := signers.Suffice(snapshot) && signers.Suffice(timestamp)
	s.anew = ours && wanted(set.Snapshot().Expires(), snapshot)
	if s.root == nil && len(s.roles) == 0 && !s.anew && !(ours && wanted(set.Timestamp().Expires(), timestamp)) {
		return errNothing
	}
	return nil
}

// list is a targets role with its metadata.
type list struct {
	role publish.Role
	meta *tuf.Targets
}

// lists returns the targets role and all delegated ones that were published.
func lists(ctx context.Context, c *catalog.Catalog) ([]list, error) {
	set := c.Trusted()
	r, err := publish.RootRole(set.Root().Bytes(), tuf.RoleTargets)
	if err != nil {
		return nil, err
	}
	out := []list{{r, set.Targets()}}
	for i := 0; i < len(out); i++ {
		for _, d := range out[i].meta.Delegations {
			if _, published := set.Snapshot().Meta(d.Name); !published ||
				slices.ContainsFunc(out, func(l list) bool { return l.role.Name == d.Name }) {
				continue
			}
			m, _, err := set.Role(ctx, d.Name)
			if err != nil {
				return nil, err
			}
			r, _, err := publish.Delegated(out[i].meta.Bytes(), d.Name)
			if err != nil {
				return nil, err
			}
			out = append(out, list{r, m})
		}
	}
	return out, nil
}

// report says what has changed between two catalogs and what will expire.
func report(ctx context.Context, st store.Store, k *keys.Folder, before, after *catalog.Catalog, warn time.Duration, now time.Time) (*Refreshed, error) {
	r := &Refreshed{Catalog: after.Version()}
	was, set := before.Trusted(), after.Trusted()
	add := func(name string, version, old int64, expires time.Time, role publish.Role) {
		limit := warn
		if limit == 0 {
			limit = role.Lifetime / 4
		}
		p := Part{Role: name, Version: version, Expires: expires, Signed: version > old}
		p.Warn = !p.Signed && expires.Sub(now) < limit
		p.Online = (name == tuf.RoleSnapshot || name == tuf.RoleTimestamp) && store.IsURL(st.String()) && !k.Signers().Suffice(role)
		if p.Online {
			p.Signed = false
		}
		r.Parts = append(r.Parts, p)
	}
	root, err := publish.NextRoot(set.Root().Bytes())
	if err != nil {
		return nil, err
	}
	add(tuf.RoleRoot, set.Root().Version(), was.Root().Version(), set.Root().Expires(), root.Role(tuf.RoleRoot))
	lists, err := lists(ctx, after)
	if err != nil {
		return nil, err
	}
	for _, l := range lists {
		old, _ := was.Snapshot().Meta(l.role.Name)
		add(l.role.Name, l.meta.Version(), old.Version, l.meta.Expires(), l.role)
	}
	add(tuf.RoleSnapshot, set.Snapshot().Version(), was.Snapshot().Version(), set.Snapshot().Expires(), root.Role(tuf.RoleSnapshot))
	add(tuf.RoleTimestamp, set.Timestamp().Version(), was.Timestamp().Version(), set.Timestamp().Expires(), root.Role(tuf.RoleTimestamp))
	return r, nil
}
