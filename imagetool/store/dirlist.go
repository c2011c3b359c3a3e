package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/inetboot/inetboot/internal/storepath"
)

// List implements Store.
func (d *Dir) List(ctx context.Context, kind storepath.Kind, each func(Info) error) error {
	top := d.file(kind.Prefix())
	err := filepath.WalkDir(top, func(name string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile, or never there
		}
		if err == nil && e.IsDir() && kind == storepath.KindMetadata && name != strings.TrimSuffix(top, "/") {
			return fs.SkipDir
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(d.root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if k, _, ok := storepath.Parse(rel); !ok || k != kind {
			return nil
		}
		fi, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return each(Info{Path: rel, Size: fi.Size(), Time: fi.ModTime()})
	})
	if err != nil {
		return fmt.Errorf("list %s in %s: %w", strings.TrimSuffix(kind.Prefix(), "/"), d.root, err)
	}
	return nil
}

// Remove implements Store.
func (d *Dir) Remove(ctx context.Context, paths []string) error {
	for _, p := range paths {
		if err := removable(p); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := os.Remove(d.file(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", p, err)
		}
	}
	return nil
}
