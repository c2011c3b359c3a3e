// Package opener opens sources of all kinds: it finds out of which kind one
// is, and has the package for that kind read it.
package opener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/dir"
	"github.com/inetboot/inetboot/imagetool/source/image"
	"github.com/inetboot/inetboot/imagetool/source/tarball"
)

// Options says what to open.
type Options struct {
	source.Options
	Limits   source.Limits
	Exclude  []string // patterns of what stays out, see source.NewExclude
	Mounts   []string // paths at which another filesystem is read as well
	Overlays []string // directories and tarballs that are laid over, in order

	// Verbatim has a running machine, over ssh or as /, read as it is, with
	// what package machine leaves out and changes.
	Verbatim  bool
	SSH       []string // the ssh program with its options; empty: ssh
	PlainHTTP bool     // registries are asked without encryption
	// RegistryCA is a file with certificates that are trusted for registries.
	RegistryCA string
	// RegistryCert and RegistryKey are files with a certificate to show to
	// registries, and its key.
	RegistryCert, RegistryKey string
}

// Open reads the tree at name:
//
//   - a directory, or a tarball that may be compressed with gzip, bzip2, xz or
//     Zstandard, or "-" for one on standard input;
//   - an image of a filesystem, a disk or a live system;
//   - a container image: an OCI layout, an OCI or Docker archive, with
//     oci:PATH:NAME, oci-archive:PATH:NAME or docker-archive:PATH:NAME if there
//     are several in it, or docker://REFERENCE for one in a registry;
//   - ssh://[USER@]HOST[:PORT]/PATH, a running machine.
func Open(ctx context.Context, name string, o Options) (_ *source.Tree, err error) {
	x, err := source.NewExclude(o.Exclude)
	if err != nil {
		return nil, err
	}
	b := source.NewBuilder(o.Limits, x)
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := read(ctx, b, name, o); err != nil {
		return nil, err
	}
	for _, over := range o.Overlays {
		if err := overlay(ctx, b, over, o); err != nil {
			return nil, fmt.Errorf("overlay: %w", err)
		}
	}
	return b.Tree()
}

func read(ctx context.Context, b *source.Builder, name string, o Options) error {
	if name == "-" {
		return readTar(ctx, b, name, o)
	}
	if known, err := named(ctx, b, name, o); known {
		return err
	}
	fi, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	if fi.IsDir() {
		return readDir(ctx, b, name, o)
	}
	if fi.Mode().IsRegular() || fi.Mode().Type() == fs.ModeDevice {
		is, err := image.Is(name)
		if err != nil {
			return err
		}
		if is {
			return image.Read(ctx, b, name, o.Options)
		}
		if is, err = image.IsCompressed(name); err != nil {
			return err
		}
		if is {
			return image.ReadCompressed(ctx, b, name, o.Options)
		}
	}
	return readTar(ctx, b, name, o)
}

// overlay lays a directory or a tarball over what is in b.
func overlay(ctx context.Context, b *source.Builder, name string, o Options) error {
	fi, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	if err := b.Overlay(); err != nil {
		return err
	}
	if !fi.IsDir() {
		o.Whiteouts = true
		return tarball.Read(ctx, b, name, o.Options)
	}
	return dir.Read(ctx, b, name, dir.Options{Whiteouts: true, Owner: true})
}
