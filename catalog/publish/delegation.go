package publish

import (
	"crypto/ed25519"
	"fmt"
	"slices"

	"github.com/secure-systems-lab/go-securesystemslib/cjson"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/inetboot/inetboot/catalog/tuf"
)

// Delegations returns the delegations of a targets role, in their order.
func Delegations(delegator []byte) ([]Delegation, error) {
	m, err := parse(metadata.Targets(), delegator)
	if err != nil || m.Signed.Delegations == nil {
		return nil, err
	}
	var out []Delegation
	for _, r := range m.Signed.Delegations.Roles {
		d := Delegation{Name: r.Name, Threshold: r.Threshold, Paths: r.Paths, Terminating: r.Terminating, Lifetime: lifetime(r.UnrecognizedFields, DefaultLifetime)}
		for _, id := range r.KeyIDs {
			k := m.Signed.Delegations.Keys[id]
			if k == nil {
				return nil, fmt.Errorf("read the delegation to %s: %w: key %s is missing", r.Name, tuf.ErrFormat, Short(id))
			}
			pub, err := k.ToPublicKey()
			if err != nil {
				return nil, fmt.Errorf("read the delegation to %s: %w: key %s: %w", r.Name, tuf.ErrFormat, Short(id), err)
			}
			key, ok := pub.(ed25519.PublicKey)
			if !ok || len(key) != ed25519.PublicKeySize {
				return nil, fmt.Errorf("read the delegation to %s: %w: key %s is a %T, or of a wrong length", r.Name, tuf.ErrFormat, Short(id), pub)
			}
			d.Keys = append(d.Keys, key)
		}
		out = append(out, d)
	}
	return out, nil
}

// Role returns whose signatures the delegated role needs.
func (d *Delegation) Role() Role {
	r := Role{Name: d.Name, Threshold: d.Threshold, Lifetime: d.Lifetime}
	if r.Lifetime == 0 {
		r.Lifetime = DefaultLifetime
	}
	for _, k := range d.Keys {
		r.KeyIDs = append(r.KeyIDs, KeyID(k))
	}
	return r
}

// Signed tells whether enough of the delegation's keys have signed the
// metadata in data.
func (d *Delegation) Signed(data []byte) bool {
	m, err := parse(metadata.Targets(), data)
	if err != nil {
		return false
	}
	payload, err := cjson.EncodeCanonical(m.Signed)
	if err != nil {
		return false
	}
	n := 0
	for _, k := range d.Keys {
		id := KeyID(k)
		if slices.ContainsFunc(m.Signatures, func(s metadata.Signature) bool { return s.KeyID == id && ed25519.Verify(k, payload, s.Signature) }) {
			n++
		}
	}
	return n >= d.Threshold
}
