package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/blockfs/root"
	"github.com/inetboot/inetboot/blockfs/target"
)

type statusOptions struct {
	socket     string
	json       bool
	prometheus bool
	boot       bool
}

func newStatus() *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how the root of this machine, or a mount, is doing",
		Long: `Status asks the daemon that serves this machine's root, or a "blockfs mount"
that was started with --status: where blocks came from, how the mirrors do,
how long readers waited, what the cache has, where the time of the boot went.`,
		Example: `  blockfs status
  blockfs status --json | jq .origins
  blockfs status --prometheus >/var/lib/prometheus/node-exporter/inetboot.prom
  blockfs status --boot >boot.json          # for imagetool trace add
  blockfs status --socket /run/user/1000/files.sock`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runStatus(c.Context(), c.OutOrStdout(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.socket, "socket", target.StatusSocket, "socket of the daemon or mount")
	f.BoolVar(&o.json, "json", false, "print JSON")
	f.BoolVar(&o.prometheus, "prometheus", false, "print Prometheus' text format")
	f.BoolVar(&o.boot, "boot", false, "print the report of the boot, JSON")
	c.MarkFlagsMutuallyExclusive("json", "prometheus", "boot")
	return c
}

func runStatus(ctx context.Context, w io.Writer, o statusOptions) error {
	path, limit := root.StatusPath, int64(1<<20)
	switch {
	case o.prometheus:
		path = root.MetricsPath
	case o.boot:
		path, limit = root.BootPath, pack.MaxReport
	}
	data, err := ask(ctx, o.socket, path, limit)
	if err != nil {
		return err
	}
	if o.prometheus || o.boot {
		_, err := w.Write(data)
		return err
	}
	var s root.Status
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("read the status: %w", err)
	}
	if o.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", " ")
		return enc.Encode(&s)
	}
	return s.WriteText(w)
}

// ask gets a path from the service behind a local socket.
func ask(ctx context.Context, socket, path string, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://blockfs"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask %s (is this machine's root an InetBoot image, or is a blockfs mount running with --status?): %w", socket, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", socket, err)
	}
	switch {
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("ask %s: the answer has more than %d bytes", socket, limit)
	case resp.StatusCode == http.StatusNotFound && path == root.BootPath:
		return nil, errors.New("there is no report: the boot is not over yet, or this is no boot")
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("ask %s: %s: %s", socket, resp.Status, data)
	}
	return data, nil
}
