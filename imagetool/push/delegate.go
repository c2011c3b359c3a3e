package push

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/bootsettings"
)

// Paths returns the patterns of targets that images with these prefixes have
// (name, version and architecture are one element each), their settings, and
// the menu of each prefix.
func Paths(prefixes []string) []string {
	var out []string
	for _, p := range prefixes {
		out = append(out, "images/"+p+"*/*/*.json", bootsettings.ImageName(p+"*", ""), bootsettings.ImageName(p+"*", "*"), catalog.IncludedName(p))
	}
	return out
}

// Prefixes is the inverse of Paths. Patterns of another form are left as they
// are, but for those of settings and menus.
func Prefixes(paths []string) []string {
	out := []string{}
	for _, p := range paths {
		if _, ok := bootsettings.ParseName(p); ok || catalog.IsIncluded(p) {
			continue
		}
		name, ok := strings.CutPrefix(p, "images/")
		short, cut := strings.CutSuffix(name, "*/*/*.json")
		if !ok || !cut {
			short = p
		}
		out = append(out, short)
	}
	return out
}

// Delegate publishes a delegation, new or in the place of the one of the same
// name. What the delegated role has published has to fit the delegation
// afterwards: if it does not, it is signed anew by keys at hand.
func Delegate(ctx context.Context, st store.Store, k *keys.Folder, d publish.Delegation) (version uint64, err error) {
	err = retry(ctx, st, func(again bool) error {
		version, err = delegateOnce(ctx, st, k, d, again)
		return err
	})
	return version, err
}

func delegateOnce(ctx context.Context, st store.Store, k *keys.Folder, d publish.Delegation, again bool) (uint64, error) {
	old, tag, err := Load(ctx, st, k.Trust())
	if err != nil {
		return 0, err
	}
	keepRoot(k, old)
	t, err := nextTargets(old)
	if err != nil {
		return 0, err
	}
	if err := t.Delegate(d); err != nil {
		return 0, err
	}
	s := &submission{st: st, k: k, old: old, tag: tag, now: time.Now(), again: again, roles: make(map[string]role)}
	data, err := t.Sign(ctx, s.now, 0, k.Signers())
	if errors.Is(err, publish.ErrTooFew) {
		return 0, s.hold(ctx, t.Role(), data, err)
	}
	if err := s.list(ctx, t); err != nil {
		return 0, err
	}
	if err := s.resign(ctx, d); err != nil {
		return 0, err
	}
	return s.submit(ctx)
}

// resign signs anew what the delegated role has published, unless that fits the
// delegation.
func (s *submission) resign(ctx context.Context, d publish.Delegation) error {
	set := s.old.Trusted()
	if _, published := set.Snapshot().Meta(d.Name); !published {
		return nil
	}
	have, was, err := set.Role(ctx, d.Name)
	if was == nil {
		// It was revoked, and its list is still in the snapshot.
		return fmt.Errorf("the store has a list of a former publisher %s: choose another name", d.Name)
	}
	if err != nil {
		return err
	}
	if d.Signed(have.Bytes()) {
		return nil
	}
	r := d.Role()
	t, err := publish.NextTargets(r, have.Bytes())
	if err != nil {
		return err
	}
	if err := s.list(ctx, t); err != nil {
		return fmt.Errorf("the publisher's list has to be signed by the new keys at the same time; do it where they are, or remove %s and add the publisher under another name: %w", d.Name, err)
	}
	return nil
}

// list signs a list and makes it part of the submission.
func (s *submission) list(ctx context.Context, t *publish.Targets) error {
	if s.again {
		skip, err := gap(ctx, s.st, t.Role().Name, t.Version())
		if err != nil {
			return err
		}
		t.Skip(skip)
	}
	data, err := t.Sign(ctx, s.now, s.lifetime, s.k.Signers())
	if err != nil {
		return err
	}
	s.roles[t.Role().Name] = role{t.Version(), data}
	return nil
}

// roleFor returns the role that lists a target and that the keys at hand can
// sign for: the targets role, or the first one that it delegates such names to.
// If there is none it is the targets role.
func roleFor(old *catalog.Catalog, k *keys.Folder, target string) (publish.Role, error) {
	set := old.Trusted()
	top, err := publish.RootRole(set.Root().Bytes(), tuf.RoleTargets)
	if err != nil || target == "" || k.Signers().Suffice(top) {
		return top, err
	}
	all, err := publish.Delegations(set.Targets().Bytes())
	if err != nil {
		return top, err
	}
	for _, d := range all {
		covers := slices.ContainsFunc(d.Paths, func(p string) bool { return tuf.Match(p, target) })
		if r := d.Role(); covers && k.Signers().Suffice(r) {
			return r, nil
		}
	}
	// Others have to sign, too.
	if len(k.Signers().For(top.KeyIDs)) > 0 {
		return top, nil
	}
	for _, d := range all {
		covers := slices.ContainsFunc(d.Paths, func(p string) bool { return tuf.Match(p, target) })
		if r := d.Role(); covers && len(k.Signers().For(r.KeyIDs)) > 0 {
			return r, nil
		}
	}
	return top, nil
}

// listFor begins the next list of the role that roleFor returns.
func listFor(ctx context.Context, old *catalog.Catalog, k *keys.Folder, target string) (*publish.Targets, error) {
	r, err := roleFor(old, k, target)
	if err != nil {
		return nil, err
	}
	set := old.Trusted()
	if r.Name == tuf.RoleTargets {
		return publish.NextTargets(r, set.Targets().Bytes())
	}
	if _, published := set.Snapshot().Meta(r.Name); !published {
		return publish.NewTargets(r), nil
	}
	t, _, err := set.Role(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	return publish.NextTargets(r, t.Bytes())
}

// ready makes sure, before the work begins, that what publishing a target takes
// can be signed, and that nobody is asked for a passphrase later.
func ready(ctx context.Context, st store.Store, old *catalog.Catalog, k *keys.Folder, target string) error {
	r, err := roleFor(old, k, target)
	if err != nil {
		return err
	}
	if len(k.Signers().For(r.KeyIDs)) == 0 {
		return fmt.Errorf("%w for %s: %d of the keys of %s are needed, or those of a publisher of that name (see imagetool key list)", publish.ErrTooFew, target, r.Threshold, r.Name)
	}
	ids := r.KeyIDs
	s := &submission{st: st, k: k}
	root := old.Trusted().Root().Bytes()
	ours, err := s.sealer(root)
	if err != nil {
		return err
	}
	if ours {
		for _, name := range []string{tuf.RoleSnapshot, tuf.RoleTimestamp} {
			r, err := publish.RootRole(root, name)
			if err != nil {
				return err
			}
			ids = append(ids[:len(ids):len(ids)], r.KeyIDs...)
		}
	}
	return k.Signers().Prepare(ctx, ids)
}
