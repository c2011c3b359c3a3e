package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/storepath"
)

// errNoSettings is wrapped when there are no settings to show or remove.
var errNoSettings = errors.New("there are no settings")

func (a *app) settingsCommand() *cobra.Command {
	var w where
	c := &cobra.Command{
		Use:   "settings",
		Short: "Say what machines are told at boot",
		Long: `Settings change what a machine is told at boot, without a new image: host name,
time zone, locale, keyboard, keys for ssh, files, kernel options, environment,
and a script that runs in each boot before the image's own init. They belong to
an image (all of its versions, or one) or to an entry of the menu; at a boot
those of the image, of its version and of the entry apply, the later ones over
the earlier ones. So one image serves several sites, by one entry for each.

They are part of the signed catalog and count from a machine's next boot.
Without a command the settings that there are are listed.`,
		Example: `  imagetool settings
  imagetool settings set --image debian --timezone Europe/Vienna --ssh-key root=admin.pub
  imagetool settings set --entry site-a --hostname "a-{mac6}" --file /etc/motd=motd.a
  imagetool settings show --entry site-a --all
  imagetool settings edit --image debian/12`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runSettings(c.Context(), &w) },
	}
	w.flags(c)
	c.AddCommand(a.settingsSetCommand(), a.settingsShowCommand(), a.settingsEditCommand(), a.settingsRemoveCommand())
	return c
}

// subjectOptions say what settings are about.
type subjectOptions struct {
	where
	image, entry string
}

func (o *subjectOptions) flags(c *cobra.Command) {
	o.where.flags(c)
	c.Flags().StringVar(&o.image, "image", "", "settings of an image: NAME for all of its versions, or NAME/VERSION")
	c.Flags().StringVar(&o.entry, "entry", "", "settings of a menu entry, by its id")
}

func (o *subjectOptions) subject() (bootsettings.Subject, error) {
	if (o.image == "") == (o.entry == "") {
		return bootsettings.Subject{}, &usageError{errors.New("name an image with --image, or a menu entry with --entry")}
	}
	s := bootsettings.Subject{Entry: o.entry}
	s.Image, s.Version, _ = strings.Cut(o.image, "/")
	for _, e := range []string{s.Image, s.Version, s.Entry} {
		if e != "" && !storepath.ValidElement(e) {
			return s, &usageError{fmt.Errorf("%q: use letters, digits and ._+~-", e)}
		}
	}
	if o.entry == "" && s.Image == "" || strings.HasSuffix(o.image, "/") {
		return s, &usageError{fmt.Errorf("--image %q: want NAME or NAME/VERSION", o.image)}
	}
	return s, nil
}

// checkSubject returns an error if the catalog has nothing that the settings
// would be about: it is a slip of the pen, most likely.
func checkSubject(ctx context.Context, e *push.Edition, s bootsettings.Subject) error {
	if s.Entry != "" {
		if e.Menu.Find(s.Entry) == nil {
			return fmt.Errorf("menu entry %s: %w", s.Entry, errNoImage)
		}
		return nil
	}
	start := "images/" + s.Image + "/"
	if s.Version != "" {
		start += s.Version + "/"
	}
	names, err := e.Old.Names(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if strings.HasPrefix(name, start) {
			return nil
		}
	}
	return fmt.Errorf("%s: %w (see imagetool ls)", s, errNoImage)
}

// listedSettings is a document in the output of `imagetool settings`.
type listedSettings struct {
	bootsettings.Subject
	Settings *bootsettings.Settings `json:"settings"`
}

func (a *app) runSettings(ctx context.Context, w *where) error {
	st, cat, names, err := a.loadNames(ctx, w)
	if err != nil {
		return err
	}
	list := []listedSettings{}
	for _, n := range names {
		s, ok := bootsettings.ParseName(n)
		if !ok {
			continue
		}
		f, err := cat.SettingsFile(ctx, n)
		if err != nil {
			return err
		}
		list = append(list, listedSettings{s, f.Settings})
	}
	if a.json {
		return a.writeJSON(map[string]any{"catalog": cat.Version(), "settings": list})
	}
	t := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	for _, l := range list {
		fmt.Fprintf(t, "%s\t%s\n", l.Subject, summary(l.Settings))
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	a.say("%d settings in catalog version %d of %s", len(list), cat.Version(), st)
	return nil
}

// summary says in one line what settings are about.
func summary(s *bootsettings.Settings) string {
	var out []string
	add := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	add(s.Hostname != "", "hostname %s", s.Hostname)
	add(s.Timezone != "", "timezone %s", s.Timezone)
	add(s.Locale != "", "locale %s", s.Locale)
	if s.Keyboard != nil {
		add(true, "keyboard %s", s.Keyboard.Layout)
	}
	keys := 0
	for _, k := range s.SSHKeys {
		keys += len(k)
	}
	add(keys > 0, "%s", number(keys, "key"))
	add(len(s.Files) > 0, "%s", number(len(s.Files), "file"))
	add(s.Cmdline != "", "cmdline %q", s.Cmdline)
	add(len(s.Environment) > 0, "%d variables", len(s.Environment))
	add(s.Script != nil, "script")
	if out == nil {
		return "nothing"
	}
	return strings.Join(out, ", ")
}

func (a *app) settingsShowCommand() *cobra.Command {
	var o subjectOptions
	var all bool
	c := &cobra.Command{
		Use:   "show --image NAME[/VERSION] | --entry ID",
		Short: "Print settings as JSON",
		Long: `Show prints the document with the settings of an image or entry, as edit and
set --from take it. With --all it prints what a machine is told that boots a
menu entry: the settings of its image, of the version, and its own, put together.`,
		Example: `  imagetool settings show --image debian
  imagetool settings show --entry site-a --all`,
		Args: args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error { return a.runSettingsShow(c.Context(), &o, all) },
	}
	o.flags(c)
	c.Flags().BoolVar(&all, "all", false, "all that applies to a boot of the entry")
	return c
}

func (a *app) runSettingsShow(ctx context.Context, o *subjectOptions, all bool) error {
	s, err := o.subject()
	if err != nil {
		return err
	}
	if all && s.Entry == "" {
		return &usageError{errors.New("--all is about a boot: name a menu entry with --entry")}
	}
	_, cat, err := a.loadCatalog(ctx, &o.where)
	if err != nil {
		return err
	}
	var found *bootsettings.Settings
	if all {
		if found, err = effective(ctx, cat, s.Entry); err != nil {
			return err
		}
	} else {
		f, err := cat.SettingsFile(ctx, s.Name())
		if errors.Is(err, catalog.ErrNotFound) {
			return fmt.Errorf("%s: %w", s, errNoSettings)
		}
		if err != nil {
			return err
		}
		found = f.Settings
	}
	return a.writeJSON(found)
}

// effective returns what a boot of a menu entry is told.
func effective(ctx context.Context, cat *catalog.Catalog, id string) (*bootsettings.Settings, error) {
	menu, err := cat.Menu(ctx)
	if err != nil {
		return nil, err
	}
	e := menu.Find(id)
	if e == nil || e.Image == "" {
		return nil, fmt.Errorf("menu entry %s: %w", id, errNoImage)
	}
	img, err := cat.Image(ctx, e.Image)
	if err != nil {
		return nil, err
	}
	files, err := cat.Settings(ctx, img, id)
	if err != nil {
		return nil, err
	}
	var list []*bootsettings.Settings
	for _, f := range files {
		list = append(list, f.Settings)
	}
	return bootsettings.Merge(list...), nil
}

func (a *app) settingsRemoveCommand() *cobra.Command {
	var o subjectOptions
	c := &cobra.Command{
		Use:     "rm --image NAME[/VERSION] | --entry ID",
		Short:   "Remove settings",
		Example: "  imagetool settings rm --entry site-a",
		Args:    args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := o.subject()
			if err != nil {
				return err
			}
			return a.publishSettings(c.Context(), &o.where, s, func(*push.Edition, *bootsettings.Settings) (*bootsettings.Settings, error) {
				return nil, nil
			})
		},
	}
	o.flags(c)
	return c
}

func (a *app) settingsEditCommand() *cobra.Command {
	var o subjectOptions
	c := &cobra.Command{
		Use:   "edit --image NAME[/VERSION] | --entry ID",
		Short: "Change settings with an editor",
		Long: `Edit opens the document with the settings of an image or entry in $VISUAL or
$EDITOR (default: vi), checks what comes back, and publishes it. A document that
is not right is opened again.`,
		Example: "  EDITOR=nano imagetool settings edit --image debian",
		Args:    args(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return a.runSettingsEdit(c.Context(), &o) },
	}
	o.flags(c)
	return c
}

func (a *app) runSettingsEdit(ctx context.Context, o *subjectOptions) error {
	s, err := o.subject()
	if err != nil {
		return err
	}
	_, cat, err := a.loadCatalog(ctx, &o.where)
	if err != nil {
		return err
	}
	was := &bootsettings.Settings{Format: bootsettings.Format}
	f, err := cat.SettingsFile(ctx, s.Name())
	switch {
	case err == nil:
		was = f.Settings
	case !errors.Is(err, catalog.ErrNotFound):
		return err
	}
	changed, err := editSettings(ctx, was)
	if err != nil {
		return err
	}
	return a.publishSettings(ctx, &o.where, s, func(_ *push.Edition, now *bootsettings.Settings) (*bootsettings.Settings, error) {
		if now == nil {
			now = &bootsettings.Settings{Format: bootsettings.Format}
		}
		if !same(now, was) {
			return nil, fmt.Errorf("%s: %w: somebody else has changed the settings meanwhile; edit them again", s, push.ErrLost)
		}
		return changed, nil
	})
}

// editSettings lets a person change settings in an editor, until they are
// right or the editor fails.
func editSettings(ctx context.Context, s *bootsettings.Settings) (*bootsettings.Settings, error) {
	data, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp("", "inetboot-settings-*.json")
	if err != nil {
		return nil, fmt.Errorf("edit the settings: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("edit the settings: %w", err)
	}
	editor := os.Getenv("VISUAL")
	if editor == "" {
		editor = os.Getenv("EDITOR")
	}
	if editor == "" {
		editor = "vi"
	}
	for before := data; ; {
		// As other programs do: the variable may have options in it.
		cmd := exec.CommandContext(ctx, "sh", "-c", editor+` "$1"`, "sh", f.Name())
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("editor %s: %w", editor, err)
		}
		after, err := readLimited(f.Name(), bootsettings.MaxSize)
		if err != nil {
			return nil, fmt.Errorf("edit the settings: %w", err)
		}
		changed, err := bootsettings.Parse(after)
		if err == nil {
			return changed, nil
		}
		if bytes.Equal(before, after) { // it was left as it is
			return nil, &usageError{err}
		}
		before = after
		fmt.Fprintf(os.Stderr, "imagetool: %v\n", err)
	}
}

// same tells whether two documents say the same.
func same(a, b *bootsettings.Settings) bool {
	x, xerr := a.Marshal()
	y, yerr := b.Marshal()
	return xerr == nil && yerr == nil && bytes.Equal(x, y)
}

// publishSettings publishes what edit makes of the settings of a subject; nil
// is none.
func (a *app) publishSettings(ctx context.Context, w *where, s bootsettings.Subject, edit func(e *push.Edition, now *bootsettings.Settings) (*bootsettings.Settings, error)) error {
	st, k, err := a.load(ctx, w)
	if err != nil {
		return err
	}
	var result *bootsettings.Settings
	version, err := push.PublishTarget(ctx, st, k, 0, s.Name(), func(e *push.Edition) error {
		var now *bootsettings.Settings
		f, err := e.Old.SettingsFile(ctx, s.Name())
		switch {
		case err == nil:
			now = f.Settings
		case !errors.Is(err, catalog.ErrNotFound):
			return err
		}
		if result, err = edit(e, now); err != nil {
			return err
		}
		if result == nil {
			if now == nil {
				return fmt.Errorf("%s: %w", s, errNoSettings)
			}
			e.RemoveTarget(s.Name())
			return nil
		}
		if err := checkSubject(ctx, e, s); err != nil {
			return err
		}
		if now != nil && same(now, result) {
			return push.ErrUnchanged
		}
		data, err := result.Marshal()
		if err != nil {
			return &usageError{err}
		}
		e.SetTarget(s.Name(), data)
		return nil
	})
	unchanged := errors.Is(err, push.ErrUnchanged)
	if err != nil && !unchanged {
		return err
	}
	if a.json {
		return a.writeJSON(map[string]any{"catalog": version, "unchanged": unchanged, "subject": s, "settings": result})
	}
	switch {
	case unchanged:
		a.say("Nothing to change: the settings of %s are these already.", s)
	case result == nil:
		a.say("Catalog version %d has no settings of %s.", version, s)
	default:
		a.say("Catalog version %d has settings of %s: %s", version, s, summary(result))
	}
	return nil
}
