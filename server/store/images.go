package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// Images is what the catalog lists: the manifests' names by their hashes.
type Images map[digest.SHA256]string

type shown struct {
	file os.FileInfo // of the timestamp that menu is from
	menu *catalog.Menu
}

type listed struct {
	file   os.FileInfo // of the timestamp that images is from
	images Images
}

// Images returns the images that the present catalog lists, nil if there is
// no catalog. The caller must not change the result.
func (d *Dir) Images() (Images, error) {
	info, err := d.root.Stat(storepath.Timestamp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	// The timestamp is replaced by renaming another file over it.
	if l := d.listed.Load(); l != nil && os.SameFile(l.file, info) && l.file.ModTime().Equal(info.ModTime()) && l.file.Size() == info.Size() {
		return l.images, nil
	}
	ctx := context.Background() // only files of the store are read
	anchor, err := d.anchor()
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Open(ctx, source{d: d}, anchor, catalog.Options{})
	if err != nil {
		return nil, err
	}
	names, err := cat.Names(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	images := make(Images)
	for _, name := range names {
		if b, err := cat.Blob(ctx, name); err == nil && strings.HasPrefix(name, "images/") {
			images[b.SHA256] = name
		}
	}
	// A catalog that was replaced meanwhile has another FileInfo: the next
	// call reads it.
	d.listed.Store(&listed{file: info, images: images})
	return images, nil
}

// Menu returns the menu of the present catalog, with publishers' menus in it;
// nil if there is no catalog. The caller must not change the result.
func (d *Dir) Menu(ctx context.Context) (*catalog.Menu, error) {
	info, err := d.root.Stat(storepath.Timestamp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the menu: %w", err)
	}
	if l := d.menu.Load(); l != nil && os.SameFile(l.file, info) && l.file.ModTime().Equal(info.ModTime()) && l.file.Size() == info.Size() {
		return l.menu, nil
	}
	anchor, err := d.anchor()
	if err != nil {
		return nil, err
	}
	cat, err := catalog.Open(ctx, source{d: d}, anchor, catalog.Options{})
	if err != nil {
		return nil, err
	}
	m, err := cat.WholeMenu(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the menu: %w", err)
	}
	d.menu.Store(&shown{file: info, menu: m})
	return m, nil
}

// Manifest reads the manifest with the given name and hash.
func (d *Dir) Manifest(name string, sum digest.SHA256) (*catalog.Manifest, error) {
	data, err := d.Read(storepath.Target(name, sum), catalog.MaxTarget)
	if err != nil {
		return nil, err
	}
	if err := sum.Check(name, data); err != nil {
		return nil, err
	}
	return catalog.ParseManifest(data)
}

// Indexes reads the indexes of an image's root, in the order of the manifest.
func (d *Dir) Indexes(m *catalog.Manifest) ([]*index.Index, error) {
	var out []*index.Index
	for _, f := range m.Root.Files {
		data, err := d.Read(storepath.Index(f.Index.SHA256), min(f.Index.Size, d.limits.Index))
		if err != nil {
			return nil, err
		}
		if err := f.Index.SHA256.Check("index of "+f.Name, data); err != nil {
			return nil, err
		}
		x, err := index.Parse(data)
		if err != nil {
			return nil, fmt.Errorf("index of %s: %w", f.Name, err)
		}
		out = append(out, x)
	}
	return out, nil
}
