package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/server/api"
	"github.com/inetboot/inetboot/server/boots"
	"github.com/inetboot/inetboot/server/listen"
	"github.com/inetboot/inetboot/server/manager"
	"github.com/inetboot/inetboot/server/setup"
	"github.com/inetboot/inetboot/server/store"
)

// serve runs the server until ctx ends, and then for as long as transfers
// take, within o.grace.
func serve(ctx context.Context, o *options, stdout, stderr io.Writer) (err error) {
	log, err := newLogger(o, stderr)
	if err != nil {
		return err
	}
	kept := keptClients(log)
	tlsConfig, err := loadTLS(o)
	if err != nil {
		return err
	}
	data, err := dataFolder(o)
	if err != nil {
		return err
	}
	// Listening comes first: what can fail had better fail before the first
	// start is over.
	ln, err := listen.Listen(ctx, o.listen, o.connections)
	if err != nil {
		return err
	}
	defer ln.Close()
	from := setup.Source{File: o.tokenFile}
	if o.tokenFile == "" {
		from.Token = os.Getenv(tokenVariable)
	}
	passphrase, err := setup.ReadPassphrase(o.passphraseFile)
	if err != nil {
		return err
	}
	folder, err := setup.Open(data, from, passphrase)
	clear(passphrase.Value)
	if err != nil {
		return err
	}
	defer folder.Close()
	if folder.Encrypted {
		log.Warn("the server's key is encrypted from now on; copies of its file that were made before are not", "passphrase", passphrase.From)
	}
	scheme := "http"
	if tlsConfig != nil {
		scheme = "https"
	}
	limits := store.DefaultLimits()
	limits.File = o.maxFile
	dir, err := store.Open(folder.Store(), folder.Temp(), limits, publish.KeySigner(folder.Online))
	if err != nil {
		return err
	}
	defer func() {
		if cerr := dir.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("close the store: %w", cerr))
		}
	}()
	keeper, err := boots.Open(boots.Options{Dir: folder.Boots(), Store: dir, Log: log})
	if err != nil {
		return err
	}
	services, err := openLAN(ctx, o, lanParts{data: folder.Path, settingsKey: folder.Settings.Public().(ed25519.PublicKey), store: dir, http: ln.Addr(), scheme: scheme, kept: kept, log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, services.Close()) }()
	if err := dropPrivileges(o, folder.Path, services.Capabilities(), log); err != nil {
		return err
	}
	work, stopWork := context.WithCancel(ctx)
	var working sync.WaitGroup
	working.Go(func() { keeper.Run(work) })
	working.Go(func() { refresh(work, dir, log) })
	working.Go(func() { services.Run(work) })
	defer working.Wait() // before the store is closed
	defer stopWork()

	srv := &http.Server{
		Handler:           withMedia(services.media, api.New(api.Options{Store: dir, Boots: keeper, Token: folder.Token, Online: folder.Online.Public().(ed25519.PublicKey), Machines: services.machines(), Settings: folder.Settings, Log: log}), log),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		TLSConfig:         tlsConfig,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	url := o.url
	if url == "" {
		url = scheme + "://" + advertised(ln.Addr())
	}
	if folder.First {
		how := "" // imagetool takes it from the same variable
		if folder.TokenFile != "" {
			how = " --token-file " + folder.TokenFile
		}
		fmt.Fprintf(stdout, "imagetool init --to %s%s\n", url, how)
	}
	log.Info("serving", "addr", ln.Addr().String(), "url", url, "data", folder.Path)
	if err := manager.Notify("READY=1"); err != nil {
		log.Warn("service manager not told", "error", err)
	}

	done := make(chan error, 1)
	go func() {
		if tlsConfig != nil {
			done <- srv.ServeTLS(ln, "", "")
		} else {
			done <- srv.Serve(ln)
		}
	}()
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.Info("stopping", "grace", o.grace.String())
	if err := manager.Notify("STOPPING=1"); err != nil {
		log.Warn("service manager not told", "error", err)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.grace)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		log.Warn("transfers were cut off", "after", o.grace.String())
		return srv.Close()
	}
	log.Info("stopped")
	return nil
}

// refreshPause is how long to wait after the catalog could not be signed.
const refreshPause = time.Minute

// refresh signs snapshot and timestamp anew before they expire, until ctx ends.
func refresh(ctx context.Context, dir *store.Dir, log *slog.Logger) {
	for {
		signed, next, err := dir.Refresh(ctx, time.Now())
		wait := time.Until(next)
		if err != nil && ctx.Err() == nil {
			log.Error("the catalog's timestamp could not be signed", "error", err)
			wait = refreshPause
		}
		if signed {
			log.Info("signed the catalog's timestamp")
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(wait, time.Second)):
		}
	}
}

// loadTLS returns nil for plain HTTP.
func loadTLS(o *options) (*tls.Config, error) {
	if (o.tlsCert == "") != (o.tlsKey == "") {
		return nil, errors.New("HTTPS needs both --tls-cert and --tls-key")
	}
	if o.tlsCert == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
	if err != nil {
		return nil, fmt.Errorf("load the certificate for HTTPS: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}, nil
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
