package catalog

import (
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// Type is the value of a List's "_type".
const Type = "inetboot-catalog/1"

// MaxCatalog bounds a signed catalog, in bytes.
const MaxCatalog = 8 << 20

// maxSignatures bounds the work that an unverified document can cause.
const maxSignatures = 16

// List is the signed part of a catalog: every target by name, with its hash.
type List struct {
	Type     string            `json:"_type"`
	Requires []string          `json:"requires,omitempty"`
	Version  uint64            `json:"version"` // grows by one with each publication
	Created  time.Time         `json:"created"`
	Expires  time.Time         `json:"expires"`
	Targets  map[string]Target `json:"targets"`
}

// Target is one listed file, in the form of TUF 1.0 (section 4.5).
type Target struct {
	Length int64  `json:"length"`
	Hashes Hashes `json:"hashes"`
}

// Hashes holds a target's hash.
type Hashes struct {
	SHA256 digest.SHA256 `json:"sha256"`
}

// NewTarget describes data.
func NewTarget(data []byte) Target {
	return Target{Length: int64(len(data)), Hashes: Hashes{SHA256: digest.Of(data)}}
}

// envelope is what lies in the store. Signatures are over the bytes of
// "signed" just as they stand in the file.
type envelope struct {
	Signed     json.RawMessage `json:"signed"`
	Signatures []signature     `json:"signatures"`
}

type signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // hexadecimal
}

// Sign returns the file that holds l, signed with each of keys.
func Sign[S crypto.Signer](l *List, keys ...S) ([]byte, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	signed, err := json.Marshal(l)
	if err != nil {
		return nil, fmt.Errorf("encode the catalog: %w", err)
	}
	env := envelope{Signed: signed}
	for _, k := range keys {
		pub, ok := k.Public().(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("sign the catalog: want an ed25519 key, have %T", k.Public())
		}
		sig, err := k.Sign(nil, signed, crypto.Hash(0))
		if err != nil {
			return nil, fmt.Errorf("sign the catalog: %w", err)
		}
		env.Signatures = append(env.Signatures, signature{KeyID: NewKey(pub).ID(), Sig: hex.EncodeToString(sig)})
	}
	out, err := json.Marshal(env)
	if err != nil {
		return nil, fmt.Errorf("encode the catalog: %w", err)
	}
	if len(out) > MaxCatalog {
		return nil, fmt.Errorf("the catalog would have %d bytes, at most %d are allowed: remove old images", len(out), MaxCatalog)
	}
	return out, nil
}

// Verify checks the bytes of a catalog: signatures of trust, form, and, unless
// now is zero, expiry; its version must not be below floor. It is the one door
// between bytes and a List, so it is where a stronger scheme goes.
func Verify(trust *Trust, data []byte, now time.Time, floor uint64) (*List, error) {
	var env envelope
	if err := strictjson.Unmarshal(data, MaxCatalog, &env); err != nil {
		return nil, fmt.Errorf("the catalog is %w: %w", ErrFormat, err)
	}
	if len(env.Signed) == 0 || len(env.Signatures) == 0 || len(env.Signatures) > maxSignatures {
		return nil, fmt.Errorf("the catalog is %w: %d bytes signed by %d signatures", ErrFormat, len(env.Signed), len(env.Signatures))
	}
	good := make(map[string]bool)
	var unknown []string
	var wrong []string
	for _, s := range env.Signatures {
		key, ok := trust.Keys[s.KeyID]
		if !ok {
			unknown = append(unknown, short(s.KeyID))
			continue
		}
		pub, err := key.public()
		if err != nil {
			return nil, err
		}
		sig, err := hex.DecodeString(s.Sig)
		if err != nil || !ed25519.Verify(pub, env.Signed, sig) {
			wrong = append(wrong, short(s.KeyID))
			continue
		}
		good[s.KeyID] = true
	}
	switch {
	case len(good) >= trust.Threshold && len(good) > 0:
	case len(wrong) > 0:
		return nil, fmt.Errorf("the catalog has been changed after signing: %w (key %s)", ErrSignature, strings.Join(wrong, ", "))
	case len(good) == 0:
		return nil, fmt.Errorf("the catalog is %w: signed by %s, trusted is %s", ErrUnknownKey, strings.Join(unknown, ", "), strings.Join(trust.keyIDs(), ", "))
	default:
		return nil, fmt.Errorf("the catalog is %w: %d of the %d needed signatures", ErrUnknownKey, len(good), trust.Threshold)
	}

	var l List
	if err := strictjson.Unmarshal(env.Signed, MaxCatalog, &l); err != nil {
		return nil, fmt.Errorf("the catalog is %w: %w", ErrFormat, err)
	}
	if err := l.check(); err != nil {
		return nil, err
	}
	if l.Version < floor {
		return nil, fmt.Errorf("the catalog is %w: version %d, but %d was seen", ErrRollback, l.Version, floor)
	}
	if !now.IsZero() && !now.Before(l.Expires) {
		return nil, &ExpiredError{Expires: l.Expires, Now: now}
	}
	return &l, nil
}

// ExpiredError says when a catalog expired and what the clock says, because
// the clock may be the one that is wrong. It wraps ErrExpired.
type ExpiredError struct{ Expires, Now time.Time }

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the catalog expired at %s (this machine's clock says %s): the publisher has to sign it anew, or the clock is wrong",
		e.Expires.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// Unwrap makes errors.Is(err, ErrExpired) true.
func (e *ExpiredError) Unwrap() error { return ErrExpired }

func (l *List) check() error {
	if l.Type != Type {
		return fmt.Errorf("the catalog is %w: _type is %q, want %q", ErrFormat, l.Type, Type)
	}
	if err := strictjson.Requires("the catalog", l.Requires, nil); err != nil {
		return err
	}
	if l.Version == 0 || l.Expires.IsZero() || l.Created.IsZero() {
		return fmt.Errorf("the catalog is %w: version, created or expires is missing", ErrFormat)
	}
	for name, t := range l.Targets {
		if !storepath.ValidTarget(name) {
			return fmt.Errorf("the catalog is %w: target name %q", ErrFormat, name)
		}
		if t.Length <= 0 || t.Length > MaxTarget || t.Hashes.SHA256.IsZero() {
			return fmt.Errorf("the catalog is %w: target %s has length %d or no hash", ErrFormat, name, t.Length)
		}
	}
	return nil
}

// Paths returns where the list's targets lie in a store.
func (l *List) Paths() []string {
	var paths []string
	for name, t := range l.Targets {
		paths = append(paths, storepath.Target(name, t.Hashes.SHA256))
	}
	return paths
}
