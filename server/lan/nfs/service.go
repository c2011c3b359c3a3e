// Package nfs exports the roots of published images over NFS version 3, with
// the mount protocol and a port mapper, read-only and without unpacking them:
// what clients read comes from the blocks in the store.
//
// RPC, XDR and NFS are implemented here. The library at hand, go-nfs, keeps its
// handles in memory, so that clients would be left with stale ones when the
// server restarts; it answers one call of a connection at a time, finds files by
// their paths, and takes records of any length.
//
// Who can mount can read everything: published images are public, and modes and
// owners are there for the systems that run on them.
package nfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"

	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/lan/tcpserve"
)

// The ports that IANA has registered.
const (
	DefaultPort = 2049 // of NFS, and here of the mount protocol too
	PortmapPort = 111
)

// Service is NFS on the LAN. Exports are called as [images.Library.Find] has
// them.
type Service struct {
	Host        string // to listen on
	Port        int    // TCP; 0 takes a free one
	PortmapPort int    // TCP and UDP; 0 takes a free one, below 0: no port mapper
	Library     *images.Library
	Limits      tcpserve.Limits
	Logger      *slog.Logger

	ln, mapLn net.Listener
	mapPacket net.PacketConn
}

// Name returns "NFS".
func (s *Service) Name() string { return "NFS" }

// Open binds the ports.
func (s *Service) Open(ctx context.Context) (err error) {
	var lc net.ListenConfig
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	at := func(port int) string { return net.JoinHostPort(s.Host, strconv.Itoa(port)) }
	if s.ln, err = lc.Listen(ctx, "tcp", at(s.Port)); err != nil {
		return fmt.Errorf("listen for NFS clients: %w", err)
	}
	if s.PortmapPort < 0 {
		return nil
	}
	if s.mapLn, err = lc.Listen(ctx, "tcp", at(s.PortmapPort)); err != nil {
		return fmt.Errorf("listen as port mapper: %w", err)
	}
	if s.mapPacket, err = lc.ListenPacket(ctx, "udp", at(port(s.mapLn))); err != nil {
		return fmt.Errorf("listen as port mapper: %w", err)
	}
	return nil
}

func port(ln net.Listener) int { return ln.Addr().(*net.TCPAddr).Port }

// Ports returns the ports of NFS and of the port mapper, 0 if there is none,
// after Open.
func (s *Service) Ports() (nfs, portmap int) {
	if s.mapLn != nil {
		portmap = port(s.mapLn)
	}
	return port(s.ln), portmap
}

// Run serves until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	files := programs{progMount: {versMount: s.mount}, progNFS: {versNFS: s.nfs}}
	nfsPort, mapPort := s.Ports()
	s.Logger.Info("NFS is served", "addr", s.ln.Addr().String(), "portmap", mapPort)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	run := func(i int, f func() error) {
		wg.Go(func() {
			defer cancel() // one without the others is no use
			errs[i] = f()
		})
	}
	serve := func(ln net.Listener, ps programs) func() error {
		return func() error {
			return tcpserve.Serve(ctx, ln, s.Limits, s.Logger, func(ctx context.Context, c net.Conn) {
				if err := ps.serveConn(ctx, c); err != nil && ctx.Err() == nil {
					s.Logger.Debug("NFS connection ended", "client", c.RemoteAddr().String(), "error", err)
				}
			})
		}
	}
	run(0, serve(s.ln, files))
	if s.mapLn != nil {
		ps := programs{progPortmap: {versPortmap: portmap(uint32(nfsPort), uint32(mapPort))}}
		run(1, serve(s.mapLn, ps))
		run(2, func() error { return ps.servePackets(ctx, s.mapPacket, &s.Limits) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Close frees the ports.
func (s *Service) Close() error {
	var errs []error
	closed := func(err error) {
		if err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.ln != nil {
		closed(s.ln.Close())
	}
	if s.mapLn != nil {
		closed(s.mapLn.Close())
	}
	if s.mapPacket != nil {
		closed(s.mapPacket.Close())
	}
	return errors.Join(errs...)
}
