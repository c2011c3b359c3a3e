package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/bootfile"
	"github.com/inetboot/inetboot/server/lan/dhcp"
	"github.com/inetboot/inetboot/server/lan/dns"
)

// bootFolder is where boot files lie below the server's URL.
const bootFolder = "/boot/"

// dhcpOptions are the options of DHCP.
type dhcpOptions struct {
	mode    string
	ranges  []string
	options []string
	port    int
	pxePort int
	probe   time.Duration
	part    string
}

func (o *dhcpOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.mode, "dhcp", "proxy", "with --lan: proxy (tells machines what to boot, beside the DHCP server that is there), full (gives addresses, too), off")
	f.StringArrayVar(&o.ranges, "dhcp-range", nil, "addresses for --dhcp full, FIRST-LAST[/BITS][,KEY=VALUE…]; may be repeated")
	f.StringArrayVar(&o.options, "dhcp-option", nil, "what machines are told with --dhcp full, KEY=VALUE: router, dns, ntp, domain, search, mtu, route, lease; may be repeated")
	f.IntVar(&o.port, "dhcp-port", dhcp.ServerPort, "port of DHCP; clients have the next one")
	f.IntVar(&o.pxePort, "dhcp-pxe-port", dhcp.PXEPort, "port of PXE boot servers, for --dhcp proxy")
	f.DurationVar(&o.probe, "dhcp-probe", dhcp.DefaultProbe, "how long to listen whether an address is in use before it is offered; 0: not at all")
	f.StringVar(&o.part, "dhcp-part", "1/1", "which part of the addresses is this server's, as 1/2 and 2/2 where two servers share no database")
}

// newDHCP makes the DHCP service.
func newDHCP(ctx context.Context, o *options, p *lanParts) (lan.Service, error) {
	d := &o.lan.dhcp
	c := dhcp.Config{
		Server: p.iface.IPv4.Addr(), Subnet: p.iface.IPv4, Log: p.log,
		// HTTPS needs the server's certificate in the firmware, which PXE does not: the
		// administrator who has set both up gives the URL as the client's boot file.
		Directory: &directory{clients: p.clients, log: p.log},
	}
	if p.media != nil {
		c.Files = bootfile.Files{Base: p.url() + bootFolder, BIOS: p.media.HasBIOS(), UEFI: true, ARM64: o.lan.boot.arm64Name(p.media.HasARM64()), IPXE: p.media.HasIPXE()}
	}
	switch d.mode {
	case "off":
		return nil, nil
	case "proxy":
		if len(d.ranges)+len(d.options) > 0 {
			return nil, fmt.Errorf("--dhcp-range and --dhcp-option need --dhcp full: a proxy gives no addresses")
		}
	case "full":
		c.Mode = dhcp.Full
	default:
		return nil, fmt.Errorf("--dhcp %q: want proxy, full or off", d.mode)
	}
	var err error
	if c.Ranges, c.Options, err = d.parse(); err != nil {
		return nil, err
	}
	if dn := &o.lan.dns; dn.on && c.Mode == dhcp.Full {
		if c.Options.DNS == nil && dn.port == dns.Port { // DHCP has no word for another port
			c.Options.DNS = []netip.Addr{c.Server}
		}
		c.Options.Domain = cmp.Or(c.Options.Domain, dn.domainOf(""))
	}
	if c.Part, c.Parts, err = parsePart(d.part); err != nil {
		return nil, err
	}
	if c.Mode == dhcp.Full {
		if c.Store, err = p.openLeases(ctx, o); err != nil {
			return nil, err
		}
	}
	return dhcp.NewService(dhcp.ServiceOptions{Config: c, Interface: p.iface.Name, Port: d.port, PXEPort: d.pxePort, Wait: d.probe})
}

// parse reads ranges, and what goes for all of them.
func (o *dhcpOptions) parse() (ranges []dhcp.Range, all dhcp.Options, err error) {
	for _, s := range o.ranges {
		r, err := dhcp.ParseRange(s)
		if err != nil {
			return nil, all, fmt.Errorf("--dhcp-range: %w", err)
		}
		ranges = append(ranges, r)
	}
	for _, s := range o.options {
		key, value, _ := strings.Cut(s, "=")
		if err := all.Set(key, value); err != nil {
			return nil, all, fmt.Errorf("--dhcp-option: %w", err)
		}
	}
	return ranges, all, nil
}

// openLeases opens the leases of full DHCP, which DNS reads, too.
func (p *lanParts) openLeases(ctx context.Context, o *options) (_ *dhcp.Leases, err error) {
	if p.leases == nil {
		dsn := databaseDSN(o, p.data)
		p.leases, err = dhcp.OpenLeases(ctx, p.db, strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://"))
	}
	return p.leases, err
}

// parsePart reads N/M, N from 1 to M.
func parsePart(s string) (part, parts int, err error) {
	n, m, ok := strings.Cut(s, "/")
	part, err1 := strconv.Atoi(n)
	parts, err2 := strconv.Atoi(m)
	if !ok || err1 != nil || err2 != nil || parts < 1 || parts > 16 || part < 1 || part > parts {
		return 0, 0, fmt.Errorf("--dhcp-part %q: want N/M, with N from 1 to M, and M at most 16", s)
	}
	return part - 1, parts, nil
}

// directory shows DHCP what is known of the machines.
type directory struct {
	clients *clients.Clients
	log     *slog.Logger

	mu     sync.Mutex
	book   *clients.Book // that owners was made from
	owners map[netip.Addr]string
}

var _ dhcp.Directory = (*directory)(nil)

// Lookup implements dhcp.Directory.
func (d *directory) Lookup(ctx context.Context, mac, uuid, name string) (dhcp.Host, error) {
	id := clients.Identity{MAC: mac, UUID: uuid, Host: name}
	d.clients.Met(id)
	s, err := d.clients.Lookup(ctx, id)
	if err != nil {
		return dhcp.Host{}, err
	}
	return dhcp.Host{
		Known: s.Known, Denied: s.Boot == clients.Refuse, Address: s.Address, Name: s.Name,
		Boot: bootfile.Settings{File: s.File, Local: s.Boot == clients.Local, Root: s.Boot == clients.NFS || s.Boot == clients.NBD},
	}, nil
}

// Owner implements dhcp.Directory. Addresses of machines whose sections are by
// UUID or name are known by these, so nobody else gets them either.
func (d *directory) Owner(a netip.Addr) string {
	book := d.clients.Book()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.book != book {
		d.book, d.owners = book, map[netip.Addr]string{}
		file, stored := book.Sections()
		for _, list := range [][]clients.Section{stored, file} {
			for _, s := range list {
				if s.Kind != clients.Client {
					continue
				}
				if text, ok := s.Get("address"); ok {
					if addr, err := netip.ParseAddr(text); err == nil {
						d.owners[addr] = s.Name
					}
				}
			}
		}
	}
	return d.owners[a]
}

// Seen implements dhcp.Directory.
func (d *directory) Seen(mac, uuid string, kind bootfile.Kind) {
	d.clients.Seen(clients.Sighting{Identity: clients.Identity{MAC: mac, UUID: uuid}, What: kind.String()})
}
