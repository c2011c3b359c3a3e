package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// ErrNoKernel is wrapped when a root has no kernel with an initramfs of its own.
var ErrNoKernel = errors.New("it has no kernel with an initramfs of its own")

// maxLinks bounds how many symbolic links a path goes through, as Linux does.
const maxLinks = 40

// maxBootFile bounds a kernel or an initramfs, in bytes.
const maxBootFile = 1 << 30

// readPatience is how long a read of a file may wait for the store.
const readPatience = 30 * time.Second

// Content is a regular file of a root.
type Content struct {
	Path string // in the root, as it was found
	tree *Tree
	in   *Inode
}

var _ io.ReaderAt = (*Content)(nil)

// Size returns how many bytes it has.
func (c *Content) Size() int64 { return c.in.Size }

// ReadAt implements io.ReaderAt. A read waits for the store for half a minute.
func (c *Content) ReadAt(p []byte, off int64) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readPatience)
	defer cancel()
	n, err := c.tree.ReadAt(ctx, c.in, p, off)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// pair is where a kernel and its initramfs may be.
type pair struct{ kernels, initrds []string }

// pairs returns the places for a release of Linux, the surest first: Debian and
// Ubuntu; Fedora and those who come from it; SUSE; and what links to the newest.
func pairs(release string) []pair {
	var out []pair
	if release != "" && !strings.Contains(release, "/") {
		out = append(out, pair{
			[]string{"boot/vmlinuz-" + release, "usr/lib/modules/" + release + "/vmlinuz", "lib/modules/" + release + "/vmlinuz"},
			[]string{"boot/initrd.img-" + release, "boot/initramfs-" + release + ".img", "boot/initrd-" + release},
		})
	}
	return append(out, pair{[]string{"boot/vmlinuz", "vmlinuz"}, []string{"boot/initrd.img", "initrd.img", "boot/initrd"}})
}

// BootFiles returns the kernel of a release of Linux that the image has in its
// root, and the initramfs that its own tools have made for that. Errors wrap
// ErrNoTree or ErrNoKernel, or are those of reading.
func (i *Image) BootFiles(ctx context.Context) (kernel, initrd *Content, err error) {
	t, err := i.Tree(ctx)
	if err != nil {
		return nil, nil, err
	}
	first := func(names []string) (*Content, error) {
		for _, name := range names {
			c, err := t.open(ctx, name)
			if err == nil || !errors.Is(err, fs.ErrNotExist) {
				return c, err
			}
		}
		return nil, nil
	}
	for _, p := range pairs(i.Release) {
		if kernel, err = first(p.kernels); err != nil {
			return nil, nil, err
		}
		if kernel == nil {
			continue
		}
		if initrd, err = first(p.initrds); err != nil {
			return nil, nil, err
		}
		if initrd != nil {
			return kernel, initrd, nil
		}
	}
	return nil, nil, fmt.Errorf("%w: %s has no /boot/vmlinuz-%s with /boot/initrd.img-%s, nor what other distributions call these", ErrNoKernel, i.Name, i.Release, i.Release)
}

// open finds a regular file by its path, through symbolic links as if the tree
// were the whole file system. Errors wrap fs.ErrNotExist if there is none.
func (t *Tree) open(ctx context.Context, name string) (*Content, error) {
	rest := strings.Split(name, "/")
	var at []*Inode // from the root on
	root, err := t.Inode(ctx, t.Root())
	if err != nil {
		return nil, err
	}
	at = append(at, root)
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = at[:max(1, len(at)-1)]
			continue
		}
		dir := at[len(at)-1]
		if dir.Type() != TypeDir {
			return nil, fs.ErrNotExist
		}
		number, err := t.Lookup(ctx, dir, part)
		if err != nil {
			return nil, err
		}
		in, err := t.Inode(ctx, number)
		if err != nil {
			return nil, err
		}
		if in.Type() != TypeSymlink {
			at = append(at, in)
			continue
		}
		if links++; links > maxLinks {
			return nil, fs.ErrNotExist
		}
		target, err := t.Readlink(ctx, in)
		if err != nil {
			return nil, err
		}
		if path.IsAbs(target) {
			at = at[:1]
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	in := at[len(at)-1]
	if in.Type() != TypeRegular || in.Size == 0 || in.Size > maxBootFile {
		return nil, fs.ErrNotExist
	}
	return &Content{Path: name, tree: t, in: in}, nil
}
