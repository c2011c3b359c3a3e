// Package lan runs the services of the classic LAN: it opens the sockets of all
// of them with the privileges of the start, gives these privileges up, and
// serves until it is told to stop.
package lan

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Service is one service of the LAN. Open binds its sockets with the
// privileges of the start; Run serves until ctx ends and has none; Close frees
// what Open took and may come without a Run, but not without an Open. Run
// returns nil when ctx has ended.
type Service interface {
	Name() string // as people call it, such as "DHCP"
	Open(ctx context.Context) error
	Run(ctx context.Context) error
	Close() error
}

// Privileged is a Service that needs capabilities while it runs.
type Privileged interface {
	Service
	Capabilities() []Capability
}

// Set is services whose sockets are open.
type Set struct {
	services []Service
	log      *slog.Logger
}

// Open opens the services. If one of them cannot, all are closed and the error
// says which one and what to do.
func Open(ctx context.Context, log *slog.Logger, services ...Service) (*Set, error) {
	s := &Set{log: log}
	for _, v := range services {
		if err := v.Open(ctx); err != nil {
			return nil, errors.Join(explain(v.Name(), err), s.Close())
		}
		s.services = append(s.services, v)
	}
	return s, nil
}

// Capabilities returns what the services need while they run.
func (s *Set) Capabilities() []Capability {
	var caps []Capability
	for _, v := range s.services {
		if p, ok := v.(Privileged); ok {
			caps = append(caps, p.Capabilities()...)
		}
	}
	return caps
}

// Pauses before a service that failed runs again.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// Run serves until ctx ends. A service that fails meanwhile, or panics, is
// run again after a pause, so that it does not take the others down.
func (s *Set) Run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, v := range s.services {
		wg.Go(func() { s.keep(ctx, v) })
	}
	wg.Wait()
}

func (s *Set) keep(ctx context.Context, v Service) {
	pause := firstPause
	for {
		began := time.Now()
		err := guarded(ctx, v)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > maxPause {
			pause = firstPause
		}
		s.log.Error("a service failed and is run again", "service", v.Name(), "error", err, "pause", pause.String())
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, maxPause)
	}
}

var errEnded = errors.New("it ended")

func guarded(ctx context.Context, v Service) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if err := v.Run(ctx); err != nil {
		return err
	}
	return errEnded
}

// Close closes the services, the last one first.
func (s *Set) Close() error {
	var errs []error
	for i := len(s.services) - 1; i >= 0; i-- {
		if err := s.services[i].Close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", s.services[i].Name(), err))
		}
	}
	s.services = nil
	return errors.Join(errs...)
}
