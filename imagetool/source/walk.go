package source

import (
	"context"
	"fmt"
)

// maxDepth is how deep directories of a filesystem may nest.
const maxDepth = 1000

// Named is one name in a directory, and the reference of its inode.
type Named[R comparable] struct {
	Name string
	Ref  R
}

// Inodes is a filesystem whose directories name inodes of type I by references
// of type R.
type Inodes[R comparable, I any] interface {
	Inode(ref R) (I, error)
	IsDir(i I) bool
	// Names returns what is in a directory, without "." and "..".
	Names(dir I) ([]Named[R], error)
	// Add adds the entry for an inode to the builder, without what is in it.
	Add(path string, i I, ref R) error
}

// Walk adds the tree of a filesystem below the inode root to b, as the
// directory prefix, "" for the root. What the builder excludes is not read. A
// root that is none, a directory that has two names, and directories that nest
// too deep wrap ErrRefused; other errors are those of from.
func Walk[R comparable, I any](ctx context.Context, b *Builder, from Inodes[R, I], prefix string, root R) error {
	i, err := from.Inode(root)
	if err != nil {
		return fmt.Errorf("the root: %w", err)
	}
	if !from.IsDir(i) {
		return fmt.Errorf("%w: the root is not a directory", ErrRefused)
	}
	if err := from.Add(prefix, i, root); err != nil {
		return err
	}
	w := walk[R, I]{b: b, from: from, seen: map[R]bool{root: true}}
	return w.dir(ctx, prefix, i, 0)
}

type walk[R comparable, I any] struct {
	b    *Builder
	from Inodes[R, I]
	seen map[R]bool // directories
}

// dir adds what is in the directory i at path.
func (w *walk[R, I]) dir(ctx context.Context, path string, i I, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: directories nest deeper than %d", ErrRefused, maxDepth)
	}
	names, err := w.from.Names(i)
	if err != nil {
		return fmt.Errorf("directory /%s: %w", path, err)
	}
	for _, n := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		p, err := Child(path, n.Name)
		if err != nil {
			return err
		}
		if w.b.Excluded(p) {
			continue
		}
		child, err := w.from.Inode(n.Ref)
		if err != nil {
			return fmt.Errorf("/%s: %w", p, err)
		}
		isDir := w.from.IsDir(child)
		if isDir {
			// A directory has one name, so that this ends.
			if w.seen[n.Ref] {
				return fmt.Errorf("%w: the directory /%s has two names", ErrRefused, p)
			}
			w.seen[n.Ref] = true
		}
		if err := w.from.Add(p, child, n.Ref); err != nil {
			return err
		}
		if isDir {
			if err := w.dir(ctx, p, child, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
