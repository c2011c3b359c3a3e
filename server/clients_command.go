package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
)

// clientsCommand is "server clients". Its parts work beside a running server,
// which reads changes within seconds.
type clientsCommand struct {
	o      *options
	in     io.Reader
	out    io.Writer
	json   bool
	format string
}

func newClientsCommand(o *options, stdin io.Reader, stdout io.Writer) *cobra.Command {
	c := &clientsCommand{o: o, in: stdin, out: stdout}
	cmd := &cobra.Command{
		Use:   "clients",
		Short: "Show and change what is known of the machines of a LAN",
		Long: `Show and change what is known of the machines of a LAN.

A client is called by its MAC address, UUID or host name, or by a pattern of them. A type (hardware),
group or service is called "type NAME" and so on, and "default" and "unknown" are for all machines and
for those that are not known. Changes go to the database; the file clients.conf is for your editor.`,
		Example: `  server clients list
  server clients add 52:54:00:12:34:56 name=pc1 address=192.168.1.51
  server clients set "group room-12" timezone=Europe/Vienna argument="quiet splash"
  server clients promote --all`,
	}
	cmd.PersistentFlags().BoolVar(&c.json, "json", false, "print JSON")
	cmd.AddCommand(
		c.command("list", "List the clients that are known, and those that were only seen", cobra.NoArgs, `  server clients list
  server clients list --json | jq -r '.[] | select(.known | not) | .mac'`, c.list),
		c.command("show CLIENT", "Show what holds for a machine, and where each setting is from", cobra.MinimumNArgs(1), `  server clients show 52:54:00:12:34:56
  server clients show pc1 --json`, c.show),
		c.command("add CLIENT [SETTING=VALUE…]", "Make a client, type, group or service known", cobra.MinimumNArgs(1), `  server clients add 52:54:00:12:34:56 name=pc1 group=room-12
  server clients add "52:54:00:*" boot=nfs
  server clients add "type thin-1" module.e1000e=InterruptThrottleRate=0`, c.add),
		c.command("set CLIENT SETTING=VALUE…", "Change settings; SETTING= takes one away", cobra.MinimumNArgs(2), `  server clients set pc1 argument="nomodeset" argument="quiet"
  server clients set default timezone=Europe/Vienna
  server clients set pc1 argument=`, c.set),
		c.promoteCommand(),
		c.command("remove CLIENT", "Forget a client, type, group or service", cobra.MinimumNArgs(1), `  server clients remove 52:54:00:12:34:56`, c.remove),
		c.importCommand(), c.exportCommand(),
		c.command("check [FILE]", "Check a file of settings, with the database", cobra.MaximumNArgs(1), `  server clients check
  server clients check new-clients.conf`, c.check),
	)
	return cmd
}

func (c *clientsCommand) command(use, short string, args cobra.PositionalArgs, example string, run func(context.Context, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, Example: example, RunE: func(cmd *cobra.Command, a []string) error { return run(cmd.Context(), a) }}
}

// open opens the database and reads the file.
func (c *clientsCommand) open(ctx context.Context) (known *clients.Clients, db *database.DB, err error) {
	data, err := dataFolder(c.o)
	if err != nil {
		return nil, nil, err
	}
	dsn := databaseDSN(c.o, data)
	if !strings.Contains(dsn, "://") {
		if _, err := os.Stat(filepath.Dir(dsn)); errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("%w: start the server once, or name its data folder with --data", err)
		}
	}
	if db, err = database.Open(ctx, dsn); err != nil {
		return nil, nil, err
	}
	if err := c.own(data, dsn); err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	known, err = clients.Open(ctx, clients.Options{DB: db, File: clientsFile(c.o, data)})
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return known, db, nil
}

// own gives files that root makes beside those of a server that runs as another
// user to that user.
func (c *clientsCommand) own(data, dsn string) error {
	if os.Geteuid() != 0 || strings.Contains(dsn, "://") {
		return nil
	}
	uid, gid, err := owner(data)
	if err != nil || uid == 0 {
		return err
	}
	files, err := filepath.Glob(dsn + "*")
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := os.Lchown(f, uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("give the database to the server's user: %w", err)
		}
	}
	return nil
}

// with runs f with what is known.
func (c *clientsCommand) with(ctx context.Context, f func(*clients.Clients, *database.DB) error) (err error) {
	known, db, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return f(known, db)
}

// row is a machine in a list.
type row struct {
	Client   string          `json:"client"`
	MAC      string          `json:"mac,omitempty"`
	Known    bool            `json:"known"`
	From     string          `json:"from,omitempty"` // where its section is
	Record   *clients.Record `json:"seen,omitempty"`
	settings clients.Settings
}

func (c *clientsCommand) list(ctx context.Context, _ []string) error {
	return c.with(ctx, func(known *clients.Clients, db *database.DB) error {
		seen, err := clients.Seen(ctx, db)
		if err != nil {
			return err
		}
		rows := listRows(known.Book(), seen)
		if c.json {
			return c.printJSON(rows)
		}
		w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "CLIENT\tNAME\tADDRESS\tTYPE\tGROUPS\tSERVICES\tBOOT\tLAST SEEN")
		for _, r := range rows {
			s, addr, last := r.settings, "", "never"
			if s.Address.IsValid() {
				addr = s.Address.String()
			}
			if r.Record != nil {
				last = r.Record.Last.Local().Format(time.DateTime)
				if addr == "" {
					addr = r.Record.Address
				}
			}
			name := s.Name
			if !r.Known {
				name = strings.TrimSpace("(not known) " + r.Record.Host + " " + r.Record.What)
				if r.Record.Wanted != "" {
					name += ", wants to be " + r.Record.Wanted
				}
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Client, name, addr, s.Type, strings.Join(s.Groups, ","), strings.Join(s.Services, ","), s.Boot, last)
		}
		return w.Flush()
	})
}

// listRows returns the sections of clients, and the machines that were seen
// and have none.
func listRows(book *clients.Book, seen []clients.Record) []row {
	byName := make(map[string]*clients.Record)
	for i := range seen {
		for _, n := range []string{seen[i].Host, seen[i].UUID, seen[i].MAC} {
			if n != "" && byName[n] == nil {
				byName[n] = &seen[i]
			}
		}
	}
	rows := []row{}
	at := make(map[string]int)
	file, stored := book.Sections()
	for _, s := range slices.Concat(file, stored) {
		if s.Kind != clients.Client {
			continue
		}
		if i, ok := at[s.Name]; ok {
			rows[i].From += ", " + s.File
			continue
		}
		r := row{Client: s.Name, Known: true, From: s.File, Record: byName[s.Name]}
		r.settings = book.Lookup(identity(s.Name))
		if r.Record != nil {
			r.MAC = r.Record.MAC
		} else if mac, ok := clients.ParseMAC(s.Name); ok {
			r.MAC = mac
		}
		at[s.Name] = len(rows)
		rows = append(rows, r)
	}
	for i := range seen {
		r := &seen[i]
		s := book.Lookup(clients.Identity{MAC: r.MAC, UUID: r.UUID, Host: r.Host})
		if _, listed := at[r.MAC]; listed || (s.Known && (has(at, r.UUID) || has(at, r.Host))) {
			continue
		}
		from := ""
		if s.Known {
			from = "pattern"
		}
		rows = append(rows, row{Client: r.MAC, MAC: r.MAC, Known: s.Known, From: from, Record: r, settings: s})
	}
	return rows
}

func has(m map[string]int, k string) bool { _, ok := m[k]; return ok }

// identity is what the name of a client says of it.
func identity(name string) clients.Identity {
	switch _, mac := clients.ParseMAC(name); {
	case mac:
		return clients.Identity{MAC: name}
	case clients.IsUUID(name):
		return clients.Identity{UUID: name}
	}
	return clients.Identity{Host: name}
}

func (c *clientsCommand) show(ctx context.Context, args []string) error {
	name, err := clients.ClientName(strings.Join(args, " "))
	if err != nil {
		return err
	}
	return c.with(ctx, func(known *clients.Clients, db *database.DB) error {
		id := identity(name)
		seen, err := clients.Seen(ctx, db)
		if err != nil {
			return err
		}
		for _, r := range seen { // what else is known of the machine
			if name == r.MAC || name == r.UUID || name == strings.ToLower(r.Host) {
				id = clients.Identity{MAC: r.MAC, UUID: r.UUID, Host: r.Host}
				break
			}
		}
		s, err := known.Lookup(ctx, id)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(s)
		}
		fmt.Fprintf(c.out, "%s is %s\n", name, map[bool]string{true: "known", false: "not known"}[s.Known])
		w := tabwriter.NewWriter(c.out, 0, 8, 2, ' ', 0)
		for _, l := range showLines(&s) {
			fmt.Fprintf(w, "%s\t%s\t%s\n", l[0], l[1], s.Origins[l[0]])
		}
		return w.Flush()
	})
}

func showLines(s *clients.Settings) [][2]string {
	var out [][2]string
	add := func(k, v string) {
		if v != "" {
			out = append(out, [2]string{k, v})
		}
	}
	add("name", s.Name)
	if s.Address.IsValid() {
		add("address", s.Address.String())
	}
	add("type", s.Type)
	add("group", strings.Join(s.Groups, ", "))
	add("service", strings.Join(s.Services, ", "))
	add("boot", string(s.Boot))
	add("file", s.File)
	add("image", s.Image)
	add("entry", s.Entry)
	add("argument", strings.Join(s.Arguments, " "))
	for _, m := range []struct {
		key    string
		values map[string]string
	}{{"module.", s.Modules}, {"env.", s.Environment}} {
		for _, k := range slices.Sorted(maps.Keys(m.values)) {
			add(m.key+k, m.values[k])
		}
	}
	add("hostname", s.Hostname)
	add("timezone", s.Timezone)
	add("locale", s.Locale)
	add("keyboard", s.Keyboard)
	switch {
	case s.Swap == clients.DefaultSwap:
		add("swap", "yes")
	case s.Swap > 0:
		add("swap", fmt.Sprint(s.Swap))
	}
	return out
}

// split takes the settings off the arguments; what comes before them is the
// section's name.
func split(args []string) (kind clients.Kind, name string, settings []clients.Value, err error) {
	n := slices.IndexFunc(args, func(a string) bool { return strings.Contains(a, "=") })
	if n < 0 {
		n = len(args)
	}
	if kind, name, err = clients.ParseHeader(strings.Join(args[:n], " ")); err != nil {
		return "", "", nil, err
	}
	for _, a := range args[n:] {
		k, v, ok := strings.Cut(a, "=")
		if !ok {
			return "", "", nil, fmt.Errorf("%q: want SETTING=VALUE", a)
		}
		settings = append(settings, clients.Value{Key: strings.TrimSpace(k), Text: strings.TrimSpace(v)})
	}
	return kind, name, settings, nil
}

func find(list []clients.Section, kind clients.Kind, name string) *clients.Section {
	for i := range list {
		if list[i].Kind == kind && list[i].Name == name {
			return &list[i]
		}
	}
	return nil
}

func (c *clientsCommand) add(ctx context.Context, args []string) error {
	kind, name, settings, err := split(args)
	if err != nil {
		return err
	}
	return c.with(ctx, func(known *clients.Clients, db *database.DB) error {
		file, stored := known.Book().Sections()
		s := clients.Section{Kind: kind, Name: name, Values: settings}
		for _, list := range [][]clients.Section{file, stored} {
			if have := find(list, kind, name); have != nil {
				return fmt.Errorf("%s is in %s already: change it with server clients set, or in the file", have.Header(), have.File)
			}
		}
		return clients.Put(ctx, db, file, s)
	})
}

func (c *clientsCommand) set(ctx context.Context, args []string) error {
	kind, name, settings, err := split(args)
	if err != nil {
		return err
	}
	return c.with(ctx, func(known *clients.Clients, db *database.DB) error {
		file, stored := known.Book().Sections()
		s := clients.Section{Kind: kind, Name: name}
		if kind == clients.Client && find(file, kind, name) == nil && find(stored, kind, name) == nil {
			return fmt.Errorf("%s is not known: server clients add %s", name, name)
		}
		if have := find(stored, kind, name); have != nil {
			s.Values = have.Values
		}
		byKey := make(map[string][]string)
		var order []string
		for _, v := range settings {
			if _, ok := byKey[v.Key]; !ok {
				order = append(order, v.Key)
				byKey[v.Key] = nil
			}
			if v.Text != "" {
				byKey[v.Key] = append(byKey[v.Key], v.Text)
			}
		}
		for _, k := range order {
			s.Set(k, byKey[k]...)
		}
		return clients.Put(ctx, db, file, s)
	})
}

func (c *clientsCommand) remove(ctx context.Context, args []string) error {
	kind, name, settings, err := split(args)
	if err != nil {
		return err
	}
	if len(settings) > 0 {
		return errors.New("remove takes no settings: server clients set CLIENT SETTING= takes one away")
	}
	return c.with(ctx, func(known *clients.Clients, db *database.DB) error {
		file, _ := known.Book().Sections()
		err := clients.Remove(ctx, db, file, kind, name)
		if have := find(file, kind, name); errors.Is(err, clients.ErrNotStored) && have != nil {
			return fmt.Errorf("%w: it is in line %d of %s, take it out there", err, have.Line, have.File)
		}
		return err
	})
}

func (c *clientsCommand) promoteCommand() *cobra.Command {
	var all bool
	cmd := c.command("promote CLIENT [SETTING=VALUE…]", "Make a machine known that has been seen", cobra.ArbitraryArgs, `  server clients promote 52:54:00:12:34:56
  server clients promote 52:54:00:12:34:56 name=pc7 group=room-12
  server clients promote --all`, nil)
	cmd.Flags().BoolVar(&all, "all", false, "all machines that have been seen")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 0) {
			return errors.New("name one machine that server clients list shows, or --all")
		}
		return c.promote(cmd.Context(), all, args)
	}
	return cmd
}

func (c *clientsCommand) promote(ctx context.Context, all bool, args []string) error {
	return c.with(ctx, func(known *clients.Clients, db *database.DB) error {
		seen, err := clients.Seen(ctx, db)
		if err != nil {
			return err
		}
		want := ""
		var settings []clients.Value
		if !all {
			if _, want, settings, err = split(args); err != nil {
				return err
			}
		}
		file, _ := known.Book().Sections()
		var sections []clients.Section
		for _, r := range seen {
			if !all && want != r.MAC && want != r.UUID && want != strings.ToLower(r.Host) {
				continue
			}
			if known.Book().Lookup(clients.Identity{MAC: r.MAC, UUID: r.UUID, Host: r.Host}).Known {
				if all {
					continue
				}
				return fmt.Errorf("%s is known already", want)
			}
			s := clients.Section{Kind: clients.Client, Name: r.MAC, Values: settings}
			if _, named := s.Get("name"); !named && !all && r.Wanted != "" {
				s.Set("name", r.Wanted) // as somebody at the machine has typed
			}
			sections = append(sections, s)
		}
		if len(sections) == 0 && !all {
			return fmt.Errorf("%s has not been seen: server clients add makes it known before it comes", want)
		}
		if err := clients.Put(ctx, db, file, sections...); err != nil {
			return err
		}
		for _, s := range sections {
			fmt.Fprintln(c.out, s.Name)
		}
		return nil
	})
}

const formats = "conf, csv, json or isc"

func (c *clientsCommand) importCommand() *cobra.Command {
	cmd := c.command("import FILE", "Take clients from a file: "+formats, cobra.ExactArgs(1), `  server clients import /etc/dhcp/dhcpd.conf --format isc
  server clients import machines.csv
  server clients import - --format json <clients.json`, c.imp)
	cmd.Flags().StringVar(&c.format, "format", "", formats+" (default from the file's name; .conf is conf)")
	return cmd
}

func (c *clientsCommand) imp(ctx context.Context, args []string) error {
	in := c.in
	if args[0] != "-" {
		f, err := os.Open(args[0])
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, clients.MaxFile+1))
	if err != nil {
		return fmt.Errorf("import %s: %w", args[0], err)
	}
	format := c.format
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(args[0]), ".")
	}
	var list []clients.Section
	switch format {
	case "conf":
		list, err = clients.Parse(args[0], data)
	case "csv":
		list, err = clients.ParseCSV(args[0], data)
	case "json":
		list, err = clients.ParseJSON(args[0], data)
	case "isc":
		list, err = clients.ParseISC(args[0], data)
	default:
		err = fmt.Errorf("--format %q: want %s", format, formats)
	}
	if err != nil {
		return err
	}
	// Duplicates are named by their lines here, before the database has them.
	if err := clients.Duplicates(list); err != nil {
		return err
	}
	return c.with(ctx, func(known *clients.Clients, db *database.DB) error {
		file, _ := known.Book().Sections()
		if err := clients.Put(ctx, db, file, list...); err != nil {
			return err
		}
		fmt.Fprintf(c.out, "%d taken\n", len(list))
		return nil
	})
}

func (c *clientsCommand) exportCommand() *cobra.Command {
	cmd := c.command("export", "Print what is known of clients, of file and database: "+formats, cobra.NoArgs, `  server clients export >clients.conf
  server clients export --format csv >machines.csv
  server clients export --format isc >/etc/dhcp/hosts.conf`, c.export)
	cmd.Flags().StringVar(&c.format, "format", "", formats+" (default conf)")
	return cmd
}

func (c *clientsCommand) export(ctx context.Context, _ []string) error {
	return c.with(ctx, func(known *clients.Clients, _ *database.DB) error {
		list := known.Book().Merged()
		var data []byte
		var err error
		format := c.format
		if c.json {
			format = "json"
		}
		switch format {
		case "", "conf":
			data = clients.Format(list)
		case "csv":
			data, err = clients.FormatCSV(list)
		case "json":
			data, err = clients.FormatJSON(list)
		case "isc":
			data = clients.FormatISC(list)
		default:
			err = fmt.Errorf("--format %q: want %s", format, formats)
		}
		if err != nil {
			return err
		}
		_, err = c.out.Write(data)
		return err
	})
}

func (c *clientsCommand) check(ctx context.Context, args []string) error {
	if len(args) == 1 {
		if _, err := os.Stat(args[0]); err != nil {
			return fmt.Errorf("check: %w", err)
		}
		c.o.lan.clients = args[0]
	}
	return c.with(ctx, func(known *clients.Clients, _ *database.DB) error {
		file, stored := known.Book().Sections()
		_, err := fmt.Fprintf(c.out, "%d sections in the file and %d in the database are in order\n", len(file), len(stored))
		return err
	})
}

func (c *clientsCommand) printJSON(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", " ")
	return e.Encode(v)
}
