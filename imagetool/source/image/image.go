// Package image reads the tree out of an image file or a block device: a
// filesystem, a disk with partitions, raw or in qcow2, or the ISO image of a
// live system. What it is, is told by its content.
package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/disk"
	"github.com/inetboot/inetboot/imagetool/source/filesystem"
	"github.com/inetboot/inetboot/imagetool/source/fstype"
	"github.com/inetboot/inetboot/imagetool/source/live"
	"github.com/inetboot/inetboot/imagetool/source/partition"
	"github.com/inetboot/inetboot/imagetool/source/qcow2"
)

// Is tells whether the file or block device at name is an image that this
// package reads, or refuses by name. Archives are none.
func Is(name string) (bool, error) {
	f, size, err := open(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	if archive(f) {
		return false, nil
	}
	kind, err := fstype.Probe(f, size)
	if err != nil {
		return false, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	if kind != fstype.Unknown {
		return true, nil
	}
	_, err = partition.Read(f, size)
	return err == nil || errors.Is(err, partition.ErrRefused), nil
}

// archive tells whether r begins as an archive or a compressed file. What
// follows there can be anything, marks of filesystems too.
func archive(r io.ReaderAt) bool {
	var head [512]byte
	n, _ := r.ReadAt(head[:], 0) // what cannot be read is none
	for _, m := range []struct {
		at   int
		text string
	}{{0, "\x1f\x8b"}, {0, "BZh"}, {0, "\xfd7zXZ\x00"}, {0, "\x28\xb5\x2f\xfd"}, {257, "ustar"}} {
		if n >= m.at && bytes.HasPrefix(head[m.at:n], []byte(m.text)) {
			return true
		}
	}
	return false
}

// open returns the length of a block device, too.
func open(name string) (*os.File, int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		_ = f.Close()
		return nil, 0, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	return f, size, nil
}

// Read implements [source.Reader].
func Read(ctx context.Context, b *source.Builder, name string, o source.Options) error {
	f, size, err := open(name)
	if err != nil {
		return err
	}
	b.OnClose(f)
	return readFile(ctx, b, f, size, name, o)
}

// readFile reads the image in the size bytes of f; name is for errors.
func readFile(ctx context.Context, b *source.Builder, f *os.File, size int64, name string, o source.Options) error {
	err := read(ctx, b, f, size, o, true)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil, errors.Is(err, source.ErrUnreadable), errors.Is(err, source.ErrRefused), errors.Is(err, source.ErrNoRoom):
		return fmt.Errorf("%s: %w", name, err)
	}
	return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
}

func read(ctx context.Context, b *source.Builder, r io.ReaderAt, size int64, o source.Options, container bool) error {
	kind, err := fstype.Probe(r, size)
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	switch {
	case kind == fstype.QCOW2 && container:
		q, err := qcow2.Open(r, size)
		if err != nil {
			return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
		}
		return read(ctx, b, q, q.Size(), o, false)
	case kind == fstype.ISO9660:
		return live.Read(ctx, b, r, size)
	case filesystem.Supported(kind):
		if kind, r, size, err = filesystem.Inside(kind, r, size); err != nil {
			return err
		}
		if err := filesystem.Read(ctx, b, kind, r, size, false); err != nil {
			return err
		}
		b.SetOrigin(source.Origin{Kind: kind.Describe(), Whole: filesystem.Whole(kind, r, size)})
		return nil
	case kind == fstype.Unknown:
		return disk.Read(ctx, b, r, size, o.Partition)
	}
	return filesystem.Unsupported(kind)
}
