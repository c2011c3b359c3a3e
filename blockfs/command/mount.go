package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/cache"
	"github.com/inetboot/inetboot/blockfs/mount"
	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/blockfs/root"
	"github.com/inetboot/inetboot/internal/handoff"
)

type mountOptions struct {
	storeOptions
	files      []string
	handoff    string
	memory     int
	patience   time.Duration
	allowOther bool
	cache      string
	cacheSize  int
	fill       bool
	pack       bool
	status     string
}

func newMount() *cobra.Command {
	var o mountOptions
	c := &cobra.Command{
		Use:   "mount MOUNTPOINT",
		Short: "Show the files of a root in a folder until it is unmounted",
		Long: `Mount shows files of blocks side by side in a folder, read-only. It stays in
the foreground; Ctrl-C or unmounting ends it. Every block is checked against
the index, and the index against its name, so the store need not be trusted.

With --cache what was read stays on the disk, in the same form as in the cache
of a machine that boots over the network; several mounts can use it in turn,
not at once.`,
		Example: `  blockfs mount --store https://boot.example.org --file data=2f3a...90 /mnt/files
  blockfs mount --store /srv/store --file meta=0b1c...12:24104 --file data=2f3a...90 /mnt/files
  blockfs mount --store http://10.0.0.1:8080 --file data=2f3a...90 --cache ~/.cache/blockfs --cache-size 4000 /mnt/files
  blockfs mount --handoff /run/initramfs/inetboot/handoff.json --status /tmp/files.sock /mnt/files`,
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
	f.StringVar(&o.cache, "cache", "", "folder to keep blocks in (default: none)")
	f.IntVar(&o.cacheSize, "cache-size", 0, "MB that the cache may take; 0: what the disk has free, less a reserve")
	f.BoolVar(&o.fill, "fill", false, "bring all of the files into the cache in the background")
	f.BoolVar(&o.pack, "pack", true, "with --handoff: use the image's boot pack")
	f.StringVar(&o.status, "status", "", "local socket to make, which \"blockfs status --socket\" asks")
	c.MarkFlagsMutuallyExclusive("file", "handoff")
	c.MarkFlagsOneRequired("file", "handoff")
	return c
}

func runMount(ctx context.Context, c *cobra.Command, o mountOptions, dir string) (err error) {
	if o.memory < 1 || o.memory > 1<<20 {
		return fmt.Errorf("--memory %d: want 1 MiB to 1 TiB", o.memory)
	}
	if o.cacheSize < 0 || o.cacheSize > 1<<30 {
		return fmt.Errorf("--cache-size %d: want megabytes", o.cacheSize)
	}
	if o.fill && o.cache == "" {
		return errors.New("--fill needs --cache")
	}
	debug.SetMemoryLimit(int64(o.memory)<<20 + 36<<20)
	debug.SetGCPercent(40)
	mount.SpareProcs()
	var h *handoff.Handoff
	var files []named
	if o.handoff != "" {
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
	ro := root.Options{Logger: log, Read: read.Options{Memory: o.memory << 20, InFlight: 16 << 20, Patience: o.patience, Grace: 2 * time.Second}}
	if o.cache == "" {
		// Some as stored, which is three times as much. Not all of it is given
		// away: a heap close to its limit is collected all the time.
		ro.Read.Memory, ro.Read.Held = o.memory<<20/2, o.memory<<20/4
	}
	for _, f := range files {
		ro.Files = append(ro.Files, root.File{Name: f.name, Index: f.index, Size: f.size})
	}
	if h != nil {
		ro.Image = h.Image
	}
	if ro.Mirrors, ro.Folder, err = o.locate(log, h); err != nil {
		return err
	}
	if ro.Mirrors != nil {
		defer ro.Mirrors.Close()
	}
	if o.cache != "" {
		if err := os.MkdirAll(o.cache, 0o700); err != nil {
			return fmt.Errorf("--cache: %w", err)
		}
		if ro.Cache, err = cache.Open(ctx, o.cache, cache.Options{Quota: int64(o.cacheSize) * 1e6, Logger: log}); err != nil {
			return fmt.Errorf("--cache: %w", err)
		}
		defer func() { err = errors.Join(err, ro.Cache.Close()) }()
	}
	r, err := root.Open(ctx, ro)
	if err != nil {
		return err
	}
	defer r.Close()
	r.PinMetadata()
	m, err := mount.New(dir, r.Files(), mount.Options{Interruptible: true, AllowOther: o.allowOther, Logger: log})
	if err != nil {
		return err
	}
	return o.serve(ctx, c, r, m, h != nil)
}

// packTime is how long readers have for what a pack brought.
const packTime = time.Minute

// serve waits for the end of the mount, with the background at work.
func (o *mountOptions) serve(ctx context.Context, c *cobra.Command, r *root.Root, m *mount.Mount, boots bool) error {
	work, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	if o.status != "" {
		l, err := net.Listen("unix", o.status)
		if err != nil {
			return errors.Join(fmt.Errorf("--status: %w", err), m.Unmount(ctx))
		}
		wg.Go(func() {
			if err := r.Serve(work, l, func() *pack.Report { return nil }); err != nil {
				fmt.Fprintln(c.ErrOrStderr(), "blockfs:", err)
			}
		})
	}
	if boots && o.pack {
		wg.Go(func() {
			r.Pack(work)
			select {
			case <-time.After(packTime):
				r.ReleasePack()
			case <-work.Done():
			}
		})
	}
	if o.fill {
		wg.Go(func() {
			if err := r.Fill(work, root.FillOptions{}); err != nil && work.Err() == nil {
				fmt.Fprintln(c.ErrOrStderr(), "blockfs: the cache is not filled:", err)
			}
		})
	}
	fmt.Fprintf(c.OutOrStdout(), "mounted %d files at %s; Ctrl-C unmounts\n", len(r.Files()), m.Dir())
	select {
	case <-m.Done():
	case <-ctx.Done():
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := m.Unmount(end); errors.Is(err, mount.ErrBusy) {
			fmt.Fprintln(c.ErrOrStderr(), "blockfs: files are still open: their readers get errors from now on")
			r.Close()
			return err
		} else if err != nil {
			return err
		}
	}
	st := r.Blocks().Stats()
	fmt.Fprintf(c.OutOrStdout(), "read %d bytes; fetched %d blocks, %d bytes plain, %d as stored\n", st.ReadBytes, st.FetchedBlocks, st.FetchedBytes, st.StoredBytes)
	return nil
}
