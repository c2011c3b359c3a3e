package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
)

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
