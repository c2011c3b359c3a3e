package kmsg

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHandler(t *testing.T) {
	var b bytes.Buffer
	l := slog.New(NewHandler(&b, "inetboot", slog.LevelInfo))
	l.Debug("not seen")
	l.Info("root mounted", "seconds", 1.2)
	l.With("file", "meta").WithGroup("g").Warn("two\nlines", "error", errors.New("it's \"bad\""), slog.Group("h", "k", "v"))
	l.Error(strings.Repeat("x", 5000))
	lines := strings.SplitAfter(b.String(), "\n")
	want := []string{
		"<29>inetboot: root mounted seconds=1.2\n",
		"<28>inetboot: two lines file=meta g.error=\"it's \\\"bad\\\"\" g.h.k=v\n",
	}
	if diff := cmp.Diff(want, lines[:2]); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
	if len(lines) != 4 || len(lines[2]) > maxRecord+1 || !strings.HasPrefix(lines[2], "<27>inetboot: xxx") {
		t.Errorf("%d lines, the long one has %d bytes; want 3 and at most %d", len(lines)-1, len(lines[2]), maxRecord+1)
	}
}
