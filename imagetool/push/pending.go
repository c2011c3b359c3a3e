package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// PendingFormat is the value of a Pending's "format".
const PendingFormat = "inetboot-pending/1"

// MaxPending bounds a list that waits for signatures, in bytes.
const MaxPending = 2 * tuf.MaxTargets

// ErrStale is wrapped when somebody has published a list while another one
// waited for signatures.
var ErrStale = errors.New("somebody else has published a list meanwhile")

// Pending is a list of targets that more keys have to sign. The files that it
// names are in the store already; nobody sees them before it is published.
type Pending struct {
	Format string          `json:"format"`
	Role   string          `json:"role"`
	Base   int64           `json:"base"` // version of the list that it was made from; 0: the first
	List   json.RawMessage `json:"list"` // the role's metadata
}

// PendingError says that a list has been signed, but not by enough keys. It
// wraps publish.ErrTooFew.
type PendingError struct {
	Pending *Pending
	Err     error
}

func (e *PendingError) Error() string { return e.Err.Error() }

// Unwrap returns the error that wraps publish.ErrTooFew.
func (e *PendingError) Unwrap() error { return e.Err }

// ParsePending reads a list that waits for signatures. What is in it has not
// been verified.
func ParsePending(data []byte) (*Pending, error) {
	var p Pending
	if len(data) > MaxPending {
		return nil, fmt.Errorf("the list that waits for signatures is %w: %d bytes", catalog.ErrFormat, len(data))
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("the list that waits for signatures is %w: %w", catalog.ErrFormat, errors.Join(strictjson.ErrSyntax, err))
	}
	if p.Format != PendingFormat || !storepath.ValidElement(p.Role) || p.Base < 0 {
		return nil, fmt.Errorf("the list that waits for signatures is %w: format %q, role %q, base %d", catalog.ErrFormat, p.Format, p.Role, p.Base)
	}
	return &p, nil
}

// Marshal returns p as a file.
func (p *Pending) Marshal() ([]byte, error) {
	data, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("encode the list that waits for signatures: %w", err)
	}
	return append(data, '\n'), nil
}

// hold uploads what the submission's one list names, and returns the list as
// one that waits for signatures.
func (s *submission) hold(ctx context.Context, r publish.Role, data []byte, few error) error {
	if len(s.k.Signers().For(r.KeyIDs)) == 0 {
		return few
	}
	if err := s.putTargets(ctx); err != nil {
		return err
	}
	p := &Pending{Format: PendingFormat, Role: r.Name, List: data}
	if m, ok := s.old.Trusted().Snapshot().Meta(r.Name); ok {
		p.Base = m.Version
	}
	return &PendingError{Pending: p, Err: few}
}

// Signed is what signing a Pending has come to.
type Signed struct {
	Role    string   `json:"role"`
	Version int64    `json:"version"`
	Changes []string `json:"changes"`
	Catalog uint64   `json:"catalog"` // version, once it is published
	Missing string   `json:"missing,omitempty"`
}

// SignPending adds the signatures of the keys at hand to p. If there are enough
// then, the list is published; else Missing says what is lacking, and p has the
// new signatures. check is told what the list changes before anything is
// signed, and may refuse.
func SignPending(ctx context.Context, st store.Store, k *keys.Folder, p *Pending, check func(*Signed) error) (*Signed, error) {
	old, tag, err := Load(ctx, st, k.Trust())
	if err != nil {
		return nil, err
	}
	keepRoot(k, old)
	r, have, err := roleOf(ctx, old, p.Role)
	if err != nil {
		return nil, err
	}
	var base int64
	if have != nil {
		base = have.Version()
	}
	if base != p.Base {
		return nil, fmt.Errorf("%w: %s has version %d, this one was made from version %d: push again", ErrStale, p.Role, base, p.Base)
	}
	if len(k.Signers().For(r.KeyIDs)) == 0 {
		return nil, fmt.Errorf("%w in %s that may sign for %s", keys.ErrNoKey, k.Dir, p.Role)
	}
	var was []byte
	if have != nil {
		was = have.Bytes()
	}
	version, changes, err := publish.Changes(was, p.List)
	if err != nil {
		return nil, err
	}
	out := &Signed{Role: p.Role, Version: version, Changes: changes}
	if err := check(out); err != nil {
		return nil, err
	}
	data, err := publish.AddSignatures(ctx, r, p.List, k.Signers())
	if errors.Is(err, publish.ErrTooFew) {
		p.List, out.Missing = data, err.Error()
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	s := &submission{st: st, k: k, old: old, tag: tag, now: time.Now(), roles: map[string]role{p.Role: {version, data}}}
	p.List = data
	// The list's version stays; that of the snapshot may have to be another one.
	err = retry(ctx, st, func(again bool) error {
		if s.again = again; again {
			if s.old, s.tag, err = Load(ctx, st, k.Trust()); err != nil {
				return err
			}
			if m, _ := s.old.Trusted().Snapshot().Meta(p.Role); m.Version != p.Base {
				return fmt.Errorf("%w: %s has version %d", ErrStale, p.Role, m.Version)
			}
		}
		out.Catalog, err = s.submit(ctx)
		return err
	})
	return out, err
}

// roleOf returns a targets role and what it has published, nil for nothing.
func roleOf(ctx context.Context, c *catalog.Catalog, name string) (publish.Role, *tuf.Targets, error) {
	set := c.Trusted()
	if name == tuf.RoleTargets {
		r, err := publish.RootRole(set.Root().Bytes(), name)
		return r, set.Targets(), err
	}
	r, ok, err := publish.Delegated(set.Targets().Bytes(), name)
	if err != nil {
		return r, nil, err
	}
	if !ok {
		return r, nil, fmt.Errorf("the catalog has no publisher %s: %w", name, catalog.ErrNotFound)
	}
	if _, published := set.Snapshot().Meta(name); !published {
		return r, nil, nil
	}
	t, _, err := set.Role(ctx, name)
	return r, t, err
}
