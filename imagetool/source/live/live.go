// Package live reads the system out of the ISO image of a live system: Debian
// live, Ubuntu's casper, Fedora's LiveOS, Arch Linux' archiso, Knoppix. Each of
// them has its root in one or more filesystem images in a folder of its own, by
// which it is known.
package live

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/filesystem"
	"github.com/inetboot/inetboot/imagetool/source/fstype"
	"github.com/inetboot/inetboot/imagetool/source/iso9660"
)

// ErrUnknown is wrapped when an ISO image is not of a live system that is
// known.
var ErrUnknown = errors.New("no live system that is known")

const (
	maxList   = 64 << 10  // bytes of a list of layers
	maxKernel = 256 << 20 // bytes of a kernel
)

// system is a live system on an ISO.
type system struct {
	kind    string
	cmdline string
	layers  []string // paths of filesystem images, lowest first
	kernels []string // folders with kernels, and kernels
}

// Read adds the system on the ISO image in the size bytes of r to b. r has to
// last as long as the tree. Errors wrap ErrUnknown, filesystem.ErrUnsupported or
// [source.ErrRefused], or are those of reading.
func Read(ctx context.Context, b *source.Builder, r io.ReaderAt, size int64) error {
	v, err := iso9660.Open(r, size)
	if err != nil {
		return err
	}
	s, err := detect(v)
	if err != nil {
		return err
	}
	origin := source.Origin{Kind: s.kind, Cmdline: s.cmdline}
	for n, name := range s.layers {
		if n > 0 {
			if err := b.NextLayer(); err != nil {
				return err
			}
		}
		f, err := v.Find(name)
		if err != nil {
			return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, s.kind, err)
		}
		whole, err := layer(ctx, b, f, f.Size, n > 0)
		if err != nil {
			return fmt.Errorf("%s, %s: %w", s.kind, name, err)
		}
		if len(s.layers) == 1 {
			origin.Whole = whole
		}
	}
	if origin.Kernels, err = kernels(v, s.kernels); err != nil {
		return err
	}
	b.SetOrigin(origin)
	return nil
}

// layer adds the filesystem in r. One that only holds another one, as Fedora
// has it, is gone through.
func layer(ctx context.Context, b *source.Builder, r io.ReaderAt, size int64, over bool) (*source.Whole, error) {
	kind, err := fstype.Probe(r, size)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	if kind, r, size, err = filesystem.Inside(kind, r, size); err != nil {
		return nil, err
	}
	if !filesystem.Supported(kind) {
		return nil, filesystem.Unsupported(kind)
	}
	if kind == fstype.Squashfs || kind == fstype.EROFS {
		inner, n, err := inside(ctx, b, kind, r, size)
		if err != nil {
			return nil, err
		}
		if inner != nil {
			return layer(ctx, b, inner, n, over)
		}
	}
	if err := filesystem.Read(ctx, b, kind, r, size, over); err != nil {
		return nil, err
	}
	return filesystem.Whole(kind, r, size), nil
}

// inside returns the root filesystem that lies in another filesystem as a
// file: LiveOS/rootfs.img, or ext3fs.img in older ones. It is nil if there is none.
func inside(ctx context.Context, b *source.Builder, kind fstype.Type, r io.ReaderAt, size int64) (io.ReaderAt, int64, error) {
	outer := source.NewBuilder(source.Limits{}, nil)
	if err := filesystem.Read(ctx, outer, kind, r, size, false); err != nil {
		return nil, 0, err
	}
	tree, err := outer.Tree()
	if err != nil {
		return nil, 0, err
	}
	for _, name := range []string{"LiveOS/rootfs.img", "LiveOS/ext3fs.img"} {
		e := tree.Lookup(name)
		if e == nil || !e.IsRegular() {
			continue
		}
		f, err := tree.Open(e)
		if err != nil {
			return nil, 0, err
		}
		at, ok := f.(io.ReaderAt)
		if !ok {
			return nil, 0, fmt.Errorf("%w: /%s in %s cannot be read at random", source.ErrUnreadable, name, kind.Describe())
		}
		b.OnClose(f)
		return at, e.Size, nil
	}
	return nil, 0, nil
}

// detect finds out which system it is.
func detect(v *iso9660.Volume) (*system, error) {
	has := func(name string) bool {
		f, err := v.Find(name)
		return err == nil && !f.Dir
	}
	top, err := v.List("")
	if err != nil {
		return nil, err
	}
	for _, d := range []struct {
		folder, kind, cmdline string
		layers                func(v *iso9660.Volume, dir string) ([]string, error)
		kernels               []string
	}{
		// casper before live: Ubuntu's images may have both.
		{"casper", "Ubuntu live ISO (casper)", "boot=casper", casper, []string{"casper"}},
		// Its start-up scripts look for both words (live-config(7)).
		{"live", "Debian live ISO", "boot=live components", debian, []string{"live"}},
		// livesys-scripts look for it.
		{"LiveOS", "Fedora live ISO (LiveOS)", "rd.live.image", fixed("squashfs.img", "rootfs.img", "ext3fs.img"), []string{"images/pxeboot", "isolinux", "boot", "boot/x86_64/loader", "boot/aarch64/loader"}},
		{"KNOPPIX", "Knoppix", "", knoppix, []string{"boot/isolinux", "boot/syslinux"}},
	} {
		if f, err := v.Find(d.folder); err != nil || !f.Dir {
			continue
		}
		layers, err := d.layers(v, d.folder)
		if err != nil {
			return nil, err
		}
		if len(layers) > 0 {
			return &system{kind: d.kind, cmdline: d.cmdline, layers: layers, kernels: d.kernels}, nil
		}
	}
	// archiso's folder is called arch, or as the system is.
	for _, f := range top {
		if !f.Dir {
			continue
		}
		for _, arch := range []string{"x86_64", "aarch64", "i686"} {
			for _, name := range []string{"airootfs.sfs", "airootfs.erofs", "airootfs.img"} {
				if p := path.Join(f.Name, arch, name); has(p) {
					return &system{kind: "Arch Linux live ISO (archiso)", layers: []string{p}, kernels: []string{path.Join(f.Name, "boot", arch), path.Join(f.Name, "boot")}}, nil
				}
			}
		}
	}
	var names []string
	for _, f := range top {
		names = append(names, f.Name)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("%w: %w: it has %.300s: Debian live (live/), Ubuntu (casper/), Fedora (LiveOS/), archiso (arch/) and Knoppix (KNOPPIX/) are; of an installer, push its kernel and initrd with --kernel and --initrd",
		source.ErrUnreadable, ErrUnknown, strings.Join(names, ", "))
}

// fixed returns the first of names that is there.
func fixed(names ...string) func(v *iso9660.Volume, dir string) ([]string, error) {
	return func(v *iso9660.Volume, dir string) ([]string, error) {
		for _, n := range names {
			if f, err := v.Find(path.Join(dir, n)); err == nil && !f.Dir {
				return []string{path.Join(dir, n)}, nil
			}
		}
		return nil, nil
	}
}

// images lists the files of dir with one of the suffixes, sorted.
func images(v *iso9660.Volume, dir string, suffixes ...string) ([]string, error) {
	list, err := v.List(dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, f := range list {
		if !f.Dir && slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(f.Name, s) }) {
			out = append(out, f.Name)
		}
	}
	slices.Sort(out)
	return out, nil
}

// debian returns the images of live/: those that filesystem.module lists in
// its order, or all in the order of their names, as live-boot does.
func debian(v *iso9660.Volume, dir string) ([]string, error) {
	names, err := images(v, dir, ".squashfs", ".ext2", ".ext3", ".ext4")
	if err != nil {
		return nil, err
	}
	if f, err := v.Find(path.Join(dir, "filesystem.module")); err == nil && f.Size > 0 && f.Size <= maxList {
		b := make([]byte, f.Size)
		if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		var listed []string
		for n := range strings.FieldsSeq(string(b)) {
			if slices.Contains(names, n) {
				listed = append(listed, n)
			}
		}
		if len(listed) > 0 {
			names = listed
		}
	}
	for i := range names {
		names[i] = path.Join(dir, names[i])
	}
	return names, nil
}

// casper returns the images of casper/: filesystem.squashfs, or layers, of
// which a.b.squashfs lies on a.squashfs. Of several towers of layers it takes
// the highest that ends in "live".
func casper(v *iso9660.Volume, dir string) ([]string, error) {
	names, err := images(v, dir, ".squashfs")
	if err != nil || len(names) == 0 {
		return nil, err
	}
	const suffix = ".squashfs"
	top := ""
	best := -1
	for _, n := range names {
		parts := strings.Split(strings.TrimSuffix(n, suffix), ".")
		score := len(parts)
		if parts[len(parts)-1] == "live" {
			score += 1000
		}
		if len(names) == 1 || n == "filesystem"+suffix && score < 1000 {
			score += 500
		}
		if score > best {
			top, best = n, score
		}
	}
	if best < 500 {
		return nil, fmt.Errorf("%w: casper/ has %s: which of them is the live system is not to be told; unpack the ones you want and push that directory",
			source.ErrUnreadable, strings.Join(names, ", "))
	}
	parts := strings.Split(strings.TrimSuffix(top, suffix), ".")
	var out []string
	for n := range parts {
		if name := strings.Join(parts[:n+1], ".") + suffix; slices.Contains(names, name) {
			out = append(out, path.Join(dir, name))
		}
	}
	return out, nil
}

// knoppix returns KNOPPIX/KNOPPIX and what lies over it.
func knoppix(v *iso9660.Volume, dir string) ([]string, error) {
	var out []string
	for _, n := range []string{"KNOPPIX", "KNOPPIX1", "KNOPPIX2"} {
		if f, err := v.Find(path.Join(dir, n)); err == nil && !f.Dir {
			out = append(out, path.Join(dir, n))
		}
	}
	return out, nil
}

// kernels returns the files in folders whose names say that they are
// kernels.
func kernels(v *iso9660.Volume, folders []string) ([]*source.Entry, error) {
	var out []*source.Entry
	for _, dir := range folders {
		list, err := v.List(dir)
		if err != nil {
			continue // not all have all
		}
		for _, f := range list {
			name := strings.ToLower(f.Name)
			if f.Dir || f.Size == 0 || f.Size > maxKernel || !strings.Contains(name, "vmlinu") && !strings.HasPrefix(name, "linux") && !strings.Contains(name, "bzimage") {
				continue
			}
			out = append(out, &source.Entry{Path: path.Join(dir, f.Name), Mode: source.TypeRegular | 0o644, Size: f.Size, Nlink: 1, Contents: contents{f}})
		}
	}
	return out, nil
}

// contents is one file of the ISO.
type contents struct{ f iso9660.File }

// Open implements [source.Contents].
func (c contents) Open(*source.Entry) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(c.f, 0, c.f.Size)), nil
}
