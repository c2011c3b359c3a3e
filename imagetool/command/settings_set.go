package command

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/push"
	"github.com/inetboot/inetboot/internal/bootsettings"
)

type setOptions struct {
	subjectOptions
	from, hostname, timezone, locale, keyboard, cmdline string
	keys, files, remove, env                            []string
	script, onFailure                                   string
	timeout                                             int
	clear                                               []string
	addEntry, title                                     string
}

func (a *app) settingsSetCommand() *cobra.Command {
	var o setOptions
	c := &cobra.Command{
		Use:   "set --image NAME[/VERSION] | --entry ID",
		Short: "Change settings",
		Long: `Set changes those settings of an image or entry that options name, and leaves the
others as they are. An empty value takes a setting away; --clear takes away lists.

The host name may have names in braces: {mac}, {mac6} (its last six digits), {ip},
{ip-} (with dashes), {hostname} (that the network gave), {uuid}, {serial},
{image}, {version}, {entry}.

The script runs in each boot as root in the image's system, before its init, with
the network up; INETBOOT_IMAGE, _VERSION, _ENTRY, _MAC, _IP, _UUID, _SERIAL, _MIRROR
and _BOOT tell what was booted where. What it prints is shown on the console.`,
		Example: `  imagetool settings set --image debian --timezone Europe/Vienna --locale de_AT.UTF-8 --keyboard de:nodeadkeys
  imagetool settings set --image debian/12 --cmdline "console=ttyS0" --env http_proxy=http://10.0.0.1:3128
  imagetool settings set --entry site-a --hostname "a-{mac6}" --ssh-key root=admin.pub --file /etc/motd=motd.txt
  imagetool settings set --entry site-a --script setup.sh --script-timeout 120 --script-failure stop
  imagetool settings set --entry site-b --add-entry debian/12 --title "Debian for site B" --from site-b.json`,
		Args: args(cobra.NoArgs),
	}
	o.flags(c)
	f := c.Flags()
	f.StringVar(&o.from, "from", "", "file with a whole document, in place of the settings that there are; - is standard input")
	f.StringVar(&o.hostname, "hostname", "", "host name, or a pattern")
	f.StringVar(&o.timezone, "timezone", "", "time zone, as Europe/Vienna")
	f.StringVar(&o.locale, "locale", "", "locale, as de_AT.UTF-8")
	f.StringVar(&o.keyboard, "keyboard", "", "keyboard, as LAYOUT or LAYOUT:VARIANT")
	f.StringVar(&o.cmdline, "cmdline", "", "options that are appended to the kernel's command line")
	f.StringArrayVar(&o.keys, "ssh-key", nil, "public keys for a user's log-in, as USER=FILE")
	f.StringArrayVar(&o.files, "file", nil, "file to write, as PATH=FILE or PATH=FILE,mode=0644,owner=NAME,group=NAME,append,expand")
	f.StringArrayVar(&o.remove, "remove-file", nil, "file of the image to remove at boot")
	f.StringArrayVar(&o.env, "env", nil, "variable for init, log-ins and the script, as NAME=VALUE")
	f.StringVar(&o.script, "script", "", "file with the script")
	f.IntVar(&o.timeout, "script-timeout", 0, fmt.Sprintf("seconds that the script may take, at most %d (default %d)", bootsettings.MaxTimeout, bootsettings.DefaultTimeout))
	f.StringVar(&o.onFailure, "script-failure", "", "when the script fails: continue (the default), or stop, which restarts the machine")
	f.StringVar(&o.addEntry, "add-entry", "", "add the entry to the menu if it is not there, for the image NAME, NAME/VERSION or NAME/VERSION/ARCH")
	f.StringVar(&o.title, "title", "", "title of an entry that is added (default: the title of the image's own entry)")
	f.StringSliceVar(&o.clear, "clear", nil, "take away lists before others are added: ssh-key, file, env")
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := o.subject()
		if err != nil {
			return err
		}
		if o.addEntry != "" && s.Entry == "" || o.addEntry == "" && o.title != "" {
			return &usageError{errors.New("--add-entry is for --entry, and --title for --add-entry")}
		}
		change, err := o.read(c.InOrStdin(), f.Changed)
		if err != nil {
			return err
		}
		return a.publishSettings(c.Context(), &o.where, s, func(e *push.Edition, now *bootsettings.Settings) (*bootsettings.Settings, error) {
			if o.addEntry != "" && e.Menu.Find(s.Entry) == nil {
				if err := addEntry(c.Context(), e, s.Entry, o.addEntry, o.title); err != nil {
					return nil, err
				}
			}
			return change(now)
		})
	}
	return c
}

// addEntry adds a menu entry for an image, behind those that it has.
func addEntry(ctx context.Context, e *push.Edition, id, image, title string) error {
	names, err := e.Old.Names(ctx)
	if err != nil {
		return err
	}
	target, err := findTarget(names, image)
	if err != nil {
		return err
	}
	if title != "" {
		if err := catalog.CheckText(title); err != nil {
			return &usageError{fmt.Errorf("--title: %w", err)}
		}
	}
	entry := catalog.Entry{ID: id, Title: title, Image: target, Arch: []string{strings.TrimSuffix(path.Base(target), ".json")}}
	at, list := len(e.Menu.Entries), &e.Menu.Entries
	for at > 0 && (*list)[at-1].Action != "" {
		at--
	}
	if siblings, i := entryOf(&e.Menu.Entries, target); siblings != nil {
		own := (*siblings)[i]
		for i+1 < len(*siblings) && (*siblings)[i+1].Image == target {
			i++
		}
		list, at, entry.Cmdline, entry.Help = siblings, i+1, own.Cmdline, own.Help
		if title == "" {
			entry.Title = own.Title
		}
	}
	if entry.Title == "" {
		entry.Title = id
	}
	*list = slices.Insert(*list, at, entry)
	return nil
}

// entryOf returns the list that has the first entry of an image, and where in
// it.
func entryOf(list *[]catalog.Entry, image string) (*[]catalog.Entry, int) {
	for i := range *list {
		e := &(*list)[i]
		if e.Image == image {
			return list, i
		}
		if in, at := entryOf(&e.Entries, image); in != nil {
			return in, at
		}
	}
	return nil, 0
}

// change makes new settings of old ones, which may be nil.
type change func(now *bootsettings.Settings) (*bootsettings.Settings, error)

// read reads the files that options name.
func (o *setOptions) read(stdin io.Reader, changed func(flag string) bool) (change, error) {
	var steps []func(s *bootsettings.Settings) error
	step := func(f func(s *bootsettings.Settings) error) { steps = append(steps, f) }
	var whole *bootsettings.Settings
	if o.from != "" {
		data, err := readFrom(o.from, stdin)
		if err != nil {
			return nil, err
		}
		if whole, err = bootsettings.Parse(data); err != nil {
			return nil, &usageError{fmt.Errorf("--from %s: %w", o.from, err)}
		}
	}
	for _, name := range o.clear {
		switch name {
		case "ssh-key":
			step(func(s *bootsettings.Settings) error { s.SSHKeys = nil; return nil })
		case "file":
			step(func(s *bootsettings.Settings) error { s.Files = nil; return nil })
		case "env":
			step(func(s *bootsettings.Settings) error { s.Environment = nil; return nil })
		default:
			return nil, &usageError{fmt.Errorf("--clear %q: there are ssh-key, file and env", name)}
		}
	}
	for _, w := range []struct {
		flag, value string
		to          func(*bootsettings.Settings) *string
	}{
		{"hostname", o.hostname, func(s *bootsettings.Settings) *string { return &s.Hostname }},
		{"timezone", o.timezone, func(s *bootsettings.Settings) *string { return &s.Timezone }},
		{"locale", o.locale, func(s *bootsettings.Settings) *string { return &s.Locale }},
		{"cmdline", o.cmdline, func(s *bootsettings.Settings) *string { return &s.Cmdline }},
	} {
		if changed(w.flag) {
			step(func(s *bootsettings.Settings) error { *w.to(s) = w.value; return nil })
		}
	}
	if changed("keyboard") {
		step(func(s *bootsettings.Settings) error {
			if s.Keyboard = nil; o.keyboard != "" {
				layout, variant, _ := strings.Cut(o.keyboard, ":")
				s.Keyboard = &bootsettings.Keyboard{Layout: layout, Variant: variant}
			}
			return nil
		})
	}
	for _, f := range []func() ([]func(*bootsettings.Settings) error, error){o.readKeys, o.readFiles, o.readVariables} {
		more, err := f()
		if err != nil {
			return nil, err
		}
		steps = append(steps, more...)
	}
	scriptStep, err := o.readScript(changed)
	if err != nil {
		return nil, err
	}
	steps = append(steps, scriptStep...)
	if whole == nil && len(steps) == 0 {
		return nil, &usageError{errors.New("nothing to set: see imagetool settings set --help")}
	}
	return func(now *bootsettings.Settings) (*bootsettings.Settings, error) {
		if whole != nil {
			now = whole
		}
		s := bootsettings.Merge(now) // a copy
		for _, do := range steps {
			if err := do(s); err != nil {
				return nil, err
			}
		}
		if err := s.Check(); err != nil {
			return nil, &usageError{err}
		}
		return s, nil
	}, nil
}

func readFrom(name string, stdin io.Reader) ([]byte, error) {
	if name != "-" {
		return readLimited(name, bootsettings.MaxSize)
	}
	data, err := io.ReadAll(io.LimitReader(stdin, bootsettings.MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read the settings: %w", err)
	}
	return data, nil
}

// readLimited reads a file that an option names.
func readLimited(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, &usageError{err}
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, &usageError{err}
	}
	if int64(len(data)) > limit {
		return nil, &usageError{fmt.Errorf("%s has more than %d bytes, which is all that settings may have: put large files into the image", name, limit)}
	}
	return data, nil
}

func (o *setOptions) readKeys() (steps []func(*bootsettings.Settings) error, err error) {
	for _, k := range o.keys {
		user, file, ok := strings.Cut(k, "=")
		if !ok || user == "" {
			return nil, &usageError{fmt.Errorf("--ssh-key %q: want USER=FILE", k)}
		}
		data, err := readLimited(file, bootsettings.MaxSize)
		if err != nil {
			return nil, err
		}
		var keys []string
		for l := range strings.Lines(string(data)) {
			if l = strings.TrimSpace(l); l != "" && l[0] != '#' {
				keys = append(keys, l)
			}
		}
		if keys == nil || strings.Contains(string(data), "PRIVATE KEY") {
			return nil, &usageError{fmt.Errorf("--ssh-key: %s has no public keys", file)}
		}
		steps = append(steps, func(s *bootsettings.Settings) error {
			if s.SSHKeys == nil {
				s.SSHKeys = make(map[string][]string)
			}
			for _, key := range keys {
				if !slices.Contains(s.SSHKeys[user], key) {
					s.SSHKeys[user] = append(s.SSHKeys[user], key)
				}
			}
			return nil
		})
	}
	return steps, nil
}

func (o *setOptions) readFiles() (steps []func(*bootsettings.Settings) error, err error) {
	put := func(f bootsettings.File) {
		steps = append(steps, func(s *bootsettings.Settings) error {
			s.Files = slices.DeleteFunc(s.Files, func(have bootsettings.File) bool { return have.Path == f.Path })
			s.Files = append(s.Files, f)
			return nil
		})
	}
	for _, spec := range o.files {
		to, rest, ok := strings.Cut(spec, "=")
		if !ok {
			return nil, &usageError{fmt.Errorf("--file %q: want PATH=FILE", spec)}
		}
		words := strings.Split(rest, ",")
		f := bootsettings.File{Path: to}
		for _, w := range words[1:] {
			key, value, _ := strings.Cut(w, "=")
			switch key {
			case "mode":
				f.Mode = value
			case "owner":
				f.Owner = value
			case "group":
				f.Group = value
			case "append":
				f.Append = true
			case "expand":
				f.Expand = true
			default:
				return nil, &usageError{fmt.Errorf("--file %q: %q is none of mode=, owner=, group=, append, expand", spec, w)}
			}
		}
		data, err := readLimited(words[0], bootsettings.MaxSize)
		if err != nil {
			return nil, err
		}
		if utf8.Valid(data) && !slices.Contains(data, 0) {
			f.Text = string(data)
		} else {
			f.Base64 = base64.StdEncoding.EncodeToString(data)
		}
		put(f)
	}
	for _, p := range o.remove {
		put(bootsettings.File{Path: p, Remove: true})
	}
	return steps, nil
}

func (o *setOptions) readVariables() (steps []func(*bootsettings.Settings) error, err error) {
	for _, v := range o.env {
		name, value, ok := strings.Cut(v, "=")
		if !ok {
			return nil, &usageError{fmt.Errorf("--env %q: want NAME=VALUE", v)}
		}
		steps = append(steps, func(s *bootsettings.Settings) error {
			if s.Environment == nil {
				s.Environment = make(map[string]string)
			}
			s.Environment[name] = value
			return nil
		})
	}
	return steps, nil
}

func (o *setOptions) readScript(changed func(string) bool) (steps []func(*bootsettings.Settings) error, err error) {
	if changed("script") {
		var script *bootsettings.Script
		if o.script != "" {
			data, err := readLimited(o.script, bootsettings.MaxSize)
			if err != nil {
				return nil, err
			}
			script = &bootsettings.Script{Text: string(data)}
		}
		steps = append(steps, func(s *bootsettings.Settings) error {
			if script != nil && s.Script != nil { // the limits stay
				script = &bootsettings.Script{Text: script.Text, Timeout: s.Script.Timeout, OnFailure: s.Script.OnFailure}
			}
			s.Script = script
			return nil
		})
	}
	if changed("script-timeout") || changed("script-failure") {
		steps = append(steps, func(s *bootsettings.Settings) error {
			if s.Script == nil {
				return &usageError{errors.New("there is no script: name one with --script")}
			}
			script := *s.Script
			if changed("script-timeout") {
				script.Timeout = o.timeout
			}
			if changed("script-failure") {
				script.OnFailure = o.onFailure
			}
			s.Script = &script
			return nil
		})
	}
	return steps, nil
}
