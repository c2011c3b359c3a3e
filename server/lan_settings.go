package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/keyfile"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/server/api"
	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/setup"
)

// machines shows the settings of machines to the HTTP interface.
type machines struct {
	clients *clients.Clients
	log     *slog.Logger
}

var _ api.Machines = (*machines)(nil)

// machines returns what HTTP asks; nil without services of the LAN.
func (s *lanSet) machines() api.Machines {
	if s.clients == nil {
		return nil
	}
	return &machines{s.clients, s.log}
}

// Settings implements api.Machines.
func (m *machines) Settings(ctx context.Context, from netip.Addr, r clientsettings.Request) (*clientsettings.Answer, error) {
	s, err := m.clients.Lookup(ctx, clients.Identity{MAC: r.MAC, UUID: r.UUID, Host: r.Host})
	if err != nil {
		return nil, err
	}
	m.clients.Seen(clients.Sighting{Identity: clients.Identity{MAC: r.MAC, UUID: r.UUID, Host: r.Host}, Address: from})
	m.log.Info("settings asked for", "client", r.MAC, "known", s.Known, "from", from)
	return s.Answer(r, time.Now())
}

// Variables implements api.Machines.
func (m *machines) Variables(ctx context.Context, mac string) (map[string]string, bool) {
	mac, ok := clients.ParseMAC(mac)
	if !ok {
		return nil, false
	}
	s, err := m.clients.Lookup(ctx, clients.Identity{MAC: mac})
	if err != nil {
		return nil, false
	}
	return s.Variables(mac), true
}

// Announce implements api.Machines.
func (m *machines) Announce(ctx context.Context, from netip.Addr, a *clientsettings.Announcement) error {
	id := clients.Identity{MAC: a.MAC, UUID: a.UUID}
	s, err := m.clients.Lookup(ctx, id)
	if err != nil {
		return err
	}
	if s.Known {
		return api.ErrKnown
	}
	m.clients.Seen(clients.Sighting{Identity: id, Address: from, Wanted: a.Name})
	m.log.Info("a machine wants to be known: server clients promote "+a.MAC, "client", a.MAC, "name", a.Name, "from", from)
	return nil
}

// newSettingsKeyCommand prints what a medium has to know of this server.
func newSettingsKeyCommand(o *options, out io.Writer) *cobra.Command {
	var url string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "settings-key",
		Short: "Print the two options by which a medium takes settings of machines from this server",
		Long: `Settings-key prints what a boot medium's command line, or imagetool media, needs
so that machines ask this server what holds for each of them, and take no
answer that it has not signed. The files that --lan serves have it.`,
		Example: `  server settings-key --url http://boot.example.org:8080
  imagetool media --iso inetboot.iso --url http://boot:8080 --settings http://boot:8080 --settings-key $(server settings-key --json | jq -r .key) -o my.iso`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			data, err := dataFolder(o)
			if err != nil {
				return err
			}
			if err := site.CheckURL(url); err != nil {
				return fmt.Errorf("--url: %w", err)
			}
			f, err := keyfile.Read(setup.SettingsKeyIn(data))
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: the server makes it at its first start", err)
			}
			if err != nil {
				return err
			}
			key := hex.EncodeToString(f.Public)
			if asJSON {
				return json.NewEncoder(out).Encode(map[string]string{"url": url, "key": key})
			}
			_, err = fmt.Fprintf(out, "inetboot.settings=%s\ninetboot.settings-key=%s\n", url, key)
			return err
		},
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	cmd.Flags().StringVar(&url, "url", "http://"+host+":8080", "base URL of this server, as machines reach it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
