package command

import (
	"context"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/contents"
	"github.com/inetboot/inetboot/imagetool/push"
)

func (a *app) showCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "show IMAGE",
		Short:   "Show what an image consists of and where the menu has it",
		Example: "  imagetool show debian/12\n  imagetool show debian/12/amd64 --json | jq .manifest.cmdline",
		Args:    args(cobra.ExactArgs(1)),
		RunE:    func(c *cobra.Command, args []string) error { return a.runShow(c.Context(), &w, args[0]) },
	}
	w.flags(c)
	return c
}

// shown is what show says.
type shown struct {
	imageID
	Entries  []string         `json:"entries"`      // ids in the menu
	Shared   int64            `json:"bytes_shared"` // stored bytes of blocks that other images have, too
	Manifest catalog.Manifest `json:"manifest"`
}

func (a *app) runShow(ctx context.Context, w *where, spec string) error {
	st, img, err := a.pick(ctx, w, spec)
	if err != nil {
		return err
	}
	_, trust, err := a.loadTrust(w)
	if err != nil {
		return err
	}
	cat, _, err := push.Load(ctx, st, trust)
	if err != nil {
		return err
	}
	menu, err := cat.WholeMenu(ctx)
	if err != nil {
		return err
	}
	m := img.Manifest()
	target := catalog.ManifestName(m.Name, m.Version, m.Arch)
	s := shown{imageID: identify(img), Entries: entriesOf(menu.Entries, target, []string{}), Manifest: m}
	if s.Shared, err = shared(ctx, st, cat, target); err != nil {
		return err
	}
	if a.json {
		return a.writeJSON(s)
	}
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	row := func(name, format string, v ...any) { fmt.Fprintf(t, "%s\t"+format+"\n", append([]any{name}, v...)...) }
	row("image", "%s", s.imageID)
	row("manifest", "%s", s.imageID.Manifest)
	row("made", "%s", m.Created.Local().Format(time.DateTime))
	row("kernel", "%s, %s", m.Kernel.Release, bytesText(m.Kernel.Size))
	row("initramfs", "%s", bytesText(m.Initrd.Size))
	row("command line", "%s", m.Cmdline)
	row("needs", "%s of memory", bytesText(m.Needs.Memory))
	var stored int64
	for _, f := range m.Root.Files {
		row("root, "+f.Name, "%s in %d blocks, %s stored", bytesText(f.Size), f.Blocks, bytesText(f.Stored))
		stored += f.Stored
	}
	row("shared with other images", "%s of %s (%s)", bytesText(s.Shared), bytesText(stored), percent(s.Shared, stored))
	for _, id := range s.Entries {
		e := menu.Find(id)
		what := e.Title
		if id == menu.Default {
			what += " (the default)"
		}
		row("menu entry "+id, "%s", what)
	}
	return t.Flush()
}

// entriesOf adds the ids of the entries that boot an image to ids.
func entriesOf(entries []catalog.Entry, target string, ids []string) []string {
	for i := range entries {
		if entries[i].Image == target {
			ids = append(ids, entries[i].ID)
		}
		ids = entriesOf(entries[i].Entries, target, ids)
	}
	return ids
}

// shared adds up the stored bytes of an image's blocks that other images of
// the catalog have, too.
func shared(ctx context.Context, src catalog.Source, cat *catalog.Catalog, target string) (int64, error) {
	mine := make(map[string]int)
	var others []string
	names, err := cat.Names(ctx)
	if err != nil {
		return 0, err
	}
	for _, n := range names {
		if contents.IsImage(n) && n != target {
			others = append(others, n)
		}
	}
	fail := func(name string, err error) error { return fmt.Errorf("%s: %w", name, err) }
	err = contents.All(ctx, src, cat, []string{target}, func(i *contents.Image) error {
		i.Blocks(func(b contents.Block) bool {
			mine[b.Path()] = b.Stored
			return true
		})
		return nil
	}, fail)
	if err != nil {
		return 0, err
	}
	var sum int64
	err = contents.All(ctx, src, cat, others, func(i *contents.Image) error {
		i.Blocks(func(b contents.Block) bool {
			sum += int64(mine[b.Path()])
			delete(mine, b.Path())
			return true
		})
		return nil
	}, func(string, error) error { return nil }) // another image that is damaged shares nothing
	return sum, err
}
