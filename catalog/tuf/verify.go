package tuf

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// verify checks that enough different keys of the role have signed d (section
// 5.3.4 and others). Keys count by their value, whatever their ids are.
func (ro *role) verify(d *document) error {
	good := make(map[string]bool)
	var wrong []string
	for _, id := range ro.ids {
		sig, signed := d.signatures[id]
		key := ro.keys[id]
		switch {
		case !signed || key == nil:
		case ed25519.Verify(key, d.payload, sig):
			good[string(key)] = true
		default:
			wrong = append(wrong, short(id))
		}
	}
	switch {
	case int64(len(good)) >= ro.threshold:
		return nil
	case len(wrong) > 0:
		return fmt.Errorf("the catalog's %s has been changed after signing: %w (key %s)", d.role, ErrSignature, strings.Join(wrong, ", "))
	case len(good) > 0:
		return fmt.Errorf("the catalog's %s is %w: %d of the %d needed signatures", d.role, ErrUnknownKey, len(good), ro.threshold)
	}
	var by, want []string
	for id := range d.signatures {
		by = append(by, short(id))
	}
	for _, id := range ro.ids {
		want = append(want, short(id))
	}
	slices.Sort(by)
	return fmt.Errorf("the catalog's %s is %w: signed by %s, trusted is %s", d.role, ErrUnknownKey, strings.Join(by, ", "), strings.Join(want, ", "))
}

// ParseRoot reads a root that is trusted because of where it lies, such as a
// boot medium, and checks that it is signed as it says itself (section 5.2).
// Whether it has expired does not matter: newer ones may follow.
func ParseRoot(data []byte) (*Root, error) {
	root, err := parseRoot(data)
	if err != nil {
		return nil, err
	}
	own := root.roles[RoleRoot]
	if err := own.verify(&root.document); err != nil {
		return nil, err
	}
	return root, nil
}

// Next checks that data is the root that follows r (section 5.3): it has the
// next version, and has been signed as both of them say.
func (r *Root) Next(data []byte) (*Root, error) {
	next, err := parseRoot(data)
	if err != nil {
		return nil, err
	}
	old := r.roles[RoleRoot]
	if err := old.verify(&next.document); err != nil {
		return nil, err
	}
	if next.version != r.version+1 {
		return nil, fmt.Errorf("the catalog's root is %w: version %d, want %d", ErrMismatch, next.version, r.version+1)
	}
	own := next.roles[RoleRoot]
	if err := own.verify(&next.document); err != nil {
		return nil, err
	}
	return next, nil
}

// covers tells whether the delegation is about the target name.
func (d *Delegation) covers(name string) bool {
	for _, p := range d.Paths {
		if Match(p, name) {
			return true
		}
	}
	sum := sha256.Sum256([]byte(name))
	digits := hex.EncodeToString(sum[:])
	for _, p := range d.Prefixes {
		if strings.HasPrefix(digits, p) {
			return true
		}
	}
	return false
}

// Match tells whether a target's name has the form of a delegation's pattern
// (section 4.5, PATHPATTERN): element by element, so no wildcard spans a slash.
func Match(pattern, name string) bool {
	if strings.Count(pattern, "/") != strings.Count(name, "/") {
		return false
	}
	names := strings.Split(name, "/")
	for i, p := range strings.Split(pattern, "/") {
		if ok, err := path.Match(p, names[i]); !ok || err != nil {
			return false
		}
	}
	return true
}

// NewestRoot follows the chain of roots from the anchor on.
func NewestRoot(ctx context.Context, anchor *Anchor, src Source) (*Root, error) {
	t := &Trusted{src: src, old: &Trusted{}}
	if err := t.updateRoot(ctx, anchor); err != nil {
		return nil, err
	}
	return t.Root(), nil
}

// CheckTargets verifies the first metadata of the targets role, before there
// is a snapshot.
func (r *Root) CheckTargets(data []byte, now time.Time) (*Targets, error) {
	return checkTargets(RoleTargets, r.roles[RoleTargets], data, now)
}

// CheckSnapshot verifies snapshot metadata by itself.
func (r *Root) CheckSnapshot(data []byte, now time.Time) (*Snapshot, error) {
	s, err := parseSnapshot(data)
	if err != nil {
		return nil, err
	}
	by := r.roles[RoleSnapshot]
	if err := by.verify(&s.document); err != nil {
		return nil, err
	}
	return s, s.expired(now)
}

func checkTargets(name string, by role, data []byte, now time.Time) (*Targets, error) {
	t, err := parseTargets(name, data)
	if err != nil {
		return nil, err
	}
	if err := by.verify(&t.document); err != nil {
		return nil, err
	}
	return t, t.expired(now)
}

// CheckRole verifies metadata of a targets role that shall follow what the
// snapshot names: it has to be signed as its delegator says and to be newer.
func (t *Trusted) CheckRole(ctx context.Context, name string, data []byte, now time.Time) (*Targets, error) {
	by := t.Root().roles[RoleTargets]
	if name != RoleTargets {
		_, d, err := t.Role(ctx, name)
		if d == nil {
			return nil, err
		}
		by = d.role
	}
	next, err := checkTargets(name, by, data, now)
	if err != nil {
		return nil, err
	}
	if meta, ok := t.snapshot.Meta(name); ok && next.version <= meta.Version {
		return nil, rollback(name, next.version, meta.Version)
	}
	return next, nil
}
