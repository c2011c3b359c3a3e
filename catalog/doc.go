// Package catalog reads and checks what publishers sign: the catalog, and
// through it the menu and the images' manifests.
//
// The catalog is a TUF repository (catalog/tuf reads it, catalog/publish writes
// it) whose targets are the menu and the manifests. Whoever reads goes through
// [Open], which returns a *Catalog only if its metadata is signed as the root
// says, has not expired and is not older than what was seen before; the menu
// and the images that come out of a *Catalog have been compared with the hashes
// in it. So unverified bytes have no type that the boot path takes: an [Image]
// can only come from [Catalog.Image].
//
// The document types follow docs/formats.md.
package catalog

import "github.com/inetboot/inetboot/catalog/tuf"

// The reasons for which a catalog or one of its targets is refused. Errors
// wrap them and say the details.
var (
	ErrFormat     = tuf.ErrFormat
	ErrSignature  = tuf.ErrSignature
	ErrUnknownKey = tuf.ErrUnknownKey
	ErrExpired    = tuf.ErrExpired
	ErrRollback   = tuf.ErrRollback
	ErrMismatch   = tuf.ErrMismatch
	ErrNotFound   = tuf.ErrNotFound
)

// ExpiredError says which role's metadata expired, and when.
type ExpiredError = tuf.ExpiredError

// Source reads files of a store. *mirror.Client is one.
type Source = tuf.Source

// Anchor is where trust begins: what a boot medium carries.
type Anchor = tuf.Anchor
