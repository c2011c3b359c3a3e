package command

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/compare"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/rootfs"
	"github.com/inetboot/inetboot/internal/digest"
)

type diffOptions struct {
	where
	content, summary bool
}

// differences is what diff says.
type differences struct {
	From        string           `json:"from"`
	To          string           `json:"to"`
	Kernel      [2]string        `json:"kernel"`
	Cmdline     [2]string        `json:"cmdline"`
	Added       int              `json:"added"`
	Removed     int              `json:"removed"`
	Changed     int              `json:"changed"`
	Fetch       int64            `json:"bytes_fetched"` // of the root's blocks, by a client that has From
	FetchBlocks int              `json:"blocks_fetched"`
	Blocks      int              `json:"blocks"`       // of To
	Stored      int64            `json:"bytes_stored"` // of To
	FetchBoot   int64            `json:"bytes_boot"`   // of kernel and initrd that are others
	Files       []compare.Change `json:"files,omitempty"`
}

func (a *app) diffCommand() *cobra.Command {
	var o diffOptions
	c := &cobra.Command{
		Use:   "diff IMAGE IMAGE",
		Short: "Say what is different between two images, and what a client would fetch",
		Long: `Diff lists the files that the second image has more (A), less (D) or otherwise (M)
than the first, and how many blocks and bytes a client fetches that has all of the
first. Only blocks that it needs for that are read. Files of the same size and
modification time count as the same, unless --content has all of them read.`,
		Example: "  imagetool diff debian/12.7 debian/12.8\n  imagetool diff debian/12.7 debian/12.8 --summary\n  imagetool diff debian/12 ubuntu/24.04 --json",
		Args:    args(cobra.ExactArgs(2)),
		RunE:    func(c *cobra.Command, args []string) error { return a.runDiff(c.Context(), &o, args[0], args[1]) },
	}
	o.flags(c)
	c.Flags().BoolVar(&o.content, "content", false, "read the contents of all files that both have")
	c.Flags().BoolVar(&o.summary, "summary", false, "only blocks and bytes, no files")
	return c
}

func (a *app) runDiff(ctx context.Context, o *diffOptions, from, to string) (err error) {
	st, x, err := a.contents(ctx, &o.where, from)
	if err != nil {
		return err
	}
	_, y, err := a.contents(ctx, &o.where, to)
	if err != nil {
		return err
	}
	d := &differences{From: x.String(), To: y.String(), Kernel: [2]string{x.Manifest.Kernel.Release, y.Manifest.Kernel.Release},
		Cmdline: [2]string{x.Manifest.Cmdline, y.Manifest.Cmdline}}
	d.fetches(x, y)
	if !o.summary && len(x.Indexes) > 0 && len(y.Indexes) > 0 {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, _, err := rootfs.Open(ctx, st, x)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		t, _, err := rootfs.Open(ctx, st, y)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Close()) }()
		if d.Files, err = compare.Trees(ctx, s, t, compare.Options{Content: o.content}); err != nil {
			return err
		}
	}
	for _, f := range d.Files {
		switch f.Kind {
		case "added":
			d.Added++
		case "removed":
			d.Removed++
		default:
			d.Changed++
		}
	}
	if a.json {
		return a.writeJSON(d)
	}
	letters := map[string]string{"added": "A", "removed": "D", "changed": "M"}
	for _, f := range d.Files {
		what := ""
		if len(f.What) > 0 {
			what = " (" + strings.Join(f.What, ", ") + ")"
		}
		a.say("%s /%s%s", letters[f.Kind], f.Path, what)
	}
	for _, p := range []struct {
		name string
		v    [2]string
	}{{"kernel", d.Kernel}, {"command line", d.Cmdline}} {
		if p.v[0] != p.v[1] {
			a.say("%s: %q, then %q", p.name, p.v[0], p.v[1])
		}
	}
	if !o.summary {
		a.say("%s added, %d removed, %d changed", number(d.Added, "file"), d.Removed, d.Changed)
	}
	a.say("A client that has %s fetches %d of %d blocks, %s of %s (%s), and %s of kernel and initrd", d.From, d.FetchBlocks, d.Blocks,
		bytesText(d.Fetch), bytesText(d.Stored), percent(d.Fetch, d.Stored), bytesText(d.FetchBoot))
	return nil
}

// fetches adds up what a client with x needs for y.
func (d *differences) fetches(x, y *contents.Image) {
	have := make(map[digest.SHA256]bool)
	x.Blocks(func(b contents.Block) bool {
		have[b.SHA256] = true
		return true
	})
	seen := make(map[digest.SHA256]bool)
	y.Blocks(func(b contents.Block) bool {
		if seen[b.SHA256] {
			return true
		}
		seen[b.SHA256] = true
		d.Blocks++
		d.Stored += int64(b.Stored)
		if !have[b.SHA256] {
			d.FetchBlocks++
			d.Fetch += int64(b.Stored)
		}
		return true
	})
	boot := make(map[digest.SHA256]bool)
	for _, f := range x.Files() {
		boot[f.SHA256] = true
	}
	for _, f := range y.Files() {
		if !boot[f.SHA256] {
			d.FetchBoot += f.Size
		}
	}
}
