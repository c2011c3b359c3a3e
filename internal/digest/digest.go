// Package digest names bytes by their SHA-256 (FIPS 180-4), which is how
// every file of a store is named.
package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrMismatch is wrapped by every error that reports bytes which are not the
// ones that were asked for.
var ErrMismatch = errors.New("wrong SHA-256")

// SHA256 is the hash of some plain bytes. Its text form is 64 lower-case
// hexadecimal digits.
type SHA256 [sha256.Size]byte

// Of returns the hash of b.
func Of(b []byte) SHA256 { return sha256.Sum256(b) }

// Parse reads the text form. Upper-case digits are refused, so that a hash
// has exactly one name.
func Parse(s string) (SHA256, error) {
	var d SHA256
	if len(s) != hex.EncodedLen(len(d)) {
		return d, fmt.Errorf("SHA-256 %q has %d characters, want %d", abbreviate(s), len(s), hex.EncodedLen(len(d)))
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return d, fmt.Errorf("SHA-256 %q has a character that is not a lower-case hexadecimal digit", abbreviate(s))
		}
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return SHA256{}, fmt.Errorf("SHA-256 %q: %w", abbreviate(s), err)
	}
	return d, nil
}

func abbreviate(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

// String returns the text form.
func (d SHA256) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first twelve digits, for messages to people.
func (d SHA256) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero tells whether d was never set.
func (d SHA256) IsZero() bool { return d == SHA256{} }

// MarshalText implements encoding.TextMarshaler.
func (d SHA256) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *SHA256) UnmarshalText(b []byte) error {
	v, err := Parse(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// Check returns an error that wraps ErrMismatch unless b hashes to d.
func (d SHA256) Check(what string, b []byte) error {
	if got := Of(b); got != d {
		return &MismatchError{What: what, Want: d, Got: got}
	}
	return nil
}

// MismatchError says which thing had which hash. It wraps ErrMismatch.
type MismatchError struct {
	What      string
	Want, Got SHA256
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s has SHA-256 %s, but %s is listed", e.What, e.Got.Short(), e.Want.Short())
}

// Unwrap makes errors.Is(err, ErrMismatch) true.
func (e *MismatchError) Unwrap() error { return ErrMismatch }

// Blob is a file of known content: its hash and its length in bytes.
type Blob struct {
	SHA256 SHA256 `json:"sha256"`
	Size   int64  `json:"size"`
}

// BlobOf returns the Blob of b.
func BlobOf(b []byte) Blob { return Blob{SHA256: Of(b), Size: int64(len(b))} }
