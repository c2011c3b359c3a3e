package publish

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// Targets is the metadata of a targets role that is being made or changed.
type Targets struct {
	role Role
	meta *metadata.Metadata[metadata.TargetsType]
}

// NewTargets begins the first metadata of a role.
func NewTargets(role Role) *Targets {
	return &Targets{role: role, meta: metadata.Targets()}
}

// NextTargets begins the metadata after that in data, which has been verified.
func NextTargets(role Role, data []byte) (*Targets, error) {
	m, err := parse(metadata.Targets(), data)
	if err != nil {
		return nil, err
	}
	m.Signed.Version++
	m.ClearSignatures()
	return &Targets{role: role, meta: m}, nil
}

// Role returns the role.
func (t *Targets) Role() Role { return t.role }

// Version returns the version that is being made.
func (t *Targets) Version() int64 { return t.meta.Signed.Version }

// Skip leaves n versions out: those that somebody has begun to publish and not
// finished.
func (t *Targets) Skip(n int64) { t.meta.Signed.Version += n }

// Has tells whether the role lists a target.
func (t *Targets) Has(name string) bool { return t.meta.Signed.Targets[name] != nil }

// Names returns the names of the targets, sorted.
func (t *Targets) Names() []string { return slices.Sorted(maps.Keys(t.meta.Signed.Targets)) }

// Metadata returns what will be signed, for changing it in ways that have no
// method.
func (t *Targets) Metadata() *metadata.TargetsType { return &t.meta.Signed }

// Set lists data under a name.
func (t *Targets) Set(name string, data []byte) {
	sum := sha256.Sum256(data)
	t.meta.Signed.Targets[name] = &metadata.TargetFiles{
		Length: int64(len(data)), Hashes: metadata.Hashes{"sha256": sum[:]}, Path: name,
	}
}

// Remove takes a target off the list.
func (t *Targets) Remove(name string) { delete(t.meta.Signed.Targets, name) }

// Delegation is a role that is trusted with names that have the form of one of
// Paths.
type Delegation struct {
	Name        string
	Keys        []ed25519.PublicKey
	Threshold   int
	Paths       []string
	Terminating bool
	Lifetime    time.Duration // 0: DefaultLifetime
}

// Delegate adds a delegation behind the others, or replaces the one of the
// same name.
func (t *Targets) Delegate(d Delegation) error {
	if d.Threshold < 1 || d.Threshold > len(d.Keys) {
		return fmt.Errorf("delegate to %s: threshold %d of %d keys", d.Name, d.Threshold, len(d.Keys))
	}
	dels := t.meta.Signed.Delegations
	if dels == nil {
		dels = &metadata.Delegations{}
		t.meta.Signed.Delegations = dels
	}
	role := metadata.DelegatedRole{Name: d.Name, Threshold: d.Threshold, Paths: d.Paths, Terminating: d.Terminating}
	if d.Lifetime > 0 {
		setLifetime(&role.UnrecognizedFields, d.Lifetime)
	}
	if dels.Keys == nil {
		dels.Keys = make(map[string]*metadata.Key)
	}
	for _, pub := range d.Keys {
		id := KeyID(pub)
		dels.Keys[id] = Key(pub)
		role.KeyIDs = append(role.KeyIDs, id)
	}
	if i := slices.IndexFunc(dels.Roles, func(r metadata.DelegatedRole) bool { return r.Name == d.Name }); i >= 0 {
		dels.Roles[i] = role
	} else {
		dels.Roles = append(dels.Roles, role)
	}
	t.prune()
	return nil
}

// Revoke removes a delegation. It tells whether there was one.
func (t *Targets) Revoke(name string) bool {
	dels := t.meta.Signed.Delegations
	if dels == nil {
		return false
	}
	n := len(dels.Roles)
	dels.Roles = slices.DeleteFunc(dels.Roles, func(r metadata.DelegatedRole) bool { return r.Name == name })
	t.prune()
	return len(dels.Roles) < n
}

// prune removes keys that no delegation needs.
func (t *Targets) prune() {
	dels := t.meta.Signed.Delegations
	if len(dels.Roles) == 0 {
		t.meta.Signed.Delegations = nil
		return
	}
	for id := range dels.Keys {
		if !slices.ContainsFunc(dels.Roles, func(r metadata.DelegatedRole) bool { return slices.Contains(r.KeyIDs, id) }) {
			delete(dels.Keys, id)
		}
	}
}

// Delegated returns whose signatures a delegated role needs by the metadata of
// its delegator.
func Delegated(delegator []byte, name string) (Role, bool, error) {
	m, err := parse(metadata.Targets(), delegator)
	if err != nil || m.Signed.Delegations == nil {
		return Role{}, false, err
	}
	for _, r := range m.Signed.Delegations.Roles {
		if r.Name == name {
			return Role{Name: name, KeyIDs: r.KeyIDs, Threshold: r.Threshold, Lifetime: lifetime(r.UnrecognizedFields, DefaultLifetime)}, true, nil
		}
	}
	return Role{}, false, nil
}

// Sign returns the metadata, signed by those of signers that count for it; it
// counts for d, or where d is 0 for the role's lifetime. With an error that
// wraps ErrTooFew data is what has been signed so far: others can add to it
// with [AddSignatures].
func (t *Targets) Sign(ctx context.Context, now time.Time, d time.Duration, signers Signers) (data []byte, err error) {
	if d == 0 {
		d = t.role.Lifetime
	}
	t.meta.Signed.Expires = until(now, d)
	return t.finish(ctx, signers)
}

func (t *Targets) finish(ctx context.Context, signers Signers) ([]byte, error) {
	if err := sign(ctx, t.meta, t.role.KeyIDs, signers); err != nil {
		return nil, err
	}
	data, err := encode(t.meta)
	if err != nil {
		return nil, err
	}
	return data, signed(t.meta, t.role)
}

// AddSignatures adds signatures to metadata of a targets role that others
// have signed, too. Errors are those of [Targets.Sign].
func AddSignatures(ctx context.Context, role Role, data []byte, signers Signers) ([]byte, error) {
	m, err := parse(metadata.Targets(), data)
	if err != nil {
		return nil, err
	}
	return (&Targets{role: role, meta: m}).finish(ctx, signers)
}
