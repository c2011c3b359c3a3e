// Package replicate copies images from one store to another, only what the
// other lacks, and compares everything with its name on the way.
//
// The order is that of a push: blocks, indexes, kernels and initrds, manifests
// and menu, and the catalog last. So whoever reads the copy sees either all of
// a catalog's images or the catalog before, and a copy that broke off goes on
// where it was.
package replicate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// ErrNewer is wrapped when the copy has a newer catalog.
var ErrNewer = errors.New("the copy has a newer catalog")

// Reporter is told how the work goes on.
type Reporter interface {
	Begin(what string, total int64)
	Add(n int64)
	End()
}

// Result is what was copied.
type Result struct {
	Catalog uint64 `json:"catalog"`
	Images  int    `json:"images"`
	Blocks  int    `json:"blocks"` // that were copied
	Of      int    `json:"of_blocks"`
	Files   int    `json:"files"` // other files that were copied
	Packs   int    `json:"packs"` // boot packs that were copied
	Bytes   int64  `json:"bytes"`
	Updated bool   `json:"updated"` // the catalog was replaced
}

// file is a file to copy and how to judge it.
type file struct {
	path  string
	limit int64
	size  int64 // about
	check func([]byte) error
}

// Copy brings to all that c, the catalog of from, lists. It does not copy the
// catalog itself.
func Copy(ctx context.Context, from, to store.Store, c *catalog.Catalog, rep Reporter) (*Result, error) {
	r := &Result{Catalog: c.Version()}
	names, err := c.Names(ctx)
	if err != nil {
		return nil, err
	}
	var images []string
	var targets, wholes, indexes, blocks []file
	for _, name := range names {
		b, err := c.Blob(ctx, name)
		if err != nil {
			return nil, err
		}
		targets = append(targets, whole(storepath.Target(name, b.SHA256), b))
		if contents.IsImage(name) {
			images = append(images, name)
		}
	}
	slices.Sort(images)
	seen := make(map[string]bool)
	add := func(to *[]file, f file) {
		if !seen[f.path] {
			seen[f.path] = true
			*to = append(*to, f)
		}
	}
	err = contents.All(ctx, from, c, images, func(i *contents.Image) error {
		r.Images++
		for _, f := range i.Files() {
			add(&wholes, whole(storepath.File(f.SHA256), f))
		}
		for _, f := range i.Manifest.Root.Files {
			add(&indexes, whole(storepath.Index(f.Index.SHA256), f.Index))
		}
		i.Blocks(func(b contents.Block) bool {
			if !seen[b.Path()] {
				add(&blocks, file{path: b.Path(), limit: int64(block.MaxStored(b.Plain)), size: int64(b.Stored), check: func(data []byte) error {
					_, err := block.Decode(nil, data, b.Plain, b.SHA256)
					return err
				}})
			}
			return true
		})
		return nil
	}, func(name string, err error) error { return fmt.Errorf("%s in %s: %w", name, from, err) })
	if err != nil {
		return nil, err
	}
	r.Of = len(blocks)
	for _, step := range []struct {
		what     string
		files    []file
		count    *int
		parallel int
	}{
		{"blocks", blocks, &r.Blocks, to.Parallel()},
		{"indexes", indexes, &r.Files, 2},
		{"kernels and initrds", wholes, &r.Files, 1}, // they are large
		{"manifests", targets, &r.Files, to.Parallel()},
	} {
		n, size, err := copyFiles(ctx, from, to, step.what, step.files, step.parallel, rep)
		if err != nil {
			return nil, err
		}
		*step.count += n
		r.Bytes += size
	}
	return r, nil
}

func whole(path string, b digest.Blob) file {
	return file{path: path, limit: b.Size, size: b.Size, check: func(data []byte) error { return b.SHA256.Check(path, data) }}
}

// copyFiles copies those of files that to lacks.
func copyFiles(ctx context.Context, from, to store.Store, what string, files []file, parallel int, rep Reporter) (n int, size int64, err error) {
	paths := make([]string, len(files))
	byPath := make(map[string]file, len(files))
	for i, f := range files {
		paths[i] = f.path
		byPath[f.path] = f
	}
	missing, err := to.Missing(ctx, paths)
	if err != nil || len(missing) == 0 {
		return 0, 0, err
	}
	var total int64
	for _, p := range missing {
		total += byPath[p].size
	}
	rep.Begin(what, total)
	defer rep.End()
	var copied atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, p := range missing {
		if ctx.Err() != nil {
			break
		}
		f := byPath[p]
		g.Go(func() error {
			data, err := from.Read(ctx, f.path, nil, f.limit, f.check)
			if err != nil {
				return fmt.Errorf("copy %s from %s: %w", f.path, from, err)
			}
			if err := to.Put(ctx, f.path, bytes.NewReader(data), int64(len(data))); err != nil {
				return err
			}
			copied.Add(int64(len(data)))
			rep.Add(f.size)
			return nil
		})
	}
	err = g.Wait()
	return len(missing), copied.Load(), err
}
