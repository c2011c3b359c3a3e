// Package store writes to the places where images are published: a directory,
// a server that takes uploads, or an S3 bucket. All look the same to readers
// (see docs/formats.md, Store).
package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// The reasons for which a store does not do what it was asked to. Errors wrap
// them and say the details.
var (
	ErrNotExist     = error(notExist{})
	ErrConflict     = errors.New("somebody else changed it meanwhile")
	ErrUnauthorized = errors.New("the store refuses the token")
	ErrFull         = errors.New("the store is full")
	ErrRejected     = errors.New("the store refuses the content")
	ErrUnreachable  = errors.New("the store cannot be reached")
)

// notExist is also fs.ErrNotExist, as readers of the catalog expect.
type notExist struct{}

func (notExist) Error() string        { return "not in the store" }
func (notExist) Is(target error) bool { return target == fs.ErrNotExist }

// Store is where a publisher puts files. It is safe for concurrent use.
//
// Immutable files (blocks, indexes, whole files, targets) are written with
// Put and appear at once and whole, or not at all; a file that is there is
// never written again. Metadata and marks are written with Replace, which
// succeeds only over the version that the caller has seen. Metadata with a
// version in the name is created with Replace and an empty tag: of two
// publishers one gets ErrConflict.
type Store interface {
	// Missing returns those of paths that Put would have to write, in their
	// order. There is no limit to their number.
	Missing(ctx context.Context, paths []string) ([]string, error)

	// Put stores the size bytes of body at an immutable path. It returns nil
	// if the path exists already. body may be read more than once, and must
	// not change until Put returns.
	Put(ctx context.Context, path string, body io.ReaderAt, size int64) error

	// Load returns the file at path and its version tag. No cache answers. The error wraps
	// ErrNotExist if there is none.
	Load(ctx context.Context, path string, limit int64) (data []byte, tag string, err error)

	// Replace stores data at a path that changes. tag is what Load returned,
	// or "" if there was nothing. Before it returns, everything that was Put
	// is as safe as the store can make it, but for marks. The error wraps
	// ErrConflict if the tag is no longer right, or if path is versioned
	// metadata and tag is not "". When it returns another error, the file
	// may have been replaced or not.
	Replace(ctx context.Context, path string, data []byte, tag string) error

	// Create stores versioned metadata, at whose path there must be nothing. base
	// is the tag of the timestamp that it was made from, "" if there was none. The
	// error wraps ErrConflict if there is something, or if the store makes metadata
	// count by itself and base is not the newest timestamp any more: elsewhere, it
	// counts by the timestamp that is stored in base's place. Else it is as Replace.
	Create(ctx context.Context, path string, data []byte, base string) error

	// List calls each for every file of a kind, in no order, with files that
	// come or go meanwhile or without them. It ends with each's error.
	List(ctx context.Context, kind storepath.Kind, each func(Info) error) error

	// Remove removes files. What is not there is no error. The timestamp
	// and roots are refused with ErrRejected.
	Remove(ctx context.Context, paths []string) error

	// PutPack stores the size bytes of body as the boot pack of a manifest, in
	// the place of the one that is there. The error wraps ErrRejected if it is
	// none, or is for another manifest.
	PutPack(ctx context.Context, manifest digest.SHA256, body io.ReaderAt, size int64) error

	// OpenPack reads the boot pack of a manifest. The error wraps ErrNotExist
	// if there is none.
	OpenPack(ctx context.Context, manifest digest.SHA256) (io.ReadCloser, error)

	// StatPack describes the boot pack of a manifest. Its time is zero if the
	// store does not know it. The error wraps ErrNotExist if there is none.
	StatPack(ctx context.Context, manifest digest.SHA256) (Info, error)

	// RemovePack removes it. The error wraps ErrNotExist if there is none.
	RemovePack(ctx context.Context, manifest digest.SHA256) error

	// Read makes every Store a catalog.Source.
	Read(ctx context.Context, path string, buf []byte, limit int64, accept func([]byte) error) ([]byte, error)

	// Parallel says how many Puts at a time are sensible.
	Parallel() int

	// String returns the directory or the base URL.
	String() string
}

// Info is what a store knows of a file.
type Info struct {
	Path string    `json:"path"`
	Size int64     `json:"size"`
	Time time.Time `json:"time"` // when it was written, by the store's clock
}

// Open returns the store at location: a base URL with http or https, a bucket
// (see [NewS3]), or a directory, which is made when it is missing and create is
// set. token authorises uploads to a server.
func Open(location, token string, create bool) (Store, error) {
	if IsURL(location) {
		return NewHTTP(location, token)
	}
	if IsS3(location) {
		return NewS3(location)
	}
	if u, err := url.Parse(location); err == nil && len(u.Scheme) > 1 && strings.Contains(location, "://") {
		return nil, fmt.Errorf("store %q: want a directory, s3://bucket/prefix, or a URL with http:// or https://", location)
	}
	return NewDir(location, create)
}

// IsURL tells whether location names a server, not a directory.
func IsURL(location string) bool {
	return strings.HasPrefix(location, "http://") || strings.HasPrefix(location, "https://")
}

// IsS3 tells whether location names a bucket.
func IsS3(location string) bool { return strings.HasPrefix(location, "s3://") }

// IsDir tells whether location names a directory.
func IsDir(location string) bool { return !IsURL(location) && !IsS3(location) }

// Settled returns err, the error of Create or Replace, unless it is a conflict
// with the very same data: an answer that was lost makes the second attempt of a
// request collide with the first.
func Settled(ctx context.Context, st Store, path string, data []byte, err error) error {
	if errors.Is(err, ErrConflict) {
		if now, _, lerr := st.Load(ctx, path, int64(len(data))); lerr == nil && bytes.Equal(now, data) {
			return nil
		}
	}
	return err
}

// replaceable returns nil if Replace may write path over a file with tag.
func replaceable(path, tag string) error {
	kind, _, ok := storepath.Parse(path)
	if !ok || !kind.Replaceable() {
		return fmt.Errorf("replace %s: %w: no such place", path, ErrRejected)
	}
	if storepath.Versioned(path) && tag != "" {
		return fmt.Errorf("replace %s: %w: a version is written once", path, ErrConflict)
	}
	return nil
}

// creatable returns nil if Create may write path.
func creatable(path string) error {
	if !storepath.Versioned(path) {
		return fmt.Errorf("create %s: %w: no versioned metadata", path, ErrRejected)
	}
	return nil
}

// removable returns nil if Remove may remove path.
func removable(path string) error {
	if _, _, ok := storepath.Parse(path); !ok || storepath.Lasting(path) {
		return fmt.Errorf("remove %s: %w: nothing that can be removed", path, ErrRejected)
	}
	return nil
}
