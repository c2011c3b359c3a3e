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
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/site"
)

// notFound is also fs.ErrNotExist, as readers of the catalog expect.
type notFound struct{}

func (notFound) Error() string        { return "not found" }
func (notFound) Is(target error) bool { return target == fs.ErrNotExist }

// The kinds of trouble with a mirror. All but ErrUnavailable are permanent:
// asking the same mirror at once would give the same answer.
var (
	ErrNotFound    = error(notFound{})
	ErrRefused     = errors.New("refused by the server")
	ErrTooLarge    = errors.New("larger than allowed")
	ErrRejected    = errors.New("not the wanted bytes")
	ErrUnavailable = errors.New("unavailable")
)

// Options says how a Client reaches its mirrors. The zero value is usable.
type Options struct {
	Proxy       string       // URL of an HTTP proxy, http or https, with user:password@ if it wants them; "": none (the environment is not consulted)
	CA          string       // PEM certificates, trusted beside the public roots
	Nameservers []netip.Addr // asked instead of the system's resolver

	// Roots returns the public roots, when something by HTTPS is first asked
	// for: reading a hundred certificates takes its time. nil: the system's,
	// which New reads.
	Roots func() *x509.CertPool

	Logger *slog.Logger // nil: silent

	// Switched, unless nil, is told which mirror is used instead of another one,
	// and why. It does not call the Client.
	Switched func(from, to string, why error)

	// Waiting, unless nil, is told that a Download that has begun waits for a
	// mirror, as there is no other, and why: once until bytes come again. It does
	// not call the Client.
	Waiting func(url string, why error)

	// Clock says whether certificates are valid; nil: time.Now.
	Clock func() time.Time

	// Connections is how many requests are under way at once; 0: 16. Second
	// requests for what a mirror is late with may add a quarter, and
	// measuring adds one for each mirror.
	Connections int

	// Idle is how long an answer may bring no byte before the next mirror is
	// asked; 0: 15 s.
	Idle time.Duration

	// Attempts is how many rounds over all mirrors may fail without a single
	// new byte before giving up; 0: 3; below 0: go on until the context ends.
	Attempts int

	// Resume is how long a Download that has begun waits, counted from its last
	// byte, for a mirror that can be connected to, whatever Attempts says: a
	// server that starts again is back within a minute. 0: it does not.
	Resume time.Duration

	// Remeasure is about how often mirrors are measured again; 0: only by
	// Measure. A client without requests does nothing.
	Remeasure time.Duration
}

// Client reads the files of one store. It is safe for concurrent use.
//
// It asks one mirror, the preferred one, until that fails: it cannot be
// reached, answers with an error or other bytes than the wanted ones, ends too
// early, or is too slow while there is another one. Then everybody asks the
// next one at once, and the first rests, from 5 s up to 2 minutes. After that
// one small request finds out whether it is back. It is preferred again only
// if the other fails, or if a measurement shows a clear gain.
//
// A mirror is not blamed for a file that no other one has either.
type Client struct {
	http      *http.Client
	slots     chan struct{}
	spare     chan struct{} // for second requests
	idle      time.Duration
	attempts  int
	resume    time.Duration
	remeasure time.Duration
	log       *slog.Logger
	switched  func(from, to string, why error)
	waiting   func(url string, why error)
	ctx       context.Context // ends with Close
	stop      context.CancelFunc
	wg        sync.WaitGroup

	mu        sync.Mutex
	order     []*peer // nearest first
	preferred *peer   // asked first while it is usable
	chosen    bool    // preferred was measured or remembered, not just named first
	bodies    int     // answers that are arriving
	hedges    float64 // second requests that may be sent
	measured  time.Time
	due       time.Duration // after measured
	told      time.Time     // when a change of the preferred mirror was logged last
	changes   int           // since then
}

// New returns a Client for the base URLs, in order of preference. There is no
// limit to their number but for what Add adds.
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
	spare := max(1, o.Connections/4)
	c := &Client{
		slots: make(chan struct{}, o.Connections), spare: make(chan struct{}, spare),
		idle: o.Idle, attempts: o.Attempts, resume: o.Resume, remeasure: o.Remeasure, log: o.Logger, switched: o.Switched, waiting: o.Waiting,
		hedges: hedgeStart, measured: time.Now(), due: o.Remeasure,
	}
	for _, u := range urls {
		if err := site.CheckURL(u); err != nil {
			return nil, err
		}
		if c.find(u) == nil {
			c.order = append(c.order, &peer{url: strings.TrimRight(u, "/")})
		}
	}
	c.preferred = c.order[0]

	if o.CA != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(o.CA)) {
		return nil, errors.New("the CA certificates hold no usable PEM block")
	}
	public := o.Roots
	if public == nil {
		public = systemRoots
	}
	roots := func() *x509.CertPool {
		pool := public().Clone()
		pool.AppendCertsFromPEM([]byte(o.CA))
		return pool
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}
	dialer.Resolver = Resolver(o.Nameservers)
	t := &http.Transport{
		DialContext:           dialer.DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12, Time: o.Clock},
		TLSHandshakeTimeout:   o.Idle,
		ResponseHeaderTimeout: o.Idle,
		MaxIdleConns:          0,
		MaxIdleConnsPerHost:   o.Connections,
		MaxConnsPerHost:       o.Connections + spare + 2, // two for measuring
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
	// A pool that is set keeps crypto/tls from looking for files later.
	if o.Roots == nil || strings.HasPrefix(o.Proxy, "https:") {
		t.TLSClientConfig.RootCAs = roots()
		c.http = &http.Client{Transport: t}
	} else {
		c.http = &http.Client{Transport: &lateRoots{plain: t, roots: roots}}
	}
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c, nil
}

func systemRoots() *x509.CertPool {
	roots, err := x509.SystemCertPool()
	if err != nil {
		return x509.NewCertPool()
	}
	return roots
}

// HTTP returns the client that reaches the mirrors: same proxy, roots and
// resolver.
func (c *Client) HTTP() *http.Client { return c.http }

// Close ends measurements in the background and idle connections.
func (c *Client) Close() {
	c.mu.Lock()
	c.stop()
	c.mu.Unlock()
	c.wg.Wait()
	c.http.CloseIdleConnections()
}

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
