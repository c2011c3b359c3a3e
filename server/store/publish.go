package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

var (
	// ErrIncomplete is wrapped when a catalog lists what is not in the store.
	ErrIncomplete = errors.New("the catalog lists what the store does not have")
	// ErrOrder is wrapped when metadata comes before what it builds on.
	ErrOrder = errors.New("other metadata has to be published first")
)

// maxMetadata bounds metadata of any role.
const maxMetadata = tuf.MaxTargets

// Publish takes metadata of the catalog: a versioned file, for which there must
// be nothing with other contents, or the timestamp, whose hash must still be
// old. It is taken only if it verifies, starting from the store's first root, is
// newer than what is there, and everything that it newly lists is in the store,
// down to the blocks. A versioned file is taken only if base is the hash of the
// timestamp, where it is not zero: who made it has seen what is there.
//
// Where the root has the server's own key for snapshot and timestamp, the server
// signs these as soon as a new list or a new root is there.
func (d *Dir) Publish(ctx context.Context, p string, old, base digest.SHA256, data []byte, now time.Time) error {
	if kind, _, ok := storepath.Parse(p); !ok || kind != storepath.KindMetadata {
		return fmt.Errorf("%s: %w", p, ErrNoPlace)
	}
	return d.locked(p, func() error {
		present, err := d.present(p, old)
		if err != nil {
			if !storepath.Versioned(p) || !bytes.Equal(present, data) {
				return err
			}
			// The answer of an upload of the same was lost.
		}
		if err == nil && !base.IsZero() {
			if _, err := d.present(storepath.Timestamp, base); err != nil {
				return err
			}
		}
		name, version, versioned := storepath.ParseRoleMetadata(p)
		state, err := d.state(ctx)
		switch {
		case err != nil:
			return err
		case !versioned:
			return d.publishTimestamp(ctx, state, data, now)
		case name == tuf.RoleRoot:
			return d.publishRoot(ctx, state, p, data, version, now)
		case state.root == nil:
			return fmt.Errorf("%s: %w: the root", p, ErrOrder)
		case name == tuf.RoleSnapshot:
			s, err := state.root.CheckSnapshot(data, now)
			if err != nil {
				return err
			}
			return d.writeVersion(p, data, s.Version(), version)
		}
		return d.publishRole(ctx, state, name, p, data, version, now)
	})
}

// state is the catalog as it is.
type state struct {
	root  *tuf.Root        // nil: none
	cat   *catalog.Catalog // nil: none, or its lists do not fit the root
	floor *tuf.Trusted     // snapshot and timestamp as they are; nil: none, or their keys are gone
}

// source reads metadata and targets of the store for verification.
type source struct {
	d    *Dir
	over map[string][]byte // files that are not there yet
}

func (s source) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, ok := s.over[path]
	if !ok {
		var err error
		if data, err = s.d.Read(path, limit); err != nil {
			return nil, err
		}
	}
	return data, accept(data)
}

func (d *Dir) state(ctx context.Context) (*state, error) {
	anchor, err := d.anchor()
	if errors.Is(err, fs.ErrNotExist) {
		return &state{}, nil
	}
	if err != nil {
		return nil, err
	}
	root, err := tuf.NewestRoot(ctx, anchor, source{d: d})
	if err != nil {
		return nil, fmt.Errorf("the store's catalog: %w", err)
	}
	out := &state{root: root}
	if !d.Has(storepath.Timestamp) {
		return out, nil
	}
	cat, err := catalog.Open(ctx, source{d: d}, anchor, catalog.Options{})
	switch {
	case err == nil:
		out.cat, out.floor = cat, cat.Trusted()
	case errors.Is(err, catalog.ErrUnknownKey), errors.Is(err, catalog.ErrSignature):
		// The root has new keys, and what they sign comes next. Versions go on
		// from where they were.
		if floor, err := tuf.Floor(ctx, anchor, source{d: d}); err == nil && floor.Snapshot() != nil {
			out.floor = floor
		}
	default:
		return nil, fmt.Errorf("the store's catalog: %w", err)
	}
	return out, nil
}

// anchor is the first root, which came with the publishers' token.
func (d *Dir) anchor() (*catalog.Anchor, error) {
	data, err := d.Read(storepath.RoleMetadata(tuf.RoleRoot, 1), tuf.MaxRoot)
	if err != nil {
		return nil, fmt.Errorf("read the first root: %w", err)
	}
	return tuf.NewAnchor(data)
}

func (d *Dir) publishRoot(ctx context.Context, st *state, p string, data []byte, version int64, now time.Time) error {
	var root *tuf.Root
	var err error
	switch {
	case st.root == nil:
		root, err = tuf.ParseRoot(data)
	case st.root.Version() == version && bytes.Equal(st.root.Bytes(), data):
		root = st.root
	default:
		root, err = st.root.Next(data)
	}
	if err != nil {
		return err
	}
	if !now.Before(root.Expires()) {
		return &catalog.ExpiredError{Role: tuf.RoleRoot, Expires: root.Expires(), Now: now}
	}
	if err := d.writeVersion(p, data, root.Version(), version); err != nil {
		return err
	}
	if ours, err := d.sealer(root); !ours || st.cat == nil {
		return err
	}
	return d.seal(ctx, root, st.cat.Trusted(), nil, true, now)
}

func (d *Dir) publishRole(ctx context.Context, st *state, name, p string, data []byte, version int64, now time.Time) error {
	var next *tuf.Targets
	var err error
	switch {
	case st.cat != nil:
		if meta, ok := st.cat.Trusted().Snapshot().Meta(name); ok && meta.Version == version && d.Has(p) {
			if have, err := d.Read(p, maxMetadata); err == nil && bytes.Equal(have, data) {
				return nil // it is what counts already
			}
		}
		next, err = st.cat.Trusted().CheckRole(ctx, name, data, now)
	case name == tuf.RoleTargets:
		if next, err = st.root.CheckTargets(data, now); err == nil && st.floor != nil {
			if meta, ok := st.floor.Snapshot().Meta(name); ok && next.Version() <= meta.Version {
				err = fmt.Errorf("the catalog's %s is %w: version %d, the store has %d", name, catalog.ErrRollback, next.Version(), meta.Version)
			}
		}
	default:
		err = fmt.Errorf("%s: %w: the targets role", p, ErrOrder)
	}
	if err != nil {
		return err
	}
	if err := d.checkTargets(ctx, st.cat, next); err != nil {
		return err
	}
	ours, err := d.sealer(st.root)
	if err != nil {
		return err
	}
	if err := d.writeVersion(p, data, next.Version(), version); err != nil || !ours {
		return err
	}
	return d.seal(ctx, st.root, st.floor, map[string][]byte{name: data}, false, now)
}

// publishTimestamp takes a timestamp that a publisher has signed, if the whole
// catalog that it leads to is good.
func (d *Dir) publishTimestamp(ctx context.Context, st *state, data []byte, now time.Time) error {
	anchor, err := d.anchor()
	if err != nil {
		return fmt.Errorf("%s: %w: %w", storepath.Timestamp, ErrOrder, err)
	}
	o := catalog.Options{Now: now}
	if st.cat != nil {
		o.Floor = st.cat.Trusted()
	}
	next, err := catalog.Open(ctx, source{d, map[string][]byte{storepath.Timestamp: data}}, anchor, o)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrIncomplete, err)
	}
	if err != nil {
		return err
	}
	if st.cat != nil && next.Trusted().Timestamp() == st.cat.Trusted().Timestamp() {
		return fmt.Errorf("the catalog's timestamp is %w: version %d is there already", catalog.ErrRollback, next.Trusted().Timestamp().Version())
	}
	if err := d.checkTargets(ctx, st.cat, next.Trusted().Targets()); err != nil {
		return err
	}
	return d.write(storepath.Timestamp, data)
}

// sealer tells whether the server signs snapshot and timestamp.
func (d *Dir) sealer(root *tuf.Root) (bool, error) {
	for _, name := range []string{tuf.RoleSnapshot, tuf.RoleTimestamp} {
		r, err := publish.RootRole(root.Bytes(), name)
		if err != nil || !d.online.Suffice(r) {
			return false, err
		}
	}
	return true, nil
}

// seal signs snapshot and timestamp with the server's key.
func (d *Dir) seal(ctx context.Context, root *tuf.Root, old *tuf.Trusted, roles map[string][]byte, anew bool, now time.Time) error {
	s := publish.Seal{Root: root.Bytes(), Old: old, Roles: roles, Signers: d.online, Now: now, Anew: anew}
	var sealed *publish.Sealed
	for {
		var err error
		if sealed, err = s.Sign(ctx); err != nil {
			return err
		}
		if sealed.Snapshot == nil || !d.Has(storepath.RoleMetadata(tuf.RoleSnapshot, sealed.SnapshotVersion)) {
			break
		}
		s.Skip++ // left by a crash between the two
	}
	if sealed.Snapshot != nil {
		if err := d.write(storepath.RoleMetadata(tuf.RoleSnapshot, sealed.SnapshotVersion), sealed.Snapshot); err != nil {
			return err
		}
	}
	return d.write(storepath.Timestamp, sealed.Timestamp)
}

// Refresh signs snapshot and timestamp anew if that is the server's to do and
// half of their lifetime is over. signed tells whether it has. next is when to
// come again.
func (d *Dir) Refresh(ctx context.Context, now time.Time) (signed bool, next time.Time, err error) {
	next = now.Add(time.Hour)
	err = d.locked(storepath.Timestamp, func() error {
		st, err := d.state(ctx)
		if err != nil || st.cat == nil {
			return err
		}
		if ours, err := d.sealer(st.root); err != nil || !ours {
			return err
		}
		set := st.cat.Trusted()
		due := func(name string, expires time.Time) (bool, error) {
			r, err := publish.RootRole(st.root.Bytes(), name)
			half := expires.Add(-r.Lifetime / 2)
			if half.After(now) && half.Before(next) {
				next = half
			}
			return publish.Due(expires, r.Lifetime, now), err
		}
		snapshot, err := due(tuf.RoleSnapshot, set.Snapshot().Expires())
		if err != nil {
			return err
		}
		timestamp, err := due(tuf.RoleTimestamp, set.Timestamp().Expires())
		if err != nil || !snapshot && !timestamp {
			return err
		}
		signed = true
		return d.seal(ctx, st.root, set, nil, snapshot, now)
	})
	return signed, next, err
}

// writeVersion stores versioned metadata that is what its name says.
func (d *Dir) writeVersion(p string, data []byte, is, want int64) error {
	if is != want {
		return fmt.Errorf("%s is %w: it has version %d", p, catalog.ErrFormat, is)
	}
	if d.Has(p) {
		return nil // the same: see Publish
	}
	return d.write(p, data)
}

// checkTargets checks that everything that next lists and old does not is in
// the store.
func (d *Dir) checkTargets(ctx context.Context, old *catalog.Catalog, next *tuf.Targets) error {
	for name, t := range next.Targets {
		sum, err := digest.Parse(t.Hashes["sha256"])
		if err != nil || !storepath.ValidTarget(name) || t.Length <= 0 || t.Length > catalog.MaxTarget {
			return fmt.Errorf("the target %.100q is %w: its name, length or SHA-256", name, catalog.ErrFormat)
		}
		if old != nil {
			if have, err := old.Blob(ctx, name); err == nil && have.SHA256 == sum {
				continue
			}
		}
		if err := d.complete(name, storepath.Target(name, sum)); err != nil {
			return err
		}
	}
	return nil
}

// complete checks that a target, and all that it names if it is a manifest,
// is in the store.
func (d *Dir) complete(name, p string) error {
	data, err := d.Read(p, catalog.MaxTarget)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrIncomplete, name, err)
	}
	switch {
	case name == catalog.MenuName, catalog.IsIncluded(name):
		_, err := catalog.ParseMenu(data)
		return err
	case name == catalog.MirrorsName:
		_, err := catalog.ParseMirrors(data)
		return err
	case !strings.HasPrefix(name, "images/"):
		return nil
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
