package command

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/extract"
	"github.com/inetboot/inetboot/imagetool/root"
	"github.com/inetboot/inetboot/imagetool/rootfs"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/storepath"
)

type pullOptions struct {
	where
	output, format string
}

func (a *app) pullCommand() *cobra.Command {
	var o pullOptions
	c := &cobra.Command{
		Use:   "pull IMAGE -o OUTPUT",
		Short: "Get an image back: as a directory, a tar archive, a filesystem, or the files it consists of",
		Long: `Pull reads a published image and writes its root

  dir    into a directory, which must be empty or missing. Owners and devices need
         root; without it they are left out
  tar    as a tar archive, compressed if its name ends in .gz or .zst; - is standard
         output
  erofs  as one EROFS image, which mount -o loop shows, whatever the root was
         published as; - is standard output
  files  as it is published: the files of the root (mount -t erofs -o loop,device=…
         shows an EROFS), vmlinuz, initrd and manifest.json, into a directory

Everything that is read is compared with the signed catalog. Without --format, the
name of the output decides between dir, tar and erofs (.erofs).`,
		Example: `  imagetool pull debian/12 -o ./debian-root
  imagetool pull debian/12/amd64 -o debian.tar.zst
  imagetool pull debian --format tar -o - | docker import - debian:12
  imagetool pull debian/12 -o debian.erofs && mount -o loop debian.erofs /mnt
  imagetool pull debian/12 --format files -o ./image --to https://boot.example.org/`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error { return a.runPull(c.Context(), &o, args[0]) },
	}
	o.flags(c)
	c.Flags().StringVarP(&o.output, "output", "o", "", "directory or file to write (required)")
	c.Flags().StringVar(&o.format, "format", "", "dir, tar, erofs or files (default: by the name)")
	return c
}

func (a *app) runPull(ctx context.Context, o *pullOptions, spec string) error {
	if o.output == "" {
		return &usageError{errors.New("-o is missing: where shall the image go?")}
	}
	if o.format == "" {
		o.format = "dir"
		if name := strings.ToLower(o.output); name == "-" || strings.HasSuffix(name, ".tar") || strings.HasSuffix(name, ".tar.gz") ||
			strings.HasSuffix(name, ".tgz") || strings.HasSuffix(name, ".tar.zst") {
			o.format = "tar"
		} else if strings.HasSuffix(name, ".erofs") {
			o.format = "erofs"
		}
	}
	st, img, err := a.contents(ctx, &o.where, spec)
	if err != nil {
		return err
	}
	rep := newReporter(a.err)
	defer rep.End()
	// What is fetched ahead ends with the command.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	switch o.format {
	case "files":
		err = pullFiles(ctx, st, img, o.output, rep)
	case "dir", "tar", "erofs":
		err = a.pullTree(ctx, st, img, o, rep)
	default:
		return &usageError{fmt.Errorf("--format %s: want dir, tar, erofs or files", o.format)}
	}
	if err != nil {
		return err
	}
	rep.End()
	if o.output == "-" {
		return nil
	}
	if a.json {
		return a.writeJSON(map[string]any{"image": img.String(), "format": o.format, "output": o.output})
	}
	a.say("%s is in %s", img, o.output)
	return nil
}

// contents returns the store and what an image consists of.
func (a *app) contents(ctx context.Context, w *where, spec string) (store.Store, *contents.Image, error) {
	st, img, err := a.pick(ctx, w, spec)
	if err != nil {
		return nil, nil, err
	}
	m := img.Manifest()
	i, err := contents.Load(ctx, st, spec, img.Digest(), m)
	return st, i, err
}

func (a *app) pullTree(ctx context.Context, st store.Store, img *contents.Image, o *pullOptions, rep *reporter) (err error) {
	t, _, err := rootfs.Open(ctx, st, img)
	if errors.Is(err, rootfs.ErrNoRoot) {
		return &usageError{fmt.Errorf("%w: --format files writes its kernel and initrd", err)}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	var total int64
	for _, e := range t.Entries() {
		if e.First == nil {
			total += e.Size
		}
	}
	rep.Begin("pull "+img.String(), total)
	if o.format == "dir" {
		skipped, err := extract.Dir(ctx, t, o.output, rep.Add)
		if skipped > 0 {
			rep.Note(fmt.Sprintf("%d devices, or files with attributes that only root may set, were left out, whole or in part", skipped))
		}
		return err
	}
	if o.format == "erofs" {
		return a.pullImage(ctx, t, o.output, rep)
	}
	if o.output == "-" {
		out := bufio.NewWriterSize(a.out, 1<<20)
		return errors.Join(extract.Tar(ctx, t, out, rep.Add), out.Flush())
	}
	return writeFile(o.output, func(f io.Writer) error {
		out, err := compressor(o.output, f)
		if err != nil {
			return err
		}
		return errors.Join(extract.Tar(ctx, t, out, rep.Add), out.Close())
	})
}

// pullImage writes the tree as one EROFS.
func (a *app) pullImage(ctx context.Context, t *source.Tree, name string, rep *reporter) error {
	plan, err := root.NewPlan(t)
	if err != nil {
		return err
	}
	if name == "-" {
		out := bufio.NewWriterSize(a.out, 1<<20)
		_, err := plan.Image(ctx, out, nil, rep.Add)
		return errors.Join(err, out.Flush())
	}
	return replaceFile(name, func(f *os.File) error {
		size, err := plan.Image(ctx, f, f, rep.Add)
		if err != nil {
			return err
		}
		return f.Truncate(size) // it may end with a hole
	})
}

// compressor compresses as the name of the output says.
func compressor(name string, w io.Writer) (io.WriteCloser, error) {
	switch {
	case strings.HasSuffix(name, ".zst"):
		return zstd.NewWriter(w)
	case strings.HasSuffix(name, ".gz"), strings.HasSuffix(name, ".tgz"):
		return gzip.NewWriter(w), nil
	}
	return nopCloser{w}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// writeFile writes a file under a temporary name and renames it.
func writeFile(name string, write func(io.Writer) error) (err error) {
	return replaceFile(name, func(f *os.File) error {
		out := bufio.NewWriterSize(f, 1<<20)
		return errors.Join(write(out), out.Flush())
	})
}

func replaceFile(name string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}

// pullFiles writes the files of an image as they are published.
func pullFiles(ctx context.Context, st store.Store, img *contents.Image, dir string, rep *reporter) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	m := img.Manifest
	data, err := m.Marshal()
	if err != nil {
		return err
	}
	wholes := m.Files()
	for n, b := range wholes {
		name := fmt.Sprintf("module%d", n)
		switch {
		case b == m.Kernel.Blob:
			name = "vmlinuz"
		case b == m.Initrd:
			name = "initrd"
		case m.Hypervisor != nil && b == m.Hypervisor.Blob:
			name = "hypervisor"
		}
		rep.Begin("pull "+name, b.Size)
		body, err := st.Read(ctx, storepath.File(b.SHA256), nil, b.Size, func(data []byte) error { return b.SHA256.Check(name, data) })
		if err != nil {
			return err
		}
		rep.Add(b.Size)
		if err := writeFile(filepath.Join(dir, name), func(w io.Writer) error { _, err := w.Write(body); return err }); err != nil {
			return err
		}
	}
	for n, x := range img.Indexes {
		name := m.Root.Files[n].Name
		rep.Begin("pull "+name, x.Size())
		f := rootfs.NewFile(ctx, st, x)
		if err := writeFile(filepath.Join(dir, name), func(w io.Writer) error {
			return copyAdding(w, io.NewSectionReader(f, 0, f.Size()), rep.Add)
		}); err != nil {
			return err
		}
	}
	var pretty json.RawMessage = append(data, '\n')
	return writeFile(filepath.Join(dir, "manifest.json"), func(w io.Writer) error { _, err := w.Write(pretty); return err })
}

func copyAdding(w io.Writer, r io.Reader, add func(int64)) error {
	buf := make([]byte, 1<<20)
	for {
		n, err := r.Read(buf)
		if _, werr := w.Write(buf[:n]); werr != nil {
			return werr
		}
		add(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
