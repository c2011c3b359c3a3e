package publish

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/inetboot/inetboot/catalog/tuf"
)

// Root is a root that is being made or changed.
type Root struct {
	meta *metadata.Metadata[metadata.RootType]
	old  *metadata.Metadata[metadata.RootType] // whose keys have to sign, too; nil for the first
}

// TopRoles lists the roles that a root has.
func TopRoles() []string {
	return []string{tuf.RoleRoot, tuf.RoleTargets, tuf.RoleSnapshot, tuf.RoleTimestamp}
}

// NewRoot begins the first root. Its roles have no keys yet.
func NewRoot() *Root {
	m := metadata.Root()
	for _, name := range TopRoles() {
		d := DefaultLifetime
		if name == tuf.RoleRoot {
			d = RootLifetime
		}
		setLifetime(&m.Signed.Roles[name].UnrecognizedFields, d)
	}
	return &Root{meta: m}
}

// NextRoot begins the root after the one in data, which has been verified.
func NextRoot(data []byte) (*Root, error) {
	old, err := parse(metadata.Root(), data)
	if err != nil {
		return nil, err
	}
	m, err := parse(metadata.Root(), data)
	if err != nil {
		return nil, err
	}
	m.Signed.Version++
	m.ClearSignatures()
	return &Root{meta: m, old: old}, nil
}

func parse[T metadata.Roles](m *metadata.Metadata[T], data []byte) (*metadata.Metadata[T], error) {
	m, err := m.FromBytes(data)
	if err != nil {
		return nil, fmt.Errorf("read the metadata: %w: %w", tuf.ErrFormat, err)
	}
	return m, nil
}

// Version returns the version that is being made.
func (r *Root) Version() int64 { return r.meta.Signed.Version }

// Role returns whose signatures a role of the root needs.
func (r *Root) Role(name string) Role { return rootRole(r.meta, name) }

func rootRole(m *metadata.Metadata[metadata.RootType], name string) Role {
	role := m.Signed.Roles[name]
	if role == nil {
		return Role{Name: name, Threshold: 1}
	}
	otherwise := DefaultLifetime
	if name == tuf.RoleRoot {
		otherwise = RootLifetime
	}
	return Role{Name: name, KeyIDs: role.KeyIDs, Threshold: role.Threshold, Lifetime: lifetime(role.UnrecognizedFields, otherwise)}
}

// RootRole returns whose signatures a role needs by the root in data.
func RootRole(data []byte, name string) (Role, error) {
	m, err := parse(metadata.Root(), data)
	if err != nil {
		return Role{}, err
	}
	return rootRole(m, name), nil
}

// Key returns the public key of an id, nil if the root does not have it or it is
// no ed25519 key.
func (r *Root) Key(id string) ed25519.PublicKey {
	k := r.meta.Signed.Keys[id]
	if k == nil {
		return nil
	}
	pub, err := k.ToPublicKey()
	if err != nil {
		return nil
	}
	out, _ := pub.(ed25519.PublicKey)
	if len(out) != ed25519.PublicKeySize {
		return nil
	}
	return out
}

// AddKey lets a key sign for a role.
func (r *Root) AddKey(role string, pub ed25519.PublicKey) error {
	if err := r.meta.Signed.AddKey(Key(pub), role); err != nil {
		return fmt.Errorf("add a key to %s: %w", role, err)
	}
	return nil
}

// RemoveKey takes a key away from a role.
func (r *Root) RemoveKey(role, id string) error {
	if err := r.meta.Signed.RevokeKey(id, role); err != nil {
		return fmt.Errorf("remove a key from %s: %w", role, err)
	}
	return nil
}

// SetThreshold says how many keys have to sign for a role.
func (r *Root) SetThreshold(role string, n int) error {
	have := r.meta.Signed.Roles[role]
	if have == nil || n < 1 || n > len(have.KeyIDs) {
		return fmt.Errorf("threshold %d of %s: it has %d keys", n, role, len(r.Role(role).KeyIDs))
	}
	have.Threshold = n
	return nil
}

// SetLifetime says how long the role's metadata counts from now on.
func (r *Root) SetLifetime(role string, d time.Duration) error {
	have := r.meta.Signed.Roles[role]
	if have == nil || d < time.Second {
		return fmt.Errorf("lifetime %s of %s", d, role)
	}
	setLifetime(&have.UnrecognizedFields, d)
	return nil
}

// Sign returns the root, signed by those of signers that count for it or for
// the one before it. With an error that wraps ErrTooFew data is what has been
// signed so far: others can add to it with [AddSignatures].
func (r *Root) Sign(ctx context.Context, now time.Time, signers Signers) (data []byte, err error) {
	r.meta.Signed.Expires = until(now, r.Role(tuf.RoleRoot).Lifetime)
	return r.finish(ctx, signers)
}

func (r *Root) finish(ctx context.Context, signers Signers) ([]byte, error) {
	for _, name := range TopRoles() {
		if have := r.Role(name); len(have.KeyIDs) < have.Threshold {
			return nil, fmt.Errorf("the role %s has %d keys and a threshold of %d", name, len(have.KeyIDs), have.Threshold)
		}
	}
	need := r.needs()
	var ids []string
	for _, n := range need {
		ids = append(ids, n.KeyIDs...)
	}
	if err := sign(ctx, r.meta, ids, signers); err != nil {
		return nil, err
	}
	data, err := encode(r.meta)
	if err != nil {
		return nil, err
	}
	for _, n := range need {
		if err := signed(r.meta, n); err != nil {
			return data, err
		}
	}
	return data, nil
}

// AddRootSignatures adds signatures to a root that others have signed, too. old
// is the root before it, nil for the first. Errors are those of [Root.Sign].
func AddRootSignatures(ctx context.Context, data, old []byte, signers Signers) ([]byte, error) {
	m, err := parse(metadata.Root(), data)
	if err != nil {
		return nil, err
	}
	r := &Root{meta: m}
	if old != nil {
		if r.old, err = parse(metadata.Root(), old); err != nil {
			return nil, err
		}
	}
	return r.finish(ctx, signers)
}

// Roles returns the roles of a root for which one of signers can sign.
func Roles(root []byte, signers Signers) ([]string, error) {
	m, err := parse(metadata.Root(), root)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, name := range TopRoles() {
		if len(signers.For(rootRole(m, name).KeyIDs)) > 0 {
			out = append(out, name)
		}
	}
	return slices.Clip(out), nil
}
