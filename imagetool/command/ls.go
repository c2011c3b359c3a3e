package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
)

// listing is what ls says.
type listing struct {
	Store   string    `json:"store"`
	Version uint64    `json:"catalog"`
	Expires time.Time `json:"expires"`
	Expired bool      `json:"expired"`
	Default string    `json:"default"`
	Images  []listed  `json:"images"`
}

type listed struct {
	Name    string    `json:"name"`
	Version string    `json:"version"`
	Arch    string    `json:"arch"`
	Title   string    `json:"title,omitempty"`
	Entry   string    `json:"entry,omitempty"` // id in the menu
	Default bool      `json:"default"`
	Created time.Time `json:"created"`
	Kernel  string    `json:"kernel"`
	Plain   int64     `json:"bytes_plain"`
	Stored  int64     `json:"bytes_stored"`
	Blocks  int       `json:"blocks"`
	Boot    int64     `json:"bytes_boot"` // kernel and initramfs
	Memory  int64     `json:"needs_memory"`
	Digest  string    `json:"manifest"`
}

func (a *app) lsCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "ls",
		Short:   "List the published images",
		Example: "  imagetool ls\n  imagetool ls --to https://boot.example.org/ --json",
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return a.runLs(c.Context(), &w) },
	}
	w.flags(c)
	return c
}

func (a *app) runLs(ctx context.Context, w *where) error {
	st, cat, err := a.loadCatalog(ctx, w)
	if err != nil {
		return err
	}
	menu, err := cat.WholeMenu(ctx)
	if err != nil {
		return err
	}
	l := listing{Store: st.String(), Version: cat.Version(), Expires: cat.Expires(), Expired: !time.Now().Before(cat.Expires()), Default: menu.Default, Images: []listed{}}
	names, err := cat.Names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, "images/") {
			continue
		}
		img, err := cat.Image(ctx, name)
		if err != nil {
			return err
		}
		l.Images = append(l.Images, describe(img, name, menu))
	}
	slices.SortFunc(l.Images, func(x, y listed) int {
		return strings.Compare(x.Name+"\x00"+x.Version+"\x00"+x.Arch, y.Name+"\x00"+y.Version+"\x00"+y.Arch)
	})
	if a.json {
		return a.writeJSON(l)
	}
	return a.printListing(&l)
}

func describe(img *catalog.Image, target string, menu *catalog.Menu) listed {
	m := img.Manifest()
	out := listed{
		Name: m.Name, Version: m.Version, Arch: m.Arch, Created: m.Created, Kernel: m.Kernel.Release,
		Boot: m.Kernel.Size + m.Initrd.Size, Memory: m.Needs.Memory, Digest: img.Digest().String(),
	}
	for _, f := range m.Root.Files {
		out.Plain += f.Size
		out.Stored += f.Stored
		out.Blocks += f.Blocks
	}
	if e := findImage(menu.Entries, target); e != nil {
		out.Title, out.Entry, out.Default = e.Title, e.ID, e.ID == menu.Default
	}
	return out
}

func findImage(entries []catalog.Entry, target string) *catalog.Entry {
	for i := range entries {
		if entries[i].Image == target {
			return &entries[i]
		}
		if e := findImage(entries[i].Entries, target); e != nil {
			return e
		}
	}
	return nil
}

func (a *app) printListing(l *listing) error {
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	if len(l.Images) > 0 {
		fmt.Fprintln(t, "\tNAME\tVERSION\tARCH\tSIZE\tSTORED\tBLOCKS\tDATE\tTITLE")
	}
	for _, i := range l.Images {
		mark := ""
		if i.Default {
			mark = "*"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", mark, i.Name, i.Version, i.Arch,
			bytesText(i.Plain), bytesText(i.Stored), i.Blocks, i.Created.Local().Format("2006-01-02 15:04"), i.Title)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	state := "expires"
	if l.Expired {
		state = "EXPIRED"
	}
	fmt.Fprintf(a.out, "%s in %s; catalog version %d, %s %s; * boots by default\n", number(len(l.Images), "image"), l.Store, l.Version, state, l.Expires.Local().Format("2006-01-02 15:04"))
	if l.Expired {
		fmt.Fprintln(a.out, "Machines refuse an expired catalog: run imagetool refresh.")
	}
	return nil
}
