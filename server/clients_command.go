package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

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
