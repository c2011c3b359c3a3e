package publish

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/inetboot/inetboot/catalog/tuf"
)

// ResumeRoot goes on with a root that was begun and that others may have signed
// meanwhile; old is the root before it, which has been verified. Signatures
// that do not verify are left out, so nobody who passed the file on can keep
// others from signing. Changing the root makes its signatures worthless: call
// [Root.Sign] then, not [Root.AddSignatures].
func ResumeRoot(data, old []byte) (*Root, error) {
	if len(data) > tuf.MaxRoot {
		return nil, fmt.Errorf("read the root: %w: %d bytes", tuf.ErrFormat, len(data))
	}
	r, err := NextRoot(old)
	if err != nil {
		return nil, err
	}
	m, err := parse(metadata.Root(), data)
	if err != nil {
		return nil, err
	}
	if m.Signed.Version != r.Version() {
		return nil, fmt.Errorf("the root that was begun has version %d, but the next one is %d: %w", m.Signed.Version, r.Version(), tuf.ErrMismatch)
	}
	for name, role := range m.Signed.Roles {
		if role == nil {
			return nil, fmt.Errorf("read the root: %w: the role %.40q is null", tuf.ErrFormat, name)
		}
	}
	r.meta = m
	for id := range m.Signed.Keys {
		// A foreign key under a known id would not show in Changes.
		if pub := r.Key(id); pub == nil || KeyID(pub) != id {
			return nil, fmt.Errorf("read the root: %w: the key %.64q is not an ed25519 key of that id", tuf.ErrFormat, id)
		}
	}
	good, err := r.verified(m.Signatures)
	if err != nil {
		return nil, err
	}
	m.Signatures = good
	return r, nil
}

// RootVersion returns the version of a root, verified or not.
func RootVersion(data []byte) (int64, error) {
	if len(data) > tuf.MaxRoot {
		return 0, fmt.Errorf("read the root: %w: %d bytes", tuf.ErrFormat, len(data))
	}
	m, err := parse(metadata.Root(), data)
	if err != nil {
		return 0, err
	}
	return m.Signed.Version, nil
}

// needs lists whose signatures the root needs: the role root as it says itself,
// and as the root before it says.
func (r *Root) needs() []Role {
	out := []Role{r.Role(tuf.RoleRoot)}
	if r.old != nil {
		out = append(out, rootRole(r.old, tuf.RoleRoot))
	}
	return out
}

// SignerIDs returns the ids of all keys whose signatures count.
func (r *Root) SignerIDs() []string {
	var out []string
	for _, n := range r.needs() {
		out = append(out, n.KeyIDs...)
	}
	return out
}

// verified returns those of signatures that count for the root or for the one
// before it.
func (r *Root) verified(list []metadata.Signature) ([]metadata.Signature, error) {
	payload, err := cjson.EncodeCanonical(r.meta.Signed)
	if err != nil {
		return nil, fmt.Errorf("read the root: %w: %w", tuf.ErrFormat, err)
	}
	good := []metadata.Signature{}
	for _, s := range list {
		pub := r.signer(s.KeyID)
		if pub == nil || !ed25519.Verify(pub, payload, s.Signature) ||
			slices.ContainsFunc(good, func(have metadata.Signature) bool { return have.KeyID == s.KeyID }) {
			continue
		}
		good = append(good, s)
	}
	return good, nil
}

// signer returns the key of an id whose signature counts, nil if there is none.
func (r *Root) signer(id string) ed25519.PublicKey {
	if slices.Contains(r.Role(tuf.RoleRoot).KeyIDs, id) {
		return r.Key(id)
	}
	if r.old != nil && slices.Contains(rootRole(r.old, tuf.RoleRoot).KeyIDs, id) {
		return (&Root{meta: r.old}).Key(id)
	}
	return nil
}

// Merge adds the signatures of another copy of the same root.
func (r *Root) Merge(data []byte) error {
	m, err := parse(metadata.Root(), data)
	if err != nil {
		return err
	}
	ours, err := cjson.EncodeCanonical(r.meta.Signed)
	if err != nil {
		return fmt.Errorf("read the root: %w: %w", tuf.ErrFormat, err)
	}
	theirs, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return fmt.Errorf("read the root: %w: %w", tuf.ErrFormat, err)
	}
	if !bytes.Equal(ours, theirs) {
		return fmt.Errorf("these are two different roots: %w", tuf.ErrMismatch)
	}
	r.meta.Signatures, err = r.verified(append(r.meta.Signatures, m.Signatures...))
	return err
}

// AddSignatures signs a root that was resumed, as it is. Errors are those of
// [Root.Sign].
func (r *Root) AddSignatures(ctx context.Context, signers Signers) ([]byte, error) {
	return r.finish(ctx, signers)
}

// Draft returns the root as it is now, without signatures.
func (r *Root) Draft(now time.Time) ([]byte, error) {
	r.meta.ClearSignatures()
	r.meta.Signed.Expires = until(now, r.Role(tuf.RoleRoot).Lifetime)
	return encode(r.meta)
}

// Need is whose signatures a root needs, and has.
type Need struct {
	Version   int64    `json:"root"` // which root says so
	Threshold int      `json:"threshold"`
	Signed    []string `json:"signed"`   // key ids
	Unsigned  []string `json:"unsigned"` // key ids
}

// Met tells whether there are enough signatures.
func (n Need) Met() bool { return len(n.Signed) >= n.Threshold }

// Needs says who has signed the root and who may.
func (r *Root) Needs() []Need {
	var out []Need
	for i, role := range r.needs() {
		n := Need{Version: r.Version() - int64(i), Threshold: role.Threshold, Signed: []string{}, Unsigned: []string{}}
		for _, id := range role.KeyIDs {
			if slices.ContainsFunc(r.meta.Signatures, func(s metadata.Signature) bool { return s.KeyID == id }) {
				n.Signed = append(n.Signed, id)
			} else {
				n.Unsigned = append(n.Unsigned, id)
			}
		}
		out = append(out, n)
	}
	return out
}

// Expires returns when the root expires.
func (r *Root) Expires() time.Time { return r.meta.Signed.Expires }

// Changes says in words what is different from the root before it.
func (r *Root) Changes() []string {
	var out []string
	if r.old == nil {
		return out
	}
	for _, name := range TopRoles() {
		was, is := rootRole(r.old, name), r.Role(name)
		for _, id := range is.KeyIDs {
			if !slices.Contains(was.KeyIDs, id) {
				out = append(out, fmt.Sprintf("%s: key %s is added", name, Short(id)))
			}
		}
		for _, id := range was.KeyIDs {
			if !slices.Contains(is.KeyIDs, id) {
				out = append(out, fmt.Sprintf("%s: key %s is removed", name, Short(id)))
			}
		}
		if was.Threshold != is.Threshold {
			out = append(out, fmt.Sprintf("%s: %d of %d keys have to sign, not %d of %d", name, is.Threshold, len(is.KeyIDs), was.Threshold, len(was.KeyIDs)))
		}
		if was.Lifetime != is.Lifetime {
			out = append(out, fmt.Sprintf("%s: counts for %s, not %s", name, is.Lifetime, was.Lifetime))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.meta.Signed.Roles)) {
		if !slices.Contains(TopRoles(), name) && r.old.Signed.Roles[name] == nil {
			out = append(out, fmt.Sprintf("a role %.40q that this program does not know is added", name))
		}
	}
	if r.meta.Signed.ConsistentSnapshot != r.old.Signed.ConsistentSnapshot {
		out = append(out, "consistent snapshots are switched")
	}
	return append(out, fmt.Sprintf("expires %s, the one before %s", r.Expires().UTC().Format("2006-01-02"), r.old.Signed.Expires.UTC().Format("2006-01-02")))
}

// Document is published metadata of any role, as catalog/tuf reads it.
type Document interface {
	Version() int64
	Expires() time.Time
}
