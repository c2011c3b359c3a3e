package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/collect"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/internal/storepath"
)

type rmOptions struct {
	where
	dry bool
}

func (a *app) rmCommand() *cobra.Command {
	var o rmOptions
	c := &cobra.Command{
		Use:   "rm IMAGE…",
		Short: "Take images out of the catalog and the menu",
		Long: `Rm takes images out of the catalog, and the entries that boot them out of the
menu. NAME takes all versions. Their files stay until imagetool gc removes them,
so machines that run from them go on.`,
		Example: "  imagetool rm debian/12\n  imagetool rm debian/12/arm64 ubuntu --dry-run",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE:    func(c *cobra.Command, args []string) error { return a.runRm(c.Context(), &o, args) },
	}
	o.flags(c)
	c.Flags().BoolVarP(&o.dry, "dry-run", "n", false, "only say what would be removed")
	return c
}

func (a *app) runRm(ctx context.Context, o *rmOptions, specs []string) error {
	st, k, err := a.load(ctx, &o.where)
	if err != nil {
		return err
	}
	cat, _, err := push.Load(ctx, st, k.Trust())
	if err != nil {
		return err
	}
	names, err := cat.Names(ctx)
	if err != nil {
		return err
	}
	found, err := findImages(names, specs[0])
	if err != nil {
		return err
	}
	var removed, entries, entriesLeft, paths []string
	// The list that the first of them is in; those of others are refused.
	version, err := push.PublishTarget(ctx, st, k, 0, found[0], func(e *push.Edition) error {
		removed, entries, entriesLeft, paths = nil, nil, nil, nil
		names, err := e.Old.Names(ctx)
		if err != nil {
			return err
		}
		for _, spec := range specs {
			found, err := findImages(names, spec)
			if err != nil {
				return err
			}
			removed = append(removed, found...)
		}
		slices.Sort(removed)
		removed = slices.Compact(removed)
		for _, name := range removed {
			if !e.Targets.Has(name) {
				return fmt.Errorf("%s is listed by another publisher, who has to remove it", name)
			}
			b, err := e.Old.Blob(ctx, name)
			if err != nil {
				return err
			}
			paths = append(paths, storepath.Target(name, b.SHA256))
			e.RemoveTarget(name)
		}
		if e.Delegated() {
			if entries, err = e.RemoveIncluded(ctx, removed); err != nil {
				return err
			}
			entriesLeft = entriesOfAll(e.Menu.Entries, removed)
			return dry(o.dry)
		}
		e.Menu.Entries = withoutImages(e.Menu.Entries, removed, &entries)
		if e.Menu.Default != "" && e.Menu.Find(e.Menu.Default) == nil {
			e.Menu.Default = firstEntry(e.Menu.Entries)
		}
		return dry(o.dry)
	})
	if err != nil && !o.dry {
		return a.keepPending(o.keys, err)
	}
	if o.dry && version != 0 {
		return fmt.Errorf("a dry run published version %d", version)
	}
	if !o.dry {
		if err := collect.Unlisted(ctx, st, paths, time.Now()); err != nil {
			return err
		}
	}
	if a.json {
		return a.writeJSON(map[string]any{"images": removed, "entries": entries, "catalog": version, "dry_run": o.dry})
	}
	done := "removed"
	if o.dry {
		done = "would be removed"
	}
	for _, name := range removed {
		a.say("%s %s", strings.TrimSuffix(strings.TrimPrefix(name, "images/"), ".json"), done)
	}
	for _, id := range entries {
		a.say("menu entry %s %s", id, done)
	}
	for _, id := range entriesLeft {
		a.say("menu entry %s stays until the publishers of the menu remove it: imagetool menu rm %s", id, id)
	}
	if !o.dry {
		a.say("Catalog version %d. Their files stay until imagetool gc removes them.", version)
	}
	return nil
}

// dry ends an edit that is only tried out.
func dry(is bool) error {
	if is {
		return push.ErrUnchanged
	}
	return nil
}

// entriesOfAll returns the ids of the entries that boot one of images.
func entriesOfAll(entries []catalog.Entry, images []string) (ids []string) {
	for _, i := range images {
		ids = entriesOf(entries, i, ids)
	}
	return ids
}

// withoutImages returns entries without those that boot one of images, and
// without submenus that become empty by that. Ids of the others are added to
// gone.
func withoutImages(entries []catalog.Entry, images []string, gone *[]string) []catalog.Entry {
	out := make([]catalog.Entry, 0, len(entries))
	for _, e := range entries {
		if e.Image != "" && slices.Contains(images, e.Image) {
			*gone = append(*gone, e.ID)
			continue
		}
		if len(e.Entries) > 0 {
			if e.Entries = withoutImages(e.Entries, images, gone); len(e.Entries) == 0 {
				*gone = append(*gone, e.ID)
				continue
			}
		}
		out = append(out, e)
	}
	return out
}

// firstEntry returns the id of the first entry that is no submenu.
func firstEntry(entries []catalog.Entry) string {
	for i := range entries {
		if len(entries[i].Entries) == 0 && entries[i].Include == "" {
			return entries[i].ID
		}
		if id := firstEntry(entries[i].Entries); id != "" {
			return id
		}
	}
	return ""
}
