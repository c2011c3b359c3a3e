// Package verify reads what images consist of and says what is missing or
// damaged in a store.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// ErrDamaged is wrapped when something is missing or damaged.
var ErrDamaged = errors.New("the store is damaged")

// Options says what to verify.
type Options struct {
	Images []string // targets; nil: all that the catalog lists
	Share  float64  // of the blocks, from above 0 to 1
	Seed   uint64   // which ones, if not all
	Begin  func(bytes int64)
	Add    func(n int64)
}

// Problem is a file that is not as it should be.
type Problem struct {
	Path   string   `json:"path"`
	Kind   string   `json:"kind"`   // missing or damaged
	Images []string `json:"images"` // that need it
	Error  string   `json:"error"`
}

// Result is what was found.
type Result struct {
	Images   int       `json:"images"`
	Files    int       `json:"files"`  // that were read, blocks included
	Blocks   int       `json:"blocks"` // of those
	Of       int       `json:"of_blocks"`
	Bytes    int64     `json:"bytes"` // stored bytes that were read
	Problems []Problem `json:"problems"`
}

// run is a verification under way.
type run struct {
	st  store.Store
	o   Options
	mu  sync.Mutex
	res *Result
}

// Run verifies. It returns a result with an error that wraps ErrDamaged if
// there are problems, and other errors if it could not look.
func Run(ctx context.Context, st store.Store, c *catalog.Catalog, o Options) (*Result, error) {
	r := &run{st: st, o: o, res: &Result{Problems: []Problem{}}}
	names := o.Images
	if names == nil {
		all, err := c.Names(ctx)
		if err != nil {
			return nil, err
		}
		for _, name := range all {
			if contents.IsImage(name) {
				names = append(names, name)
				continue
			}
			b, err := c.Blob(ctx, name)
			if err != nil {
				return nil, err
			}
			if err := r.whole(ctx, storepath.Target(name, b.SHA256), b, nil); err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(names)
	blocks, err := r.images(ctx, c, names)
	if err != nil {
		return nil, err
	}
	if err := r.blocks(ctx, blocks); err != nil {
		return nil, err
	}
	slices.SortFunc(r.res.Problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	if n := len(r.res.Problems); n > 0 {
		return r.res, fmt.Errorf("%w: %d files are missing or damaged", ErrDamaged, n)
	}
	return r.res, nil
}

// needed is a block and who needs it.
type needed struct {
	contents.Block
	images []string
}

// images verifies everything but blocks, and returns those.
func (r *run) images(ctx context.Context, c *catalog.Catalog, names []string) (map[digest.SHA256]*needed, error) {
	blocks := make(map[digest.SHA256]*needed)
	for _, name := range names {
		target, err := c.Blob(ctx, name)
		if err != nil {
			return nil, err
		}
		path := storepath.Target(name, target.SHA256)
		img, err := c.Image(ctx, name)
		if err != nil {
			if err := r.found(ctx, path, err, name); err != nil {
				return nil, err
			}
			continue
		}
		r.res.Images++
		r.res.Files++
		m := img.Manifest()
		i := &contents.Image{Name: name, Digest: img.Digest(), Manifest: m}
		for _, f := range m.Root.Files {
			x, err := contents.LoadIndex(ctx, r.st, f.Index)
			if err != nil {
				if err := r.found(ctx, storepath.Index(f.Index.SHA256), err, name); err != nil {
					return nil, err
				}
				continue
			}
			r.res.Files++
			i.Indexes = append(i.Indexes, x)
		}
		for _, f := range i.Files() {
			if err := r.whole(ctx, storepath.File(f.SHA256), f, []string{name}); err != nil {
				return nil, err
			}
		}
		if err := r.pack(ctx, i); err != nil {
			return nil, err
		}
		i.Blocks(func(b contents.Block) bool {
			n := blocks[b.SHA256]
			if n == nil {
				n = &needed{Block: b}
				blocks[b.SHA256] = n
			}
			if !slices.Contains(n.images, name) {
				n.images = append(n.images, name)
			}
			return true
		})
	}
	return blocks, nil
}

// pack verifies a boot pack, if there is one.
func (r *run) pack(ctx context.Context, i *contents.Image) error {
	body, err := r.st.OpenPack(ctx, i.Digest)
	if errors.Is(err, store.ErrNotExist) {
		return nil
	}
	path := storepath.Pack(i.Digest)
	if err != nil {
		return r.found(ctx, path, err, i.Name)
	}
	defer body.Close()
	if err := checkPack(body, i.Digest); err != nil {
		return r.found(ctx, path, err, i.Name)
	}
	r.res.Files++
	return nil
}

// checkPack reads a pack to its end and compares its blocks with their names.
func checkPack(body io.Reader, manifest digest.SHA256) error {
	r, err := pack.NewReader(body, manifest, 0)
	if err != nil {
		return err
	}
	buf := make([]byte, 0, block.MaxStored(block.MaxPlain))
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		stored, err := r.Stored(buf)
		if err != nil {
			return err
		}
		if _, err := block.Decode(nil, stored, rec.PlainLen, rec.SHA256); err != nil {
			return err
		}
	}
}

// whole verifies a file that is named by its hash.
func (r *run) whole(ctx context.Context, path string, b digest.Blob, images []string) error {
	_, err := r.st.Read(ctx, path, nil, b.Size, func(data []byte) error {
		if int64(len(data)) != b.Size {
			return fmt.Errorf("it has %d bytes, want %d", len(data), b.Size)
		}
		return b.SHA256.Check(path, data)
	})
	if err != nil {
		return r.found(ctx, path, err, images...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Files++
	r.res.Bytes += b.Size
	return nil
}

// found notes a problem. It returns errors that are none of the file's.
func (r *run) found(ctx context.Context, path string, err error, images ...string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, store.ErrUnauthorized) || errors.Is(err, store.ErrUnreachable) {
		return err
	}
	kind := "damaged"
	if errors.Is(err, store.ErrNotExist) {
		kind = "missing"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Problems = append(r.res.Problems, Problem{Path: path, Kind: kind, Images: images, Error: err.Error()})
	return nil
}

// blocks verifies blocks: all, or as many as asked for.
func (r *run) blocks(ctx context.Context, all map[digest.SHA256]*needed) error {
	list := make([]*needed, 0, len(all))
	for _, b := range all {
		list = append(list, b)
	}
	r.res.Of = len(list)
	slices.SortFunc(list, func(a, b *needed) int { return strings.Compare(a.Path(), b.Path()) })
	if r.o.Share < 1 {
		rng := rand.New(rand.NewPCG(r.o.Seed, 1))
		rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		list = list[:min(len(list), max(1, int(float64(len(list))*r.o.Share)))]
	}
	var bytes int64
	for _, b := range list {
		bytes += int64(b.Stored)
	}
	if r.o.Begin != nil {
		r.o.Begin(bytes)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.st.Parallel())
	for _, b := range list {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			data, err := r.st.Read(ctx, b.Path(), nil, int64(block.MaxStored(b.Plain)), func(data []byte) error {
				_, err := block.Decode(nil, data, b.Plain, b.SHA256)
				return err
			})
			if r.o.Add != nil {
				r.o.Add(int64(b.Stored))
			}
			if err != nil {
				return r.found(ctx, b.Path(), err, b.images...)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.res.Files++
			r.res.Blocks++
			r.res.Bytes += int64(len(data))
			return nil
		})
	}
	return g.Wait()
}
