package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/erofs"
	"github.com/inetboot/inetboot/imagetool/source/filesystem"
	"github.com/inetboot/inetboot/imagetool/source/fstype"
)

// ErrNoRoot is wrapped when an image has no root.
var ErrNoRoot = errors.New("the image has no root")

// Open returns the tree of an image's root. Blocks are fetched as they are
// needed, until ctx ends. The files are those of the root, in its order.
func Open(ctx context.Context, src catalog.Source, i *contents.Image) (*source.Tree, []*File, error) {
	if len(i.Indexes) == 0 {
		return nil, nil, fmt.Errorf("%s: %w", i, ErrNoRoot)
	}
	var files []*File
	for _, x := range i.Indexes {
		files = append(files, NewFile(ctx, src, x))
	}
	b := source.NewBuilder(source.Limits{}, nil)
	var err error
	if typ := i.Manifest.Root.Type; typ == "erofs" {
		var devices []io.ReaderAt
		for _, f := range files[1:] {
			devices = append(devices, f)
		}
		err = erofs.Read(ctx, b, files[0], erofs.Options{Devices: devices})
	} else {
		err = filesystem.Read(ctx, b, fstype.Type(typ), files[0], files[0].Size(), false)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("root of %s: %w", i, err), b.Close())
	}
	t, err := b.Tree()
	if err != nil {
		return nil, nil, fmt.Errorf("root of %s: %w", i, err)
	}
	return t, files, nil
}
