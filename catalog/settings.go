package catalog

import (
	"context"
	"errors"
	"fmt"

	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// SettingsFile is a document of settings that the catalog vouches for.
type SettingsFile struct {
	Name     string // of the target
	Path     string // in the store
	Blob     digest.Blob
	Settings *bootsettings.Settings
}

// Settings reads the settings that apply to an image when it is started from
// a menu entry, the more general ones first. Most boots have none.
func (c *Catalog) Settings(ctx context.Context, img *Image, entry string) ([]SettingsFile, error) {
	var out []SettingsFile
	m := img.Manifest()
	for _, name := range bootsettings.Names(m.Name, m.Version, entry) {
		f, err := c.SettingsFile(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, *f)
	}
	return out, nil
}

// SettingsFile reads one document, by the name of its target. The error wraps
// ErrNotFound if there is none.
func (c *Catalog) SettingsFile(ctx context.Context, name string) (*SettingsFile, error) {
	data, blob, err := c.target(ctx, name)
	if err != nil {
		return nil, err
	}
	s, err := bootsettings.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s is %w: %w", name, ErrFormat, err)
	}
	return &SettingsFile{Name: name, Path: storepath.Target(name, blob.SHA256), Blob: blob, Settings: s}, nil
}
