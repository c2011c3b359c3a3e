package syslog

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Severities of RFC 5424 section 6.2.1 that this system uses.
const (
	Error   = 3
	Warning = 4
	Info    = 6
)

// Facilities.
const (
	Kernel = 0
	Daemon = 3
)

// Message is one line.
type Message struct {
	// Time is when it was written. One from time.Now is right in what is
	// sent even if the clock is set in between.
	Time     time.Time
	Facility int    // 0 to 23
	Severity int    // 0 to 7
	App      string // APP-NAME; "": inetboot
	Text     string
}

// App is the name of this system in what is sent.
const App = "inetboot"

// maxMessage bounds what is sent for a line, in bytes, so that a datagram
// passes without fragments where IPv6 does (RFC 5426 section 3.2).
const maxMessage = 1152

// maxText bounds a line's text in the queue, in bytes.
const maxText = 1000

// sdID names the structured data. 32473 is the number for examples (RFC 5612):
// the project has none of its own.
const sdID = "inetboot@32473"

// header is what the lines of a boot have in common.
type header struct {
	host string // HOSTNAME
	boot string
}

// appendTo appends m as a SYSLOG-MSG of RFC 5424, without framing. seq is its
// number in the boot, from 1.
func (h *header) appendTo(b []byte, m *Message, seq uint64) []byte {
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(m.Facility&31)<<3|int64(m.Severity&7), 10)
	b = append(b, ">1 "...)
	// By the clock as it is now, and by how long ago it was.
	now := time.Now()
	b = now.Add(-now.Sub(m.Time)).UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
	b = append(b, ' ')
	b = append(b, word(h.host, 255)...)
	b = append(b, ' ')
	app := m.App
	if app == "" {
		app = App
	}
	b = append(b, word(app, 48)...)
	b = append(b, " - - [meta sequenceId=\""...)
	b = strconv.AppendUint(b, (seq-1)%(1<<31-1)+1, 10) // RFC 5424 section 7.3.1
	b = append(b, '"', ']')
	if h.boot != "" {
		b = append(b, "["+sdID+" boot=\""...)
		b = append(b, word(h.boot, 64)...)
		b = append(b, '"', ']')
	}
	b = append(b, ' ')
	text := oneLine(m.Text)
	if strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
		b = append(b, "\xef\xbb\xbf"...) // RFC 5424 section 6.4
	}
	return append(b, shorten(text, maxMessage-len(b))...)
}

// word returns s as a field of the header, which has printable ASCII alone,
// and nothing that would have to be escaped in structured data.
func word(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == '"' || r == '\\' || r == ']' {
			return -1
		}
		return r
	}, s)
	if s == "" {
		return "-"
	}
	return s[:min(len(s), limit)]
}

// oneLine returns valid UTF-8 without control characters.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// shorten cuts s to at most n bytes, between characters.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n = max(n-3, 0); n > 0 && !utf8.RuneStart(s[n]); n-- {
	}
	return s[:n] + "..."
}
