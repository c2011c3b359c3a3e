// Package publish writes a catalog's TUF metadata, with go-tuf. What it writes
// is what catalog/tuf reads.
//
// Metadata is never changed in place: each function returns the bytes of a next
// version, signed by those of the given signers whose keys the role has. Where
// the bytes go is the business of the caller.
package publish

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"
)

// ErrTooFew is wrapped by errors about roles that need more signatures.
var ErrTooFew = errors.New("more keys have to sign")

// Signer signs with one ed25519 key.
type Signer interface {
	// Public returns the public half.
	Public() ed25519.PublicKey
	// Sign returns the 64 bytes of the signature of message (RFC 8032, Ed25519).
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

// KeySigner is a Signer with the key in memory.
type KeySigner ed25519.PrivateKey

var _ Signer = KeySigner{}

// Public implements Signer.
func (k KeySigner) Public() ed25519.PublicKey {
	return ed25519.PrivateKey(k).Public().(ed25519.PublicKey)
}

// Sign implements Signer.
func (k KeySigner) Sign(_ context.Context, message []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.PrivateKey(k), message), nil
}

// Preparer is a Signer that may have to ask somebody first, such as for a
// passphrase.
type Preparer interface {
	Signer
	Prepare(ctx context.Context) error
}

// Signers are the keys at hand.
type Signers []Signer

// Prepare makes those signers ready whose keys are among ids, so that nobody
// is asked for a passphrase after a long work.
func (s Signers) Prepare(ctx context.Context, ids []string) error {
	for _, k := range s.For(ids) {
		if p, ok := k.(Preparer); ok {
			if err := p.Prepare(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// For returns those signers whose keys are among ids.
func (s Signers) For(ids []string) Signers {
	var out Signers
	for _, k := range s {
		if slices.Contains(ids, KeyID(k.Public())) {
			out = append(out, k)
		}
	}
	return out
}

// Suffice tells whether there are enough signers for the role.
func (s Signers) Suffice(r Role) bool { return len(s.For(r.KeyIDs)) >= r.Threshold }

// Key returns a public key in TUF's form.
func Key(pub ed25519.PublicKey) *metadata.Key {
	key, err := metadata.KeyFromPublicKey(pub)
	if err != nil {
		panic(err) // only for other types
	}
	return key
}

// KeyID returns the id of a public key: the SHA-256 of its canonical JSON.
func KeyID(pub ed25519.PublicKey) string {
	id, err := Key(pub).ID()
	if err != nil {
		panic(err) // three strings
	}
	return id
}

// Short returns the first digits of a key's id, for messages.
func Short(id string) string { return id[:min(len(id), 12)] }

// Role is whose signatures a role needs.
type Role struct {
	Name      string
	KeyIDs    []string
	Threshold int
	Lifetime  time.Duration // how long its metadata counts after it was signed
}

// DefaultLifetime is how long metadata counts where nobody said otherwise.
const DefaultLifetime = 365 * 24 * time.Hour

// OnlineLifetime is how long a server's snapshot and timestamp count. It signs
// them anew at half of that.
const OnlineLifetime = 7 * 24 * time.Hour

// RootLifetime is how long a root counts.
const RootLifetime = 5 * 365 * 24 * time.Hour

// lifetimeMember is a member of our own in a role of the root and in a
// delegation: seconds. Other programs ignore it.
const lifetimeMember = "x-inetboot-lifetime"

func lifetime(extra map[string]any, otherwise time.Duration) time.Duration {
	if n, ok := extra[lifetimeMember].(float64); ok && n >= 1 && n < 1<<32 {
		return time.Duration(n) * time.Second
	}
	return otherwise
}

func setLifetime(extra *map[string]any, d time.Duration) {
	if *extra == nil {
		*extra = make(map[string]any)
	}
	// As encoding/json would read it.
	(*extra)[lifetimeMember] = float64(max(1, int64(d/time.Second)))
}

// adapter makes a Signer one of sigstore's.
type adapter struct {
	ctx context.Context
	Signer
	err error // go-tuf does not hand it on
}

func (a *adapter) PublicKey(...signature.PublicKeyOption) (crypto.PublicKey, error) {
	return a.Public(), nil
}

func (a *adapter) SignMessage(message io.Reader, _ ...signature.SignOption) ([]byte, error) {
	b, err := io.ReadAll(message)
	if err != nil {
		return nil, err
	}
	var sig []byte
	sig, a.err = a.Sign(a.ctx, b)
	return sig, a.err
}

// sign adds signatures of those of signers whose keys are among ids and that
// have not signed m yet.
func sign[T metadata.Roles](ctx context.Context, m *metadata.Metadata[T], ids []string, signers Signers) error {
	for _, s := range signers.For(ids) {
		id := KeyID(s.Public())
		if slices.ContainsFunc(m.Signatures, func(have metadata.Signature) bool { return have.KeyID == id }) {
			continue
		}
		a := &adapter{ctx: ctx, Signer: s}
		if _, err := m.Sign(a); err != nil {
			if a.err != nil {
				err = a.err
			}
			return fmt.Errorf("sign with key %s: %w", Short(id), err)
		}
	}
	return nil
}

// signed tells whether m has as many signatures as the role needs.
func signed[T metadata.Roles](m *metadata.Metadata[T], r Role) error {
	n := 0
	for _, s := range m.Signatures {
		if slices.Contains(r.KeyIDs, s.KeyID) {
			n++
		}
	}
	if n >= r.Threshold {
		return nil
	}
	var want []string
	for _, id := range r.KeyIDs {
		want = append(want, Short(id))
	}
	return fmt.Errorf("%w: %s has %d of %d signatures by the keys %v", ErrTooFew, r.Name, n, r.Threshold, want)
}

func encode[T metadata.Roles](m *metadata.Metadata[T]) ([]byte, error) {
	data, err := m.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("encode the metadata: %w", err)
	}
	return append(data, '\n'), nil
}

// until returns the end of a lifetime that begins now.
func until(now time.Time, lifetime time.Duration) time.Time {
	return now.UTC().Add(lifetime).Truncate(time.Second)
}
