package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/internal/bootscript"
	"github.com/inetboot/inetboot/internal/storepath"
)

// errNoScript is wrapped when the catalog has no script of a name.
var errNoScript = errors.New("there is no such script")

// listedScript is a script in the output of `imagetool script`.
type listedScript struct {
	Name   string `json:"name"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

func (a *app) scriptCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:   "script",
		Short: "List, add and remove boot scripts",
		Long: `Script lists the boot scripts of the catalog. A machine whose boot medium is told
iscript=NAME runs the script of that name before it shows the menu: it can ask, look
at the machine, and start entries of the menu, or kernels and initrds of images.
docs/preboot.md describes the language.

Scripts are part of the signed catalog. They are checked before they are added.`,
		Example: `  imagetool script
  imagetool script add lab.ibs
  imagetool script add lab.ibs --name lab
  imagetool script remove lab`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runScripts(c.Context(), &w) },
	}
	w.flags(c)
	c.AddCommand(a.scriptAddCommand(), a.scriptRemoveCommand())
	return c
}

func (a *app) scriptAddCommand() *cobra.Command {
	var w where
	var name string
	c := &cobra.Command{
		Use:   "add FILE",
		Short: "Add a boot script to the catalog, or replace it",
		Long: `Add checks a script and publishes it. Its name is that of the file unless another
one is given; a script of the same name is replaced.`,
		Example: `  imagetool script add lab.ibs
  imagetool script add lab-2.ibs --name lab.ibs`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, files []string) error {
			if name == "" {
				name = filepath.Base(files[0])
			}
			return a.runScriptAdd(c.Context(), &w, name, files[0])
		},
	}
	w.flags(c)
	c.Flags().StringVar(&name, "name", "", "name of the script (default: that of the file)")
	return c
}

func (a *app) scriptRemoveCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "remove NAME...",
		Short:   "Take boot scripts out of the catalog",
		Example: "  imagetool script remove lab.ibs",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, names []string) error {
			return a.editScripts(c.Context(), &w, names, func(e *push.Edition) error {
				for _, n := range names {
					if _, err := e.Old.Blob(c.Context(), bootscript.Prefix+n); errors.Is(err, catalog.ErrNotFound) {
						return &usageError{fmt.Errorf("%s: %w (see imagetool script)", n, errNoScript)}
					} else if err != nil {
						return err
					}
					e.RemoveTarget(bootscript.Prefix + n)
				}
				return nil
			})
		},
	}
	w.flags(c)
	return c
}

func (a *app) runScripts(ctx context.Context, w *where) error {
	st, cat, names, err := a.loadNames(ctx, w)
	if err != nil {
		return err
	}
	list := []listedScript{}
	for _, target := range names {
		name, ok := strings.CutPrefix(target, bootscript.Prefix)
		if !ok {
			continue
		}
		b, err := cat.Blob(ctx, target)
		if err != nil {
			return err
		}
		list = append(list, listedScript{name, b.SHA256.String(), b.Size})
	}
	if a.json {
		return a.writeJSON(map[string]any{"store": st.String(), "catalog": cat.Version(), "scripts": list})
	}
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%d bytes\t%s\n", s.Name, s.Size, s.SHA256)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	a.say("%d scripts in catalog version %d of %s", len(list), cat.Version(), st)
	return nil
}

func (a *app) runScriptAdd(ctx context.Context, w *where, name, file string) error {
	if !storepath.ValidElement(name) {
		return &usageError{fmt.Errorf("the name %q: use letters, digits and ._+~-", name)}
	}
	f, err := os.Open(file)
	if err != nil {
		return &usageError{err}
	}
	data, err := io.ReadAll(io.LimitReader(f, bootscript.MaxSize+1))
	f.Close()
	if err != nil {
		return &usageError{err}
	}
	if _, err := bootscript.Parse(data); err != nil {
		return &usageError{fmt.Errorf("%s: %w", file, err)}
	}
	return a.editScripts(ctx, w, []string{name}, func(e *push.Edition) error {
		if old, err := e.Old.File(ctx, bootscript.Prefix+name, bootscript.MaxSize); err == nil && slices.Equal(old, data) {
			return push.ErrUnchanged
		}
		e.SetTarget(bootscript.Prefix+name, data)
		return nil
	})
}

// editScripts publishes a change of the scripts of these names.
func (a *app) editScripts(ctx context.Context, w *where, names []string, edit func(*push.Edition) error) error {
	st, k, err := a.load(ctx, w)
	if err != nil {
		return err
	}
	version, err := push.Publish(ctx, st, k, 0, edit)
	unchanged := errors.Is(err, push.ErrUnchanged)
	if err != nil && !unchanged {
		return a.keepPending(w.keys, err)
	}
	switch {
	case a.json:
		return a.writeJSON(map[string]any{"catalog": version, "unchanged": unchanged, "scripts": names})
	case unchanged:
		a.say("Nothing to change.")
	default:
		a.say("Catalog version %d: %s.", version, strings.Join(names, ", "))
	}
	return nil
}
