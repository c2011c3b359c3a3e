// Package filesystem reads the tree of a filesystem of any type for which
// there is a reader.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/cloop"
	"github.com/inetboot/inetboot/imagetool/source/erofs"
	"github.com/inetboot/inetboot/imagetool/source/ext4"
	"github.com/inetboot/inetboot/imagetool/source/fstype"
	"github.com/inetboot/inetboot/imagetool/source/iso9660"
	"github.com/inetboot/inetboot/imagetool/source/squashfs"
)

// ErrUnsupported is wrapped when there is no reader.
var ErrUnsupported = errors.New("it is not supported")

// Supported tells whether there is a reader for filesystems of type t. What is
// in a cloop image shows when it is read.
func Supported(t fstype.Type) bool {
	return Mountable(t) || t == fstype.ISO9660 || t == fstype.Cloop
}

// Mountable tells whether a filesystem of type t can be the root of a machine
// as it is.
func Mountable(t fstype.Type) bool {
	return t == fstype.Ext4 || t == fstype.Squashfs || t == fstype.EROFS
}

// Inside returns the filesystem that lies in a cloop image, or what it was
// given if that is none. What is returned may not be supported.
func Inside(t fstype.Type, r io.ReaderAt, size int64) (fstype.Type, io.ReaderAt, int64, error) {
	if t != fstype.Cloop {
		return t, r, size, nil
	}
	m, err := cloop.Open(r, size)
	if err != nil {
		return t, nil, 0, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	if t, err = fstype.Probe(m, m.Size()); err != nil {
		return t, nil, 0, fmt.Errorf("%w: cloop: %w", source.ErrUnreadable, err)
	}
	if t == fstype.Cloop { // one in another has no use but to make trouble
		return t, nil, 0, fmt.Errorf("%w: cloop: there is another one in it", source.ErrRefused)
	}
	return t, m, m.Size(), nil
}

// Read adds the tree of the filesystem in the size bytes of r to b, as what
// lies over the layers before it if over is set. r has to last as long as the
// tree.
func Read(ctx context.Context, b *source.Builder, t fstype.Type, r io.ReaderAt, size int64, over bool) error {
	t, r, size, err := Inside(t, r, size)
	if err != nil {
		return err
	}
	switch t {
	case fstype.Ext4:
		return ext4.Read(ctx, b, r, size, "")
	case fstype.Squashfs:
		return squashfs.Read(ctx, b, r, size, squashfs.Options{Whiteouts: over})
	case fstype.EROFS:
		return erofs.Read(ctx, b, r, erofs.Options{Whiteouts: over})
	case fstype.ISO9660:
		return iso9660.Read(ctx, b, r, size)
	}
	return Unsupported(t)
}

// Whole returns the filesystem of type t in r as what can be pushed as it is,
// or nil if it cannot.
func Whole(t fstype.Type, r io.ReaderAt, size int64) *source.Whole {
	if !Mountable(t) {
		return nil
	}
	return &source.Whole{Type: string(t), Size: size, ReaderAt: r}
}

// Unsupported says that there is no reader for t, and what to do.
func Unsupported(t fstype.Type) error {
	return fmt.Errorf("%w: this is %s: %w%s", source.ErrUnreadable, t.Describe(), ErrUnsupported, advice(t))
}

func advice(t fstype.Type) string {
	switch t {
	case fstype.LVM:
		return ": activate it with vgchange -ay, mount the root read-only and push that directory"
	case fstype.LUKS, fstype.BitLocker:
		return ": open it, mount the root read-only and push that directory"
	case fstype.RAID, fstype.Bcache:
		return ": assemble it, mount the root read-only and push that directory"
	case fstype.XFS, fstype.Btrfs, fstype.F2FS, fstype.ZFS:
		return ": mount it read-only and push that directory"
	case fstype.VMDK, fstype.VDI, fstype.VHD, fstype.VHDX:
		return ": convert it with qemu-img convert -O qcow2"
	}
	return ""
}
