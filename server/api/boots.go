package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/internal/bootlog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/server/boots"
)

// reportTime is how long a report may take to come in. Its sender loses
// nothing if it does not.
const reportTime = 30 * time.Second

// boot takes what a machine reports about a boot. Anybody may send that, so
// there is a limit to everything.
func (a *api) boot(c echo.Context) error { return a.take(c, pack.MaxReport, a.boots.Add) }

// bootLog takes a machine's log, likewise.
func (a *api) bootLog(c echo.Context) error { return a.take(c, bootlog.MaxBytes, a.boots.AddLog) }

func (a *api) take(c echo.Context, limit int64, add func(context.Context, netip.Addr, []byte) error) error {
	r := c.Request()
	from := remote(r)
	end, ok := a.reports.begin(boots.Neighbourhood(from), a.now())
	if !ok {
		c.Response().Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		return refuse(http.StatusTooManyRequests, "too many boot reports: they are for statistics, so the machine need not repeat this one")
	}
	defer end()
	body := &hurriedBody{ReadCloser: r.Body, control: http.NewResponseController(c.Response().Writer), end: time.Now().Add(min(reportTime, a.patience))}
	stop := body.hurry()
	r.Body = body
	data, err := readBody(r, limit)
	stop()
	if err != nil {
		return putError(err)
	}
	if err := add(r.Context(), from, data); err != nil {
		return putError(err)
	}
	return c.NoContent(http.StatusAccepted)
}

// bootLogs lists the logs that are kept.
func (a *api) bootLogs(c echo.Context) error {
	q := boots.LogQuery{Client: strings.ToLower(c.QueryParam("client")), BootID: c.QueryParam("boot")}
	switch failed := c.QueryParam("failed"); failed {
	case "", "0":
	case "1":
		q.Failed = true
	default:
		return refuse(http.StatusBadRequest, "failed=%.20s: want 1 for boots that did not get through, or 0 for all", failed)
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, map[string][]boots.Log{"logs": a.boots.Logs(q)})
}

// bootLogOf returns the logs of one boot: for programs, or as plain text.
func (a *api) bootLogOf(c echo.Context) error {
	all, err := a.boots.BootLogs(c.Param("boot"))
	if errors.Is(err, boots.ErrUnknown) {
		return refuse(http.StatusNotFound, "%v", err)
	}
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	if !strings.HasPrefix(c.Request().Header.Get("Accept"), "text/plain") {
		return c.JSON(http.StatusOK, map[string][]boots.FullLog{"logs": all})
	}
	var b strings.Builder
	for _, l := range all {
		for _, line := range l.Text {
			fmt.Fprintf(&b, "%s %s: %s\n", time.UnixMilli(line.Unix).UTC().Format("2006-01-02T15:04:05.000Z"), l.Part, line.Text)
		}
	}
	return c.String(http.StatusOK, b.String())
}

// remote returns the address of the client, or of the proxy before it.
func remote(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.IPv4Unspecified()
	}
	return ap.Addr().Unmap()
}

// hurriedBody fails when its time is over, however patient others are.
type hurriedBody struct {
	io.ReadCloser
	control *http.ResponseController
	end     time.Time
}

// hurry ends a read that is waiting when the time is over. The caller calls
// stop when it has read all.
func (b *hurriedBody) hurry() (stop func()) {
	t := time.AfterFunc(time.Until(b.end), func() { _ = b.control.SetReadDeadline(time.Now()) })
	return func() { t.Stop() }
}

func (b *hurriedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil && !time.Now().Before(b.end) {
		err = errors.New("it took too long")
	}
	return n, err
}

// bootSummary tells a publisher what is known of the boots of an image.
func (a *api) bootSummary(c echo.Context) error {
	m, err := digest.Parse(c.Param("manifest"))
	if err != nil {
		return refuse(http.StatusNotFound, "want the SHA-256 of a manifest: %v", err)
	}
	s, err := a.boots.Summary(m)
	if errors.Is(err, boots.ErrUnknown) {
		return refuse(http.StatusNotFound, "%v", err)
	}
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusOK, s)
}

// putPack stores a publisher's boot pack.
func (a *api) putPack(c echo.Context, m digest.SHA256) error {
	created, err := a.boots.PutPack(c.Request().Context(), m, c.Request().Body)
	switch {
	case err != nil:
		a.metrics.uploads.WithLabelValues("pack", "refused").Inc()
		return putError(err)
	case created:
		a.metrics.uploads.WithLabelValues("pack", "stored").Inc()
		return c.NoContent(http.StatusCreated)
	}
	a.metrics.uploads.WithLabelValues("pack", "replaced").Inc()
	return c.NoContent(http.StatusNoContent)
}

// removePack removes a boot pack.
func (a *api) removePack(c echo.Context) error {
	m, err := digest.Parse(c.Param("manifest"))
	if err == nil {
		err = a.boots.RemovePack(m)
	} else {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return refuse(http.StatusNotFound, "no such boot pack in the store")
	}
	if err != nil {
		return fmt.Errorf("remove the boot pack: %w", err)
	}
	return c.NoContent(http.StatusNoContent)
}
