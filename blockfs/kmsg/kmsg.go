// Package kmsg writes log records to the kernel's log, where they are before
// there is a journal and after it is gone.
package kmsg

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
)

// maxRecord is what the kernel takes in one write, less than LOG_LINE_MAX.
const maxRecord = 900

// Handler is a slog.Handler for /dev/kmsg. It writes through a file that is
// open already, one write for each record.
type Handler struct {
	w      io.Writer
	prefix string
	level  slog.Leveler
	attrs  string
	group  string
}

var _ slog.Handler = (*Handler)(nil)

// NewHandler returns a Handler that writes records of at least the given level
// to w, with "prefix: " before the message.
func NewHandler(w io.Writer, prefix string, level slog.Leveler) *Handler {
	return &Handler{w: w, prefix: prefix, level: level}
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// priority returns the value for <N>: facility daemon (3) and the severity.
// Info is notice, so that it is seen on a console with the usual log level.
func priority(l slog.Level) int {
	const daemon = 3 << 3
	switch {
	case l >= slog.LevelError:
		return daemon | 3
	case l >= slog.LevelWarn:
		return daemon | 4
	case l >= slog.LevelInfo:
		return daemon | 5
	}
	return daemon | 7
}

// Handle implements slog.Handler.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<%d>%s: %s%s", priority(r.Level), h.prefix, clean(r.Message), h.attrs)
	r.Attrs(func(a slog.Attr) bool { appendAttr(&b, h.group, a); return true })
	if b.Len() > maxRecord {
		b.Truncate(maxRecord - 3)
		b.WriteString("...")
	}
	b.WriteByte('\n')
	_, err := h.w.Write(b.Bytes())
	return err
}

// clean makes one line of s: a line feed would end the record.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

func appendAttr(b *bytes.Buffer, group string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		for _, x := range v.Group() {
			appendAttr(b, group+a.Key+".", x)
		}
		return
	}
	if a.Equal(slog.Attr{}) {
		return
	}
	s := clean(v.String())
	if strings.ContainsAny(s, " \"=") || s == "" {
		s = strconv.Quote(s)
	}
	fmt.Fprintf(b, " %s%s=%s", group, a.Key, s)
}

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b bytes.Buffer
	for _, a := range attrs {
		appendAttr(&b, h.group, a)
	}
	c := *h
	c.attrs += b.String()
	return &c
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.group += name + "."
	return &c
}
