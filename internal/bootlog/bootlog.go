// Package bootlog is the log of a boot as a machine sends it to its server,
// above all of one that did not get through.
package bootlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// Format is the value of a Report's "format".
const Format = "inetboot-boot-log/1"

// Path is where a server takes reports, relative to its base URL.
const Path = "api/v1/boot-logs"

// MaxBytes bounds a report.
const MaxBytes = 256 << 10

const (
	maxLines   = 512
	maxText    = 1000 // bytes of a line, and of a failure
	maxStages  = 64
	maxName    = 64
	maxUnix    = 1 << 52 // milliseconds
	maxBracket = 2 * (maxLines + maxStages)
)

// Parts of a boot that send reports.
const (
	Preboot = "preboot" // from the medium's first line until it leaves for the target
	Target  = "target"  // from the target's kernel on
)

// ErrReport is wrapped by every error about a report's contents.
var ErrReport = errors.New("invalid boot log")

// Report is what a machine tells about a part of one boot.
type Report struct {
	Format  string          `json:"format"`
	BootID  string          `json:"boot_id"`           // as in the handoff
	Client  string          `json:"client"`            // MAC address of the link in use
	Part    string          `json:"part"`              // Preboot or Target
	Failure string          `json:"failure,omitempty"` // why it did not get through; "": it did, so far
	Entry   string          `json:"entry,omitempty"`   // of the menu
	Stages  []handoff.Stage `json:"stages"`            // in the order of time
	Lines   []Line          `json:"lines"`             // the newest, in their order
}

// Line is one line of the log.
type Line struct {
	Unix int64  `json:"unix"` // milliseconds since 1970
	Text string `json:"text"`
}

// Parse reads and checks a report. Errors wrap ErrReport.
func Parse(data []byte) (*Report, error) {
	if n := bytes.Count(data, []byte("[")) + bytes.Count(data, []byte("{")); n > maxBracket+len(data)/8 {
		return nil, fmt.Errorf("%w: %d arrays and objects", ErrReport, n)
	}
	var r Report
	if err := strictjson.Unmarshal(data, MaxBytes, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReport, err)
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	return &r, nil
}

func (r *Report) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrReport, fmt.Errorf(format, args...))
	}
	switch mac, err := net.ParseMAC(r.Client); {
	case r.Format != Format:
		return bad("format is %.40q, want %q", r.Format, Format)
	case !ValidID(r.BootID):
		return bad("boot_id %.40q, want 32 hexadecimal digits", r.BootID)
	case err != nil || mac.String() != r.Client:
		return bad("client %.40q, want a MAC address with colons and lower-case digits", r.Client)
	case r.Part != Preboot && r.Part != Target:
		return bad("part %.40q, want %q or %q", r.Part, Preboot, Target)
	case !plain(r.Failure):
		return bad("failure is too long, or not one line of text")
	case r.Entry != "" && (len(r.Entry) > maxName || !plain(r.Entry)):
		return bad("entry %.40q", r.Entry)
	case len(r.Stages) > maxStages || len(r.Lines) > maxLines:
		return bad("%d stages and %d lines, at most %d and %d are allowed", len(r.Stages), len(r.Lines), maxStages, maxLines)
	}
	for _, s := range r.Stages {
		if !storepath.ValidElement(s.Name) || len(s.Name) > maxName || s.Unix < 0 || s.Unix > maxUnix {
			return bad("stage %.40q at %d ms", s.Name, s.Unix)
		}
	}
	for i, l := range r.Lines {
		if !plain(l.Text) || l.Unix < 0 || l.Unix > maxUnix {
			return bad("line %d is too long, or not one line of text", i+1)
		}
	}
	return nil
}

// ValidID tells whether s names a boot.
func ValidID(s string) bool {
	return len(s) == 32 && strings.Trim(s, "0123456789abcdef") == ""
}

// plain tells whether s is one line without control characters.
func plain(s string) bool { return len(s) <= maxText && utf8.ValidString(s) && s == oneLine(s) }

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// Clip makes one line of at most 1000 bytes of s.
func Clip(s string) string {
	s = oneLine(strings.ToValidUTF8(s, "\ufffd"))
	if len(s) <= maxText {
		return s
	}
	n := maxText - 3
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// Marshal returns r as a file. Lines and stages that are too much are left out, the
// oldest lines first.
func (r *Report) Marshal() ([]byte, error) {
	c := *r
	c.Format, c.Failure = Format, Clip(r.Failure)
	c.Stages = append([]handoff.Stage{}, r.Stages[:min(len(r.Stages), maxStages)]...)
	c.Lines = append([]Line{}, r.Lines[max(0, len(r.Lines)-maxLines):]...)
	for {
		data, err := json.Marshal(&c)
		if err != nil {
			return nil, fmt.Errorf("encode the boot log: %w", err)
		}
		if len(data) <= MaxBytes {
			return data, c.check()
		}
		c.Lines = c.Lines[(len(c.Lines)+1)/2:]
	}
}

// ErrNotTaken is wrapped if a server has answered that it does not take a
// report. Mirrors that only have files never do.
var ErrNotTaken = errors.New("the server does not take it")

// Post sends r to the server at a base URL.
func Post(ctx context.Context, c *http.Client, base string, r *Report) error {
	data, err := r.Marshal()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(base, "/")+"/"+Path, bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("send the boot log: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(req)
	if err != nil {
		return fmt.Errorf("send the boot log: %w", err)
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // so that the connection can be used again
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("send the boot log to %s: %w: %s", base, ErrNotTaken, resp.Status)
	}
	return nil
}

// Recorder remembers the newest lines of a log. Its methods may be called from
// any goroutine. The zero value is ready to use.
type Recorder struct {
	mu    sync.Mutex
	lines []recorded
}

type recorded struct {
	at   time.Time
	text string
}

// Add takes a line that was written at t. A time from time.Now is right in
// what Lines returns even if the clock is set in between.
func (r *Recorder) Add(t time.Time, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.lines) >= maxLines {
		r.lines = slices.Delete(r.lines, 0, len(r.lines)-maxLines+1)
	}
	r.lines = append(r.lines, recorded{t, Clip(text)})
}

// Lines returns what is remembered, oldest first.
func (r *Recorder) Lines() []Line {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	out := make([]Line, len(r.lines))
	for i, l := range r.lines {
		out[i] = Line{Unix: max(now.Add(-now.Sub(l.at)).UnixMilli(), 0), Text: l.text}
	}
	return out
}
