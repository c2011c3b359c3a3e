// Package disk reads the system that is installed on a disk: it finds the
// partition with the root by what is in it, and puts the other partitions where
// its fstab(5) has them mounted.
package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/ext4"
	"github.com/inetboot/inetboot/imagetool/source/filesystem"
	"github.com/inetboot/inetboot/imagetool/source/fstype"
	"github.com/inetboot/inetboot/imagetool/source/partition"
)

// ErrNoRoot is wrapped when no partition, or more than one, has a root.
var ErrNoRoot = errors.New("the partition with the root is not to be told")

// part is a partition and what is on it.
type part struct {
	partition.Partition
	kind fstype.Type
	r    *io.SectionReader
	uuid string // of the filesystem, if it is known
	name string // the filesystem's label
}

func (p *part) String() string {
	s := fmt.Sprintf("partition %d (%d MiB) is %s", p.Number, p.Size>>20, p.kind.Describe())
	if !filesystem.Supported(p.kind) && p.kind != fstype.FAT && p.kind != fstype.Swap && p.kind != fstype.Unknown {
		s += ", which is not supported"
	}
	return s
}

// Read adds the system on the disk r of the given size to b. number is the
// partition with the root, 0 to find it. r has to last as long as the tree.
func Read(ctx context.Context, b *source.Builder, r io.ReaderAt, size int64, number int) error {
	t, err := partition.Read(r, size)
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	var parts []*part
	for _, p := range t.Partitions {
		q := &part{Partition: p, r: io.NewSectionReader(r, p.Start, p.Size)}
		if q.kind, err = fstype.Probe(q.r, p.Size); err != nil {
			return fmt.Errorf("%w: partition %d: %w", source.ErrUnreadable, p.Number, err)
		}
		if q.kind == fstype.Ext4 {
			if q.uuid, q.name, err = ext4.Identity(q.r); err != nil {
				return fmt.Errorf("%w: partition %d: %w", source.ErrUnreadable, p.Number, err)
			}
		}
		parts = append(parts, q)
	}
	root, err := findRoot(ctx, parts, number)
	if err != nil {
		return err
	}
	if err := filesystem.Read(ctx, b, root.kind, root.r, root.Size, false); err != nil {
		return fmt.Errorf("partition %d: %w", root.Number, err)
	}
	if err := mountOthers(ctx, b, parts, root); err != nil {
		return err
	}
	b.SetOrigin(source.Origin{
		Kind:  fmt.Sprintf("disk with %d partitions, root on partition %d", len(parts), root.Number),
		Whole: filesystem.Whole(root.kind, root.r, root.Size),
	})
	return nil
}

// findRoot returns the partition with the root.
func findRoot(ctx context.Context, parts []*part, number int) (*part, error) {
	var list []string
	for _, p := range parts {
		list = append(list, p.String())
		if p.Number != number {
			continue
		}
		if !filesystem.Supported(p.kind) {
			return nil, fmt.Errorf("partition %d: %w", number, filesystem.Unsupported(p.kind))
		}
		return p, nil
	}
	all := strings.Join(list, ", ")
	if number != 0 {
		return nil, fmt.Errorf("%w: %w: there is no partition %d; %s", source.ErrUnreadable, ErrNoRoot, number, all)
	}
	var roots []*part
	var failed error
	for _, p := range parts {
		if !filesystem.Supported(p.kind) {
			continue
		}
		ok, err := isRoot(ctx, p)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			failed = errors.Join(failed, fmt.Errorf("partition %d: %w", p.Number, err))
			continue
		}
		if ok {
			roots = append(roots, p)
		}
	}
	switch {
	case len(roots) == 1:
		return roots[0], nil
	case len(roots) > 1:
		return nil, fmt.Errorf("%w: %w: partitions %d and %d have one: name one with --partition", source.ErrUnreadable, ErrNoRoot, roots[0].Number, roots[1].Number)
	case failed != nil:
		return nil, fmt.Errorf("%w: %w", source.ErrUnreadable, failed)
	}
	var help error
	for _, p := range parts {
		if !filesystem.Supported(p.kind) && p.kind != fstype.FAT && p.kind != fstype.Swap && p.kind != fstype.Unknown {
			help = filesystem.Unsupported(p.kind)
		}
	}
	if help != nil {
		return nil, fmt.Errorf("no root filesystem was found: %s: %w", all, help)
	}
	return nil, fmt.Errorf("%w: %w: %s", source.ErrUnreadable, ErrNoRoot, all)
}

// isRoot reads the tree of p and tells whether it looks like a root.
func isRoot(ctx context.Context, p *part) (bool, error) {
	b := source.NewBuilder(source.Limits{}, nil)
	defer b.Close()
	if err := filesystem.Read(ctx, b, p.kind, p.r, p.Size, false); err != nil {
		return false, err
	}
	if b.Lookup("etc") == nil {
		return false, nil
	}
	for _, name := range []string{"etc/os-release", "usr/lib/os-release", "etc/fstab", "etc/passwd", "sbin/init", "etc/inittab"} {
		if b.Lookup(name) != nil {
			return true, nil
		}
	}
	return false, nil
}

// mountOthers puts other partitions where fstab has them, and takes what is on
// this disk out of fstab: at boot the disk is not there, and init would wait
// for it.
func mountOthers(ctx context.Context, b *source.Builder, parts []*part, root *part) error {
	const name = "etc/fstab"
	e := b.Lookup(name)
	if e == nil || !e.IsRegular() || e.Size == 0 || e.Size > maxFstab {
		return nil
	}
	text, err := readAll(e)
	if err != nil {
		return err
	}
	lines := parseFstab(text)
	changed := false
	for i := range lines {
		l := &lines[i]
		if l.spec == "" || !l.local() {
			continue
		}
		l.drop, changed = true, true
		p := find(parts, l.spec)
		at := strings.Trim(path.Clean("/"+l.where), "/")
		switch {
		case p == root, l.kind == "swap", at == "":
		case p == nil:
			b.Note("/%s is on a disk that the image does not have (%s)", at, l.spec)
		case p.kind == fstype.FAT && (at == "boot/efi" || at == "efi"): // for firmware
		case p.kind != fstype.Ext4:
			b.Note("/%s is empty: %s", at, p)
		default:
			if err := b.NextLayer(); err != nil {
				return err
			}
			b.Opaque(at)
			if err := ext4.Read(ctx, b, p.r, p.Size, at); err != nil {
				return fmt.Errorf("partition %d, /%s: %w", p.Number, at, err)
			}
		}
	}
	if !changed {
		return nil
	}
	if err := b.NextLayer(); err != nil {
		return err
	}
	fstab := *e
	fstab.Inode, fstab.First = 0, nil
	data := formatFstab(lines)
	fstab.Size, fstab.Contents = int64(len(data)), source.Text(data)
	return b.Add(&fstab)
}

// find returns the partition that fstab means by spec, or nil.
func find(parts []*part, spec string) *part {
	kind, value, ok := strings.Cut(spec, "=")
	if ok {
		value = strings.Trim(value, `"'`)
	} else if d, is := strings.CutPrefix(spec, "/dev/disk/by-"); is {
		kind, value, _ = strings.Cut(d, "/")
	}
	for _, p := range parts {
		switch strings.ToUpper(kind) {
		case "UUID":
			if p.uuid != "" && strings.EqualFold(p.uuid, value) {
				return p
			}
		case "LABEL":
			if p.name != "" && p.name == value {
				return p
			}
		case "PARTUUID":
			if p.UUID != "" && strings.EqualFold(p.UUID, value) {
				return p
			}
		case "PARTLABEL":
			if p.Name != "" && p.Name == value {
				return p
			}
		default:
			if deviceNumber(spec) == p.Number {
				return p
			}
		}
	}
	return nil
}
