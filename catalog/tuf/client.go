package tuf

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// Source reads files of a store. accept judges the bytes as they came: when it
// returns an error, a source that knows several mirrors asks the next one. The
// error wraps fs.ErrNotExist if there is no such file.
type Source interface {
	Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error)
}

// Anchor is where trust begins: a root that is there already, or keys of which
// as many as the store's first root wants have to have signed it.
type Anchor struct {
	root *Root
	keys []ed25519.PublicKey
}

// NewAnchor reads a root.json that is trusted because of where it lies.
func NewAnchor(data []byte) (*Anchor, error) {
	root, err := ParseRoot(data)
	if err != nil {
		return nil, err
	}
	return &Anchor{root: root}, nil
}

// KeyAnchor trusts keys of the root role.
func KeyAnchor(keys ...ed25519.PublicKey) *Anchor { return &Anchor{keys: keys} }

// Root returns the anchor's root, nil if it is keys.
func (a *Anchor) Root() *Root { return a.root }

// accept checks the first root of a store, for an anchor that is keys.
func (a *Anchor) accept(data []byte) (*Root, error) {
	root, err := ParseRoot(data)
	if err != nil {
		return nil, err
	}
	own := root.roles[RoleRoot]
	known := role{keys: own.keys, threshold: own.threshold}
	for _, id := range own.ids {
		if slices.ContainsFunc(a.keys, func(k ed25519.PublicKey) bool { return k.Equal(own.keys[id]) }) {
			known.ids = append(known.ids, id)
		}
	}
	if err := known.verify(&root.document); err != nil {
		return nil, err
	}
	return root, nil
}

// Options says what an update is judged by.
type Options struct {
	Now   time.Time // the fixed update start time (section 5.1); zero: expiry is not judged
	Floor *Trusted  // what was trusted before; nil: nothing
}

// Trusted is a set of metadata that has been verified and belongs together. It
// is safe for concurrent use.
type Trusted struct {
	src Source
	now time.Time
	old *Trusted // what was trusted before; not nil

	roots     []*Root // the anchor's, if it was there, and all that were read; the last one counts
	timestamp *Timestamp
	snapshot  *Snapshot

	mu    sync.Mutex
	roles map[string]*Targets // that were loaded, as the snapshot says
}

// Update reads the newest metadata of a store: the roots from the anchor's on,
// timestamp, snapshot and targets (sections 5.3 to 5.6). Delegated roles are
// read when a target needs them.
func Update(ctx context.Context, anchor *Anchor, src Source, o Options) (*Trusted, error) {
	t := &Trusted{src: src, now: o.Now, old: &Trusted{}, roles: make(map[string]*Targets)}
	if o.Floor != nil {
		t.old = o.Floor.From(nil)
	}
	if err := t.update(ctx, anchor); err != nil {
		return nil, &updateError{err: err, seen: t}
	}
	return t, nil
}

func (t *Trusted) update(ctx context.Context, anchor *Anchor) error {
	if err := t.updateRoot(ctx, anchor); err != nil {
		return err
	}
	if err := t.Root().expired(t.now); err != nil {
		return err
	}
	if err := t.updateTimestamp(ctx); err != nil {
		return err
	}
	if err := t.updateSnapshot(ctx); err != nil {
		return err
	}
	_, err := t.load(ctx, RoleTargets, t.Root().roles[RoleTargets])
	return err
}

// updateError is an update that failed, and what was verified before it did.
type updateError struct {
	err  error
	seen *Trusted
}

func (e *updateError) Error() string { return e.err.Error() }
func (e *updateError) Unwrap() error { return e.err }

// Seen returns what an update that ended with err had verified until then, as
// a floor for the next one: whoever has seen a newer timestamp does not go back
// to an older one because the rest of the new catalog was wrong. It is nil if
// there is nothing.
func Seen(err error) *Trusted {
	var u *updateError
	if !errors.As(err, &u) || len(u.seen.roots) == 0 {
		return nil
	}
	// What the update did not come to stays as it was.
	t := u.seen.From(nil)
	if t.timestamp == nil {
		t.timestamp = u.seen.old.timestamp
	}
	if t.snapshot == nil {
		t.snapshot = u.seen.old.snapshot
	}
	return t
}

// Floor reads metadata that was trusted before, such as a cache's, as far as
// it can be verified: rollbacks are found by comparing with it (sections 5.4.3
// and 5.5.5). Nothing in it is judged by the clock. It may lack everything but
// roots; the error says why, and wraps fs.ErrNotExist if it just is not there.
func Floor(ctx context.Context, anchor *Anchor, src Source) (*Trusted, error) {
	t := &Trusted{src: src, old: &Trusted{}, roles: make(map[string]*Targets)}
	err := t.updateRoot(ctx, anchor)
	if len(t.roots) == 0 {
		return nil, err
	}
	if err == nil {
		err = t.updateTimestamp(ctx)
	}
	if err == nil {
		err = t.updateSnapshot(ctx)
	}
	return t, err
}

// updateRoot follows the chain of roots (section 5.3).
func (t *Trusted) updateRoot(ctx context.Context, anchor *Anchor) error {
	switch {
	case anchor.root != nil:
		t.roots = []*Root{anchor.root}
	default:
		var first *Root
		_, err := t.src.Read(ctx, storepath.RoleMetadata(RoleRoot, 1), nil, MaxRoot, func(b []byte) (err error) {
			first, err = anchor.accept(b)
			return err
		})
		if err != nil {
			return fmt.Errorf("load the first root: %w", err)
		}
		t.roots = []*Root{first}
	}
	// The old ones began at an anchor, too, and were verified link by link.
	if len(t.old.roots) > 0 && t.old.Root().version > t.Root().version {
		t.roots = slices.Clone(t.old.roots)
	}
	for range MaxRotations {
		var next *Root
		_, err := t.src.Read(ctx, storepath.RoleMetadata(RoleRoot, t.Root().version+1), nil, MaxRoot, func(b []byte) (err error) {
			next, err = t.Root().Next(b)
			return err
		})
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("load the root after version %d: %w", t.Root().version, err)
		}
		t.roots = append(t.roots, next)
	}
	return nil
}

// updateTimestamp reads the newest timestamp (section 5.4). An old one counts
// only if the root's present keys have signed it: new keys are how a publisher
// gets back from versions that a thief of the old ones has raised (5.3.11).
func (t *Trusted) updateTimestamp(ctx context.Context) error {
	by, old := t.Root().roles[RoleTimestamp], t.old.timestamp
	if old != nil && by.verify(&old.document) != nil {
		old = nil
	}
	_, err := t.src.Read(ctx, storepath.Timestamp, nil, MaxTimestamp, func(b []byte) error {
		next, err := parseTimestamp(b)
		if err != nil {
			return err
		}
		if err := by.verify(&next.document); err != nil {
			return err
		}
		if old != nil {
			switch {
			case next.version < old.version:
				return rollback(RoleTimestamp, next.version, old.version)
			case next.version == old.version:
				next = old
			case next.snapshot.Version < old.snapshot.Version:
				return rollback(RoleSnapshot, next.snapshot.Version, old.snapshot.Version)
			}
		}
		if err := next.expired(t.now); err != nil {
			return err
		}
		t.timestamp = next
		return nil
	})
	if err != nil {
		return fmt.Errorf("load the timestamp: %w", err)
	}
	return nil
}

func rollback(role string, have, seen int64) error {
	return fmt.Errorf("the catalog's %s is %w: version %d, but %d was seen", role, ErrRollback, have, seen)
}

// updateSnapshot reads the snapshot that the timestamp names (section 5.5).
func (t *Trusted) updateSnapshot(ctx context.Context) error {
	by, meta, old := t.Root().roles[RoleSnapshot], &t.timestamp.snapshot, t.old.snapshot
	if old != nil && by.verify(&old.document) != nil {
		old = nil
	}
	if old != nil && meta.check(&old.document) == nil && old.expired(t.now) == nil {
		t.snapshot = old
		return nil
	}
	_, err := t.src.Read(ctx, storepath.RoleMetadata(RoleSnapshot, meta.Version), nil, meta.limit(MaxSnapshot), func(b []byte) error {
		next, err := parseSnapshot(b)
		if err != nil {
			return err
		}
		if err := meta.check(&next.document); err != nil {
			return err
		}
		if err := by.verify(&next.document); err != nil {
			return err
		}
		if old != nil {
			if err := next.notOlder(old); err != nil {
				return err
			}
		}
		if err := next.expired(t.now); err != nil {
			return err
		}
		t.snapshot = next
		return nil
	})
	if err != nil {
		return fmt.Errorf("load the snapshot: %w", err)
	}
	return nil
}

// notOlder checks that no role went back or away since old (section 5.5.5).
func (s *Snapshot) notOlder(old *Snapshot) error {
	for file, was := range old.meta {
		now, ok := s.meta[file]
		if !ok {
			return fmt.Errorf("the catalog's snapshot is %w: %.100q is gone", ErrRollback, file)
		}
		if now.Version < was.Version {
			return rollback(file, now.Version, was.Version)
		}
	}
	return nil
}

// load returns the metadata of a role that by is trusted with (section 5.6).
func (t *Trusted) load(ctx context.Context, name string, by role) (*Targets, error) {
	meta, ok := t.snapshot.Meta(name)
	if !ok {
		return nil, fmt.Errorf("the role %s of the catalog has not been published: it is %w", name, ErrNotFound)
	}
	t.mu.Lock()
	have := t.roles[name]
	t.mu.Unlock()
	if have != nil {
		// Perhaps another role was its delegator when it was loaded.
		if err := by.verify(&have.document); err != nil {
			return nil, err
		}
		return have, nil
	}
	if old := t.old.roles[name]; old != nil && meta.check(&old.document) == nil && by.verify(&old.document) == nil && old.expired(t.now) == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.roles[name] = old
		return old, nil
	}
	_, err := t.src.Read(ctx, storepath.RoleMetadata(name, meta.Version), nil, meta.limit(MaxTargets), func(b []byte) error {
		next, err := parseTargets(name, b)
		if err != nil {
			return err
		}
		if err := meta.check(&next.document); err != nil {
			return err
		}
		if err := by.verify(&next.document); err != nil {
			return err
		}
		if err := next.expired(t.now); err != nil {
			return err
		}
		have = next
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load the catalog's %s: %w", name, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.roles[name] = have
	return have, nil
}
