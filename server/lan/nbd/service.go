package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/lan/swap"
	"github.com/inetboot/inetboot/server/lan/tcpserve"
)

// SwapName is the name of the export that is each client's own swap.
const SwapName = "swap"

// Service is NBD on the LAN: the roots of all published images, by their names
// as [images.Library.Find] has them, and swap.
type Service struct {
	Addr    string          // host and port to listen on
	Library *images.Library // nil: no roots
	Swap    *Swap           // nil: none
	Limits  tcpserve.Limits
	Logger  *slog.Logger

	Keep func(Kept) error // see [Server]
	Kept []Kept           // see [Server]

	ln net.Listener
}

var _ SpanDisk = (*images.Disk)(nil)

// Swap is who may swap.
type Swap struct {
	Files *swap.Files
	// Neighbour says which machine has an address; nil: [swap.Neighbour].
	Neighbour func(context.Context, netip.Addr) (net.HardwareAddr, error)
	// Size returns how many bytes a client gets, 0 for those that get none.
	Size func(context.Context, net.HardwareAddr) (int64, error)
}

// Name returns "nbd".
func (s *Service) Name() string { return "nbd" }

// Open listens.
func (s *Service) Open(ctx context.Context) error {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Addr)
	if err != nil {
		return fmt.Errorf("listen for NBD clients on %s: %w", s.Addr, err)
	}
	s.ln = ln
	return nil
}

// Address returns where the service listens, after Open.
func (s *Service) Address() net.Addr { return s.ln.Addr() }

// Run serves until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	srv := &Server{Find: s.find, List: s.list, Limits: s.Limits, Logger: s.Logger, Keep: s.Keep, Kept: s.Kept, Resume: s.resume}
	s.Kept = nil // not once more when this has failed and is called again
	s.Logger.Info("NBD is served", "addr", s.ln.Addr().String())
	return srv.Serve(ctx, s.ln)
}

// Close frees the port.
func (s *Service) Close() error {
	if s.ln == nil {
		return nil
	}
	if err := s.ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

func (s *Service) find(ctx context.Context, client netip.Addr, name string) (*Export, error) {
	name = strings.Trim(name, "/")
	if name == SwapName {
		return s.swap(ctx, client)
	}
	if s.Library == nil {
		return nil, fmt.Errorf("%w: images are not exported here", ErrUnknown)
	}
	n, err := s.Library.Find(ctx, name)
	if errors.Is(err, images.ErrNoImage) {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if err != nil {
		return nil, err
	}
	return s.image(ctx, n.Manifest)
}

// image exports the root of the image with a manifest.
func (s *Service) image(ctx context.Context, manifest digest.SHA256) (*Export, error) {
	img, err := s.Library.Open(ctx, manifest)
	if err != nil {
		return nil, err
	}
	d, err := img.Disk(ctx)
	if err != nil {
		return nil, err
	}
	return &Export{Name: img.Name.String(), Size: d.Size(), Disk: d, ID: manifest.String()}, nil
}

// resume opens what an earlier server has exported: the same image, whatever
// its name stands for by now.
func (s *Service) resume(ctx context.Context, client netip.Addr, id string) (*Export, error) {
	if id == SwapName {
		return s.swap(ctx, client)
	}
	manifest, err := digest.Parse(id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	if s.Library == nil {
		return nil, fmt.Errorf("%w: images are not exported here", ErrUnknown)
	}
	return s.image(ctx, manifest)
}

func (s *Service) swap(ctx context.Context, client netip.Addr) (*Export, error) {
	if s.Swap == nil {
		return nil, fmt.Errorf("%w: swap is not exported here", ErrUnknown)
	}
	neighbour := s.Swap.Neighbour
	if neighbour == nil {
		neighbour = swap.Neighbour
	}
	mac, err := neighbour(ctx, client)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDenied, err)
	}
	size, err := s.Swap.Size(ctx, mac)
	if err != nil {
		return nil, err
	}
	if size == 0 {
		return nil, fmt.Errorf("%w: its settings do not allow %s to swap", ErrDenied, mac)
	}
	f, err := s.Swap.Files.Open(ctx, mac, size)
	if err != nil {
		return nil, err
	}
	return &Export{Name: SwapName, Size: f.Size(), Disk: f, Close: f.Close, ID: SwapName}, nil
}

func (s *Service) list(ctx context.Context, _ netip.Addr) ([]string, error) {
	var out []string
	if s.Library != nil {
		list, err := s.Library.List(ctx)
		if err != nil {
			return nil, err
		}
		for _, n := range list {
			out = append(out, n.String())
		}
	}
	return out, nil
}
