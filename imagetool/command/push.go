package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/internal/storepath"
)

type pushOptions struct {
	where
	push.Options
}

func (a *app) pushCommand() *cobra.Command {
	var o pushOptions
	c := &cobra.Command{
		Use:   "push SOURCE|--kernel FILE --name NAME --version VERSION",
		Short: "Publish the operating system in a directory, an archive or an image",
		Long: `Push publishes the operating system in SOURCE: a directory; a tarball (plain,
gzip, bzip2, xz or zstd); an image of a filesystem (ext2/3/4, squashfs, EROFS) or
a disk (raw or qcow2), of which it finds the partition with the root; or the ISO
image of a live system (Debian live, Ubuntu, Fedora, Arch, Knoppix). It finds the kernel and its modules in it, writes the
root filesystem as blocks, sends those that the store lacks, and adds an entry
to the menu. The first image becomes the menu's default.

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
	f.StringVar(&o.Arch, "arch", "", "architecture, as amd64 or arm64 (default: the kernel's)")
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
	if o.Lifetime < 0 {
		return &usageError{errors.New("--expires must be more than 0")}
	}
	st, k, err := a.load(ctx, &o.where)
	if err != nil {
		return err
	}
	rep := newReporter(a.err)
	defer rep.End()
	res, err := push.Push(ctx, st, k, o.Options, rep)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(res)
	}
	if res.Unchanged {
		a.say("%s %s is already there with this content.", res.Name, res.Version)
		return nil
	}
	if res.Manifest.NoRoot() {
		a.say("%s %s for %s: kernel %s of %s, initrd of %s, no root", res.Name, res.Version, res.Manifest.Arch,
			res.Manifest.Kernel.Release, bytesText(res.Manifest.Kernel.Size), bytesText(res.Manifest.Initrd.Size))
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
	a.say("Catalog version %d, menu entry %s", res.Catalog, res.Entry)
	return nil
}
