// Package filesystem reads the tree of a filesystem of any type for which
// there is a reader.
package filesystem

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/erofs"
	"github.com/inetboot/inetboot/imagetool/source/ext4"
	"github.com/inetboot/inetboot/imagetool/source/fstype"
	"github.com/inetboot/inetboot/imagetool/source/squashfs"
)

// ErrUnsupported is wrapped when there is no reader.
var ErrUnsupported = errors.New("it is not supported")

// Supported tells whether there is a reader for filesystems of type t.
func Supported(t fstype.Type) bool {
	return t == fstype.Ext4 || t == fstype.Squashfs || t == fstype.EROFS
}

// Read adds the tree of the filesystem in the size bytes of r to b, as what
// lies over the layers before it if over is set. r has to last as long as the
// tree.
func Read(ctx context.Context, b *source.Builder, t fstype.Type, r io.ReaderAt, size int64, over bool) error {
	switch t {
	case fstype.Ext4:
		return ext4.Read(ctx, b, r, size, "")
	case fstype.Squashfs:
		return squashfs.Read(ctx, b, r, size, squashfs.Options{Whiteouts: over})
	case fstype.EROFS:
		return erofs.Read(ctx, b, r, erofs.Options{Whiteouts: over})
	}
	return Unsupported(t)
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
	case fstype.Cloop:
		return ": unpack it with extract_compressed_fs, mount the result and push that directory"
	}
	return ""
}
