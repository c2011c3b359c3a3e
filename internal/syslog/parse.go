package syslog

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// Received is a message that somebody has sent.
type Received struct {
	Message
	Host string // HOSTNAME, as the sender says; ""
	PID  string // PROCID; ""
	Boot string // which boot of the machine it is of, of this system's own messages; ""
}

// MaxReceived bounds what is taken of a message, in bytes; the rest is cut off.
const MaxReceived = 8192

// Where a message says none (RFC 3164 section 4.3.3): user-level, notice.
const defaultPriority = 13

// Parse reads a message of RFC 5424 or RFC 3164, or whatever else has come: there
// is nothing that it refuses. now is when it came, which stands for a time that
// is missing. All texts of the result are one line of valid UTF-8.
func Parse(data []byte, now time.Time) Received {
	data = bytes.TrimRight(data[:min(len(data), MaxReceived)], "\r\n\x00")
	pri, rest := priority(data)
	r := Received{Message: Message{Time: now, Facility: pri >> 3, Severity: pri & 7}}
	if !r.parse5424(rest) {
		r.parse3164(string(rest), now)
	}
	r.Text = oneLine(r.Text)
	return r
}

// priority reads <PRI>.
func priority(b []byte) (int, []byte) {
	if len(b) == 0 || b[0] != '<' {
		return defaultPriority, b
	}
	end := bytes.IndexByte(b[:min(len(b), 5)], '>')
	if end < 2 {
		return defaultPriority, b
	}
	n, err := strconv.ParseUint(string(b[1:end]), 10, 8)
	if err != nil || n > 191 {
		return defaultPriority, b
	}
	return int(n), b[end+1:]
}

// parse5424 reads what is behind the priority, if it is of RFC 5424.
func (r *Received) parse5424(b []byte) bool {
	rest, ok := bytes.CutPrefix(b, []byte("1 "))
	if !ok {
		return false
	}
	var fields [5]string // TIMESTAMP HOSTNAME APP-NAME PROCID MSGID
	for i := range fields {
		f, after, ok := bytes.Cut(rest, []byte{' '})
		if !ok || len(f) == 0 {
			return false
		}
		if string(f) != "-" {
			fields[i] = oneLine(string(f))
		}
		rest = after
	}
	at := r.Time
	if fields[0] != "" {
		var err error
		if at, err = time.Parse(time.RFC3339Nano, fields[0]); err != nil {
			return false
		}
	}
	boot, text, ok := structured(rest)
	if !ok {
		return false
	}
	r.Time, r.Host, r.App, r.PID, r.Boot = at, shorten(fields[1], 255), shorten(fields[2], 48), shorten(fields[3], 128), boot
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	r.Text = string(bytes.TrimPrefix(text, []byte{' '})) // rsyslog has one more
	return true
}

// structured skips STRUCTURED-DATA, and returns the boot that this system's own
// part of it names, and the text behind it.
func structured(b []byte) (boot string, text []byte, ok bool) {
	if len(b) > 0 && b[0] == '-' {
		b = b[1:]
	} else {
		if len(b) == 0 || b[0] != '[' {
			return "", nil, false
		}
		for len(b) > 0 && b[0] == '[' {
			end, quoted := -1, false
			for i := 1; i < len(b) && end < 0; i++ {
				switch {
				case quoted && b[i] == '\\':
					i++
				case b[i] == '"':
					quoted = !quoted
				case !quoted && b[i] == ']':
					end = i
				}
			}
			if end < 0 {
				return "", nil, false
			}
			if v, own := bytes.CutPrefix(b[1:end], []byte(sdID+` boot="`)); own {
				if v, _, closed := bytes.Cut(v, []byte{'"'}); closed {
					boot = shorten(oneLine(string(v)), 64)
				}
			}
			b = b[end+1:]
		}
	}
	if len(b) == 0 {
		return boot, nil, true
	}
	return boot, b[1:], b[0] == ' '
}

// parse3164 reads what is behind the priority as RFC 3164 section 4.1 has it,
// as far as it goes: TIMESTAMP HOSTNAME TAG[PID]: CONTENT.
func (r *Received) parse3164(s string, now time.Time) {
	s = strings.ToValidUTF8(s, "\ufffd")
	if at, rest, ok := stamp(s, now); ok {
		r.Time = at
		if host, after, ok := strings.Cut(rest, " "); ok && host != "" && !strings.HasSuffix(host, ":") && !strings.Contains(host, "[") {
			r.Host, rest = shorten(oneLine(host), 255), after
		}
		s = rest
	}
	r.Text = s
	// The tag ends with a colon, or with what it is the process of.
	end := strings.IndexAny(s, "[: ")
	if end < 1 || end > 48 || s[end] == ' ' {
		return
	}
	tag, rest := s[:end], s[end:]
	pid := ""
	if rest[0] == '[' {
		p, after, ok := strings.Cut(rest[1:], "]")
		if !ok || len(p) > 32 {
			return
		}
		pid, rest = p, after
	}
	if !strings.HasPrefix(rest, ":") {
		return
	}
	r.App, r.PID, r.Text = oneLine(tag), oneLine(pid), strings.TrimPrefix(rest[1:], " ")
}

// stamp reads the time at the start of s: as RFC 3164 has it, in local time
// and without a year, or as RFC 3339 has it, which rsyslog also sends.
func stamp(s string, now time.Time) (time.Time, string, bool) {
	if len(s) > len(time.Stamp) && s[len(time.Stamp)] == ' ' {
		at, err := time.ParseInLocation(time.Stamp, s[:len(time.Stamp)], now.Location())
		if err == nil {
			// The year that brings it closest to now.
			best := at.AddDate(now.Year()-at.Year(), 0, 0)
			for _, y := range []int{-1, 1} {
				if other := at.AddDate(now.Year()-at.Year()+y, 0, 0); other.Sub(now).Abs() < best.Sub(now).Abs() {
					best = other
				}
			}
			return best, s[len(time.Stamp)+1:], true
		}
	}
	first, rest, ok := strings.Cut(s, " ")
	if !ok {
		return time.Time{}, "", false
	}
	at, err := time.Parse(time.RFC3339Nano, first)
	return at, rest, err == nil
}
