package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/internal/storepath"
)

func (a *app) publisherCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "publisher",
		Short: "Let others publish images whose names begin as you say",
		Long: `A publisher is somebody else who may publish images whose names begin with a
prefix, with a key of their own: a delegation of the targets role. Such a key can
sign nothing else but a menu of these images. What the menu offers stays yours: an
entry of it, made once, shows the publisher's menu, with all that is published.`,
		Example: `  imagetool publisher add alice --prefix alice- --key alice.pub
  imagetool menu add alice --include alice- --title "Alice's systems"
  imagetool publisher list
  imagetool publisher rm alice`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.publisherAddCommand(), a.publisherListCommand(), a.publisherRmCommand())
	return c
}

type publisherOptions struct {
	where
	keys      []string
	prefixes  []string
	threshold int
	lifetime  time.Duration
}

func (a *app) publisherAddCommand() *cobra.Command {
	var o publisherOptions
	c := &cobra.Command{
		Use:   "add NAME --prefix PREFIX --key KEY",
		Short: "Let a publisher sign images of a prefix",
		Long: `Add lets a publisher sign the images whose names begin with PREFIX. KEY is a file with
a public key (imagetool key export), or the name of a key in the key folder. With
the name of a publisher that is there, prefixes and keys are replaced.

The targets key signs this. Machines need no new medium.`,
		Example: `  imagetool publisher add alice --prefix alice- --key alice.pub
  imagetool publisher add lab --prefix lab- --prefix test- --key a.pub --key b.pub --threshold 2`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, names []string) error { return a.runPublisherAdd(c.Context(), &o, names[0]) },
	}
	o.flags(c)
	c.Flags().StringArrayVar(&o.prefixes, "prefix", nil, "how the names of the publisher's images begin; may be repeated")
	c.Flags().StringArrayVar(&o.keys, "key", nil, "the publisher's public key; may be repeated")
	c.Flags().IntVar(&o.threshold, "threshold", 1, "how many of the keys have to sign")
	c.Flags().DurationVar(&o.lifetime, "lifetime", publish.DefaultLifetime, "how long what the publisher signs counts")
	return c
}

func (a *app) runPublisherAdd(ctx context.Context, o *publisherOptions, name string) error {
	switch {
	case !storepath.ValidElement(name) || slices.Contains(publish.TopRoles(), name):
		return &usageError{fmt.Errorf("publisher %q: use letters, digits and ._+~-, and no name of another role", name)}
	case len(o.prefixes) == 0 || len(o.keys) == 0:
		return &usageError{errors.New("name at least one --prefix and one --key")}
	case o.threshold < 1 || o.threshold > len(o.keys):
		return &usageError{fmt.Errorf("--threshold %d of %d keys", o.threshold, len(o.keys))}
	case o.lifetime <= 0:
		return &usageError{errors.New("--lifetime must be more than 0")}
	}
	for _, p := range o.prefixes {
		if !storepath.ValidElement(p) {
			return &usageError{fmt.Errorf("--prefix %q: use letters, digits and ._+~-", p)}
		}
	}
	e, err := a.edit(ctx, &o.where)
	if err != nil {
		return err
	}
	d := publish.Delegation{Name: name, Threshold: o.threshold, Lifetime: o.lifetime, Paths: push.Paths(o.prefixes), Terminating: true}
	for _, s := range o.keys {
		pub, err := e.public(ctx, s)
		if err != nil {
			return err
		}
		d.Keys = append(d.Keys, pub)
	}
	return a.delegate(ctx, e, d)
}

// delegate publishes a delegation.
func (a *app) delegate(ctx context.Context, e *editing, d publish.Delegation) error {
	version, err := push.Delegate(ctx, e.st, e.k, d)
	if err != nil {
		return a.keepPending(e.k.Dir, err)
	}
	p := publisherOf(d)
	if a.json {
		return a.writeJSON(map[string]any{"catalog": version, "publisher": p})
	}
	a.say("Catalog version %d: %s may publish images named %s*, %d of %d keys have to sign", version, d.Name, strings.Join(p.Prefixes, "*, "), d.Threshold, len(d.Keys))
	return nil
}

// rotatePublisher changes the keys of a publisher.
func (a *app) rotatePublisher(ctx context.Context, o *keyRotateOptions, e *editing, name string) error {
	if o.hold || o.out != "" {
		return &usageError{errors.New("--hold and -o are for the root: a publisher's keys are in a list that the targets key signs")}
	}
	c, _, err := push.Load(ctx, e.st, e.k.Trust())
	if err != nil {
		return err
	}
	all, err := publish.Delegations(c.Trusted().Targets().Bytes())
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(d publish.Delegation) bool { return d.Name == name })
	if i < 0 {
		return &usageError{fmt.Errorf("%q is no role: there are root, targets, snapshot, timestamp, and the publishers that imagetool publisher list shows", name)}
	}
	d := all[i]
	role := d.Role()
	change, err := o.change(ctx, e, name, role.KeyIDs)
	if err != nil {
		return err
	}
	if err := change.delegation(&d); err != nil {
		return err
	}
	return a.delegate(ctx, e, d)
}

func (a *app) publisherRmCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:   "rm NAME",
		Short: "Take a publisher's rights away",
		Long: `Rm takes away a publisher's rights: what the publisher has signed counts no longer,
so machines cannot boot those images any more. Entries of the menu that name them
stay, and say so when they are chosen.`,
		Example: "  imagetool publisher rm alice",
		Args:    args(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, names []string) error { return a.runPublisherRm(c.Context(), &w, names[0]) },
	}
	w.flags(c)
	return c
}

func (a *app) runPublisherRm(ctx context.Context, w *where, name string) error {
	st, k, err := a.load(ctx, w)
	if err != nil {
		return err
	}
	version, err := push.Publish(ctx, st, k, 0, func(e *push.Edition) error {
		if !e.Targets.Revoke(name) {
			return &usageError{fmt.Errorf("%q is no publisher (see imagetool publisher list)", name)}
		}
		return nil
	})
	if err != nil {
		return a.keepPending(w.keys, err)
	}
	if a.json {
		return a.writeJSON(map[string]any{"catalog": version, "removed": name})
	}
	a.say("Catalog version %d: %s may publish nothing any more", version, name)
	return nil
}

// publisher is what publisher list says about one.
type publisher struct {
	Name      string     `json:"name"`
	Prefixes  []string   `json:"prefixes"`
	Paths     []string   `json:"paths"`
	Threshold int        `json:"threshold"`
	Keys      []string   `json:"key_ids"`
	Lifetime  string     `json:"lifetime"`
	Version   int64      `json:"version"` // 0: nothing published yet
	Expires   *time.Time `json:"expires,omitempty"`
	Images    int        `json:"images"`
}

func publisherOf(d publish.Delegation) publisher {
	role := d.Role()
	return publisher{Name: d.Name, Prefixes: push.Prefixes(d.Paths), Paths: d.Paths, Threshold: d.Threshold, Keys: role.KeyIDs, Lifetime: role.Lifetime.String()}
}

func (a *app) publisherListCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the publishers, their prefixes and keys",
		Example: "  imagetool publisher list\n  imagetool publisher list --json",
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return a.runPublisherList(c.Context(), &w) },
	}
	w.flags(c)
	return c
}

func (a *app) runPublisherList(ctx context.Context, w *where) error {
	c, err := a.newest(ctx, w)
	if err != nil {
		return err
	}
	set := c.Trusted()
	all, err := publish.Delegations(set.Targets().Bytes())
	if err != nil {
		return err
	}
	list := []publisher{}
	for _, d := range all {
		p := publisherOf(d)
		if _, ok := set.Snapshot().Meta(d.Name); ok {
			t, _, err := set.Role(ctx, d.Name)
			if err != nil {
				return err
			}
			expires := t.Expires()
			p.Version, p.Expires = t.Version(), &expires
			for name := range t.Targets {
				if contents.IsImage(name) {
					p.Images++
				}
			}
		}
		list = append(list, p)
	}
	if a.json {
		return a.writeJSON(map[string]any{"publishers": list})
	}
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tPREFIXES\tKEYS\tTHRESHOLD\tIMAGES\tEXPIRES")
	for _, p := range list {
		expires := "nothing published"
		if p.Expires != nil {
			expires = p.Expires.Local().Format("2006-01-02 15:04")
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\n", p.Name, strings.Join(p.Prefixes, " "), shortIDs(p.Keys), p.Threshold, p.Images, expires)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}
