package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/inetboot/inetboot/internal/storepath"
)

// maxPage bounds the answer to one question for a list, in bytes.
const maxPage = 8 << 20

// List implements Store.
func (h *HTTP) List(ctx context.Context, kind storepath.Kind, each func(Info) error) error {
	what := "list the files of " + h.base
	for after := ""; ; {
		var page struct {
			Files []Info `json:"files"`
			More  bool   `json:"more"`
		}
		err := h.ask(ctx, what, "api/v1/list", map[string]string{"kind": string(kind), "after": after}, maxPage, &page)
		if err != nil {
			return err
		}
		for _, f := range page.Files {
			if k, _, ok := storepath.Parse(f.Path); !ok || k != kind || storepath.Compare(f.Path, after) <= 0 {
				return fmt.Errorf("%s: %w: the answer has %q", what, ErrRejected, f.Path)
			}
			after = f.Path
			if err := each(f); err != nil {
				return err
			}
		}
		if !page.More || len(page.Files) == 0 {
			return ctx.Err()
		}
	}
}

// Remove implements Store.
func (h *HTTP) Remove(ctx context.Context, paths []string) error {
	for _, p := range paths {
		if err := removable(p); err != nil {
			return err
		}
	}
	for len(paths) > 0 {
		part := paths[:min(len(paths), maxMissing)]
		paths = paths[len(part):]
		var done struct{}
		if err := h.ask(ctx, "remove files from "+h.base, "api/v1/remove", map[string][]string{"paths": part}, maxMessage, &done); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ask posts a question in JSON and reads the answer into out.
func (h *HTTP) ask(ctx context.Context, what, path string, question any, limit int64, out any) error {
	body, err := json.Marshal(question)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	data, _, err := h.do(ctx, request{
		what: what, method: http.MethodPost, path: path,
		body: bytes.NewReader(body), size: int64(len(body)), ctype: "application/json", limit: limit, auth: true,
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("%s: answer: %w", what, err)
	}
	return nil
}
