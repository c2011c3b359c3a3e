package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/internal/storepath"
)

type pushOptions struct {
	where
	push.Options
	ssh     string
	noCache bool
}

func (a *app) pushCommand() *cobra.Command {
	var o pushOptions
	c := &cobra.Command{
		Use:   "push SOURCE|--kernel FILE --name NAME --version VERSION",
		Short: "Publish the operating system in a directory, an archive, an image or a machine",
		Long: `Push publishes the operating system in SOURCE:

  DIRECTORY, FILE.tar   a tree, or a tarball of one (plain, gzip, bzip2, xz or zstd);
                        - is a tarball on standard input
  IMAGE                 a filesystem (ext2/3/4, squashfs, EROFS), a disk (raw or qcow2),
                        of which it finds the partition with the root, or the ISO
                        of a live system (Debian live, Ubuntu, Fedora, Arch, Knoppix)
  docker://HOST/NAME:TAG  a container image in a registry, with the passwords of
                        docker login or podman login
  LAYOUT, ARCHIVE.tar   an OCI layout, an OCI archive, or what docker save wrote;
                        oci:PATH:NAME, oci-archive:PATH:NAME and
                        docker-archive:PATH:NAME choose one of several images
  ssh://USER@HOST/PATH  a running machine, read with its own tar

It finds the kernel and its modules in it, writes the root filesystem as blocks,
sends those that the store lacks, and adds an entry to the menu. The first image
becomes the menu's default.

Of a running machine, over ssh or as /, keys of the machine, its machine-id,
home folders, temporary files and the like stay out, and lines of its fstab that
name local disks become comments; --verbatim takes it as it is.

--overlay lays a folder or a tarball over the source, as if it was copied into
it: folders that are there keep owner and mode, links to folders are followed,
and a file .wh.NAME removes NAME.

Without SOURCE, --kernel and --initrd name the files of an installer or a tool,
which is started as it is and has no root. A SOURCE that is the folder or archive
of a network installer is published in the same way.

The catalog is written last, so readers see all of an image or nothing. A push
that was interrupted is repeated with the same command; what is in the store is
not sent again. Pushing the same content again changes nothing; other content
under the same name and version is refused without --replace.`,
		Example: `  imagetool push ./rootfs --name debian --version 12 --cmdline "console=tty0 console=ttyS0"
  imagetool push rootfs.tar.zst --name debian --version 12.8 --title "Debian 12.8" --default
  imagetool push debian-12-genericcloud-amd64.qcow2 --name cloud --version 12
  imagetool push live.iso --as-is --name live --version 12
  imagetool push netboot.tar.gz --name debian-installer --version 12
  imagetool push --kernel vmlinuz --initrd initrd.img --cmdline "ip=dhcp" --name tool --version 1
  imagetool push ssh://root@golden/ --name desktop --version 3 --overlay ./site
  imagetool push docker://registry.example.org/desktop:3 --name desktop --version 3 --arch arm64
  docker save desktop:3 | imagetool push - --name desktop --version 3
  imagetool push / --name thismachine --version 1 --to https://boot.example.org/`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.Source = args[0]
			} else {
				o.KernelFile, o.KernelVersion = o.KernelVersion, ""
			}
			return a.runPush(c.Context(), &o)
		},
	}
	o.flags(c)
	f := c.Flags()
	f.StringVar(&o.Name, "name", "", "name of the image (required)")
	f.StringVar(&o.Version, "version", "", "version of the image (required)")
	f.StringVar(&o.Arch, "arch", "", "architecture, as amd64 or arm64 (default: the kernel's; of container images: this machine's)")
	f.StringVar(&o.Title, "title", "", "title in the menu (default: the source's os-release)")
	f.StringVar(&o.HelpText, "help-text", "", "text that the menu shows about the image")
	f.StringVar(&o.Cmdline, "cmdline", "", "command line of the kernel")
	f.StringVar(&o.KernelVersion, "kernel", "", "release of the kernel to use, as uname -r (default: the newest with modules); without SOURCE, a kernel file")
	f.StringVar(&o.InitrdFile, "initrd", "", "without SOURCE: the initrd for the kernel")
	f.StringVar(&o.KernelVersion, "kernel-version", "", "")
	if err := f.MarkDeprecated("kernel-version", "use --kernel"); err != nil {
		panic(err) // the flag is defined in the line above
	}
	f.StringVar(&o.Program, "blockfs", "", "the blockfs program (default: beside imagetool, then in $PATH)")
	f.IntVar(&o.Level, "level", block.DefaultLevel, "zstd level of blocks, 1 to 22")
	f.BoolVar(&o.AsIs, "as-is", false, "push the filesystem of an image as it is, instead of what is in it")
	f.IntVar(&o.Partition, "partition", 0, "partition of a disk that has the root (default: found)")
	f.BoolVar(&o.Default, "default", false, "make it the menu's default")
	f.BoolVar(&o.Replace, "replace", false, "replace an image of the same name and version")
	f.StringArrayVar(&o.Reading.Overlays, "overlay", nil, "folder or tarball to lay over the source; may be given several times")
	f.StringArrayVar(&o.Reading.Exclude, "exclude", nil, "pattern of paths that stay out, as /var/cache/apt/archives/*.deb; may be given several times")
	f.StringArrayVar(&o.Reading.Mounts, "include-mount", nil, "path below a directory or machine where another filesystem is read as well")
	f.BoolVar(&o.Reading.Verbatim, "verbatim", false, "take a running machine as it is, with its keys and home folders")
	f.StringVar(&o.ssh, "ssh", "", "the ssh program with its options, as \"ssh -i key\" (default: ssh)")
	f.StringVar(&o.Reading.RegistryCA, "registry-ca", "", "file with PEM certificates to trust for a registry, beside the public ones and those in /etc/containers/certs.d and /etc/docker/certs.d")
	f.StringVar(&o.Reading.RegistryCert, "registry-cert", "", "file with the PEM certificate to show to a registry that asks for one (default: *.cert in the same folders)")
	f.StringVar(&o.Reading.RegistryKey, "registry-key", "", "file with the PEM key of --registry-cert (default: the same file)")
	f.BoolVar(&o.Reading.PlainHTTP, "plain-http", false, "ask a registry without encryption")
	f.Int64Var(&o.Reading.Limits.Entries, "max-entries", source.DefaultEntries, "most names that a source may have")
	f.Int64Var(&o.Reading.Limits.Size, "max-size", source.DefaultSize, "most bytes that the files of a source may have, holes included")
	f.IntVar(&o.Reading.Limits.Layers, "max-layers", source.DefaultLayers, "most layers that a container image may have")
	f.BoolVar(&o.noCache, "read-all", false, "read all files, even if none has changed since the last push")
	f.StringVar(&o.TempDir, "tmp", "", "folder for temporary files (default $TMPDIR or /var/tmp)")
	f.DurationVar(&o.Lifetime, "expires", 0, "how long the catalog counts from now (default: as before)")
	return c
}

func (a *app) runPush(ctx context.Context, o *pushOptions) error {
	for _, s := range []struct{ flag, value string }{{"--name", o.Name}, {"--version", o.Version}} {
		if s.value == "" {
			return &usageError{fmt.Errorf("%s is missing", s.flag)}
		}
		if !storepath.ValidElement(s.value) {
			return &usageError{fmt.Errorf("%s %q: use letters, digits and ._+~-", s.flag, s.value)}
		}
	}
	if o.Arch != "" && !storepath.ValidElement(o.Arch) {
		return &usageError{fmt.Errorf("--arch %q: use amd64, arm64 or the like", o.Arch)}
	}
	if o.Level < 1 || o.Level > 22 {
		return &usageError{errors.New("--level must be between 1 and 22")}
	}
	if (o.Source == "") == (o.KernelFile == "") || o.Source != "" && o.InitrdFile != "" {
		return &usageError{errors.New("name a SOURCE, or a kernel with --kernel and perhaps an --initrd")}
	}
	if o.Source == "" && (o.AsIs || o.Partition != 0) {
		return &usageError{errors.New("--as-is and --partition need a SOURCE")}
	}
	if o.Partition < 0 {
		return &usageError{errors.New("--partition must be 1 or more")}
	}
	if o.AsIs && len(o.Reading.Overlays)+len(o.Reading.Exclude) > 0 {
		return &usageError{errors.New("--as-is leaves no room for --overlay or --exclude")}
	}
	if l := o.Reading.Limits; l.Entries < 1 || l.Size < 1 || l.Layers < 1 {
		return &usageError{errors.New("--max-entries, --max-size and --max-layers must be at least 1")}
	}
	if _, err := source.NewExclude(o.Reading.Exclude); err != nil {
		return &usageError{fmt.Errorf("--exclude: %w", err)}
	}
	o.Reading.SSH = strings.Fields(o.ssh)
	for i, m := range o.Reading.Mounts {
		if o.Reading.Mounts[i] = strings.Trim(path.Clean("/"+m), "/"); o.Reading.Mounts[i] == "" {
			return &usageError{fmt.Errorf("--include-mount %q: name a path below the source", m)}
		}
	}
	if o.Lifetime < 0 {
		return &usageError{errors.New("--expires must be more than 0")}
	}
	st, k, err := a.load(ctx, &o.where)
	if err != nil {
		return err
	}
	// Without a folder for it nothing is remembered; pushes are slower then.
	if dir, err := os.UserCacheDir(); err == nil && !o.noCache {
		o.CacheDir = filepath.Join(dir, "inetboot", "trees")
	}
	rep := newReporter(a.err)
	defer rep.End()
	res, err := push.Push(ctx, st, k, o.Options, rep)
	if err != nil {
		return a.keepPending(o.keys, err)
	}
	if a.json {
		return a.writeJSON(res)
	}
	if res.Unchanged {
		a.say("%s %s is already there with this content.", res.Name, res.Version)
		return nil
	}
	if res.Manifest.NoRoot() {
		initrd := "no initrd"
		if n := res.Manifest.Initrd.Size; n > 0 {
			initrd = "initrd of " + bytesText(n)
		}
		a.say("%s %s for %s: kernel %s of %s, %s, no root", res.Name, res.Version, res.Manifest.Arch,
			res.Manifest.Kernel.Release, bytesText(res.Manifest.Kernel.Size), initrd)
		a.say("Catalog version %d, menu entry %s", res.Catalog, res.Entry)
		return nil
	}
	plain, stored := int64(0), int64(0)
	blocks := 0
	for _, f := range res.Manifest.Root.Files {
		plain += f.Size
		stored += f.Stored
		blocks += f.Blocks
	}
	a.say("%s %s for %s: kernel %s, %s in %d blocks (%s stored)", res.Name, res.Version, res.Manifest.Arch,
		res.Manifest.Kernel.Release, bytesText(plain), blocks, bytesText(stored))
	a.say("Sent %d new blocks, %s, in %s (%s/s)", res.Sent, bytesText(res.SentBytes),
		time.Duration(res.Seconds*float64(time.Second)).Round(100*time.Millisecond), bytesText(int64(float64(plain)/res.Seconds)))
	if res.Entry == "" {
		a.say("Catalog version %d; no menu entry: who has the targets key makes one for all images of a publisher with imagetool menu add --include, or for this one with --image", res.Catalog)
		return nil
	}
	a.say("Catalog version %d, menu entry %s", res.Catalog, res.Entry)
	return nil
}
