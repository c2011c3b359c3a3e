// Package api is the server's HTTP interface: the files of the store for
// everybody, uploads for publishers who have the token, health and metrics.
package api

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog/publish"
	"github.com/inetboot/inetboot/internal/bootlog"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/boots"
	"github.com/inetboot/inetboot/server/store"
)

// immutable is the Cache-Control of files that never change.
const immutable = "public, max-age=31536000, immutable"

// Options configures the interface.
type Options struct {
	Store  *store.Dir
	Boots  *boots.Keeper
	Token  string            // what publishers have to show
	Online ed25519.PublicKey // the server's key for snapshot and timestamp; nil: none
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now

	Machines Machines           // of the LAN; nil: there are none, so none has settings
	Settings ed25519.PrivateKey // signs what machines are told of themselves

	Patience time.Duration // for the next piece of a transfer; 0: the constant Patience
}

type api struct {
	store    *store.Dir
	boots    *boots.Keeper
	reports  rate
	token    [sha256.Size]byte
	online   ed25519.PublicKey
	machines Machines
	asking   rate
	settings ed25519.PrivateKey
	log      *slog.Logger
	now      func() time.Time
	patience time.Duration
	metrics  *metrics
}

// New returns the handler of everything.
func New(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience == 0 {
		o.Patience = Patience
	}
	a := &api{store: o.Store, boots: o.Boots, token: sha256.Sum256([]byte(o.Token)), online: o.Online, machines: o.Machines, asking: rate{times: 16}, settings: o.Settings, log: o.Log, now: o.Now, patience: o.Patience, metrics: newMetrics()}
	a.metrics.registry.MustRegister(o.Boots.Collectors()...)
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.HTTPErrorHandler = a.answerError
	e.GET("/healthz", a.health)
	e.GET("/metrics", echo.WrapHandler(promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{})))
	e.POST("/api/v1/missing", a.missing, a.publisher)
	e.POST("/api/v1/list", a.list, a.publisher)
	e.POST("/api/v1/remove", a.remove, a.publisher)
	e.GET("/api/v1/online-key", a.onlineKey)
	e.GET("/"+clientsettings.Path, a.machineSettings)
	e.GET("/settings/:mac", a.machineVariables)
	e.POST("/"+clientsettings.UnknownPath, a.announce)
	e.POST("/"+pack.ReportPath, a.boot)
	e.GET("/"+pack.ReportPath+"/:manifest", a.bootSummary, a.publisher)
	e.POST("/"+bootlog.Path, a.bootLog)
	e.GET("/"+bootlog.Path, a.bootLogs, a.publisher)
	e.GET("/"+bootlog.Path+"/:boot", a.bootLogOf, a.publisher)
	e.DELETE("/packs/:manifest", a.removePack, a.publisher)
	e.GET("/*", a.get)
	e.HEAD("/*", a.get)
	e.PUT("/*", a.put, a.publisher)
	return a.observe(e)
}

// publisher lets only requests with the token pass.
func (a *api) publisher(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		given, ok := strings.CutPrefix(c.Request().Header.Get("Authorization"), "Bearer ")
		if !ok {
			c.Response().Header().Set("WWW-Authenticate", `Bearer realm="inetboot"`)
			return refuse(http.StatusUnauthorized, "publishing needs the server's token: give --token-file or INETBOOT_TOKEN")
		}
		// Hashes are compared, so that nothing depends on the length.
		if sum := sha256.Sum256([]byte(given)); subtle.ConstantTimeCompare(sum[:], a.token[:]) != 1 {
			return refuse(http.StatusForbidden, "this is not the server's token")
		}
		return next(c)
	}
}

// storePath returns the path that a request is for, just as it was sent: a
// path with escapes in it is none of a store.
func storePath(r *http.Request) string {
	return strings.TrimPrefix(r.URL.EscapedPath(), "/")
}

func (a *api) get(c echo.Context) error {
	r, h := c.Request(), c.Response().Header()
	p := storePath(r)
	f, kind, sum, err := a.store.Get(p)
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusNotFound, "no such file in the store")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	switch kind {
	case storepath.KindMetadata, storepath.KindMark:
		data, err := a.store.Read(p, a.store.Limit(kind))
		if err != nil {
			return err
		}
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-cache")
		if storepath.Versioned(p) {
			h.Set("Cache-Control", immutable)
		}
		h.Set("ETag", etag(digest.Of(data)))
		http.ServeContent(c.Response().Writer, r, "", time.Time{}, strings.NewReader(string(data)))
		return nil
	case storepath.KindTarget:
		h.Set("Content-Type", "application/json")
		h.Set("ETag", etag(sum))
	case storepath.KindPack: // may be rebuilt under its name
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", fmt.Sprintf(`"%x-%x"`, info.ModTime().UnixNano(), info.Size()))
		http.ServeContent(c.Response().Writer, r, "", info.ModTime(), f)
		return nil
	default:
		h.Set("Content-Type", "application/octet-stream")
		h.Set("ETag", etag(sum))
	}
	h.Set("Cache-Control", immutable)
	// The recorder itself, not Echo's wrapper, so that the kernel copies the
	// file to the socket.
	http.ServeContent(c.Response().Writer, r, "", time.Time{}, f)
	return nil
}

func etag(d digest.SHA256) string { return `"` + d.String() + `"` }

func (a *api) put(c echo.Context) error {
	r := c.Request()
	p := storePath(r)
	kind, sum, ok := storepath.Parse(p)
	if !ok {
		return refuse(http.StatusNotFound, "no such place in a store")
	}
	if n := a.store.Limit(kind); r.ContentLength > n {
		return refuse(http.StatusRequestEntityTooLarge, "%d bytes are announced, at most %d are allowed for a %s", r.ContentLength, n, kind)
	}
	switch {
	case kind == storepath.KindPack:
		return a.putPack(c, sum)
	case !kind.Immutable():
		return a.publish(c, p, kind)
	}
	created, err := a.store.Put(r.Context(), p, r.Body)
	switch {
	case err != nil:
		a.metrics.uploads.WithLabelValues(string(kind), "refused").Inc()
		return putError(err)
	case created:
		a.metrics.uploads.WithLabelValues(string(kind), "stored").Inc()
		return c.NoContent(http.StatusCreated)
	}
	a.metrics.uploads.WithLabelValues(string(kind), "present").Inc()
	return c.NoContent(http.StatusNoContent)
}

// publish takes metadata of the catalog, by compare-and-swap: two publishers who
// start from the same catalog cannot both succeed.
func (a *api) publish(c echo.Context, p string, kind storepath.Kind) error {
	r := c.Request()
	var old, base digest.SHA256
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	switch {
	case match != "":
		sum, ok := parseETag(match)
		if !ok {
			return refuse(http.StatusPreconditionFailed, "If-Match is not an ETag of this file")
		}
		old = sum
	case none == "*":
	default:
		return refuse(http.StatusPreconditionRequired, "replacing %s needs If-Match with the ETag of what is there, or If-None-Match: *", p)
	}
	if tag := r.Header.Get(storepath.BaseHeader); tag != "" {
		sum, ok := parseETag(tag)
		if !ok {
			return refuse(http.StatusPreconditionFailed, "%s is not an ETag of the timestamp", storepath.BaseHeader)
		}
		base = sum
	}
	data, err := readBody(r, a.store.Limit(kind))
	if err != nil {
		return putError(err)
	}
	if kind == storepath.KindMark {
		err = a.store.Replace(p, old, data, func([]byte) error { return object(data) })
	} else {
		err = a.store.Publish(r.Context(), p, old, base, data, a.now())
	}
	if err != nil {
		a.metrics.uploads.WithLabelValues(string(kind), "refused").Inc()
		return putError(err)
	}
	a.metrics.uploads.WithLabelValues(string(kind), "stored").Inc()
	c.Response().Header().Set("ETag", etag(digest.Of(data)))
	return c.NoContent(http.StatusNoContent)
}

// parseETag is the reverse of etag.
func parseETag(s string) (digest.SHA256, bool) {
	s, ok := strings.CutPrefix(s, `"`)
	s, ok2 := strings.CutSuffix(s, `"`)
	sum, err := digest.Parse(s)
	return sum, ok && ok2 && err == nil
}

// object returns nil if data is a JSON object.
func object(data []byte) error {
	var o map[string]json.RawMessage
	if err := json.Unmarshal(data, &o); err != nil {
		return fmt.Errorf("%w: want a JSON object: %w", store.ErrMalformed, err)
	}
	return nil
}

// missing answers which of some paths are not there.
func (a *api) missing(c echo.Context) error {
	paths, err := readPaths(c)
	if err != nil {
		return err
	}
	answer := struct {
		Missing []string `json:"missing"`
	}{Missing: []string{}}
	for _, p := range paths {
		if _, _, ok := storepath.Parse(p); !ok {
			return refuse(http.StatusBadRequest, "%q is no path of a store", p)
		}
		if !a.store.Has(p) {
			answer.Missing = append(answer.Missing, p)
		}
	}
	return c.JSON(http.StatusOK, answer)
}

// onlineKey tells publishers the key with which the server signs snapshot and
// timestamp, in TUF's form.
func (a *api) onlineKey(c echo.Context) error {
	if a.online == nil {
		return refuse(http.StatusNotFound, "this server signs nothing")
	}
	return c.JSON(http.StatusOK, publish.Key(a.online))
}

func (a *api) health(c echo.Context) error {
	if err := a.store.Writable(); err != nil {
		return c.JSON(http.StatusServiceUnavailable, map[string]string{"status": "failing", "error": err.Error()})
	}
	return c.JSON(http.StatusOK, map[string]string{"status": "ok"})
}
