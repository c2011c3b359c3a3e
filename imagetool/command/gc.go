package command

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/collect"
	"github.com/inetboot/inetboot/imagetool/push"
)

type gcOptions struct {
	where
	collect.Options
}

func (a *app) gcCommand() *cobra.Command {
	var o gcOptions
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove what no image needs any more",
		Long: `Gc removes blocks, indexes, kernels, initrds, manifests and boot packs that no
image of the catalog needs. Machines may still run from an image that was just
removed, so such an image stays whole for the grace period, from rm on, or from
when gc first sees that it is not listed. What an interrupted push left behind
stays as long, so that the push can go on.

While a push is under way, on whatever machine, gc waits. A push that was killed
leaves a mark in the store that counts for an hour.`,
		Example: "  imagetool gc --dry-run\n  imagetool gc --grace 24h\n  imagetool gc --grace 0s --wait 1h --json",
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return a.runGC(c.Context(), &o) },
	}
	o.flags(c)
	c.Flags().DurationVar(&o.Grace, "grace", collect.DefaultGrace, "how long files stay that nobody needs")
	c.Flags().DurationVar(&o.Wait, "wait", collect.DefaultWait, "how long to wait for pushes under way")
	c.Flags().BoolVarP(&o.DryRun, "dry-run", "n", false, "only say what would be removed")
	return c
}

func (a *app) runGC(ctx context.Context, o *gcOptions) error {
	if o.Grace < 0 || o.Wait < 0 {
		return &usageError{errors.New("--grace and --wait must not be negative")}
	}
	st, trust, err := a.loadTrust(&o.where)
	if err != nil {
		return err
	}
	rep := newReporter(a.err)
	o.Notify = rep.Note
	res, err := collect.Run(ctx, st, func(ctx context.Context) (*catalog.Catalog, error) {
		c, _, err := push.Load(ctx, st, trust)
		return c, err
	}, o.Options)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(res)
	}
	done := "removed"
	if o.DryRun {
		done = "would be removed"
	}
	a.say("%s, %s, %s", number(res.Removed.Files, "file"), bytesText(res.Removed.Bytes), done)
	a.say("%s, %s, needed; %d, %s, waiting for the end of the grace period of %s", number(res.Kept.Files, "file"), bytesText(res.Kept.Bytes),
		res.Waiting.Files, bytesText(res.Waiting.Bytes), period(o.Grace))
	for _, i := range res.Images {
		a.say("  not listed any more, kept for now: %s", i)
	}
	return nil
}
