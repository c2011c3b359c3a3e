package main

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/bootmedia"
	"github.com/inetboot/inetboot/server/lan/dhcp"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/lan/nbd"
	"github.com/inetboot/inetboot/server/store"
)

// lanUser is who a server with services of the LAN runs as if it was started
// by root and nobody says.
const lanUser = "inetboot"

// lanOptions are the options of the classic LAN.
type lanOptions struct {
	iface    string
	user     string
	database string
	clients  string
	unknown  string
	dhcp     dhcpOptions
	dns      dnsOptions
	roots    rootOptions
	logs     logsOptions
	boot     bootOptions
}

// shared are the options that go with all commands.
func (o *lanOptions) shared(cmd *cobra.Command) {
	p := cmd.PersistentFlags()
	p.StringVar(&o.database, "database", "", "database of clients and leases: a file of SQLite, or a URL postgres://… (default DATA/server.db)")
	p.StringVar(&o.clients, "clients", "", "file with the clients' settings (default DATA/clients.conf)")
}

func (o *lanOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.iface, "lan", "", "interface of a LAN to serve machines on that boot by PXE or UEFI HTTP; without it there are no services but HTTP")
	f.StringVar(&o.user, "user", "", "user to run as after the start, if started by root (default with --lan "+lanUser+", else root stays)")
	f.StringVar(&o.unknown, "unknown", string(clients.BootUnknown), "machines that are not known: yes (they boot like others), setup (they are shown what sets them up, and can be announced), no (no answer)")
	o.dhcp.flags(cmd)
	o.dns.flags(cmd)
	o.roots.flags(cmd)
	o.logs.flags(cmd)
	o.boot.flags(cmd)
}

// lanParts is what services of the LAN are made of.
type lanParts struct {
	iface  *lan.Interface
	data   string     // data folder
	store  *store.Dir // published images
	http   net.Addr   // where HTTP listens
	scheme string     // of HTTP: http or https

	settingsKey ed25519.PublicKey // with which machines verify their settings; nil: they ask for none

	db      *database.DB
	clients *clients.Clients
	images  *images.Library  // see library
	leases  *dhcp.Leases     // see openLeases
	media   *bootmedia.Files // nil: there are none
	kept    []nbd.Kept       // clients of an earlier server
	log     *slog.Logger
}

// url returns the base URL of this server for machines of the LAN.
func (p *lanParts) url() string {
	port := "80"
	host := p.iface.IPv4.Addr().String()
	if ap, err := netip.ParseAddrPort(p.http.String()); err == nil {
		port = strconv.Itoa(int(ap.Port()))
		if !ap.Addr().IsUnspecified() {
			host = ap.Addr().Unmap().String()
		}
	}
	return p.scheme + "://" + net.JoinHostPort(host, port)
}

// newService makes a service of the LAN, or returns nil if the options say
// that it is off.
type newService func(ctx context.Context, o *options, p *lanParts) (lan.Service, error)

// lanServices are all services that there are, in the order in which they open.
func lanServices() []newService {
	return []newService{newDHCP, newDNS, newNFS, newNBD, newLogs, newTFTP}
}

// lanSet is the services of the LAN, open, and what they stand on.
type lanSet struct {
	*lan.Set
	db      *database.DB
	clients *clients.Clients
	images  *images.Library
	media   *bootmedia.Files // nil: there are none
	log     *slog.Logger
}

// openLAN opens the services of the LAN: none without --lan.
func openLAN(ctx context.Context, o *options, p lanParts) (set *lanSet, err error) {
	set = &lanSet{log: p.log}
	defer func() {
		if err != nil {
			err = errors.Join(err, set.Close())
		}
	}()
	if o.lan.iface == "" {
		set.Set, err = lan.Open(ctx, p.log)
		return set, errors.Join(err, p.closeKept())
	}
	policy, err := clients.ParsePolicy(o.lan.unknown)
	if err != nil {
		return set, fmt.Errorf("--unknown: %w", err)
	}
	if p.iface, err = lan.FindInterface(o.lan.iface); err != nil {
		return set, err
	}
	if set.db, err = database.Open(ctx, databaseDSN(o, p.data)); err != nil {
		return set, err
	}
	p.db = set.db
	set.clients, err = clients.Open(ctx, clients.Options{DB: set.db, File: clientsFile(o, p.data), Unknown: policy, Log: p.log})
	if err != nil {
		return set, err
	}
	p.clients = set.clients
	set.media, err = openMedia(o, &p)
	set.images = p.images
	if err != nil {
		return set, err
	}
	p.media = set.media
	var list []lan.Service
	for _, f := range lanServices() {
		s, err := f(ctx, o, &p)
		set.images = p.images
		if err != nil {
			return set, err
		}
		if s != nil {
			list = append(list, s)
		}
	}
	set.Set, err = lan.Open(ctx, p.log, list...)
	return set, err
}

// Run serves until ctx ends.
func (s *lanSet) Run(ctx context.Context) {
	var wg sync.WaitGroup
	if s.clients != nil {
		wg.Go(func() { s.clients.Run(ctx) })
	}
	s.Set.Run(ctx)
	wg.Wait()
}

// Close closes services and database.
func (s *lanSet) Close() error {
	var errs []error
	if s.Set != nil {
		errs = append(errs, s.Set.Close())
	}
	if s.images != nil {
		errs = append(errs, s.images.Close())
	}
	if s.media != nil {
		errs = append(errs, s.media.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// dropPrivileges changes to the user of --user, with what the services need.
func dropPrivileges(o *options, data string, keep []lan.Capability, log *slog.Logger) error {
	name := o.lan.user
	if name == "" && o.lan.iface != "" {
		name = lanUser
	}
	if name == "" {
		return nil
	}
	var u *lan.User
	if os.Geteuid() == 0 {
		var err error
		if u, err = lan.FindUser(name); err != nil {
			return err
		}
		if err := lan.Own(data, u); err != nil {
			return err
		}
	}
	if err := lan.Drop(u, keep); err != nil {
		return err
	}
	if err := reachable(data, clientsFile(o, data)); err != nil {
		return err
	}
	log.Info("privileges given up", "user", os.Geteuid(), "capabilities kept", len(keep))
	return nil
}

// reachable checks that the user who the server runs as from now on can get at
// the data, which folders above it may prevent, and read the clients' settings.
func reachable(data, settings string) error {
	who := fmt.Sprintf("user %d, who the server runs as,", os.Geteuid())
	if _, err := os.Stat(data); err != nil {
		return fmt.Errorf("%s cannot get to the data folder: %w: let others pass through the folders above it (chmod o+x), or name another one with --data", who, err)
	}
	f, err := os.Open(settings)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there are none
	}
	if err != nil {
		return fmt.Errorf("%s cannot read the clients' settings: %w: let others read the file and pass through the folders above it, or move it into the data folder", who, err)
	}
	return f.Close()
}

func databaseDSN(o *options, data string) string {
	return cmp.Or(o.lan.database, filepath.Join(data, "server.db"))
}

func clientsFile(o *options, data string) string {
	return cmp.Or(o.lan.clients, filepath.Join(data, "clients.conf"))
}
