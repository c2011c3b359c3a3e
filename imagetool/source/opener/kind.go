package opener

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/container"
	"github.com/inetboot/inetboot/imagetool/source/dir"
	"github.com/inetboot/inetboot/imagetool/source/machine"
	"github.com/inetboot/inetboot/imagetool/source/remote"
	"github.com/inetboot/inetboot/imagetool/source/tarball"
)

// Prefixes of names that say of which kind a source is, as skopeo(1) has them.
const (
	registryPrefix = "docker://"
	layoutPrefix   = "oci:"
	ociPrefix      = "oci-archive:"
	dockerPrefix   = "docker-archive:"
)

// runningNote is said of machines that run.
const runningNote = "keys of the machine, home folders, temporary files and the like stay out (--verbatim takes them); what else is secret, as in /etc/shadow, everybody can read then"

// named reads a source whose name begins with a prefix. known is false if it
// does not.
func named(ctx context.Context, b *source.Builder, name string, o Options) (known bool, err error) {
	if ref, ok := strings.CutPrefix(name, registryPrefix); ok {
		return true, container.Registry{PlainHTTP: o.PlainHTTP, CA: o.RegistryCA, Certificate: o.RegistryCert, Key: o.RegistryKey}.Pull(ctx, b, ref, o.Options)
	}
	if strings.HasPrefix(name, remote.Scheme) {
		ro := remote.Options{Command: o.SSH, Mounts: o.Mounts, Exclude: o.Exclude}
		if !o.Verbatim {
			ro.Exclude = append(machine.Excludes(), ro.Exclude...)
			ro.Mounts = append(machine.Mounts(), ro.Mounts...)
			if err := exclude(b, ro.Exclude); err != nil {
				return true, err
			}
			b.Note(runningNote)
		}
		if err := remote.Read(ctx, b, name, ro, o.Options); err != nil || o.Verbatim {
			return true, err
		}
		return true, machine.Neutral(b)
	}
	for _, prefix := range []string{layoutPrefix, ociPrefix, dockerPrefix} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			o.Ref = ""
			if _, err := os.Stat(rest); err != nil {
				rest, o.Ref = splitRef(rest)
			}
			return true, readContainer(ctx, b, rest, o)
		}
	}
	return false, nil
}

// splitRef takes the name of an image off a path. A path with colons in it is
// believed if it is there.
func splitRef(name string) (path, ref string) {
	for i, c := range name {
		if c != ':' {
			continue
		}
		if _, err := os.Stat(name[:i]); err == nil {
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}

// filesLimit bounds the names in a layout or an archive.
const filesLimit = 100_000

// readContainer reads an OCI layout, an OCI archive or a Docker archive.
func readContainer(ctx context.Context, b *source.Builder, name string, o Options) (err error) {
	fi, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("%w: %w", source.ErrUnreadable, err)
	}
	files := source.NewBuilder(source.Limits{Entries: filesLimit, Size: o.Limits.Size}, nil)
	if fi.IsDir() {
		err = dir.Read(ctx, files, name, dir.Options{})
	} else {
		// Reading the names of an archive takes no time worth a bar, unless it
		// is compressed, and then there are two.
		err = tarball.Read(ctx, files, name, o.Options)
	}
	if err != nil {
		return errors.Join(err, files.Close())
	}
	return addContainer(ctx, b, files, name, o)
}

// addContainer adds the image whose files are in another builder.
func addContainer(ctx context.Context, b, files *source.Builder, name string, o Options) error {
	tree, err := files.Tree()
	if err != nil {
		return errors.Join(err, files.Close())
	}
	b.OnClose(tree)
	return container.Read(ctx, b, tree, name, o.Options)
}

// readDir reads a directory: a tree, or a layout of container images.
func readDir(ctx context.Context, b *source.Builder, name string, o Options) error {
	if isLayout(name) {
		return readContainer(ctx, b, name, o)
	}
	do := dir.Options{Mounts: o.Mounts, Progress: o.Progress}
	running := !o.Verbatim && isRoot(name)
	if running {
		do.Mounts = append(machine.Mounts(), do.Mounts...)
		if err := exclude(b, append(machine.Excludes(), o.Exclude...)); err != nil {
			return err
		}
		b.Note(runningNote)
	}
	if err := dir.Read(ctx, b, name, do); err != nil || !running {
		return err
	}
	return machine.Neutral(b)
}

// isLayout tells whether a directory is a layout of container images.
func isLayout(name string) bool {
	for _, f := range []string{"oci-layout", "index.json"} {
		if fi, err := os.Lstat(name + "/" + f); err != nil || !fi.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// isRoot tells whether name is the root of this machine.
func isRoot(name string) bool {
	a, err := os.Stat(name)
	if err != nil {
		return false
	}
	root, err := os.Stat("/")
	return err == nil && os.SameFile(a, root)
}

// readTar reads a tarball: of a tree, or of a container image, which shows
// when it has been read.
func readTar(ctx context.Context, b *source.Builder, name string, o Options) error {
	files := source.NewBuilder(o.Limits, nil)
	if err := tarball.Read(ctx, files, name, o.Options); err != nil {
		return errors.Join(err, files.Close())
	}
	if container.Is(files) {
		return addContainer(ctx, b, files, name, o)
	}
	return b.Take(files)
}

func exclude(b *source.Builder, patterns []string) error {
	x, err := source.NewExclude(patterns)
	if err != nil {
		return err
	}
	b.SetExclude(x)
	return nil
}
