package catalog

import (
	"context"
	"fmt"
	"slices"
)

// File reads a target as it is, if it has at most limit bytes.
func (c *Catalog) File(ctx context.Context, name string, limit int64) ([]byte, error) {
	b, err := c.Blob(ctx, name)
	if err != nil {
		return nil, err
	}
	if b.Size > limit {
		return nil, fmt.Errorf("%s is %w: it has %d bytes, at most %d are allowed", name, ErrFormat, b.Size, limit)
	}
	data, _, err := c.target(ctx, name)
	return data, err
}

// Combine returns an image, without a root, that has the kernel of one image
// and the initrd of another one, which may be nil. Its command line is empty,
// and it needs the memory of both. An initrd that mounts a root is refused: it
// would not find it.
func Combine(kernel, initrd *Image) (*Image, error) {
	k := kernel.m
	out := &Image{m: Manifest{
		Format: ManifestFormat, Requires: []string{FeatureNoRoot}, Name: k.Name, Version: k.Version, Arch: k.Arch, Created: k.Created,
		Kernel: k.Kernel, MissingDrivers: slices.Clone(k.MissingDrivers),
	}, hash: kernel.hash}
	if slices.Contains(k.Requires, FeatureKexecLoad) {
		out.m.Requires = append(out.m.Requires, FeatureKexecLoad)
	}
	if k.NoRoot() {
		out.m.Needs = k.Needs
	}
	if k.Hypervisor != nil {
		return nil, fmt.Errorf("the kernel of %s %s starts below a hypervisor", k.Name, k.Version)
	}
	if initrd == nil {
		return out, out.m.Check()
	}
	switch i := initrd.m; {
	case i.Initrd.Size == 0:
		return nil, fmt.Errorf("%s %s has no initrd", i.Name, i.Version)
	case !i.NoRoot():
		return nil, fmt.Errorf("the initrd of %s %s mounts the image's root and cannot be used without it", i.Name, i.Version)
	default:
		out.m.Initrd = i.Initrd
		out.m.Needs.Memory = max(out.m.Needs.Memory, i.Needs.Memory)
	}
	return out, out.m.Check()
}
