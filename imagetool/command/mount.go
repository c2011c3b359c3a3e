package command

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/browse"
	"github.com/inetboot/inetboot/imagetool/rootfs"
)

func (a *app) mountCommand() *cobra.Command {
	var w where
	var others bool
	c := &cobra.Command{
		Use:   "mount IMAGE DIRECTORY",
		Short: "Show the files of an image in a directory",
		Long: `Mount shows the root of an image, read-only, until Ctrl-C or fusermount3 -u. Blocks
are fetched as they are read, and compared with the signed catalog. It needs no
root, only FUSE (package fuse3). For more speed there is blockfs mount.`,
		Example: "  mkdir /tmp/debian && imagetool mount debian/12 /tmp/debian\n  imagetool mount debian/12 /mnt --to https://boot.example.org/ --allow-other",
		Args:    args(cobra.ExactArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runMount(c.Context(), &w, args[0], args[1], others)
		},
	}
	w.flags(c)
	c.Flags().BoolVar(&others, "allow-other", false, "let other users see it (needs root, or user_allow_other in /etc/fuse.conf)")
	return c
}

func (a *app) runMount(ctx context.Context, w *where, spec, dir string, others bool) (err error) {
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		return &usageError{errors.Join(errors.New(dir+" is not a directory"), err)}
	}
	st, img, err := a.contents(ctx, w, spec)
	if err != nil {
		return err
	}
	// Reads go on until the directory is unmounted.
	reading, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	t, _, err := rootfs.Open(reading, st, img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	return browse.Mount(ctx, t, dir, img.String(), others, func() { a.say("%s is at %s; Ctrl-C ends it", img, dir) })
}
