package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/push"
)

// errExpiring is wrapped when something will expire soon and could not be
// signed here.
var errExpiring = errors.New("the catalog will expire")

type refreshOptions struct {
	where
	push.RefreshOptions
}

func (a *app) refreshCommand() *cobra.Command {
	var o refreshOptions
	c := &cobra.Command{
		Use:   "refresh",
		Short: "Sign anew what would expire",
		Long: `Refresh signs anew those parts of the catalog of which less than half of their
lifetime is left, or that expire within --warn, as far as their keys are here, and
says when each expires. It is made for cron: where nothing is due it changes
nothing.

The exit code is 9 if something expires within --warn and was not signed anew,
because its keys are elsewhere: on another publisher's machine, on the server, or,
as is good for the root's, in a safe.`,
		Example: `  imagetool refresh
  0 3 * * *  imagetool refresh --json >/var/log/inetboot-refresh.json || mail -s "catalog" root <...
  imagetool refresh --all --expires 720h`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runRefresh(c.Context(), &o) },
	}
	o.flags(c)
	c.Flags().DurationVar(&o.Lifetime, "expires", 0, "sign all but the root, to count that long from now (default: what is due, for as long as the root says)")
	c.Flags().BoolVar(&o.All, "all", false, "sign everything that can be signed here, the root too")
	c.Flags().DurationVar(&o.Warn, "warn", 0, "how long before the end to sign, or to warn where that cannot be done (default: a quarter of each lifetime)")
	return c
}

func (a *app) runRefresh(ctx context.Context, o *refreshOptions) error {
	if o.Lifetime < 0 || o.Warn < 0 {
		return &usageError{errors.New("--expires and --warn must be more than 0")}
	}
	st, k, err := a.load(ctx, &o.where)
	if err != nil {
		return err
	}
	r, err := push.Refresh(ctx, st, k, o.RefreshOptions)
	if err != nil {
		return err
	}
	var soon []string
	for _, p := range r.Parts {
		if p.Warn {
			soon = append(soon, fmt.Sprintf("%s at %s", p.Role, p.Expires.Local().Format("2006-01-02 15:04")))
		}
	}
	if a.json {
		if err := a.writeJSON(r); err != nil {
			return err
		}
	} else {
		t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ROLE\tVERSION\tEXPIRES\t")
		for _, p := range r.Parts {
			note := ""
			switch {
			case p.Signed:
				note = "signed now"
			case p.Warn && p.Online:
				note = "EXPIRES SOON: the server signs it, is it running?"
			case p.Warn:
				note = "EXPIRES SOON: its keys are not here"
			}
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\n", p.Role, p.Version, p.Expires.Local().Format("2006-01-02 15:04"), note)
		}
		if err := t.Flush(); err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
		a.say("Catalog version %d", r.Catalog)
	}
	if soon != nil {
		return fmt.Errorf("%w: %s", errExpiring, strings.Join(soon, ", "))
	}
	return nil
}
