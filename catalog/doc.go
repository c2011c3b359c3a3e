// Package catalog reads, checks and writes what a publisher signs: the
// catalog, and through it the menu and the images' manifests.
//
// The catalog lists the menu and the manifests (the targets) by hash. Whoever
// reads goes through [Open], which returns a *Catalog only if enough trusted
// keys have signed it and it has not expired; the menu and the images that
// come out of a *Catalog have been compared with the hashes in it. So
// unverified bytes have no type that the boot path takes: an [Image] can only
// come from [Catalog.Image].
//
// The document types follow docs/formats.md.
package catalog

import "errors"

// The reasons for which a catalog or one of its targets is refused. Errors
// wrap them and say the details.
var (
	ErrFormat     = errors.New("malformed")
	ErrSignature  = errors.New("signature is wrong")
	ErrUnknownKey = errors.New("not signed by a trusted key")
	ErrExpired    = errors.New("expired")
	ErrRollback   = errors.New("older than one seen before")
	ErrNotFound   = errors.New("not in the catalog")
)
