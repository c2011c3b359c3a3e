// Package images reads the roots of published images straight from their
// blocks in the store, for services that export them on a LAN: nothing is ever
// unpacked. A root is there as a tree of inodes ([Tree], for NFS) and as one
// disk ([Disk], for NBD). All of them share one bounded cache of blocks.
package images

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/server/store"
)

// The reasons for which there is no root.
var (
	// ErrNoImage is wrapped when the catalog lists no such image.
	ErrNoImage = errors.New("no such image")
	// ErrNoTree is wrapped when a root is not of a kind whose files can be
	// read one by one. It can still be a disk.
	ErrNoTree = errors.New("the root cannot be read file by file")
	// ErrInvalid is wrapped when a root is not what its kind wants.
	ErrInvalid = errors.New("invalid filesystem")
)

// Latest stands for the newest version of an image in names.
const Latest = "latest"

// maxOpen bounds the images that are kept open: each takes the memory of its
// indexes.
const maxOpen = 64

// Store has what is published; *[store.Dir] is one.
type Store interface {
	Images() (store.Images, error)
	Manifest(name string, sum digest.SHA256) (*catalog.Manifest, error)
	Indexes(m *catalog.Manifest) ([]*index.Index, error)
}

var _ Store = (*store.Dir)(nil)

// Options says how a Library reads.
type Options struct {
	Store  Store
	Blocks read.Source  // where the blocks are
	Memory int          // bytes of contents to keep, about; 0: 64 MiB
	Logger *slog.Logger // nil: silent
}

// Library is all published images. It is safe for concurrent use.
type Library struct {
	store  Store
	blocks *read.Blocks

	mu     sync.Mutex
	names  map[digest.SHA256]Name // of manifests that have been read
	open   map[digest.SHA256]*Image
	oldest []digest.SHA256 // of open, the least recently used one first
}

// Name is how an image is called, and when it was published.
type Name struct {
	Name, Version, Arch string
	Created             time.Time
	Manifest            digest.SHA256
	Kind                string // of the root, such as erofs; "": it has none
	Release             string // of the image's kernel
	Cmdline             string // of the image's kernel
}

// String returns the name of the image's exports.
func (n Name) String() string { return n.Name + "/" + n.Version + "/" + n.Arch }

// New returns the Library of a store. Close it after use.
func New(o Options) *Library {
	if o.Memory == 0 {
		o.Memory = 64 << 20
	}
	return &Library{
		store: o.Store,
		blocks: read.New(o.Blocks, read.Options{
			Memory: o.Memory, Shared: true, Logger: o.Logger, Patience: time.Second,
		}),
		names: make(map[digest.SHA256]Name),
		open:  make(map[digest.SHA256]*Image),
	}
}

// Close ends all reads.
func (l *Library) Close() error {
	l.blocks.Close()
	return nil
}

// List returns the images with a root that the catalog lists now, sorted by
// name, the newest version of each first.
func (l *Library) List(ctx context.Context) ([]Name, error) {
	listed, err := l.store.Images()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for sum := range l.names {
		if _, ok := listed[sum]; !ok {
			delete(l.names, sum)
		}
	}
	var out []Name
	for sum, target := range listed {
		n, ok := l.names[sum]
		if !ok {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			m, err := l.store.Manifest(target, sum)
			if err != nil {
				return nil, fmt.Errorf("the image %s: %w", target, err)
			}
			n = Name{Name: m.Name, Version: m.Version, Arch: m.Arch, Created: m.Created, Manifest: sum, Kind: m.Root.Type, Release: m.Kernel.Release, Cmdline: m.Cmdline}
			l.names[sum] = n
		}
		if n.Kind != "" {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b Name) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), b.Created.Compare(a.Created), cmp.Compare(b.Version, a.Version), cmp.Compare(a.Arch, b.Arch))
	})
	return out, nil
}

// Find returns the image that an export's name stands for: NAME/VERSION/ARCH,
// or less of it. Without ARCH it is amd64's, or the only one; without VERSION,
// or with "latest", the newest. Slashes around the name do not count. Errors
// wrap ErrNoImage.
func (l *Library) Find(ctx context.Context, export string) (Name, error) {
	list, err := l.List(ctx)
	if err != nil {
		return Name{}, err
	}
	return find(list, export)
}

// find looks into a list that is sorted as List sorts it.
func find(list []Name, export string) (Name, error) {
	want := strings.Trim(path.Clean("/"+export), "/")
	for _, n := range list {
		if n.String() == want {
			return n, nil
		}
	}
	var found []Name
	for _, n := range list {
		newest := len(found) == 0 || found[0].Name == n.Name && found[0].Version == n.Version
		switch want {
		case n.Name + "/" + n.Version:
			found = append(found, n)
		case n.Name, n.Name + "/" + Latest:
			if newest {
				found = append(found, n)
			}
		case n.Name + "/" + Latest + "/" + n.Arch:
			return n, nil
		}
	}
	for _, n := range found {
		if n.Arch == "amd64" {
			return n, nil
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Name{}, fmt.Errorf("%w: %.200q", ErrNoImage, export)
	}
	return Name{}, fmt.Errorf("%w: %.200q is there for several architectures: name one", ErrNoImage, export)
}

// Image is one image with its root.
type Image struct {
	Name
	files []*read.File

	treeOnce, diskOnce once
	tree               *Tree
	disk               *Disk
}

// once is a sync.Once whose work may fail, and then is done again.
type once struct {
	mu   sync.Mutex
	done bool
}

func (o *once) do(f func() error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.done {
		return nil
	}
	err := f()
	o.done = err == nil
	return err
}

// Open returns the image with a manifest, if the catalog lists it or it is
// still open. Errors wrap ErrNoImage.
func (l *Library) Open(ctx context.Context, sum digest.SHA256) (*Image, error) {
	l.mu.Lock()
	if img := l.use(sum); img != nil {
		l.mu.Unlock()
		return img, nil
	}
	l.mu.Unlock()
	listed, err := l.store.Images()
	if err != nil {
		return nil, err
	}
	target, ok := listed[sum]
	if !ok {
		return nil, fmt.Errorf("%w: nothing is listed with the manifest %s", ErrNoImage, sum.Short())
	}
	m, err := l.store.Manifest(target, sum)
	if err != nil {
		return nil, fmt.Errorf("the image %s: %w", target, err)
	}
	if m.NoRoot() {
		return nil, fmt.Errorf("%w: %s has no root", ErrNoImage, target)
	}
	indexes, err := l.store.Indexes(m)
	if err != nil {
		return nil, fmt.Errorf("the image %s: %w", target, err)
	}
	img := &Image{Name: Name{Name: m.Name, Version: m.Version, Arch: m.Arch, Created: m.Created, Manifest: sum, Kind: m.Root.Type, Release: m.Kernel.Release, Cmdline: m.Cmdline}}
	for _, x := range indexes {
		img.files = append(img.files, l.blocks.Open(x))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if other := l.use(sum); other != nil {
		return other, nil // somebody was faster
	}
	for len(l.open) >= maxOpen {
		delete(l.open, l.oldest[0])
		l.oldest = l.oldest[1:]
	}
	l.open[sum] = img
	l.oldest = append(l.oldest, sum)
	return img, nil
}

// use returns an open image. The lock is held.
func (l *Library) use(sum digest.SHA256) *Image {
	img := l.open[sum]
	if img != nil && l.oldest[len(l.oldest)-1] != sum {
		i := slices.Index(l.oldest, sum)
		l.oldest = append(slices.Delete(l.oldest, i, i+1), sum)
	}
	return img
}

// Stats returns the counters of the cache.
func (l *Library) Stats() read.Stats { return l.blocks.Stats() }

// Files returns the root's files in the order of the manifest.
func (i *Image) Files() []*read.File { return i.files }

// Tree returns the files of an EROFS root. Errors wrap ErrNoTree or ErrInvalid,
// or are those of reading.
func (i *Image) Tree(ctx context.Context) (*Tree, error) {
	err := i.treeOnce.do(func() error {
		if i.Kind != "erofs" {
			return fmt.Errorf("%w: %s is %s", ErrNoTree, i.Name, i.Kind)
		}
		files := make([]File, len(i.files))
		for k, f := range i.files {
			files[k] = f
		}
		t, err := OpenTree(ctx, files)
		if err != nil {
			return fmt.Errorf("the root of %s: %w", i.Name, err)
		}
		i.tree = t
		return nil
	})
	return i.tree, err
}

// Disk returns the root as one disk. An EROFS root of two files becomes one
// of a single device. Errors wrap ErrInvalid, or are those of reading.
func (i *Image) Disk(ctx context.Context) (*Disk, error) {
	err := i.diskOnce.do(func() error {
		if len(i.files) == 1 {
			i.disk = &Disk{meta: i.files[0], end: i.files[0].Size()}
			return nil
		}
		t, err := i.Tree(ctx)
		if err != nil {
			return err
		}
		d, err := newDisk(ctx, t)
		if err != nil {
			return fmt.Errorf("the root of %s: %w", i.Name, err)
		}
		i.disk = d
		return nil
	})
	return i.disk, err
}
