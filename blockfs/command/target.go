package command

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/daemon"
	"github.com/inetboot/inetboot/blockfs/kmsg"
	"github.com/inetboot/inetboot/blockfs/target"
	"github.com/inetboot/inetboot/internal/handoff"
)

func newInit() *cobra.Command {
	return &cobra.Command{
		Use:   "init",
		Short: "Boot an image; only as /init of the target's initramfs",
		Args:  cobra.ArbitraryArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("init: this is for the first process of a machine: make it /init of an initramfs, see imagetool push")
		},
	}
}

func newDaemon() *cobra.Command {
	var dir, cacheDir string
	var link int
	var fill bool
	c := &cobra.Command{
		Use:    "daemon",
		Short:  "Serve the root; started by init",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := readHandoff(handoff.Path)
			if err != nil {
				return err
			}
			f, err := target.Inherited()
			if err != nil {
				return err
			}
			local, err := target.Travelled(h)
			if err != nil {
				return err
			}
			return daemon.Run(c.Context(), daemon.Options{
				Handoff: h, Dir: dir, Link: link, Control: f.Messages, Orders: f.Orders, Stats: f.Stats, Boot: f.Boot, Status: f.Status, Kernel: f.Kernel,
				Cache: cacheDir, Fill: fill, Lock: true, Local: local,
				Logger: slog.New(kmsg.NewHandler(f.Kmsg, "inetboot", slog.LevelInfo)),
			})
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "where to show the files")
	c.Flags().IntVar(&link, "link", 0, "index of the network link")
	c.Flags().StringVar(&cacheDir, "cache", "", "cache folder")
	c.Flags().BoolVar(&fill, "fill", true, "fill the cache in the background")
	return c
}
