package clients

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/internal/strictjson"
)

// The columns of a table of clients that come first; others
// are settings by their names. "client" is what a section is called.
func csvFirst() []string { return []string{"client", "name", "address", "type", "group", "service"} }

// ParseCSV reads a table of clients (RFC 4180). The first line names the
// columns: "client" (or "mac"), and settings. An empty field sets nothing.
func ParseCSV(name string, data []byte) ([]Section, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("%w: %s has more than %d bytes", ErrInvalid, name, MaxFile)
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff"))))
	r.TrimLeadingSpace = true
	head, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: the first line has to name the columns, such as client,name,address: %w", ErrInvalid, name, err)
	}
	column := -1
	for i := range head {
		head[i] = normalKey(strings.TrimSpace(head[i]))
		if head[i] == "client" || head[i] == "mac" {
			if column >= 0 {
				return nil, fmt.Errorf("%w: %s: two columns say which client it is", ErrInvalid, name)
			}
			column = i
		}
	}
	if column < 0 {
		return nil, fmt.Errorf("%w: %s: no column is called client or mac", ErrInvalid, name)
	}
	var list []Section
	var errs []error
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.Join(append(errs, fmt.Errorf("%w: %s: %w", ErrInvalid, name, err))...)
		}
		line, _ := r.FieldPos(0)
		bad := func(err error) {
			if len(errs) < 50 {
				errs = append(errs, fmt.Errorf("%w: %s:%d: %w", ErrInvalid, name, line, err))
			}
		}
		s := Section{Kind: Client, File: name, Line: line}
		if s.Name, err = ClientName(strings.TrimSpace(row[column])); err != nil {
			bad(err)
			continue
		}
		for i, text := range row {
			if text = strings.TrimSpace(text); i == column || text == "" {
				continue
			}
			v := Value{Key: head[i], Text: text, Line: line}
			if err := checkValue(s.Kind, s.Name, v); err != nil {
				bad(err)
				continue
			}
			s.Values = append(s.Values, v)
		}
		if len(list) == maxSections {
			return nil, fmt.Errorf("%w: %s: more than %d clients", ErrInvalid, name, maxSections)
		}
		list = append(list, s)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return list, nil
}

// FormatCSV writes the clients as a table that ParseCSV reads. Several
// arguments of the kernel become one.
func FormatCSV(list []Section) ([]byte, error) {
	columns := csvFirst()
	var more []string
	for _, s := range list {
		for _, v := range s.Values {
			if s.Kind == Client && !slices.Contains(columns, v.Key) && !slices.Contains(more, v.Key) {
				more = append(more, v.Key)
			}
		}
	}
	slices.Sort(more)
	columns = append(columns, more...)
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	if err := w.Write(columns); err != nil {
		return nil, err
	}
	for _, s := range list {
		if s.Kind != Client {
			continue
		}
		row := make([]string, len(columns))
		row[0] = s.Name
		for _, v := range s.Values {
			i := slices.Index(columns, v.Key)
			row[i] = strings.TrimSpace(row[i] + " " + v.Text)
		}
		if err := w.Write(row); err != nil {
			return nil, err
		}
	}
	w.Flush()
	return b.Bytes(), w.Error()
}

// jsonSection is a section in JSON: its header without brackets, and values
// by name; of an argument there may be several.
type jsonSection struct {
	Section string              `json:"section"`
	Values  map[string][]string `json:"values"`
}

// ParseJSON reads sections as FormatJSON writes them.
func ParseJSON(name string, data []byte) ([]Section, error) {
	var in []jsonSection
	if err := strictjson.Unmarshal(data, MaxFile, &in); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrInvalid, name, err)
	}
	if len(in) > maxSections {
		return nil, fmt.Errorf("%w: %s: more than %d sections", ErrInvalid, name, maxSections)
	}
	list := make([]Section, 0, len(in))
	for i, j := range in {
		kind, n, err := ParseHeader(j.Section)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: section %d: %w", ErrInvalid, name, i+1, err)
		}
		s := Section{Kind: kind, Name: n, File: name}
		for _, k := range sortedKeys(j.Values) {
			for _, text := range j.Values[k] {
				v := Value{Key: normalKey(k), Text: text}
				if err := checkValue(kind, n, v); err != nil {
					return nil, fmt.Errorf("%w: %s: %s: %w", ErrInvalid, name, s.Header(), err)
				}
				s.Values = append(s.Values, v)
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// FormatJSON writes sections.
func FormatJSON(list []Section) ([]byte, error) {
	out := make([]jsonSection, 0, len(list))
	for _, s := range list {
		j := jsonSection{Section: strings.Trim(s.Header(), "[]"), Values: make(map[string][]string)}
		if isGlob(s.Name) {
			j.Section = s.Name
		}
		for _, v := range s.Values {
			j.Values[v.Key] = append(j.Values[v.Key], v.Text)
		}
		out = append(out, j)
	}
	data, err := json.MarshalIndent(out, "", " ")
	return append(data, '\n'), err
}
