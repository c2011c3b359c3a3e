package syslog

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := time.Date(2026, 1, 2, 3, 4, 0, 123000000, time.UTC)
	for in, want := range map[string]Received{
		`<30>1 2026-01-02T03:04:00.123Z h inetboot - - [meta sequenceId="1"][inetboot@32473 boot="b1"] hello`: {Message{at, 3, 6, "inetboot", "hello"}, "h", "", "b1"},
		"<13>1 2026-01-02T04:04:00.123+01:00 h app 12 ID - \xef\xbb\xbfgr\u00fc\u00dfe\n":                     {Message{at, 1, 5, "app", "gr\u00fc\u00dfe"}, "h", "12", ""},
		`<0>1 - - - - - - x`: {Message{now, 0, 0, "", "x"}, "", "", ""},
		`<0>1 - - - - - -`:   {Message{now, 0, 0, "", ""}, "", "", ""},
		`<8>1 - - - - - [a b="\"]\\"][inetboot@32473 boot="q"] y`: {Message{now, 1, 0, "", "y"}, "", "", "q"},
		`<8>1 - - - - - [a b="c" y`:                               {Message{now, 1, 0, "", `1 - - - - - [a b="c" y`}, "", "", ""},
		`<34>Dec 31 23:59:59 host su[7]: 'su root' failed`:        {Message{time.Date(2025, 12, 31, 23, 59, 59, 0, time.UTC), 4, 2, "su", "'su root' failed"}, "host", "7", ""},
		`<34>Jan  2 03:04:00 host kernel: [    0.0] Linux`:        {Message{time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), 4, 2, "kernel", "[    0.0] Linux"}, "host", "", ""},
		`<34>Jan  2 03:04:00 tag: text`:                           {Message{time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC), 4, 2, "tag", "text"}, "", "", ""},
		`<34>2026-01-02T03:04:00.123Z host tag: text`:             {Message{at, 4, 2, "tag", "text"}, "host", "", ""},
		`no priority`:   {Message{now, 1, 5, "", "no priority"}, "", "", ""},
		`<192>x`:        {Message{now, 1, 5, "", "<192>x"}, "", "", ""},
		`<>x`:           {Message{now, 1, 5, "", "<>x"}, "", "", ""},
		"<9>a\tb\x00\n": {Message{now, 1, 1, "", "a b"}, "", "", ""},
		"":              {Message{now, 1, 5, "", ""}, "", "", ""},
	} {
		got := Parse([]byte(in), now)
		got.Time = got.Time.UTC()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", in, diff)
		}
	}
	if got := Parse([]byte("<9>"+strings.Repeat("x", 20000)), now); len(got.Text) != MaxReceived-3 {
		t.Errorf("a text of %d bytes; want %d", len(got.Text), MaxReceived-3)
	}
	// What is sent can be read.
	h := header{"52:54:00:00:00:01", "boot1"}
	m := Message{Time: time.Now(), Facility: 3, Severity: 4, App: "a", Text: "t\u00e4xt"}
	got := Parse(h.appendTo(nil, &m, 9), now)
	if d := got.Time.Sub(m.Time).Abs(); d > time.Millisecond {
		t.Errorf("the time is %v off", d)
	}
	got.Time = m.Time
	if diff := cmp.Diff(Received{m, h.host, "", h.boot}, got); diff != "" {
		t.Errorf("Parse() of what is sent (-want +got):\n%s", diff)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"<30>1 2026-01-02T03:04:00.123Z h a p m [x y=\"z\"][inetboot@32473 boot=\"b\"] t", "<34>Dec 31 23:59:59 h su[7]: x", "<34>2026-01-02T03:04:00Z h t: x", "x"} {
		f.Add([]byte(s))
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := Parse(data, now)
		if r.Facility < 0 || r.Facility > 23 || r.Severity < 0 || r.Severity > 7 {
			t.Errorf("facility %d, severity %d", r.Facility, r.Severity)
		}
		for _, s := range []string{r.Host, r.App, r.PID, r.Boot, r.Text} {
			if !utf8.ValidString(s) || strings.ContainsAny(s, "\n\r\x00\x1b") || len(s) > 3*MaxReceived {
				t.Errorf("text %q", s)
			}
		}
	})
}
