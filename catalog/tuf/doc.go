// Package tuf is a small client of The Update Framework, specification 1.0
// (https://theupdateframework.github.io/specification/): it reads the metadata
// of a catalog, follows the client workflow of the specification's section 5,
// and says what a target's length and hash are.
//
// It knows ed25519 signatures and consistent snapshots, which is what
// catalog/publish writes, and has no dependencies outside of the standard
// library, because it has to fit onto a boot medium.
//
// [Update] is the door: what it returns, a [Trusted], has been verified from
// the root that a medium carries down to the targets, and is not older than
// what was seen before. Bytes that were not verified have no type that comes
// out of this package.
//
// Where the specification lets a client choose, the stricter way was taken;
// see docs/formats.md, Catalog.
package tuf

import (
	"errors"
	"fmt"
	"time"
)

// The reasons for which metadata is refused. Errors wrap them and say the
// details.
var (
	ErrFormat     = errors.New("malformed")
	ErrSignature  = errors.New("signature is wrong")
	ErrUnknownKey = errors.New("not signed by a trusted key")
	ErrExpired    = errors.New("expired")
	ErrRollback   = errors.New("older than one seen before")
	ErrMismatch   = errors.New("not the bytes that were announced")
	ErrNotFound   = errors.New("not in the catalog")
)

// The names of the top-level roles.
const (
	RoleRoot      = "root"
	RoleTimestamp = "timestamp"
	RoleSnapshot  = "snapshot"
	RoleTargets   = "targets"
)

// Limits on what is read from elsewhere (section 5.1, and "arbitrary length" of
// section 1.5.2).
const (
	MaxRoot      = 64 << 10 // bytes
	MaxTimestamp = 16 << 10 // bytes
	MaxSnapshot  = 1 << 20  // bytes
	MaxTargets   = 8 << 20  // bytes, of each role
	MaxRotations = 256      // roots that are followed in one update
	MaxVisited   = 32       // delegated roles that are asked for one target
)

// ExpiredError says when a role's metadata expired and what the clock says,
// because the clock may be the one that is wrong. It wraps ErrExpired.
type ExpiredError struct {
	Role         string
	Expires, Now time.Time
}

func (e *ExpiredError) Error() string {
	return fmt.Sprintf("the catalog's %s expired at %s (this machine's clock says %s): the publisher has to sign it anew, or the clock is wrong",
		e.Role, e.Expires.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// Unwrap makes errors.Is(err, ErrExpired) true.
func (e *ExpiredError) Unwrap() error { return ErrExpired }
