package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
)

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
