package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/bootfile"
	"github.com/inetboot/inetboot/server/lan/bootmedia"
	"github.com/inetboot/inetboot/server/lan/configure"
	"github.com/inetboot/inetboot/server/lan/dhcp"
)

// site makes what another DHCP server has to know out of the server's options
// and the clients.
func (c *configureCommand) site(ctx context.Context, server string) (*configure.Site, []string, error) {
	o := c.o
	if o.lan.iface == "" && server == "" {
		return nil, nil, errors.New("which LAN? name its interface with --lan, or this server's address with --server")
	}
	s := &configure.Site{Lease: dhcp.DefaultLease}
	var own netip.Prefix
	if o.lan.iface != "" {
		i, err := lan.FindInterface(o.lan.iface)
		if err != nil {
			return nil, nil, err
		}
		own, s.Interface = i.IPv4, i.Name
	}
	var err error
	if s.Server, err = serverAddress(server, own); err != nil {
		return nil, nil, err
	}
	policy, err := clients.ParsePolicy(o.lan.unknown)
	if err != nil {
		return nil, nil, fmt.Errorf("--unknown: %w", err)
	}
	s.Unknown = policy == clients.BootUnknown
	url, err := httpURL(o, s.Server)
	if err != nil {
		return nil, nil, err
	}
	s.Files = bootfile.Files{Base: url + bootFolder, BIOS: true, UEFI: true}
	var warnings []string
	dir := o.lan.boot.media
	if dir == "" {
		dir = findMedia()
	}
	if dir == "" {
		warnings = append(warnings, "the boot files are not on this machine; all that a server has by default are taken to be there")
	} else {
		s.Files.BIOS = mediaHas(dir, bootmedia.BIOS, bootmedia.Module)
	}
	if err := o.lan.boot.checkARM64(); err != nil {
		return nil, nil, err
	}
	s.Files.ARM64 = o.lan.boot.arm64Name(dir != "" && mediaHas(dir, bootmedia.ARM64))
	if o.lan.boot.noTFTP {
		s.Files.BIOS = false
		warnings = append(warnings, "without TFTP, machines boot by UEFI HTTP boot and iPXE only")
	}
	if err := c.networks(s, own); err != nil {
		return nil, nil, err
	}
	s.Hosts, err = c.hosts(ctx, &warnings)
	return s, warnings, err
}

// httpURL returns where machines of the LAN find this server's HTTP.
func httpURL(o *options, server netip.Addr) (string, error) {
	_, port, err := net.SplitHostPort(o.listen)
	n, nerr := strconv.Atoi(port)
	if err != nil || nerr != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("--listen %q: want the port that the server has, as :8080", o.listen)
	}
	scheme := "http"
	if o.tlsCert != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(server.String(), port), nil
}

// networks sorts the ranges to their networks. That of the interface comes first.
func (c *configureCommand) networks(s *configure.Site, own netip.Prefix) error {
	d := &c.o.lan.dhcp
	var common dhcp.Options
	for _, text := range d.options {
		key, value, _ := strings.Cut(text, "=")
		if err := common.Set(key, value); err != nil {
			return fmt.Errorf("--dhcp-option: %w", err)
		}
	}
	if common.Lease != 0 {
		s.Lease = common.Lease
	}
	if own.IsValid() {
		s.Networks = append(s.Networks, configure.Network{Subnet: own.Masked(), Options: plainOptions(common)})
	}
	for _, text := range d.ranges {
		r, err := dhcp.ParseRange(text)
		if err != nil {
			return fmt.Errorf("--dhcp-range: %w", err)
		}
		if !r.Subnet.IsValid() {
			if !own.IsValid() || !own.Contains(r.First) {
				return fmt.Errorf("--dhcp-range %s: write the size of its network, as FIRST-LAST/24: it is not that of --lan", text)
			}
			r.Subnet = own.Masked()
		}
		at := slices.IndexFunc(s.Networks, func(n configure.Network) bool { return n.Subnet == r.Subnet })
		opts := plainOptions(r.Options.Over(common))
		if at < 0 {
			// Machines with addresses of their own are told what those of the first pool are.
			at, s.Networks = len(s.Networks), append(s.Networks, configure.Network{Subnet: r.Subnet, Options: opts})
		}
		p := configure.Pool{First: r.First, Last: r.Last, Kinds: r.Kinds, File: r.File, Options: opts}
		switch r.Clients {
		case dhcp.KnownClients:
			p.Clients = configure.Known
		case dhcp.UnknownClients:
			p.Clients = configure.Unknown
		}
		s.Networks[at].Pools = append(s.Networks[at].Pools, p)
	}
	if len(s.Networks) == 0 {
		return errors.New("which network? name the interface with --lan, or ranges with their size, as --dhcp-range 10.0.0.100-10.0.0.199/24")
	}
	return nil
}

func plainOptions(o dhcp.Options) configure.Options {
	out := configure.Options{Router: o.Router, DNS: o.DNS, NTP: o.NTP, Domain: o.Domain, Search: o.Search, MTU: o.MTU, Lease: o.Lease}
	for _, r := range o.Routes {
		out.Routes = append(out.Routes, configure.Route(r))
	}
	return out
}

// hosts are the machines that are known by a MAC address, or have been seen
// with one. Without a database or a file there are none.
func (c *configureCommand) hosts(ctx context.Context, warnings *[]string) (list []configure.Host, err error) {
	data, err := dataFolder(c.o)
	if err != nil {
		return nil, err
	}
	dsn := databaseDSN(c.o, data)
	var db *database.DB
	var seen []clients.Record
	if _, serr := os.Stat(dsn); serr == nil || strings.Contains(dsn, "://") {
		if db, err = database.Open(ctx, dsn); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
	}
	known, err := clients.Open(ctx, clients.Options{DB: db, File: clientsFile(c.o, data)})
	if err != nil {
		return nil, err
	}
	if db != nil {
		if seen, err = clients.Seen(ctx, db); err != nil {
			return nil, err
		}
	}
	done := map[string]bool{}
	for _, r := range listRows(known.Book(), seen) {
		if !r.Known || done[r.MAC] {
			continue
		}
		if r.MAC == "" {
			*warnings = append(*warnings, r.Client+" is left out: its MAC address is not known, and other DHCP servers know machines by that")
			continue
		}
		done[r.MAC] = true
		s := r.settings
		list = append(list, configure.Host{
			MAC: r.MAC, Name: s.Name, Address: s.Address, File: s.File,
			Local: s.Boot == clients.Local, Denied: s.Boot == clients.Refuse,
		})
	}
	return list, nil
}
