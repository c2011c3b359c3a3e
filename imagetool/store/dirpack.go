package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// PutPack implements Store.
func (d *Dir) PutPack(ctx context.Context, manifest digest.SHA256, body io.ReaderAt, size int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := pack.Check(io.NewSectionReader(body, 0, size), manifest, size); err != nil {
		return fmt.Errorf("store the boot pack: %w: %w", ErrRejected, err)
	}
	tmp, err := d.writeTemp(io.NewSectionReader(body, 0, size), true)
	if err != nil {
		return fmt.Errorf("store the boot pack: %w", full(err))
	}
	final := d.file(storepath.Pack(manifest))
	if err = os.MkdirAll(filepath.Dir(final), 0o755); err == nil {
		err = os.Rename(tmp, final)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("store the boot pack: %w", full(err))
	}
	return nil
}

// OpenPack implements Store.
func (d *Dir) OpenPack(ctx context.Context, manifest digest.SHA256) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := os.Open(d.file(storepath.Pack(manifest)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNotExist, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read the boot pack: %w", err)
	}
	return f, nil
}

// StatPack implements Store.
func (d *Dir) StatPack(ctx context.Context, manifest digest.SHA256) (Info, error) {
	if err := ctx.Err(); err != nil {
		return Info{}, err
	}
	path := storepath.Pack(manifest)
	fi, err := os.Stat(d.file(path))
	if errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("%w: %w", ErrNotExist, err)
	}
	if err != nil {
		return Info{}, fmt.Errorf("look for the boot pack: %w", err)
	}
	return Info{Path: path, Size: fi.Size(), Time: fi.ModTime()}, nil
}

// RemovePack implements Store.
func (d *Dir) RemovePack(ctx context.Context, manifest digest.SHA256) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := os.Remove(d.file(storepath.Pack(manifest)))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrNotExist, err)
	}
	if err != nil {
		return fmt.Errorf("remove the boot pack: %w", err)
	}
	return nil
}
