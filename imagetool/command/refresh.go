package command

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/push"
)

type refreshOptions struct {
	where
	expires time.Duration
}

func (a *app) refreshCommand() *cobra.Command {
	var o refreshOptions
	c := &cobra.Command{
		Use:   "refresh",
		Short: "Sign the catalog anew, so that it does not expire",
		Example: `  imagetool refresh
  imagetool refresh --expires 720h`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runRefresh(c.Context(), &o) },
	}
	o.flags(c)
	c.Flags().DurationVar(&o.expires, "expires", 0, "how long the catalog counts from now (default: as before)")
	return c
}

func (a *app) runRefresh(ctx context.Context, o *refreshOptions) error {
	if o.expires < 0 {
		return &usageError{errors.New("--expires must be more than 0")}
	}
	st, k, err := a.load(ctx, &o.where)
	if err != nil {
		return err
	}
	version, err := push.Publish(ctx, st, k, o.expires, func(*push.Edition) error { return nil })
	if err != nil {
		return err
	}
	cat, _, err := push.Load(ctx, st, k.Trust)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(map[string]any{"catalog": version, "expires": cat.Expires()})
	}
	a.say("Catalog version %d, expires %s", version, cat.Expires().Local().Format("2006-01-02 15:04"))
	return nil
}
