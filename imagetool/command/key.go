package command

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/push"
)

func trustFile(dir string) string { return filepath.Join(dir, keys.TrustFile) }

func (a *app) keyCommand() *cobra.Command {
	var w where
	c := &cobra.Command{Use: "key", Short: "Show the signing key", Args: args(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	show := &cobra.Command{
		Use:     "show",
		Short:   "Print the key's id and public half",
		Example: "  imagetool key show\n  imagetool key show --json",
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return a.runKeyShow(&w) },
	}
	show.Flags().StringVar(&w.keys, "keys", "", "folder of the signing key (default: as init remembered)")
	c.AddCommand(show)
	return c
}

func (a *app) runKeyShow(w *where) error {
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	w.resolve(c)
	if w.keys == "" {
		if w.keys, err = a.defaultKeys(); err != nil {
			return err
		}
	}
	k, err := keys.Load(w.keys)
	if err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(map[string]any{"key_id": k.ID(), "public": k.PublicKey().KeyVal.Public, "trust": trustFile(w.keys)})
	}
	a.say("Key id:     %s", k.ID())
	a.say("Public key: ed25519 %s", k.PublicKey().KeyVal.Public)
	a.say("Trust file: %s", trustFile(w.keys))
	return nil
}

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
	st, k, err := a.load(&o.where)
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
