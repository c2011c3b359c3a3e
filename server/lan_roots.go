package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/lan/nbd"
	"github.com/inetboot/inetboot/server/lan/nfs"
	"github.com/inetboot/inetboot/server/lan/swap"
	"github.com/inetboot/inetboot/server/lan/tcpserve"
	"github.com/inetboot/inetboot/server/manager"
)

// rootOptions are the options of NFS, NBD and swap.
type rootOptions struct {
	nfs, nbd, swap      bool
	nfsPort, portmap    int
	nbdPort             int
	networks            []string
	memory              string
	swapSize, swapQuota string
}

func (o *rootOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.nfs, "nfs", false, "with --lan: export the roots of published images over NFS version 3, read-only")
	f.IntVar(&o.nfsPort, "nfs-port", nfs.DefaultPort, "TCP port of NFS and of its mount protocol")
	f.IntVar(&o.portmap, "portmap-port", nfs.PortmapPort, "TCP and UDP port of the port mapper that --nfs brings; 0: none, where rpcbind runs")
	f.BoolVar(&o.nbd, "nbd", false, "with --lan: export the roots of published images over NBD, read-only")
	f.IntVar(&o.nbdPort, "nbd-port", nbd.DefaultPort, "TCP port of NBD")
	f.StringArrayVar(&o.networks, "roots-network", nil, "one more network, such as 10.9.0.0/24, whose machines may use NFS and NBD beside the LAN's; may be repeated")
	f.StringVar(&o.memory, "roots-memory", "", "memory for contents of images that NFS and NBD keep, about (default an eighth of what there is, from 64M to 4G)")
	f.BoolVar(&o.swap, "swap", false, "with --lan: swap over NBD for machines whose settings have swap = SIZE or swap = yes")
	f.StringVar(&o.swapSize, "swap-size", "512M", "size for swap = yes")
	f.StringVar(&o.swapQuota, "swap-quota", "64G", "most that the swap of all machines takes on the disk")
}

// limits returns who may use NFS and NBD.
func (o *rootOptions) limits(p *lanParts) (l tcpserve.Limits, err error) {
	for _, n := range p.iface.All {
		l.Networks = append(l.Networks, n.Masked())
	}
	for _, s := range o.networks {
		n, err := netip.ParsePrefix(s)
		if err != nil {
			return l, fmt.Errorf("--roots-network %q: want a network such as 10.9.0.0/24", s)
		}
		l.Networks = append(l.Networks, n.Masked())
	}
	return l, nil
}

func checkPort(flag string, port, low int) error {
	if port < low || port > 65535 {
		return fmt.Errorf("%s %d: want from %d to 65535", flag, port, low)
	}
	return nil
}

// library returns the images that NFS and NBD share. openLAN's set closes it.
func (p *lanParts) library(o *options) (*images.Library, error) {
	if p.images != nil {
		return p.images, nil
	}
	memory, err := o.lan.roots.keep()
	if err != nil {
		return nil, err
	}
	if o.lan.roots.nfs || o.lan.roots.nbd {
		p.log.Info("contents of images are kept in memory for NFS and NBD", "bytes", memory)
	}
	boundHeap(memory)
	p.images = images.New(images.Options{Store: p.store, Blocks: read.Dir(filepath.Join(p.data, "store")), Memory: int(memory), Logger: p.log})
	return p.images, nil
}

// newNFS makes the NFS service.
func newNFS(_ context.Context, o *options, p *lanParts) (lan.Service, error) {
	r := &o.lan.roots
	if !r.nfs {
		return nil, nil
	}
	if err := checkPort("--nfs-port", r.nfsPort, 1); err != nil {
		return nil, err
	}
	if err := checkPort("--portmap-port", r.portmap, 0); err != nil {
		return nil, err
	}
	limits, err := r.limits(p)
	if err != nil {
		return nil, err
	}
	s := &nfs.Service{Host: p.iface.IPv4.Addr().String(), Port: r.nfsPort, PortmapPort: r.portmap, Limits: limits, Logger: p.log}
	if r.portmap == 0 {
		s.PortmapPort = -1
	}
	if s.Library, err = p.library(o); err != nil {
		return nil, err
	}
	return s, nil
}

// newNBD makes the NBD service, for roots, swap or both.
func newNBD(_ context.Context, o *options, p *lanParts) (lan.Service, error) {
	r := &o.lan.roots
	if !r.nbd && !r.swap {
		return nil, p.closeKept()
	}
	if err := checkPort("--nbd-port", r.nbdPort, 1); err != nil {
		return nil, err
	}
	limits, err := r.limits(p)
	if err != nil {
		return nil, err
	}
	s := &nbd.Service{Addr: net.JoinHostPort(p.iface.IPv4.Addr().String(), strconv.Itoa(r.nbdPort)), Limits: limits, Logger: p.log, Kept: p.kept}
	if manager.Keeps() {
		s.Keep = keepClient
	}
	if r.nbd {
		if s.Library, err = p.library(o); err != nil {
			return nil, err
		}
	}
	if r.swap {
		size, err := clients.ParseSize(r.swapSize)
		if err != nil {
			return nil, fmt.Errorf("--swap-size: %w", err)
		}
		quota, err := clients.ParseSize(r.swapQuota)
		if err != nil {
			return nil, fmt.Errorf("--swap-quota: %w", err)
		}
		s.Swap = &nbd.Swap{Files: &swap.Files{Dir: filepath.Join(p.data, "swap"), Quota: quota}, Size: swapSizes(p.clients, size)}
	}
	return s, nil
}

// keepClient has the service manager hold the connection of a client of NBD
// until the server is there again.
func keepClient(k nbd.Kept) error {
	c, ok := k.Conn.(interface{ File() (*os.File, error) })
	if !ok {
		return fmt.Errorf("a connection of the type %T has no file", k.Conn)
	}
	f, err := c.File()
	if err != nil {
		return err
	}
	return errors.Join(manager.Keep(k.State, f), f.Close())
}

// keptClients returns the clients of NBD that an earlier server has left with
// the service manager.
func keptClients(log *slog.Logger) []nbd.Kept {
	files, err := manager.Take()
	if err != nil {
		log.Warn("service manager not told", "error", err)
	}
	var kept []nbd.Kept
	for _, f := range files {
		c, err := net.FileConn(f.File)
		if err == nil && !nbd.IsState(f.Name) {
			err = errors.Join(errors.New("it is not known here"), c.Close())
		}
		if err == nil {
			kept = append(kept, nbd.Kept{Conn: c, State: f.Name})
		} else {
			log.Warn("a connection that the service manager kept is closed", "name", f.Name, "error", err)
		}
		f.Close()
	}
	return kept
}

// closeKept closes the connections of clients for whom there is no service.
func (p *lanParts) closeKept() error {
	var errs []error
	for _, k := range p.kept {
		errs = append(errs, k.Conn.Close())
	}
	p.kept = nil
	return errors.Join(errs...)
}

// swapSizes looks sizes up in the clients' settings.
func swapSizes(c *clients.Clients, size int64) func(context.Context, net.HardwareAddr) (int64, error) {
	return func(ctx context.Context, mac net.HardwareAddr) (int64, error) {
		s, err := c.Lookup(ctx, clients.Identity{MAC: mac.String()})
		if err != nil {
			return 0, fmt.Errorf("swap of %s: %w", mac, err)
		}
		if s.Swap == clients.DefaultSwap {
			return size, nil
		}
		return s.Swap, nil
	}
}
