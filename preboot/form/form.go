// Package form is a form as a state machine: keys go in, a screen and values
// come out. It knows neither terminals nor what its fields are about.
package form

import (
	"unicode/utf8"

	"github.com/inetboot/inetboot/preboot/console"
)

// Field is a line of text to be typed, or one of several choices.
type Field struct {
	ID      string
	Label   string
	Help    string
	Value   string
	Choices []Choice                             // of which Value is one; nil: text
	Above   bool                                 // the label stands above the value, which has the whole width
	Max     int                                  // bytes of text; 0: 256
	When    func(value func(string) string) bool // whether the field is shown, by the others' values; nil: always
}

// Choice is one of a field's possible values.
type Choice struct{ Value, Title string }

// Options describes a form.
type Options struct {
	Title  string
	Text   string // above the fields
	Fields []Field
	Submit string // what the last row says, which sends the form
}

// Event is what a key led to.
type Event int

// The events.
const (
	None   Event = iota
	Submit       // the person has filled the form in
	Cancel       // the person wants to go back
)

// maxText bounds a field without a bound of its own, in bytes.
const maxText = 256

// Model is a form and where one stands in it.
type Model struct {
	o      Options
	fields []Field
	at     int // of the fields shown; as many as there are: the last row
	cursor int // in the value of a text, in bytes
	status string
}

// New returns a form that stands on its first field.
func New(o Options) *Model {
	m := &Model{o: o, fields: append([]Field(nil), o.Fields...)}
	m.goTo(0)
	return m
}

// Value returns the value of a field, "" of one that is not shown.
func (m *Model) Value(id string) string {
	for _, i := range m.shown() {
		if m.fields[i].ID == id {
			return m.fields[i].Value
		}
	}
	return ""
}

// Fail says what is wrong with a field, and goes there.
func (m *Model) Fail(id, text string) {
	m.status = text
	for row, i := range m.shown() {
		if m.fields[i].ID == id {
			m.goTo(row)
		}
	}
}

// Status shows text below the form.
func (m *Model) Status(text string) { m.status = text }

func (m *Model) raw(id string) string {
	for i := range m.fields {
		if m.fields[i].ID == id {
			return m.fields[i].Value
		}
	}
	return ""
}

// shown returns the positions of the fields that are shown.
func (m *Model) shown() []int {
	var out []int
	for i := range m.fields {
		if w := m.fields[i].When; w == nil || w(m.raw) {
			out = append(out, i)
		}
	}
	return out
}

// field returns the field one stands on; nil: it is the last row.
func (m *Model) field() *Field {
	if shown := m.shown(); m.at < len(shown) {
		return &m.fields[shown[m.at]]
	}
	return nil
}

// goTo goes to a row, with the cursor at the end of its text.
func (m *Model) goTo(row int) {
	n := len(m.shown()) + 1
	m.at = (row + n) % n
	m.cursor = 0
	if f := m.field(); f != nil && f.Choices == nil {
		m.cursor = len(f.Value)
	}
}

// Press takes a key.
func (m *Model) Press(k console.Key) Event {
	f := m.field()
	switch {
	case k == console.Escape:
		return Cancel
	case k == console.Up:
		m.goTo(m.at - 1)
	case k == console.Down, k == console.Tab:
		m.goTo(m.at + 1)
	case k == console.PageUp:
		m.goTo(0)
	case k == console.PageDown:
		m.goTo(len(m.shown()))
	case k == console.Enter && f == nil:
		m.status = ""
		return Submit
	case k == console.Enter:
		m.goTo(m.at + 1)
	case f == nil:
	case f.Choices != nil:
		m.status = ""
		f.choose(k)
	default:
		m.edit(f, k)
	}
	return None
}

// choose goes to another one of the choices: the next, the one before, or the
// one of a number.
func (f *Field) choose(k console.Key) {
	at := 0
	for i, c := range f.Choices {
		if c.Value == f.Value {
			at = i
		}
	}
	n := len(f.Choices)
	switch {
	case k == console.Left:
		at = (at + n - 1) % n
	case k == console.Right, k == ' ':
		at = (at + 1) % n
	case k >= '1' && int(k-'1') < n:
		at = int(k - '1')
	}
	f.Value = f.Choices[at].Value
}

// edit changes a text.
func (m *Model) edit(f *Field, k console.Key) {
	v := f.Value
	switch {
	case k == console.Left && m.cursor > 0:
		_, n := utf8.DecodeLastRuneInString(v[:m.cursor])
		m.cursor -= n
	case k == console.Right && m.cursor < len(v):
		_, n := utf8.DecodeRuneInString(v[m.cursor:])
		m.cursor += n
	case k == console.Home:
		m.cursor = 0
	case k == console.End:
		m.cursor = len(v)
	case k == console.Clear:
		f.Value, m.cursor = "", 0
	case k == console.Backspace && m.cursor > 0:
		_, n := utf8.DecodeLastRuneInString(v[:m.cursor])
		f.Value = v[:m.cursor-n] + v[m.cursor:]
		m.cursor -= n
	case k == console.Delete && m.cursor < len(v):
		_, n := utf8.DecodeRuneInString(v[m.cursor:])
		f.Value = v[:m.cursor] + v[m.cursor+n:]
	case k >= ' ':
		r := string(rune(k))
		limit := f.Max
		if limit == 0 {
			limit = maxText
		}
		if len(v)+len(r) > limit {
			m.status = "There is no room for more."
			return
		}
		f.Value = v[:m.cursor] + r + v[m.cursor:]
		m.cursor += len(r)
	}
}
