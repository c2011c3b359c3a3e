package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/storepath"
)

const (
	parallel    = 16              // uploads at a time; hides latency of some 50 ms at 250 KB a block and 80 MB/s
	maxMissing  = 10000           // paths in one question, as the server allows
	maxAnswer   = 4 << 20         // bytes of an answer to it
	maxMessage  = 4 << 10         // bytes of an error that are shown
	attempts    = 6               // for a request that fails for reasons that pass
	firstPause  = time.Second / 4 // before the second attempt; doubles, with jitter
	headTimeout = 60 * time.Second
)

// HTTP is a store on a server.
type HTTP struct {
	base   string
	token  string
	client *http.Client
}

var _ Store = (*HTTP)(nil)

// NewHTTP returns the store at the base URL. The environment's proxy settings
// apply.
func NewHTTP(base, token string) (*HTTP, error) {
	if err := site.CheckURL(base); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = parallel
	t.MaxConnsPerHost = parallel
	t.ResponseHeaderTimeout = headTimeout
	t.WriteBufferSize = 64 << 10
	t.DialContext = (&net.Dialer{Timeout: 15 * time.Second}).DialContext
	return &HTTP{base: strings.TrimRight(base, "/"), token: token, client: &http.Client{Transport: t}}, nil
}

// String returns the base URL.
func (h *HTTP) String() string { return h.base }

// Parallel implements Store.
func (h *HTTP) Parallel() int { return parallel }

type missing struct {
	Paths   []string `json:"paths,omitempty"`
	Missing []string `json:"missing,omitempty"`
}

// Missing implements Store.
func (h *HTTP) Missing(ctx context.Context, paths []string) ([]string, error) {
	var out []string
	for len(paths) > 0 {
		part := paths[:min(len(paths), maxMissing)]
		paths = paths[len(part):]
		body, err := json.Marshal(missing{Paths: part})
		if err != nil {
			return nil, fmt.Errorf("ask for missing blocks: %w", err)
		}
		data, _, err := h.do(ctx, request{
			what: "ask " + h.base + " which blocks it lacks", method: http.MethodPost, path: "api/v1/missing",
			body: bytes.NewReader(body), size: int64(len(body)), ctype: "application/json", limit: maxAnswer, auth: true,
		})
		if err != nil {
			return nil, err
		}
		var m missing
		if err := json.Unmarshal(data, &m); err != nil {
			return nil, fmt.Errorf("ask %s which blocks it lacks: answer: %w", h.base, err)
		}
		out = append(out, m.Missing...)
	}
	return out, nil
}

// Put implements Store.
func (h *HTTP) Put(ctx context.Context, path string, body io.ReaderAt, size int64) error {
	if kind, _, ok := storepath.Parse(path); !ok || !kind.Immutable() {
		return fmt.Errorf("store %s: %w: no such place", path, ErrRejected)
	}
	_, _, err := h.do(ctx, request{
		what: "upload " + path, method: http.MethodPut, path: path,
		body: body, size: size, limit: maxMessage, auth: true,
	})
	return err
}

// Load implements Store. The tag is the ETag.
func (h *HTTP) Load(ctx context.Context, path string, limit int64) ([]byte, string, error) {
	return h.do(ctx, request{what: "read " + path, method: http.MethodGet, path: path, limit: limit, fresh: true})
}

// Read implements Store.
func (h *HTTP) Read(ctx context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, _, err := h.Load(ctx, path, limit)
	if err != nil {
		return nil, err
	}
	if accept != nil {
		if err := accept(data); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// Replace implements Store.
func (h *HTTP) Replace(ctx context.Context, path string, data []byte, tag string) error {
	if err := replaceable(path, tag); err != nil {
		return err
	}
	return h.write(ctx, path, data, tag, "")
}

// Create implements Store.
func (h *HTTP) Create(ctx context.Context, path string, data []byte, base string) error {
	if err := creatable(path); err != nil {
		return err
	}
	return h.write(ctx, path, data, "", base)
}

// write stores metadata over what has the tag; base is that of Create.
func (h *HTTP) write(ctx context.Context, path string, data []byte, tag, base string) error {
	_, _, err := h.do(ctx, request{
		what: "replace " + path, method: http.MethodPut, path: path, ctype: "application/json",
		body: bytes.NewReader(data), size: int64(len(data)), limit: maxMessage, auth: true, ifMatch: &tag, base: base,
	})
	return err
}

type request struct {
	what, method, path, ctype string
	body                      io.ReaderAt
	size                      int64
	limit                     int64 // bytes of the answer that are wanted
	auth                      bool
	fresh                     bool    // no cache may answer
	ifMatch                   *string // tag; empty: only if there is nothing
	base                      string  // see storepath.BaseHeader
}

// do sends a request, again and again while it fails for reasons that pass.
func (h *HTTP) do(ctx context.Context, r request) (data []byte, tag string, err error) {
	pause := firstPause
	for n := 1; ; n++ {
		var again bool
		data, tag, again, err = h.once(ctx, r)
		if err == nil || !again || n == attempts {
			return data, tag, err
		}
		select {
		case <-ctx.Done():
			return nil, "", fmt.Errorf("%s: %w", r.what, context.Cause(ctx))
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause *= 2
	}
}

// once sends a request. again says that another attempt may help.
func (h *HTTP) once(ctx context.Context, r request) (data []byte, tag string, again bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, again, err := h.send(ctx, r)
	if err != nil {
		return nil, "", again, err
	}
	defer resp.Body.Close()
	data, err = io.ReadAll(io.LimitReader(resp.Body, r.limit+1))
	switch {
	case err != nil:
		return nil, "", ctx.Err() == nil, fmt.Errorf("%s: %w: %w", r.what, ErrUnreachable, err)
	case resp.StatusCode >= 300:
		again, err := refusal(r, resp.StatusCode, data)
		return nil, "", again, err
	case int64(len(data)) > r.limit:
		return nil, "", false, fmt.Errorf("%s: the answer has more than %d bytes", r.what, r.limit)
	}
	return data, resp.Header.Get("ETag"), false, nil
}

// send sends a request and returns the answer, whatever its status.
func (h *HTTP) send(ctx context.Context, r request) (resp *http.Response, again bool, err error) {
	var body io.Reader
	if r.body != nil {
		body = io.NewSectionReader(r.body, 0, r.size)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, h.base+"/"+r.path, body)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", r.what, err)
	}
	if r.body != nil {
		req.ContentLength = r.size
		if r.ctype == "" {
			r.ctype = "application/octet-stream"
		}
		req.Header.Set("Content-Type", r.ctype)
	}
	if r.auth && h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	if r.fresh {
		req.Header.Set("Cache-Control", "no-cache")
	}
	// The store's files are what they are: no coding on the way, which would also weaken the ETag.
	req.Header.Set("Accept-Encoding", "identity")
	if r.ifMatch != nil && *r.ifMatch == "" {
		req.Header.Set("If-None-Match", "*")
	} else if r.ifMatch != nil {
		req.Header.Set("If-Match", *r.ifMatch)
	}
	if r.base != "" {
		req.Header.Set(storepath.BaseHeader, r.base)
	}
	resp, err = h.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, false, fmt.Errorf("%s: %w", r.what, ctx.Err())
		}
		return nil, true, fmt.Errorf("%s: %w: %w", r.what, ErrUnreachable, err)
	}
	return resp, false, nil
}

// PutPack implements Store.
func (h *HTTP) PutPack(ctx context.Context, manifest digest.SHA256, body io.ReaderAt, size int64) error {
	_, _, err := h.do(ctx, request{
		what: "upload the boot pack", method: http.MethodPut, path: storepath.Pack(manifest),
		body: body, size: size, limit: maxMessage, auth: true,
	})
	return err
}

// OpenPack implements Store.
func (h *HTTP) OpenPack(ctx context.Context, manifest digest.SHA256) (io.ReadCloser, error) {
	r := request{what: "read the boot pack", method: http.MethodGet, path: storepath.Pack(manifest), fresh: true}
	resp, _, err := h.send(ctx, r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	message, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage)) // the status says enough
	_, err = refusal(r, resp.StatusCode, message)
	return nil, err
}

// StatPack implements Store. Web servers that are no InetBoot server say the
// same.
func (h *HTTP) StatPack(ctx context.Context, manifest digest.SHA256) (Info, error) {
	path := storepath.Pack(manifest)
	r := request{what: "look for the boot pack", method: http.MethodHead, path: path, fresh: true}
	resp, _, err := h.send(ctx, r)
	if err != nil {
		return Info{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		_, err := refusal(r, resp.StatusCode, nil)
		return Info{}, err
	}
	written, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil {
		written = time.Time{} // is not told
	}
	return Info{Path: path, Size: resp.ContentLength, Time: written}, nil
}

// RemovePack implements Store.
func (h *HTTP) RemovePack(ctx context.Context, manifest digest.SHA256) error {
	_, _, err := h.do(ctx, request{what: "remove the boot pack", method: http.MethodDelete, path: storepath.Pack(manifest), limit: maxMessage, auth: true})
	return err
}

// refusal turns a status into an error.
func refusal(r request, status int, message []byte) (again bool, err error) {
	reason := map[int]error{
		http.StatusNotFound:              ErrNotExist,
		http.StatusUnauthorized:          ErrUnauthorized,
		http.StatusForbidden:             ErrUnauthorized,
		http.StatusPreconditionFailed:    ErrConflict,
		http.StatusConflict:              ErrConflict,
		http.StatusInsufficientStorage:   ErrFull,
		http.StatusBadRequest:            ErrRejected,
		http.StatusMethodNotAllowed:      ErrRejected,
		http.StatusRequestEntityTooLarge: ErrRejected,
		http.StatusUnprocessableEntity:   ErrRejected,
	}[status]
	if reason == nil {
		reason = ErrUnreachable
		again = status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout
	}
	detail := fmt.Sprintf("%d %s", status, http.StatusText(status))
	if m := readable(message); m != "" {
		detail += ": " + m
	}
	return again, fmt.Errorf("%s: %w (%s)", r.what, reason, detail)
}

// readable returns what a server says about an error, in one line.
func readable(b []byte) string {
	var doc struct{ Message, Error string }
	if err := json.Unmarshal(b, &doc); err == nil {
		if doc.Message != "" {
			b = []byte(doc.Message)
		} else if doc.Error != "" {
			b = []byte(doc.Error)
		}
	}
	s := strings.Join(strings.FieldsFunc(string(b), func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(s) > 200 {
		s = s[:200] + "…"
	}
	return strings.TrimSpace(strings.ToValidUTF8(s, "?"))
}
