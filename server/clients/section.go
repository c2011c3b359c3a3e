package clients

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Kind is what a section is about.
type Kind string

// The kinds of sections.
const (
	Default  Kind = "default" // all machines
	Unknown  Kind = "unknown" // machines that are not known
	Type     Kind = "type"    // a kind of hardware
	Group    Kind = "group"   // machines that belong together
	Service  Kind = "service" // what a machine is for
	Template Kind = "section" // for "like" only
	Client   Kind = "client"  // a machine: MAC address, UUID, host name, or a glob of them
)

// Value is one setting in a section.
type Value struct {
	Key  string `json:"key"`
	Text string `json:"value"`
	Line int    `json:"-"` // in the file; 0 if it is from elsewhere
}

// Section is settings with a name.
type Section struct {
	Kind   Kind
	Name   string // normalized; empty for Default and Unknown
	Values []Value
	File   string // where it is from: a path, or "database"
	Line   int    // of the header; 0 if it is from the database
}

// Header returns the section's header as it is written in a file.
func (s *Section) Header() string {
	switch s.Kind {
	case Default, Unknown:
		return "[" + string(s.Kind) + "]"
	case Client:
		switch Kind(s.Name) {
		case Default, Unknown, Type, Group, Service, Template, Client: // machines with odd names
			return "[client " + s.Name + "]"
		}
		return "[" + s.Name + "]"
	}
	return "[" + string(s.Kind) + " " + s.Name + "]"
}

// Get returns the last value of a key.
func (s *Section) Get(key string) (string, bool) {
	for i := len(s.Values) - 1; i >= 0; i-- {
		if s.Values[i].Key == key {
			return s.Values[i].Text, true
		}
	}
	return "", false
}

// Set sets a key to the values given, in place of those that were there; none
// takes the key away.
func (s *Section) Set(key string, values ...string) {
	s.Values = slices.DeleteFunc(slices.Clone(s.Values), func(v Value) bool { return v.Key == key })
	for _, v := range values {
		s.Values = append(s.Values, Value{Key: key, Text: v})
	}
}

// where returns a place for messages.
func (s *Section) where(line int) string {
	if line == 0 {
		line = s.Line
	}
	if line == 0 {
		return s.File + " " + s.Header()
	}
	return fmt.Sprintf("%s:%d", s.File, line)
}

// ParseHeader reads what stands between the brackets of a header.
func ParseHeader(text string) (Kind, string, error) {
	text = strings.TrimSpace(text)
	word, rest, _ := strings.Cut(text, " ")
	rest = strings.TrimSpace(rest)
	switch k := Kind(strings.ToLower(word)); k {
	case Default, Unknown:
		if rest == "" {
			return k, "", nil
		}
	case Type, Group, Service, Template:
		if !wordOK(rest) {
			return "", "", fmt.Errorf("[%s]: want a name of letters, digits and - . _ after %s", text, k)
		}
		return k, rest, nil
	case Client:
		text = rest
	}
	name, err := ClientName(text)
	return Client, name, err
}

func wordOK(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= 100
}

// ClientName normalizes what a section of a client is called by: a MAC address
// in any usual form, a UUID, a host name, or a glob (path.Match) of one of them.
func ClientName(s string) (string, error) {
	if mac, ok := ParseMAC(s); ok {
		return mac, nil
	}
	l := strings.ToLower(s)
	if isGlob(l) {
		if _, err := path.Match(l, ""); err != nil || len(l) > 100 || strings.ContainsFunc(l, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) {
			return "", fmt.Errorf("[%s] is no pattern: * stands for any characters, ? for one, [a-f] for one of these", s)
		}
		return l, nil
	}
	if IsUUID(l) {
		return l, nil
	}
	if !hostOK(l) {
		return "", fmt.Errorf("[%s] is no MAC address, UUID, host name or pattern, and no kind of section with a name: default, unknown, type, group, service, section", s)
	}
	return l, nil
}

func isGlob(s string) bool { return strings.ContainsAny(s, "*?[") }

func hostOK(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// ParseMAC reads an Ethernet address as 52:54:00:12:34:56, with dashes, as
// 5254.0012.3456, or as twelve digits, and returns the first form.
func ParseMAC(s string) (string, bool) {
	group := 2
	var sep byte
	switch {
	case len(s) == 17 && (s[2] == ':' || s[2] == '-'):
		sep = s[2]
	case len(s) == 14 && s[4] == '.':
		sep, group = '.', 4
	case len(s) != 12:
		return "", false
	}
	out := make([]byte, 0, 17)
	digits := 0
	for i := range len(s) {
		c := s[i] | 0x20 // lower case; digits have the bit already
		if sep != 0 && i%(group+1) == group {
			if s[i] != sep {
				return "", false
			}
			continue
		}
		if (s[i] < '0' || s[i] > '9') && (c < 'a' || c > 'f') {
			return "", false
		}
		if digits > 0 && digits%2 == 0 {
			out = append(out, ':')
		}
		out = append(out, c)
		digits++
	}
	return string(out), digits == 12
}

// IsUUID tells whether s is a UUID in lower case (RFC 9562 section 4).
func IsUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,99}$`)
