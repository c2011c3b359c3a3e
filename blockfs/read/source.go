package read

import (
	"context"
	"errors"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/internal/digest"
)

// Source has blocks. Caches, packs and the choice of a mirror are Sources
// around other Sources.
//
// Implementations are safe for concurrent use and pass the tests of package
// readtest.
type Source interface {
	// Block returns the content of the stored block e: exactly e.PlainLen
	// bytes that hash to e.SHA256, checked by the Source each time. The result
	// uses dst's memory if its capacity is e.PlainLen + block.Slack or more.
	// e.StoredLen is a hint.
	//
	// An error that wraps ErrUnavailable may pass if one waits. All others are
	// permanent: wrong bytes (digest.ErrMismatch, block.ErrFormat), nothing there.
	Block(ctx context.Context, e index.Entry, dst []byte) ([]byte, error)
}

// Store is a Source that has indexes too.
type Store interface {
	Source

	// Index returns the index with the given hash, checked. what names it in
	// messages, such as "index of meta". A want.Size of 0 means any size.
	// Errors are as those of Block.
	Index(ctx context.Context, what string, want digest.Blob) (*index.Index, error)
}

// ErrUnavailable is wrapped by errors of a Source that may pass.
var ErrUnavailable = errors.New("store unavailable")

// ErrNotFound is wrapped when a store does not have a file.
var ErrNotFound = errors.New("not in the store")

// ErrClosed is returned by reads after Close.
var ErrClosed = errors.New("reader is closed")
