package tuf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"unicode/utf8"
)

// maxDepth is how deep objects and arrays may nest.
const maxDepth = 32

type object = map[string]any

// parseJSON reads the one JSON value in data as a tree of map[string]any,
// []any, string, json.Number, bool and nil. A member that stands twice, data
// behind the value, what is not UTF-8 and deep nesting are refused: two
// readers must not understand one document in two ways.
func parseJSON(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	v, err := parseValue(dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("data after the value, at byte %d", dec.InputOffset())
	}
	return v, nil
}

func parseValue(dec *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d", maxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return tok, nil
	}
	var list []any
	members := make(object)
	for dec.More() {
		name := ""
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return nil, err
			}
			name, _ = key.(string)
			if _, twice := members[name]; twice {
				return nil, fmt.Errorf("member %q stands twice", name)
			}
		}
		v, err := parseValue(dec, depth+1)
		if err != nil {
			return nil, err
		}
		if open == '{' {
			members[name] = v
		} else {
			list = append(list, v)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if open == '{' {
		return members, nil
	}
	return list, nil
}

// canonical appends v, as parseJSON returns it, in OLPC canonical JSON
// (http://wiki.laptop.org/go/Canonical_JSON): what TUF signs. Numbers other
// than integers have no such form.
func canonical(b []byte, v any) ([]byte, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case json.Number:
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("number %.40s: want an integer of 64 bits", string(v))
		}
		return strconv.AppendInt(b, n, 10), nil
	case string:
		return canonicalString(b, v), nil
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			if b, err = canonical(b, e); err != nil {
				return nil, err
			}
		}
		return append(b, ']'), nil
	case object:
		names := make([]string, 0, len(v))
		for n := range v {
			names = append(names, n)
		}
		slices.Sort(names)
		b = append(b, '{')
		for i, n := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(canonicalString(b, n), ':')
			if b, err = canonical(b, v[n]); err != nil {
				return nil, err
			}
		}
		return append(b, '}'), nil
	}
	return nil, fmt.Errorf("a %T", v)
}

// canonicalString escapes quotes and backslashes, and nothing else.
func canonicalString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// reader takes typed members out of objects and remembers the first thing
// that did not fit. Names are compared exactly.
type reader struct{ err error }

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// member returns the member of o that has the type T; the zero value if it is
// missing and may be.
func member[T any](r *reader, o object, name string, optional bool) (out T) {
	v, there := o[name]
	if !there {
		if !optional {
			r.fail("%s is missing", name)
		}
		return out
	}
	out, ok := v.(T)
	if !ok {
		r.fail("%s is not what it has to be", name)
	}
	return out
}

func (r *reader) str(o object, name string) string { return member[string](r, o, name, false) }

// integer returns a member that is an integer of at least least.
func (r *reader) integer(o object, name string, least int64) int64 {
	n, err := strconv.ParseInt(string(member[json.Number](r, o, name, false)), 10, 64)
	if r.err == nil && (err != nil || n < least) {
		r.fail("%s is not an integer from %d on", name, least)
	}
	return n
}

// strings returns a member that is a list of strings.
func (r *reader) strings(o object, name string, optional bool) []string {
	var out []string
	for _, v := range member[[]any](r, o, name, optional) {
		s, ok := v.(string)
		if !ok {
			r.fail("%s is not a list of strings", name)
		}
		out = append(out, s)
	}
	return out
}

// objects calls f for each member of a member that is an object of objects.
func (r *reader) objects(o object, name string, f func(name string, o object)) {
	for n, v := range member[object](r, o, name, false) {
		m, ok := v.(object)
		if !ok {
			r.fail("%s in %s is no object", n, name)
			return
		}
		f(n, m)
	}
}
