package push

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/marks"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// publishAttempts is how often another publisher may be faster.
const publishAttempts = 30

var (
	// ErrNoCatalog is wrapped when a store has not been set up.
	ErrNoCatalog = errors.New("the store has no catalog: run imagetool init first")
	// ErrLost is wrapped when other publishers were faster again and again.
	ErrLost = errors.New("other publishers keep changing the catalog")
	// ErrSeal is wrapped when nobody can sign snapshot and timestamp.
	ErrSeal = errors.New("snapshot and timestamp cannot be signed")
)

// Edition is a catalog that is being changed.
type Edition struct {
	Old     *catalog.Catalog // what it replaces
	Targets *publish.Targets // the list that the publisher signs
	Menu    *catalog.Menu    // changes count only in the list of the targets role

	targets map[string][]byte // to be stored
	removed map[string]bool
	menuWas []byte
}

// SetTarget lists data under name.
func (e *Edition) SetTarget(name string, data []byte) {
	e.Targets.Set(name, data)
	e.targets[name] = data
	delete(e.removed, name)
}

// Names returns the names of all targets of the catalog, with the changes.
func (e *Edition) Names(ctx context.Context) ([]string, error) {
	names, err := e.Old.Names(ctx)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(n string) bool { return e.removed[n] })
	for n := range e.targets {
		names = append(names, n)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Delegated tells whether the list is that of a delegated role: its keys list
// images, and nothing else.
func (e *Edition) Delegated() bool { return e.Targets.Role().Name != tuf.RoleTargets }

// RemoveTarget takes name off the list.
func (e *Edition) RemoveTarget(name string) {
	e.Targets.Remove(name)
	delete(e.targets, name)
	e.removed[name] = true
}

// overlay has files in front of a store.
type overlay struct {
	catalog.Source
	files map[string][]byte
}

func (o overlay) Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, ok := o.files[path]
	if !ok {
		return o.Source.Read(ctx, path, buf, limit, accept)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has %d bytes, at most %d are allowed", path, len(data), limit)
	}
	return data, accept(data)
}

// Load reads and verifies the store's catalog, beginning at a root of the
// publisher's own. tag is the timestamp's. Expired metadata is accepted: it is
// what refreshing is for. A catalog that is older than one that was seen there
// is not: the error wraps catalog.ErrRollback.
func Load(ctx context.Context, st store.Store, trust keys.Trust) (c *catalog.Catalog, tag string, err error) {
	return loadFrom(ctx, st, st, trust)
}

// loadFrom is Load with versioned metadata from src.
func loadFrom(ctx context.Context, st store.Store, src catalog.Source, trust keys.Trust) (c *catalog.Catalog, tag string, err error) {
	if trust.Anchor == nil {
		return nil, "", fmt.Errorf("%w: there is no %s in the key folder (imagetool init makes it)", keys.ErrNoKey, keys.RootFile)
	}
	floor, err := trust.Floor(ctx, st.String())
	if err != nil {
		return nil, "", err
	}
	data, tag, err := st.Load(ctx, storepath.Timestamp, tuf.MaxTimestamp)
	if errors.Is(err, store.ErrNotExist) {
		return nil, "", fmt.Errorf("%s: %w", st, ErrNoCatalog)
	}
	if err != nil {
		return nil, "", err
	}
	// What is read has to be what the tag is of.
	c, err = catalog.Open(ctx, overlay{src, map[string][]byte{storepath.Timestamp: data}}, trust.Anchor, catalog.Options{Floor: floor})
	if floor != nil && errors.Is(err, catalog.ErrRollback) {
		return nil, "", fmt.Errorf("%s: %w. Somebody has put back an old state of the store. If that was you, and it shall count, remove %s", st, err, trust.File(st.String()))
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", st, err)
	}
	trust.Remember(st.String(), c.Trusted())
	return c.From(st), tag, nil
}

// ErrUnchanged is returned by an edit that has nothing to change.
var ErrUnchanged = errors.New("nothing to change")

// Publish changes the store's catalog with edit and signs the result; what is
// signed counts for lifetime, or where that is 0 for as long as the root says.
// When another publisher was faster, it reads the new catalog and edits that.
// It returns the catalog's version.
func Publish(ctx context.Context, st store.Store, k *keys.Folder, lifetime time.Duration, edit func(*Edition) error) (version uint64, err error) {
	return PublishTarget(ctx, st, k, lifetime, "", edit)
}

// PublishTarget is Publish for a change of one target, which a delegated role
// may list whose keys are at hand.
func PublishTarget(ctx context.Context, st store.Store, k *keys.Folder, lifetime time.Duration, target string, edit func(*Edition) error) (version uint64, err error) {
	// A menu that comes back is in the store already, and a collection that
	// began before must not remove it now.
	mark, _, err := marks.Enter(ctx, st, marks.Push, marks.GC, "the catalog", collectionWait, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, mark.End(ctx)) }()
	return publishTarget(ctx, st, k, lifetime, target, edit)
}

// publishTarget is PublishTarget for who has a mark in the store.
func publishTarget(ctx context.Context, st store.Store, k *keys.Folder, lifetime time.Duration, target string, edit func(*Edition) error) (version uint64, err error) {
	err = retry(ctx, st, func(again bool) error {
		version, err = publishOnce(ctx, st, k, lifetime, target, again, edit)
		return err
	})
	return version, err
}

// retry calls attempt until it does not end with a conflict. again says that
// it did, so that there may be versions that somebody has begun to publish.
func retry(ctx context.Context, st store.Store, attempt func(again bool) error) error {
	for n := range publishAttempts {
		if n > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(rand.N(time.Duration(min(n, 10)) * 50 * time.Millisecond)):
			}
		}
		if err := attempt(n > 0); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("publish on %s: %w", st, ErrLost)
}

// gapWindow is how many versions are looked at in one question.
const gapWindow = 64

// gap returns how many versions of a role, from version on, have to be left
// out: publishers have begun with them, and may never have ended. Versions are
// never written twice.
func gap(ctx context.Context, st store.Store, role string, version int64) (skip int64, err error) {
	for {
		paths := make([]string, gapWindow)
		for i := range paths {
			paths[i] = storepath.RoleMetadata(role, version+skip+int64(i))
		}
		missing, err := st.Missing(ctx, paths)
		if err != nil {
			return 0, err
		}
		last := len(paths) - 1
		for last >= 0 && slices.Contains(missing, paths[last]) {
			last--
		}
		if last < gapWindow-1 {
			return skip + int64(last+1), nil
		}
		skip += gapWindow
	}
}

func publishOnce(ctx context.Context, st store.Store, k *keys.Folder, lifetime time.Duration, target string, again bool, edit func(*Edition) error) (uint64, error) {
	old, tag, err := Load(ctx, st, k.Trust())
	if err != nil {
		return 0, err
	}
	keepRoot(k, old)
	e := &Edition{Old: old, targets: make(map[string][]byte), removed: make(map[string]bool)}
	if e.Targets, err = listFor(ctx, old, k, target); err != nil {
		return 0, err
	}
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
	if !bytes.Equal(menu, e.menuWas) && !e.Delegated() {
		e.SetTarget(catalog.MenuName, menu)
	}
	if again {
		skip, err := gap(ctx, st, e.Targets.Role().Name, e.Targets.Version())
		if err != nil {
			return 0, err
		}
		e.Targets.Skip(skip)
	}
	now := time.Now()
	s := &submission{st: st, k: k, old: old, tag: tag, now: now, lifetime: lifetime, again: again, targets: e.targets}
	data, err := e.Targets.Sign(ctx, now, lifetime, k.Signers())
	if errors.Is(err, publish.ErrTooFew) {
		return 0, s.hold(ctx, e.Targets.Role(), data, err)
	}
	if err != nil {
		return 0, err
	}
	s.roles = map[string]role{e.Targets.Role().Name: {e.Targets.Version(), data}}
	return s.submit(ctx)
}

// keepRoot brings the publisher's root to the one that the store has been
// verified to have, so that new media begin there. That it cannot be written
// changes nothing now.
func keepRoot(k *keys.Folder, c *catalog.Catalog) {
	root := c.Trusted().Root()
	if root.Version() > k.Anchor.Root().Version() {
		_ = k.SaveRoot(root.Bytes())
	}
}

// nextTargets begins the next list of the targets role.
func nextTargets(old *catalog.Catalog) (*publish.Targets, error) {
	set := old.Trusted()
	r, err := publish.RootRole(set.Root().Bytes(), tuf.RoleTargets)
	if err != nil {
		return nil, err
	}
	return publish.NextTargets(r, set.Targets().Bytes())
}

// role is new metadata of a targets role.
type role struct {
	version int64
	data    []byte
}

// submission is metadata on its way into a store.
type submission struct {
	st       store.Store
	k        *keys.Folder
	old      *catalog.Catalog // nil: there is none
	tag      string           // of the old timestamp
	now      time.Time
	lifetime time.Duration // 0: as the root says
	again    bool          // there may be versions that somebody has begun to publish

	root    []byte            // new; nil: stays
	targets map[string][]byte // files, by their names
	roles   map[string]role
	anew    bool // a new snapshot and timestamp, whatever else is new
}

// sealer tells who signs snapshot and timestamp: we, or the server.
func (s *submission) sealer(root []byte) (ours bool, err error) {
	signers := s.k.Signers()
	for _, name := range []string{tuf.RoleSnapshot, tuf.RoleTimestamp} {
		r, err := publish.RootRole(root, name)
		if err != nil {
			return false, err
		}
		if !signers.Suffice(r) {
			if store.IsURL(s.st.String()) {
				return false, nil
			}
			return false, fmt.Errorf("%w: the keys of %s are not in %s", ErrSeal, name, s.k.Dir)
		}
	}
	return true, nil
}

// submit stores everything, in the order in which readers need it: files, the
// root, targets, the snapshot, and the timestamp, which makes the rest count.
// It returns the catalog's version. Errors wrap store.ErrConflict if somebody
// else was faster.
func (s *submission) submit(ctx context.Context) (uint64, error) {
	root := s.root
	if root == nil {
		root = s.old.Trusted().Root().Bytes()
	}
	ours, err := s.sealer(root)
	if err != nil {
		return 0, err
	}
	if err := s.putTargets(ctx); err != nil {
		return 0, err
	}
	if !ours {
		return s.online(ctx)
	}
	seal := publish.Seal{Root: root, Roles: make(map[string][]byte), Signers: s.k.Signers(), Now: s.now, Lifetime: s.lifetime, Anew: s.anew}
	if s.old != nil {
		seal.Old = s.old.Trusted()
	}
	if s.old != nil && s.again {
		if seal.Skip, err = gap(ctx, s.st, tuf.RoleSnapshot, seal.Old.Snapshot().Version()+1); err != nil {
			return 0, err
		}
	}
	for name, r := range s.roles {
		seal.Roles[name] = r.data
	}
	sealed, err := seal.Sign(ctx)
	if err != nil {
		return 0, err
	}
	files, err := s.files(root, sealed)
	if err != nil {
		return 0, err
	}
	// Nothing is published that machines would refuse.
	next, err := s.check(ctx, files, sealed)
	if err != nil {
		return 0, err
	}
	for _, f := range files {
		if err := create(ctx, s.st, f.Path, f.Data, s.tag); err != nil {
			return 0, err
		}
	}
	if err := replace(ctx, s.st, storepath.Timestamp, sealed.Timestamp, s.tag); err != nil {
		return 0, err
	}
	s.k.Trust().Remember(s.st.String(), next.Trusted())
	return uint64(sealed.SnapshotVersion), nil
}

// putTargets stores the files that the new list names.
func (s *submission) putTargets(ctx context.Context) error {
	for name, data := range s.targets {
		if err := s.st.Put(ctx, storepath.Target(name, digest.Of(data)), bytes.NewReader(data), int64(len(data))); err != nil {
			return err
		}
	}
	return nil
}

// files returns the versioned metadata in the order in which it is stored.
func (s *submission) files(root []byte, sealed *publish.Sealed) ([]tuf.File, error) {
	var out []tuf.File
	if s.root != nil {
		r, err := tuf.ParseRoot(root)
		if err != nil {
			return nil, err
		}
		out = append(out, tuf.File{Path: storepath.RoleMetadata(tuf.RoleRoot, r.Version()), Data: root})
	}
	// A delegator comes before the roles that it delegates to.
	names := slices.Sorted(maps.Keys(s.roles))
	if i := slices.Index(names, tuf.RoleTargets); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, tuf.RoleTargets)
	}
	for _, name := range names {
		r := s.roles[name]
		out = append(out, tuf.File{Path: storepath.RoleMetadata(name, r.version), Data: r.data})
	}
	if sealed != nil && sealed.Snapshot != nil {
		out = append(out, tuf.File{Path: storepath.RoleMetadata(tuf.RoleSnapshot, sealed.SnapshotVersion), Data: sealed.Snapshot})
	}
	return out, nil
}

// check verifies what is about to be published, as a machine would that has
// seen the old catalog, and returns it.
func (s *submission) check(ctx context.Context, files []tuf.File, sealed *publish.Sealed) (*catalog.Catalog, error) {
	over := overlay{s.st, map[string][]byte{storepath.Timestamp: sealed.Timestamp}}
	for _, f := range files {
		over.files[f.Path] = f.Data
	}
	anchor, o := s.k.Anchor, catalog.Options{Now: s.now}
	if s.old == nil {
		var err error
		if anchor, err = tuf.NewAnchor(s.root); err != nil {
			return nil, err
		}
	} else {
		o.Floor = s.old.Trusted()
	}
	if s.lifetime > 0 {
		o.Now = time.Time{} // whoever wants it to expire at once gets that
	}
	c, err := catalog.Open(ctx, over, anchor, o)
	if err != nil {
		return nil, fmt.Errorf("nothing was published, because machines would refuse it: %w", err)
	}
	for name := range s.roles {
		if name == tuf.RoleTargets {
			continue
		}
		if _, _, err := c.Trusted().Role(ctx, name); err != nil {
			return nil, fmt.Errorf("nothing was published, because machines would refuse it: %w", err)
		}
	}
	return c, nil
}

// online hands new metadata to a server, which verifies it and signs snapshot
// and timestamp itself.
func (s *submission) online(ctx context.Context) (uint64, error) {
	files, err := s.files(s.root, nil)
	if err != nil {
		return 0, err
	}
	base := s.tag
	for _, f := range files {
		if err := create(ctx, s.st, f.Path, f.Data, base); err != nil {
			return 0, err
		}
		base = "" // the server has signed another timestamp for that
	}
	trust := s.k.Trust()
	if trust.Anchor == nil {
		if trust.Anchor, err = tuf.NewAnchor(s.root); err != nil {
			return 0, err
		}
	}
	c, _, err := Load(ctx, s.st, trust)
	if errors.Is(err, ErrNoCatalog) {
		return 0, fmt.Errorf("%w: %s has taken the lists, but is not the one that signs for them", ErrSeal, s.st)
	}
	if err != nil {
		return 0, err
	}
	for name, r := range s.roles {
		if m, ok := c.Trusted().Snapshot().Meta(name); !ok || m.Version < r.version {
			return 0, fmt.Errorf("%w: %s has taken version %d of %s, but is not the one that signs for it", ErrSeal, s.st, r.version, name)
		}
	}
	return c.Version(), nil
}

// create stores versioned metadata, which must not be there with other
// contents. base is the tag of the timestamp that it was made from.
func create(ctx context.Context, st store.Store, path string, data []byte, base string) error {
	return store.Settled(ctx, st, path, data, st.Create(ctx, path, data, base))
}

// replace stores data over the version tag.
func replace(ctx context.Context, st store.Store, path string, data []byte, tag string) error {
	return store.Settled(ctx, st, path, data, st.Replace(ctx, path, data, tag))
}
