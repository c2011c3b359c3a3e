package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

var _ pack.Source = (*Dir)(nil)

// Stored implements pack.Source.
func (d *Dir) Stored(ctx context.Context, e index.Entry, buf []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, _, _, err := d.Get(storepath.Block(e.SHA256))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	n := info.Size()
	if n > int64(block.MaxStored(e.PlainLen)) {
		return nil, fmt.Errorf("block %s: %w: %d bytes", e.SHA256.Short(), block.ErrFormat, n)
	}
	if int64(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	if _, err := io.ReadFull(f, buf); err != nil {
		return nil, fmt.Errorf("block %s: %w", e.SHA256.Short(), err)
	}
	return buf, nil
}

// PackFile is a boot pack that is being written. It is not in the store until
// Commit.
type PackFile struct {
	*os.File
	dir  *Dir
	done bool
}

// NewPack begins a boot pack. The caller ends it with Commit or Abort; Abort
// after Commit does nothing.
func (d *Dir) NewPack() (*PackFile, error) {
	f, err := os.CreateTemp(d.tmp, "pack-*")
	if err != nil {
		return nil, diskError("a boot pack", err)
	}
	return &PackFile{File: f, dir: d}, nil
}

// Commit puts the pack in the place of the manifest's, if there is one.
func (p *PackFile) Commit(manifest digest.SHA256) error {
	path := storepath.Pack(manifest)
	if err := errors.Join(p.Chmod(0o644), p.Sync()); err != nil {
		return diskError(path, err)
	}
	if err := p.dir.place(p.Name(), path); err != nil {
		return err
	}
	p.done = true
	return p.File.Close()
}

// Abort removes what was written.
func (p *PackFile) Abort() {
	if !p.done {
		p.done = true
		p.File.Close()
		os.Remove(p.Name())
	}
}

// ReceivePack writes a pack that somebody sends and checks it to the last
// block. Errors wrap ErrMalformed, ErrTooLarge, ErrBroken or ErrFull.
func (d *Dir) ReceivePack(ctx context.Context, manifest digest.SHA256, body io.Reader) (*PackFile, error) {
	path := storepath.Pack(manifest)
	p, err := d.NewPack()
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(p.File, &limitedReader{ctx: ctx, r: body, left: pack.MaxBytes})
	if err == nil {
		_, err = p.Seek(0, io.SeekStart)
	}
	if err != nil {
		p.Abort()
		return nil, diskError(path, err)
	}
	if _, err := pack.Check(p, manifest, n); err != nil {
		p.Abort()
		return nil, fmt.Errorf("%s: %w: %w", path, ErrMalformed, err)
	}
	return p, nil
}

// StatPack describes the manifest's pack; fs.ErrNotExist if there is none.
func (d *Dir) StatPack(manifest digest.SHA256) (fs.FileInfo, error) {
	return d.root.Stat(storepath.Pack(manifest))
}

// RemovePack removes the manifest's pack; fs.ErrNotExist if there is none.
func (d *Dir) RemovePack(manifest digest.SHA256) error {
	return d.root.Remove(storepath.Pack(manifest))
}
