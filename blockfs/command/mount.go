package command

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/mount"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/handoff"
)

type mountOptions struct {
	storeOptions
	files      []string
	handoff    string
	memory     int
	patience   time.Duration
	allowOther bool
}

func newMount() *cobra.Command {
	var o mountOptions
	c := &cobra.Command{
		Use:   "mount MOUNTPOINT",
		Short: "Show the files of a root in a folder until it is unmounted",
		Long: `Mount shows files of blocks side by side in a folder, read-only. It stays in
the foreground; Ctrl-C or unmounting ends it. Every block is checked against
the index, and the index against its name, so the store need not be trusted.`,
		Example: `  blockfs mount --store https://boot.example.org --file data=2f3a...90 /mnt/files
  blockfs mount --store /srv/store --file meta=0b1c...12:24104 --file data=2f3a...90 /mnt/files
  blockfs mount --handoff /run/initramfs/inetboot/handoff.json /mnt/files`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return runMount(c.Context(), c, o, args[0]) },
	}
	o.flags(c)
	f := c.Flags()
	f.StringArrayVar(&o.files, "file", nil, "file to show, as NAME=SHA256[:SIZE] of its index; may be repeated")
	f.StringVar(&o.handoff, "handoff", "", "file that names the store and the root, as preboot writes it")
	f.IntVar(&o.memory, "memory", 48, "MiB of memory for blocks")
	f.DurationVar(&o.patience, "patience", 30*time.Second, "how long reads wait for a store that does not answer; -1s: for ever")
	f.BoolVar(&o.allowOther, "allow-other", false, "let other users read the files")
	c.MarkFlagsMutuallyExclusive("file", "handoff")
	c.MarkFlagsOneRequired("file", "handoff")
	return c
}

func runMount(ctx context.Context, c *cobra.Command, o mountOptions, dir string) error {
	if o.memory < 1 || o.memory > 1<<20 {
		return fmt.Errorf("--memory %d: want 1 MiB to 1 TiB", o.memory)
	}
	debug.SetMemoryLimit(int64(o.memory)<<20 + 32<<20)
	debug.SetGCPercent(40)
	var h *handoff.Handoff
	var files []named
	if o.handoff != "" {
		var err error
		if h, err = readHandoff(o.handoff); err != nil {
			return err
		}
		for _, f := range h.Root.Files {
			files = append(files, named{f.Name, f.Index, f.Size})
		}
	}
	for _, s := range o.files {
		f, err := parseNamed(s)
		if err != nil {
			return fmt.Errorf("--file: %w", err)
		}
		files = append(files, f)
	}
	log := o.logger(c.ErrOrStderr())
	s, done, err := o.open(log, h)
	if err != nil {
		return err
	}
	defer done()
	blocks := read.New(s, read.Options{Memory: o.memory << 20, Patience: o.patience, Logger: log, Grace: 2 * time.Second})
	defer blocks.Close()
	var show []mount.File
	for _, f := range files {
		x, err := openIndex(ctx, s, f)
		if err != nil {
			return err
		}
		show = append(show, mount.File{Name: f.name, File: blocks.Open(x)})
	}
	m, err := mount.New(dir, show, mount.Options{Interruptible: true, AllowOther: o.allowOther, Logger: log})
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "mounted %d files at %s; Ctrl-C unmounts\n", len(show), m.Dir())
	select {
	case <-m.Done():
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := m.Unmount(end); errors.Is(err, mount.ErrBusy) {
			fmt.Fprintln(c.ErrOrStderr(), "blockfs: files are still open: their readers get errors from now on")
			blocks.Close()
			return err
		} else if err != nil {
			return err
		}
	}
	st := blocks.Stats()
	fmt.Fprintf(c.OutOrStdout(), "read %d bytes; fetched %d blocks, %d bytes plain, %d as stored\n", st.ReadBytes, st.FetchedBlocks, st.FetchedBytes, st.StoredBytes)
	return nil
}
