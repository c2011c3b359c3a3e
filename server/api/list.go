package api

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
	"github.com/inetboot/inetboot/server/store"
)

// maxPaths is how many paths one request may have.
const maxPaths = 10000

// maxListed is how many files one answer to a question for a list has.
const maxListed = 5000

// list answers what files of a kind there are, a page at a time. It is for
// publishers who collect what no image needs any more.
func (a *api) list(c echo.Context) error {
	var ask struct {
		Kind  storepath.Kind `json:"kind"`
		After string         `json:"after"`
	}
	const limit = 4 << 10
	data, err := readBody(c.Request(), limit)
	if err != nil {
		return putError(err)
	}
	if err := strictjson.Unmarshal(data, limit, &ask); err != nil {
		return refuse(http.StatusBadRequest, "%v", err)
	}
	switch ask.Kind {
	case storepath.KindBlock, storepath.KindIndex, storepath.KindFile, storepath.KindPack, storepath.KindTarget, storepath.KindMetadata, storepath.KindMark:
	default:
		return refuse(http.StatusBadRequest, "%q is no kind of file that can be listed", ask.Kind)
	}
	files, more, err := a.store.List(c.Request().Context(), ask.Kind, ask.After, maxListed)
	if err != nil {
		return err
	}
	if files == nil {
		files = []store.Info{}
	}
	return c.JSON(http.StatusOK, struct {
		Files []store.Info `json:"files"`
		More  bool         `json:"more"`
	}{files, more})
}

// readPaths reads the list of paths, of at most maxPaths, that a request is
// about.
func readPaths(c echo.Context) ([]string, error) {
	var ask struct {
		Paths []string `json:"paths"`
	}
	const limit = 4 << 20
	data, err := readBody(c.Request(), limit)
	if err != nil {
		return nil, putError(err)
	}
	if err := strictjson.Unmarshal(data, limit, &ask); err != nil {
		return nil, refuse(http.StatusBadRequest, "%v", err)
	}
	if len(ask.Paths) > maxPaths {
		return nil, refuse(http.StatusBadRequest, "%d paths, at most %d in one request", len(ask.Paths), maxPaths)
	}
	return ask.Paths, nil
}

// remove removes files.
func (a *api) remove(c echo.Context) error {
	paths, err := readPaths(c)
	if err != nil {
		return err
	}
	err = a.store.Remove(c.Request().Context(), paths)
	if errors.Is(err, store.ErrNoPlace) {
		return refuse(http.StatusUnprocessableEntity, "%v", err)
	}
	if err != nil {
		return err
	}
	a.log.Info("files removed", "client", c.Request().RemoteAddr, "files", len(paths))
	return c.JSON(http.StatusOK, struct{}{})
}
