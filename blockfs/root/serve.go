package root

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/inetboot/inetboot/blockfs/pack"
)

// Paths of the status service.
const (
	StatusPath  = "/status"  // Status as JSON
	MetricsPath = "/metrics" // Prometheus' text format
	BootPath    = "/boot"    // the report of the boot, once it is over
)

// Serve answers questions about the root on l, which is a local socket as a
// rule, until ctx ends. report returns the report of the boot, nil before
// there is one.
func (r *Root) Serve(ctx context.Context, l net.Listener, report func() *pack.Report) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+StatusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		s := r.Status()
		if err := json.NewEncoder(w).Encode(&s); err != nil {
			r.log.Debug("status not sent", "error", err)
		}
	})
	mux.HandleFunc("GET "+MetricsPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		s := r.Status()
		if err := s.WriteMetrics(w); err != nil {
			r.log.Debug("metrics not sent", "error", err)
		}
	})
	mux.HandleFunc("GET "+BootPath, func(w http.ResponseWriter, _ *http.Request) {
		rep := report()
		if rep == nil {
			http.Error(w, "the boot is not over yet", http.StatusNotFound)
			return
		}
		data, err := rep.Marshal()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if _, err := w.Write(data); err != nil {
			r.log.Debug("boot report not sent", "error", err)
		}
	})
	// Few, short and patient: whoever asks is on this machine.
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 5 * time.Second, MaxHeaderBytes: 8 << 10,
	}
	end := context.AfterFunc(ctx, func() { srv.Close() })
	defer end()
	if err := srv.Serve(&limitListener{Listener: l, slots: make(chan struct{}, 16)}); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("answer questions about the root: %w", err)
	}
	return nil
}

// limitListener bounds the number of connections.
type limitListener struct {
	net.Listener
	slots chan struct{}
}

func (l *limitListener) Accept() (net.Conn, error) {
	l.slots <- struct{}{}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitConn{Conn: c, free: sync.OnceFunc(func() { <-l.slots })}, nil
}

type limitConn struct {
	net.Conn
	free func()
}

func (c *limitConn) Close() error {
	err := c.Conn.Close()
	c.free()
	return err
}
