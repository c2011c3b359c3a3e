// Package strictjson reads JSON that comes from elsewhere. It refuses what
// encoding/json lets pass: members that stand twice (also when they differ in
// case only, because encoding/json matches names without regard to case),
// data after the value, invalid UTF-8, deep nesting and documents over a size.
//
// Members that the reader does not know are allowed: a medium is never
// rewritten, so an old one has to read the documents of a newer publisher.
// What an old reader must not ignore is listed in a document's "requires".
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may nest.
const MaxDepth = 32

// ErrSyntax is wrapped by every error of Unmarshal that is about form.
var ErrSyntax = errors.New("malformed JSON")

// Unmarshal reads the one JSON value in data, at most limit bytes, into v.
func Unmarshal(data []byte, limit int, v any) error {
	if len(data) > limit {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrSyntax, len(data), limit)
	}
	if !utf8.Valid(data) {
		return fmt.Errorf("%w: not UTF-8", ErrSyntax)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	if err := check(dec, 0); err != nil {
		return fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: data after the value, at byte %d", ErrSyntax, dec.InputOffset())
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrSyntax, err)
	}
	return nil
}

func check(dec *json.Decoder, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("nested deeper than %d", MaxDepth)
	}
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	open, ok := tok.(json.Delim)
	if !ok {
		return nil
	}
	seen := make(map[string]bool)
	for dec.More() {
		if open == '{' {
			key, err := dec.Token()
			if err != nil {
				return err
			}
			name, _ := key.(string)
			// Upper before lower folds U+017F and U+212A, as encoding/json does.
			if folded := strings.ToLower(strings.ToUpper(name)); seen[folded] {
				return fmt.Errorf("member %q stands twice", name)
			} else {
				seen[folded] = true
			}
		}
		if err := check(dec, depth+1); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

// RequiresError says that a document needs features that this program lacks.
type RequiresError struct {
	What    string   // the document or entry
	Missing []string // features
}

func (e *RequiresError) Error() string {
	return fmt.Sprintf("%s needs %s, which this version of InetBoot does not have: use a newer boot medium or program", e.What, strings.Join(e.Missing, ", "))
}

// Requires returns a *RequiresError if features has one that is not in known.
func Requires(what string, features, known []string) error {
	var missing []string
	for _, f := range features {
		if !slices.Contains(known, f) {
			missing = append(missing, f)
		}
	}
	if missing != nil {
		return &RequiresError{What: what, Missing: missing}
	}
	return nil
}
