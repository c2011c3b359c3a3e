package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/bootlog"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/server/boots"
	"github.com/inetboot/inetboot/server/store"
)

// refuse returns an answer that is not a success, with a sentence that says
// why.
func refuse(code int, format string, args ...any) error {
	return echo.NewHTTPError(code, fmt.Sprintf(format, args...))
}

// putError turns the store's reasons into status codes.
func putError(err error) error {
	for _, m := range []struct {
		is   error
		code int
	}{
		{pack.ErrReport, http.StatusBadRequest},
		{bootlog.ErrReport, http.StatusBadRequest},
		{clientsettings.ErrInvalid, http.StatusBadRequest},
		{boots.ErrUnknown, http.StatusUnprocessableEntity},
		{boots.ErrBusy, http.StatusServiceUnavailable},
		{store.ErrTooLarge, http.StatusRequestEntityTooLarge},
		{store.ErrFull, http.StatusInsufficientStorage},
		{store.ErrConflict, http.StatusPreconditionFailed},
		{store.ErrNoPlace, http.StatusNotFound},
		{store.ErrBroken, http.StatusBadRequest},
		{digest.ErrMismatch, http.StatusUnprocessableEntity},
		{store.ErrMalformed, http.StatusUnprocessableEntity},
		{store.ErrIncomplete, http.StatusUnprocessableEntity},
		{store.ErrOrder, http.StatusUnprocessableEntity},
		{catalog.ErrMismatch, http.StatusUnprocessableEntity},
		{catalog.ErrNotFound, http.StatusUnprocessableEntity},
		{catalog.ErrRollback, http.StatusPreconditionFailed},
		{catalog.ErrSignature, http.StatusUnprocessableEntity},
		{catalog.ErrUnknownKey, http.StatusUnprocessableEntity},
		{catalog.ErrExpired, http.StatusUnprocessableEntity},
		{catalog.ErrFormat, http.StatusUnprocessableEntity},
	} {
		if errors.Is(err, m.is) {
			return echo.NewHTTPError(m.code, err.Error()).SetInternal(err)
		}
	}
	return err
}

// answerError sends an error as {"message": "..."}; what went wrong inside is
// logged, not told.
func (a *api) answerError(err error, c echo.Context) {
	if c.Response().Committed {
		return
	}
	code, message := http.StatusInternalServerError, "the server could not do this; its log says why"
	var he *echo.HTTPError
	if errors.As(err, &he) {
		code, message = he.Code, fmt.Sprint(he.Message)
	} else {
		a.log.Error("request failed", "method", c.Request().Method, "path", c.Request().URL.Path, "error", err)
	}
	// What is missing now may come with the next push: no cache may go on
	// saying that it is not there.
	c.Response().Header().Set("Cache-Control", "no-store")
	if c.Request().Method == http.MethodHead {
		err = c.NoContent(code)
	} else {
		err = c.JSON(code, map[string]string{"message": message})
	}
	if err != nil {
		a.log.Debug("answer not sent", "error", err)
	}
}

// readBody reads a small body.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", store.ErrTooLarge, r.ContentLength, limit)
	}
	data, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", store.ErrBroken, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: at most %d bytes", store.ErrTooLarge, limit)
	}
	return data, nil
}
