// Package mirror reads the files of a store over HTTP from any of several
// base URLs. Every caller says how to recognise good bytes, so a mirror that
// answers with something else is one more that does not work, and the next
// one is asked.
//
// Everything a Client will ever need from files (public roots, resolver
// configuration) is read in New, so a Client goes on working when the
// filesystem below it is the one that it serves.
package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inetboot/inetboot/internal/site"
)

// The kinds of trouble with a mirror. All but ErrUnavailable are permanent:
// asking the same mirror at once would give the same answer.
var (
	ErrNotFound    = errors.New("not found")
	ErrRefused     = errors.New("refused by the server")
	ErrTooLarge    = errors.New("larger than allowed")
	ErrRejected    = errors.New("not the wanted bytes")
	ErrUnavailable = errors.New("unavailable")
)

// Options says how a Client reaches its mirrors. The zero value is usable.
type Options struct {
	Proxy       string       // HTTP proxy URL; "": none (the environment is not consulted)
	CA          string       // PEM certificates, trusted beside the public roots
	Nameservers []netip.Addr // asked instead of the system's resolver
	Logger      *slog.Logger // nil: silent
	Connections int          // most requests under way at once; 0: 16

	// Idle is how long an answer may bring no byte before the next mirror is
	// asked; 0: 15 s.
	Idle time.Duration

	// Attempts is how many rounds over all mirrors may fail without a single
	// new byte before giving up; 0: 3; below 0: go on until the context ends.
	Attempts int
}

// Client reads the files of one store. It is safe for concurrent use.
type Client struct {
	bases     []string
	preferred atomic.Int32 // index into bases of the last one that worked
	http      *http.Client
	slots     chan struct{}
	idle      time.Duration
	attempts  int
	log       *slog.Logger
}

// New returns a Client for the base URLs, in order of preference.
func New(urls []string, o Options) (*Client, error) {
	if len(urls) == 0 {
		return nil, errors.New("no URL of a store was given")
	}
	if o.Connections <= 0 {
		o.Connections = 16
	}
	if o.Idle <= 0 {
		o.Idle = 15 * time.Second
	}
	if o.Attempts == 0 {
		o.Attempts = 3
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{slots: make(chan struct{}, o.Connections), idle: o.Idle, attempts: o.Attempts, log: o.Logger}
	for _, u := range urls {
		if err := site.CheckURL(u); err != nil {
			return nil, err
		}
		c.bases = append(c.bases, strings.TrimRight(u, "/"))
	}

	// A pool that is set keeps crypto/tls from looking for files later.
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if o.CA != "" && !roots.AppendCertsFromPEM([]byte(o.CA)) {
		return nil, errors.New("the CA certificates hold no usable PEM block")
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	if len(o.Nameservers) > 0 {
		dialer.Resolver = resolver(o.Nameservers)
	}
	t := &http.Transport{
		DialContext:           dialer.DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   o.Idle,
		ResponseHeaderTimeout: o.Idle,
		MaxIdleConns:          0,
		MaxIdleConnsPerHost:   o.Connections,
		MaxConnsPerHost:       o.Connections,
		IdleConnTimeout:       90 * time.Second,
		DisableCompression:    true, // blocks are compressed, hashes are of bytes as stored
		ForceAttemptHTTP2:     true,
		ReadBufferSize:        64 << 10,
	}
	if o.Proxy != "" {
		p, err := url.Parse(o.Proxy)
		if err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
		t.Proxy = http.ProxyURL(p)
	}
	c.http = &http.Client{Transport: t}
	return c, nil
}

// resolver asks only the given servers, in turn, whatever the system's
// resolver configuration says.
func resolver(servers []netip.Addr) *net.Resolver {
	var turn atomic.Uint32
	d := &net.Dialer{Timeout: 5 * time.Second}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		s := servers[int(turn.Add(1)-1)%len(servers)]
		return d.DialContext(ctx, network, netip.AddrPortFrom(s, 53).String())
	}}
}

// HTTP returns the client that reaches the mirrors: same proxy, roots and
// resolver.
func (c *Client) HTTP() *http.Client { return c.http }

// URLs returns the base URLs, the one in use first.
func (c *Client) URLs() []string {
	p := int(c.preferred.Load())
	return append(append([]string(nil), c.bases[p:]...), c.bases[:p]...)
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Failure is what one mirror did.
type Failure struct {
	URL string
	Err error
}

// Error says that no mirror had the file, and why. It unwraps to what the
// mirrors did last.
type Error struct {
	Path     string
	Failures []Failure // the last of each mirror, in the order in which they were asked
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "get %s", e.Path)
	for i, f := range e.Failures {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s: %v", sep, f.URL, f.Err)
	}
	return b.String()
}

// Unwrap returns the mirrors' errors.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		errs[i] = f.Err
	}
	return errs
}

func permanent(err error) bool {
	for _, p := range []error{ErrNotFound, ErrRefused, ErrTooLarge, ErrRejected} {
		if errors.Is(err, p) {
			return true
		}
	}
	return false
}
