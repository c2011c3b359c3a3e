// Package contents knows what an image consists of in a store: which files
// and blocks have to be there.
package contents

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// MaxIndex bounds an index that is read, in bytes.
const MaxIndex = 128 << 20

// ErrIndex is wrapped when an index of an image cannot be used. The error says
// which, and wraps the reason.
var ErrIndex = errors.New("the image's index cannot be used")

// Block is a block of a root.
type Block struct {
	SHA256 digest.SHA256
	Plain  int
	Stored int // when it was pushed first
}

// Path returns where the block lies.
func (b Block) Path() string { return storepath.Block(b.SHA256) }

// Image is what an image consists of.
type Image struct {
	Name     string // target of its manifest
	Digest   digest.SHA256
	Manifest catalog.Manifest
	Indexes  []*index.Index // in the order of the manifest's root files
}

// Load reads the indexes of an image and checks them. name is the target of
// its manifest.
func Load(ctx context.Context, src catalog.Source, name string, sum digest.SHA256, m catalog.Manifest) (*Image, error) {
	i := &Image{Name: name, Digest: sum, Manifest: m}
	for _, f := range m.Root.Files {
		x, err := LoadIndex(ctx, src, f.Index)
		if err != nil {
			return nil, fmt.Errorf("index of %s of %s: %w", f.Name, i, err)
		}
		i.Indexes = append(i.Indexes, x)
	}
	return i, nil
}

// LoadIndex reads an index and checks it. Errors but the context's wrap
// ErrIndex.
func LoadIndex(ctx context.Context, src catalog.Source, b digest.Blob) (*index.Index, error) {
	if b.Size > MaxIndex {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrIndex, b.Size, MaxIndex)
	}
	data, err := src.Read(ctx, storepath.Index(b.SHA256), nil, b.Size, func(data []byte) error { return b.SHA256.Check("index", data) })
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	x, err := index.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIndex, err)
	}
	return x, nil
}

// String returns name, version and architecture.
func (i *Image) String() string {
	return i.Manifest.Name + " " + i.Manifest.Version + " " + i.Manifest.Arch
}

// Files returns what is stored whole: the kernel, the initrd if there is one,
// and what a hypervisor adds.
func (i *Image) Files() []digest.Blob { return i.Manifest.Files() }

// Blocks calls each for every block of the root, those of several places
// several times, until it returns false.
func (i *Image) Blocks(each func(Block) bool) {
	for _, x := range i.Indexes {
		for n := range x.Len() {
			if e := x.Entry(n); !e.Zero() && !each(Block{SHA256: e.SHA256, Plain: e.PlainLen, Stored: e.StoredLen}) {
				return
			}
		}
	}
}

// IsImage tells whether a target is the manifest of an image.
func IsImage(target string) bool { return strings.HasPrefix(target, "images/") }

// All loads the images of a catalog, in the order of their names, and calls
// each. bad is called with what cannot be loaded; an error that it returns
// ends the work.
func All(ctx context.Context, src catalog.Source, c *catalog.Catalog, names []string, each func(*Image) error, bad func(name string, err error) error) error {
	for _, name := range names {
		img, err := c.Image(ctx, name)
		var i *Image
		if err == nil {
			i, err = Load(ctx, src, name, img.Digest(), img.Manifest())
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			err = bad(name, err)
		} else {
			err = each(i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
