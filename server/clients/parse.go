package clients

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxFile bounds a file of settings, in bytes.
const MaxFile = 8 << 20

// Parse reads a file of settings. Errors wrap ErrInvalid and name all lines
// that are wrong, up to fifty. Whether the sections make a whole, NewBook says.
func Parse(name string, data []byte) ([]Section, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrInvalid, name, MaxFile)
	}
	var list []Section
	var errs []error
	bad := func(line int, format string, args ...any) {
		if len(errs) < 50 {
			errs = append(errs, fmt.Errorf("%w: %s:%d: %s", ErrInvalid, name, line, fmt.Sprintf(format, args...)))
		}
	}
	skip := false // a section with a wrong header
	for i, raw := range bytes.Split(data, []byte("\n")) {
		n := i + 1
		if !utf8.Valid(raw) || bytes.IndexByte(raw, 0) >= 0 {
			bad(n, "not UTF-8 text")
			continue
		}
		line := strings.TrimSpace(strings.TrimPrefix(string(raw), "\ufeff"))
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[':
			inside, ok := strings.CutSuffix(line[1:], "]")
			if !ok {
				bad(n, "%s: ] is missing at the end", line)
				skip = true
				continue
			}
			kind, name2, err := ParseHeader(inside)
			if skip = err != nil; skip {
				bad(n, "%v", err)
				continue
			}
			if len(list) == maxSections {
				bad(n, "more than %d sections", maxSections)
				return nil, errors.Join(errs...)
			}
			list = append(list, Section{Kind: kind, Name: name2, File: name, Line: n})
		default:
			key, text, ok := strings.Cut(line, "=")
			key = normalKey(strings.TrimSpace(key))
			switch {
			case !ok:
				bad(n, "%s: want NAME = VALUE, or a section as [default]", line)
			case skip:
			case len(list) == 0:
				bad(n, "%s stands before the first section: put [default] above it", key)
			default:
				s := &list[len(list)-1]
				if len(s.Values) > maxValues { // NewBook refuses it
					continue
				}
				s.Values = append(s.Values, Value{Key: key, Text: strings.TrimSpace(text), Line: n})
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}

// normalKey makes names of settings lower case, but not the variables and
// modules in them.
func normalKey(k string) string {
	if head, sub, ok := strings.Cut(k, "."); ok {
		return strings.ToLower(head) + "." + sub
	}
	return strings.ToLower(k)
}

// Format writes sections as a file that Parse reads.
func Format(list []Section) []byte {
	var b bytes.Buffer
	for i, s := range list {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintln(&b, s.Header())
		for _, v := range s.Values {
			fmt.Fprintf(&b, "%s = %s\n", v.Key, v.Text)
		}
	}
	return b.Bytes()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
