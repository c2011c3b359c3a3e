package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/trace"
)

func (a *app) traceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "trace",
		Short: "Build boot packs from what machines have read",
		Long: `A boot pack has the blocks that a boot reads, in one file and in their order,
so that the next boot gets them with one request.

An InetBoot server makes boot packs by itself. These commands are for stores
that are only files, and for packs that shall stay as they are. A machine that
has booted keeps its report in /run/initramfs/inetboot/boot.json.

IMAGE is NAME, NAME/VERSION or NAME/VERSION/ARCH.`,
		Example: `  scp client:/run/initramfs/inetboot/boot.json boot1.json
  imagetool trace add debian/12 boot1.json boot2.json boot3.json
  imagetool trace show debian/12
  imagetool trace rm debian/12`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.traceAddCommand(), a.traceShowCommand(), a.traceRmCommand())
	return c
}

type traceAddOptions struct {
	where
	temp string
}

func (a *app) traceAddCommand() *cobra.Command {
	var o traceAddOptions
	c := &cobra.Command{
		Use:   "add IMAGE REPORT.json…",
		Short: "Merge boot reports and store the boot pack that they give",
		Long: `Add merges reports of boots of one image, the newest last, and stores the boot
pack, in the place of the one that is there. In it are the blocks that at least
half of the last eight reports have.

On an InetBoot server this pack stays, whatever machines report, until trace rm.`,
		Example: `  imagetool trace add debian boot.json
  imagetool trace add debian/12/amd64 boot1.json boot2.json boot3.json --to /srv/inetboot`,
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.runTraceAdd(c.Context(), &o, args[0], args[1:])
		},
	}
	o.flags(c)
	c.Flags().StringVar(&o.temp, "tmp", "", "folder for a temporary file of the size of the pack (default $TMPDIR or /tmp)")
	return c
}

func (a *app) runTraceAdd(ctx context.Context, o *traceAddOptions, image string, files []string) error {
	var reports []trace.Report
	for _, name := range files {
		r, err := trace.Read(name)
		if err != nil {
			return err
		}
		reports = append(reports, r)
	}
	st, img, err := a.pick(ctx, &o.where, image)
	if err != nil {
		return err
	}
	added, err := trace.Add(ctx, st, img, reports, o.temp)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(struct {
			imageID
			*trace.Added
		}{identify(img), added})
	}
	a.say("%s: boot pack of %d blocks, %s of %s (%s), from %d reports", identify(img), added.Blocks,
		bytesText(added.Stored), bytesText(added.Root), percent(added.Stored, added.Root), added.Reports)
	if added.Missing > 0 {
		a.say("%d blocks are missing or damaged in the store", added.Missing)
	}
	if added.Over > 0 {
		a.say("%d blocks were left out: a pack has at most half of the root", added.Over)
	}
	return nil
}

func (a *app) traceShowCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "show IMAGE",
		Short:   "Say what the boot pack of an image has",
		Example: "  imagetool trace show debian/12\n  imagetool trace show debian --json",
		Args:    args(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, args []string) error { return a.runTraceShow(c.Context(), &w, args[0]) },
	}
	w.flags(c)
	return c
}

func (a *app) runTraceShow(ctx context.Context, w *where, image string) error {
	st, img, err := a.pick(ctx, w, image)
	if err != nil {
		return err
	}
	s, err := trace.Show(ctx, st, img)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(struct {
			imageID
			*trace.Shown
		}{identify(img), s})
	}
	a.say("%s: boot pack of %d blocks of %d, %s of %s (%s)", identify(img), s.Blocks, s.Of, bytesText(s.Stored), bytesText(s.Root), percent(s.Stored, s.Root))
	for _, f := range s.Files {
		a.say("  %-10s %d blocks of %d, %s", f.Name, f.Blocks, f.Of, bytesText(f.Stored))
	}
	if s.Foreign > 0 {
		a.say("  %d blocks are not of this image", s.Foreign)
	}
	return nil
}

func (a *app) traceRmCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:   "rm IMAGE",
		Short: "Remove the boot pack of an image",
		Long: `Rm removes the boot pack of an image. Machines that boot then read their blocks
one by one. An InetBoot server makes another pack after the next boot.`,
		Example: "  imagetool trace rm debian/12",
		Args:    args(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, args []string) error { return a.runTraceRm(c.Context(), &w, args[0]) },
	}
	w.flags(c)
	return c
}

func (a *app) runTraceRm(ctx context.Context, w *where, image string) error {
	st, img, err := a.pick(ctx, w, image)
	if err != nil {
		return err
	}
	if err := trace.Remove(ctx, st, img); err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(identify(img))
	}
	a.say("%s: boot pack removed", identify(img))
	return nil
}

// imageID names an image in results.
type imageID struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Arch     string `json:"arch"`
	Manifest string `json:"manifest"`
}

func identify(img *catalog.Image) imageID {
	m := img.Manifest()
	return imageID{m.Name, m.Version, m.Arch, img.Digest().String()}
}

func (i imageID) String() string { return i.Name + " " + i.Version + " " + i.Arch }

func percent(part, whole int64) string {
	if whole <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*float64(part)/float64(whole))
}
