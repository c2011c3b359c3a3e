package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"
	"golang.org/x/term"

	"github.com/inetboot/inetboot/server/api"
	"github.com/inetboot/inetboot/server/setup"
	"github.com/inetboot/inetboot/server/store"
)

type options struct {
	data, listen, url string
	tlsCert, tlsKey   string
	logFormat         string
	verbose           bool
	grace             time.Duration
	connections       int
	maxFile           int64
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var o options
	cmd := &cobra.Command{
		Use:   "server",
		Short: "Serve a store of images over HTTP, and take what publishers push",
		Example: `  server                                   # data in /var/lib/inetboot, port 8080
  server --data /srv/inetboot --listen :80
  server token --data /srv/inetboot        # prints the publishers' token`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), &o, stdout, stderr) },
	}
	cmd.PersistentFlags().StringVar(&o.data, "data", "", "data folder (default /var/lib/inetboot for root, else ~/.local/share/inetboot)")
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", ":8080", "address and port; port 0 takes a free one")
	f.StringVar(&o.url, "url", "", "how publishers and clients reach this server, for the line that is printed (default made from --listen)")
	f.StringVar(&o.tlsCert, "tls-cert", "", "certificate file, to serve HTTPS")
	f.StringVar(&o.tlsKey, "tls-key", "", "the certificate's key file")
	f.StringVar(&o.logFormat, "log-format", "", "text or json (default text on a terminal, else json)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log every block, too")
	f.DurationVar(&o.grace, "grace", 10*time.Second, "how long transfers may go on after the signal to stop")
	f.IntVar(&o.connections, "max-connections", 10000, "most connections at once; more wait")
	f.Int64Var(&o.maxFile, "max-file", store.DefaultLimits().File, "largest kernel or initrd, in bytes")
	cmd.AddCommand(&cobra.Command{
		Use:   "token",
		Short: "Print the token that publishers have to show",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			folder, err := openFolder(&o)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(stdout, folder.Token)
			return err
		},
	})
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	return cmd.ExecuteContext(ctx)
}

func openFolder(o *options) (*setup.Folder, error) {
	if o.data == "" {
		d, err := setup.Default()
		if err != nil {
			return nil, err
		}
		o.data = d
	}
	return setup.Open(o.data)
}

func newLogger(o *options, w io.Writer) (*slog.Logger, error) {
	level := slog.LevelInfo
	if o.verbose {
		level = slog.LevelDebug
	}
	format := o.logFormat
	if format == "" {
		format = "json"
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = "text"
		}
	}
	ho := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, ho)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, ho)), nil
	}
	return nil, fmt.Errorf("--log-format %q: want text or json", format)
}

func serve(ctx context.Context, o *options, stdout, stderr io.Writer) error {
	log, err := newLogger(o, stderr)
	if err != nil {
		return err
	}
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return errors.New("HTTPS needs both --tls-cert and --tls-key")
	}
	folder, err := openFolder(o)
	if err != nil {
		return err
	}
	limits := store.DefaultLimits()
	limits.File = o.maxFile
	dir, err := store.Open(folder.Store(), folder.Temp(), limits)
	if err != nil {
		return err
	}
	defer dir.Close()

	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.listen, err)
	}
	srv := &http.Server{
		Handler:           api.New(api.Options{Store: dir, Token: folder.Token, Log: log}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	scheme := "http"
	if o.tlsCert != "" {
		scheme = "https"
	}
	url := o.url
	if url == "" {
		url = scheme + "://" + advertised(ln.Addr())
	}
	if folder.First {
		fmt.Fprintf(stdout, "imagetool init --to %s --token-file %s\n", url, folder.TokenFile())
	}
	log.Info("serving", "addr", ln.Addr().String(), "url", url, "data", folder.Path)
	if err := notify("READY=1"); err != nil {
		log.Warn("service manager not told", "error", err)
	}

	done := make(chan error, 1)
	limited := netutil.LimitListener(ln, o.connections)
	go func() {
		if o.tlsCert != "" {
			done <- srv.ServeTLS(limited, o.tlsCert, o.tlsKey)
		} else {
			done <- srv.Serve(limited)
		}
	}()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping", "grace", o.grace.String())
	if err := notify("STOPPING=1"); err != nil {
		log.Warn("service manager not told", "error", err)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.grace)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		log.Warn("transfers were cut off", "after", o.grace.String())
		return errors.Join(srv.Close())
	}
	log.Info("stopped")
	return nil
}

// advertised makes an address that others can use out of the one listened on:
// the host's name stands for all its addresses.
func advertised(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil || !ap.Addr().IsUnspecified() {
		return a.String()
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	return net.JoinHostPort(host, fmt.Sprint(ap.Port()))
}

// notify tells systemd how the service is doing (sd_notify(3)).
func notify(state string) error {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return nil
	}
	if socket[0] == '@' {
		socket = "\x00" + socket[1:]
	}
	conn, err := net.Dial("unixgram", socket)
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}
