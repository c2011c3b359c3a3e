package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// Info is what is known of a file without reading it.
type Info struct {
	Path string    `json:"path"`
	Size int64     `json:"size"`
	Time time.Time `json:"time"` // when it was written
}

// List returns the files of a kind whose paths come behind after, in the order
// of storepath.Compare, at most limit of them. more says that there are others.
func (d *Dir) List(ctx context.Context, kind storepath.Kind, after string, limit int) (files []Info, more bool, err error) {
	err = fs.WalkDir(d.root.FS(), strings.TrimSuffix(kind.Prefix(), "/"), func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile, or never there
		}
		if err != nil {
			return err
		}
		if e.IsDir() {
			if storepath.Compare(p, after) < 0 && !strings.HasPrefix(after, p+"/") || kind == storepath.KindMetadata && p == "catalog/targets" {
				return fs.SkipDir // all of it comes before, or is something else
			}
			return nil
		}
		if k, _, ok := storepath.Parse(p); !ok || k != kind || storepath.Compare(p, after) <= 0 || !e.Type().IsRegular() {
			return nil
		}
		if len(files) == limit {
			more = true
			return fs.SkipAll
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		files = append(files, Info{Path: p, Size: info.Size(), Time: info.ModTime().UTC()})
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("list %s: %w", kind, err)
	}
	return files, more, nil
}

// Remove removes files; what is not there is no error. The timestamp and roots
// cannot be removed.
func (d *Dir) Remove(ctx context.Context, paths []string) error {
	for _, p := range paths {
		if _, _, ok := storepath.Parse(p); !ok || storepath.Lasting(p) {
			return fmt.Errorf("remove %s: %w", p, ErrNoPlace)
		}
	}
	for _, p := range paths {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", p, err)
		}
	}
	return nil
}
