package api

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/server/boots"
)

// Machines knows what holds for the machines of a LAN.
type Machines interface {
	// Settings returns what a machine that asks from that address is told.
	Settings(ctx context.Context, from netip.Addr, r clientsettings.Request) (*clientsettings.Answer, error)
	// Variables returns the same by names of a shell. ok is false if mac is none.
	Variables(ctx context.Context, mac string) (vars map[string]string, ok bool)
	// Announce notes what somebody at a machine that is not known says of it.
	Announce(ctx context.Context, from netip.Addr, a *clientsettings.Announcement) error
}

// ErrKnown is returned by Announce for a machine that is known.
var ErrKnown = errors.New("this machine is known already")

// asked lets a request of a machine pass, unless there are too many.
func (a *api) asked(c echo.Context) (from netip.Addr, end func(), err error) {
	c.Response().Header().Set("Cache-Control", "no-store")
	if a.machines == nil {
		return from, nil, refuse(http.StatusNotFound, "this server has no settings of machines: it runs without --lan")
	}
	from = remote(c.Request())
	end, ok := a.asking.begin(boots.Neighbourhood(from), a.now())
	if !ok {
		c.Response().Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		return from, nil, refuse(http.StatusTooManyRequests, "too many questions about settings of machines")
	}
	return from, end, nil
}

// machineSettings tells a machine what holds for it, signed. It says itself who
// it is, so nothing of it is a secret.
func (a *api) machineSettings(c echo.Context) error {
	from, end, err := a.asked(c)
	if err != nil {
		return err
	}
	defer end()
	q := c.QueryParam
	r := clientsettings.Request{MAC: q("mac"), UUID: q("uuid"), Host: q("host"), Nonce: q("nonce")}
	if err := r.Check(); err != nil {
		return putError(err)
	}
	answer, err := a.machines.Settings(c.Request().Context(), from, r)
	if err != nil {
		a.log.Error("a machine gets no settings", "client", r.MAC, "error", err)
		return refuse(http.StatusUnprocessableEntity, "%v", err)
	}
	data, err := clientsettings.Sign(a.settings, answer)
	if err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, data)
}

// machineVariables shows the settings of a machine to scripts, not signed.
func (a *api) machineVariables(c echo.Context) error {
	_, end, err := a.asked(c)
	if err != nil {
		return err
	}
	defer end()
	vars, ok := a.machines.Variables(c.Request().Context(), c.Param("mac"))
	if !ok {
		return refuse(http.StatusNotFound, "want the MAC address of a machine, such as settings/52:54:00:12:34:56")
	}
	return c.Blob(http.StatusOK, "text/plain; charset=utf-8", clientsettings.Shell(vars))
}

// announce notes what is said of a machine that is not known.
func (a *api) announce(c echo.Context) error {
	from, end, err := a.asked(c)
	if err != nil {
		return err
	}
	defer end()
	r := c.Request()
	body := &hurriedBody{ReadCloser: r.Body, control: http.NewResponseController(c.Response().Writer), end: time.Now().Add(min(reportTime, a.patience))}
	stop := body.hurry()
	r.Body = body
	data, err := readBody(r, clientsettings.MaxAnnouncement)
	stop()
	if err != nil {
		return putError(err)
	}
	n, err := clientsettings.ParseAnnouncement(data)
	if err != nil {
		return putError(err)
	}
	switch err := a.machines.Announce(r.Context(), from, n); {
	case errors.Is(err, ErrKnown):
		return refuse(http.StatusConflict, "%v", err)
	case err != nil:
		return err
	}
	return c.NoContent(http.StatusAccepted)
}
