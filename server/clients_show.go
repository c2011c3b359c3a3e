package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
)

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
	if s.Timeout != nil {
		add("timeout", fmt.Sprint(*s.Timeout))
	}
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
