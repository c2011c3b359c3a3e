package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/menu"
	"github.com/inetboot/inetboot/imagetool/push"
)

func (a *app) menuCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "menu",
		Short: "Show and change the menu that people pick from",
		Long: `The menu is a tree of entries: images, submenus, and what preboot does itself
(local-disk, reboot, poweroff). Every change is checked, signed and published at
once; machines see it at their next boot.`,
		Example: `  imagetool menu show
  imagetool menu edit
  imagetool menu add tools --title Tools --with reboot,poweroff
  imagetool menu add memtest --title "Memory test" --image memtest/7 --parent tools --arch amd64
  imagetool menu set --timeout 30 --default debian-12
  imagetool menu mv debian-11 --parent old`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.menuShowCommand(), a.menuEditCommand(), a.menuAddCommand(), a.menuSetCommand(), a.menuMvCommand(), a.menuRmCommand())
	return c
}

func (a *app) menuShowCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "show",
		Short:   "Show the menu",
		Example: "  imagetool menu show\n  imagetool menu show --json > menu.json",
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			st, trust, err := a.loadTrust(&w)
			if err != nil {
				return err
			}
			cat, _, err := push.Load(c.Context(), st, trust)
			if err != nil {
				return err
			}
			m, err := cat.Menu(c.Context())
			if err != nil {
				return err
			}
			if a.json {
				return a.writeJSON(m)
			}
			timeout := fmt.Sprintf("boots %s after %d s", m.Default, m.Timeout)
			if m.Default == "" || m.Timeout < 0 {
				timeout = "waits"
			}
			a.say("%s (%s)", m.Title, timeout)
			a.sayEntries(m.Entries, m.Default, "  ")
			return nil
		},
	}
	w.flags(c)
	return c
}

func (a *app) sayEntries(entries []catalog.Entry, def, indent string) {
	for i := range entries {
		e := &entries[i]
		mark, what := " ", string(e.Action)
		if e.ID == def {
			mark = "*"
		}
		if e.Image != "" {
			what = strings.TrimSuffix(strings.TrimPrefix(e.Image, "images/"), ".json")
		} else if e.Include != "" {
			what = "menu of " + e.Include + "*"
		} else if e.Action == "" {
			what = "submenu"
		}
		if len(e.Arch) > 0 {
			what += ", only " + strings.Join(e.Arch, " ")
		}
		if e.Cmdline != "" {
			what += ", with " + e.Cmdline
		}
		a.say("%s%s %s: %s [%s]", indent, mark, e.ID, e.Title, what)
		for line := range strings.Lines(e.Help) {
			a.say("%s      %s", indent, strings.TrimRight(line, "\n"))
		}
		a.sayEntries(e.Entries, def, indent+"    ")
	}
}

// changeMenu publishes a change of the menu. Nothing is published if it
// changes nothing.
func (a *app) changeMenu(ctx context.Context, w *where, change func(*push.Edition) error) error {
	st, k, err := a.load(ctx, w)
	if err != nil {
		return err
	}
	var after *catalog.Menu
	version, err := push.Publish(ctx, st, k, 0, func(e *push.Edition) error {
		before, err := json.Marshal(e.Menu)
		if err != nil {
			return err
		}
		if err := change(e); err != nil {
			return err
		}
		names, err := e.Names(ctx)
		if err != nil {
			return err
		}
		if err := menu.Check(e.Menu, names); err != nil {
			return &usageError{err}
		}
		after = e.Menu
		if now, err := json.Marshal(e.Menu); err != nil || bytes.Equal(now, before) {
			return errors.Join(err, push.ErrUnchanged)
		}
		return nil
	})
	switch {
	case errors.Is(err, push.ErrUnchanged):
		if !a.json {
			a.say("The menu is as it was.")
			return nil
		}
	case err != nil:
		return a.keepPending(w.keys, err)
	}
	if a.json {
		return a.writeJSON(map[string]any{"catalog": version, "menu": after})
	}
	a.say("Catalog version %d has the new menu.", version)
	return nil
}

// entryFlags are the properties of an entry.
type entryFlags struct {
	title, help, image, action, cmdline, include string
	arch                                         []string
}

func (f *entryFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.title, "title", "", "what the menu shows")
	c.Flags().StringVar(&f.help, "help-text", "", "text about the entry; @FILE reads it from a file")
	c.Flags().StringVar(&f.image, "image", "", "image to boot: NAME, NAME/VERSION or NAME/VERSION/ARCH")
	c.Flags().StringVar(&f.action, "action", "", "what preboot does itself: local-disk, reboot, poweroff")
	c.Flags().StringVar(&f.include, "include", "", "show the menu that the publisher of this prefix signs (see publisher)")
	c.Flags().StringVar(&f.cmdline, "cmdline", "", "appended to the image's command line")
	c.Flags().StringSliceVar(&f.arch, "arch", nil, "show it only on these architectures, such as amd64,arm64")
}

// apply changes those properties of an entry that flags were given for.
func (f *entryFlags) apply(c *cobra.Command, e *push.Edition, entry *catalog.Entry) error {
	names, err := e.Names(c.Context())
	if err != nil {
		return err
	}
	set := c.Flags().Changed
	if set("title") {
		entry.Title = f.title
	}
	if set("help-text") {
		text := f.help
		if name, ok := strings.CutPrefix(text, "@"); ok {
			data, err := os.ReadFile(name)
			if err != nil {
				return fmt.Errorf("read the help text: %w", err)
			}
			text = strings.TrimRight(string(data), "\n")
		}
		entry.Help = text
	}
	if set("cmdline") {
		entry.Cmdline = f.cmdline
	}
	if set("arch") {
		entry.Arch = f.arch
		if len(f.arch) == 1 && f.arch[0] == "" {
			entry.Arch = nil
		}
	}
	if set("action") {
		entry.Action, entry.Image = catalog.Action(f.action), ""
	}
	if set("include") {
		included := catalog.Included(entry.ID, entry.Title, f.include)
		included.Help, included.Arch = entry.Help, entry.Arch
		*entry = included
	}
	if set("image") {
		found, err := findImages(names, f.image)
		if err != nil {
			return err
		}
		if len(found) > 1 {
			return &usageError{fmt.Errorf("image %q is one of several: %s", f.image, strings.Join(found, ", "))}
		}
		entry.Image, entry.Action = found[0], ""
		if !set("arch") {
			entry.Arch = []string{menu.Arch(found[0])}
		}
	}
	return nil
}

type placeFlags struct{ parent, before, after string }

func (p *placeFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.parent, "parent", "", "submenu to put it into (default: the top)")
	c.Flags().StringVar(&p.before, "before", "", "entry to put it before")
	c.Flags().StringVar(&p.after, "after", "", "entry to put it behind (default: the last)")
	c.MarkFlagsMutuallyExclusive("before", "after", "parent")
}

func (p *placeFlags) place() menu.Place {
	return menu.Place{Parent: p.parent, Before: p.before, After: p.after}
}

func (a *app) menuAddCommand() *cobra.Command {
	var w where
	var f entryFlags
	var p placeFlags
	c := &cobra.Command{
		Use:   "add ID",
		Short: "Add an entry",
		Long:  "Add adds an entry: one with --image boots an image, one with --action is what\npreboot does itself, one with --include is the submenu that a publisher of a\nprefix signs, one with none of these is a submenu of the entries named by --with.",
		Example: `  imagetool menu add old --title "Older versions" --with debian-11,debian-10
  imagetool menu add erin --include erin- --title "Erin's systems"
  imagetool menu add debian-rescue --title "Debian, rescue" --image debian/12 --cmdline single --after debian-12`,
		Args: args(cobra.ExactArgs(1)),
	}
	w.flags(c)
	f.flags(c)
	p.flags(c)
	var with []string
	c.Flags().StringSliceVar(&with, "with", nil, "entries to move into the new submenu")
	c.RunE = func(c *cobra.Command, args []string) error {
		return a.changeMenu(c.Context(), &w, func(e *push.Edition) error {
			entry := catalog.Entry{ID: args[0], Title: args[0]}
			if err := f.apply(c, e, &entry); err != nil {
				return err
			}
			return usage(menu.Add(e.Menu, entry, p.place(), with))
		})
	}
	return c
}

// usage makes err an error about the command line.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &usageError{err}
}

func (a *app) menuSetCommand() *cobra.Command {
	var w where
	var f entryFlags
	var def, id string
	var timeout int
	c := &cobra.Command{
		Use:   "set [ID]",
		Short: "Change an entry, or the menu's title, timeout and default",
		Example: `  imagetool menu set debian-12 --title "Debian 12 (tested)" --help-text @notes.txt
  imagetool menu set --title "Example Inc." --timeout -1
  imagetool menu set --default debian-12`,
		Args: args(cobra.MaximumNArgs(1)),
	}
	w.flags(c)
	f.flags(c)
	c.Flags().StringVar(&def, "default", "", "id of the entry that boots after the timeout; none: \"\"")
	c.Flags().IntVar(&timeout, "timeout", 0, "seconds until the default boots: 0 at once, -1 never")
	c.Flags().StringVar(&id, "id", "", "give the entry another id")
	c.RunE = func(c *cobra.Command, args []string) error {
		set := c.Flags().Changed
		return a.changeMenu(c.Context(), &w, func(e *push.Edition) error {
			if set("default") {
				e.Menu.Default = def
			}
			if set("timeout") {
				e.Menu.Timeout = timeout
			}
			if len(args) == 0 {
				for _, n := range []string{"help-text", "image", "action", "include", "cmdline", "arch", "id"} {
					if set(n) {
						return &usageError{fmt.Errorf("--%s is for an entry: name its id", n)}
					}
				}
				if set("title") {
					e.Menu.Title = f.title
				}
				return nil
			}
			entry := e.Menu.Find(args[0])
			if entry == nil {
				return usage(menu.NoEntry(args[0]))
			}
			if err := f.apply(c, e, entry); err != nil {
				return err
			}
			if set("id") {
				if e.Menu.Default == entry.ID {
					e.Menu.Default = id
				}
				entry.ID = id
			}
			return nil
		})
	}
	return c
}

func (a *app) menuMvCommand() *cobra.Command {
	var w where
	var p placeFlags
	c := &cobra.Command{
		Use:     "mv ID",
		Short:   "Move an entry, with all that is in it",
		Example: "  imagetool menu mv debian-11 --parent old\n  imagetool menu mv debian-12 --before ubuntu-24.04\n  imagetool menu mv tools",
		Args:    args(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeMenu(c.Context(), &w, func(e *push.Edition) error { return usage(menu.Move(e.Menu, args[0], p.place())) })
		},
	}
	w.flags(c)
	p.flags(c)
	return c
}

func (a *app) menuRmCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:     "rm ID…",
		Short:   "Remove entries, with all that is in them",
		Long:    "Rm removes entries from the menu. Images stay in the catalog: imagetool rm removes\nan image and its entries.",
		Example: "  imagetool menu rm reboot poweroff",
		Args:    args(cobra.MinimumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			return a.changeMenu(c.Context(), &w, func(e *push.Edition) error {
				for _, id := range args {
					if _, err := menu.Remove(e.Menu, id); err != nil {
						return usage(err)
					}
				}
				return nil
			})
		},
	}
	w.flags(c)
	return c
}

func (a *app) menuEditCommand() *cobra.Command {
	var w where
	var file string
	c := &cobra.Command{
		Use:   "edit",
		Short: "Edit the whole menu as JSON in $EDITOR",
		Long: `Edit opens the menu in $VISUAL or $EDITOR. What comes back is checked strictly:
unknown members, images that the catalog does not have, ids that stand twice. If
something is wrong, the editor opens again with the reason in its first line; an
unchanged or empty file ends the work. --file takes the menu from a file, - from
standard input. If somebody else changed the menu meanwhile, nothing is published.`,
		Example: "  imagetool menu edit\n  imagetool menu show --json > menu.json && imagetool menu edit --file menu.json",
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return a.runMenuEdit(c.Context(), c, &w, file) },
	}
	w.flags(c)
	c.Flags().StringVar(&file, "file", "", "take the menu from a file, - is standard input")
	return c
}

func (a *app) runMenuEdit(ctx context.Context, c *cobra.Command, w *where, file string) error {
	_, cat, err := a.loadCatalog(ctx, w)
	if err != nil {
		return err
	}
	m, err := cat.Menu(ctx)
	if err != nil {
		return err
	}
	before, err := m.Marshal()
	if err != nil {
		return err
	}
	names, err := cat.Names(ctx)
	if err != nil {
		return err
	}
	var next *catalog.Menu
	if file != "" {
		data, err := readFileOr(c.InOrStdin(), file, catalog.MaxTarget)
		if err != nil {
			return fmt.Errorf("read the menu: %w", err)
		}
		if next, err = menu.Parse(data, names); err != nil {
			return &usageError{err}
		}
	} else if next, err = editMenu(ctx, before, names); err != nil {
		return err
	}
	if next == nil {
		a.say("The menu is as it was.")
		return nil
	}
	return a.changeMenu(ctx, w, func(e *push.Edition) error {
		now, err := e.Menu.Marshal()
		if err != nil {
			return err
		}
		if !bytes.Equal(now, before) {
			return fmt.Errorf("somebody else has changed the menu meanwhile: edit it again")
		}
		*e.Menu = *next
		return nil
	})
}

// editMenu opens an editor until what comes back is a menu. It returns nil if
// nothing is to be changed.
func editMenu(ctx context.Context, text []byte, names []string) (*catalog.Menu, error) {
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	f, err := os.CreateTemp("", "inetboot-menu-*.json")
	if err != nil {
		return nil, fmt.Errorf("edit the menu: %w", err)
	}
	name := f.Name()
	defer os.Remove(name)
	if err := f.Close(); err != nil {
		return nil, err
	}
	original := append(bytes.Clone(text), '\n')
	was := original
	for reason := ""; ; {
		content := was
		if reason != "" {
			content = append([]byte("// "+reason+"\n"), was...)
		}
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return nil, fmt.Errorf("edit the menu: %w", err)
		}
		// Through the shell, because $EDITOR may have arguments.
		cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", name)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("edit the menu with %q (set $EDITOR): %w", editor, err)
		}
		data, err := readFileOr(nil, name, catalog.MaxTarget)
		if err != nil {
			return nil, fmt.Errorf("edit the menu: %w", err)
		}
		for bytes.HasPrefix(data, []byte("//")) {
			_, data, _ = bytes.Cut(data, []byte("\n"))
		}
		if len(bytes.TrimSpace(data)) == 0 || bytes.Equal(data, original) {
			return nil, nil
		}
		m, err := menu.Parse(data, names)
		if err == nil {
			return m, nil
		}
		if reason != "" && bytes.Equal(data, was) { // nobody repairs it
			return nil, &usageError{err}
		}
		was = bytes.Clone(data)
		reason = strings.Join(strings.Fields(err.Error()), " ")
	}
}

// readFileOr reads a file of at most limit bytes, - is standard input.
func readFileOr(stdin io.Reader, name string, limit int64) ([]byte, error) {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, err
}
