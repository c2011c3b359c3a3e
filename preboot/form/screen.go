package form

import (
	"slices"
	"strings"

	"github.com/inetboot/inetboot/preboot/console"
)

// The mark in front of a row, the widest label that stands beside its field,
// and the narrowest screen on which labels do.
const (
	markWidth   = 3
	maxLabel    = 24
	besideWidth = 60
)

// Screen returns what is to be seen. Long texts are wrapped over several lines;
// the terminal's own cursor shows where one types.
func (m *Model) Screen(size console.Size) console.Screen {
	width := size.Width()
	rest := max(size.Rows-4, 3) // without title, rules and keys
	help, message := min(max(rest/6, 1), 4), min(max(rest/6, 1), 4)
	view := max(rest-help-message, 1)

	s := console.Screen{{Text: " " + m.o.Title, Bold: true}, console.Rule(width, 0, "", "")}
	var body []console.Line
	if m.o.Text != "" && size.Rows > 12 {
		for _, l := range console.Wrap(m.o.Text, width-2) {
			body = append(body, console.Line{Text: " " + l})
		}
		body = append(body, console.Line{})
	}
	here := 0 // the line one stands on
	beside := m.beside(width)
	shown := m.shown()
	for n, i := range shown {
		lines := m.draw(&m.fields[i], n == m.at, beside, width)
		if n == m.at {
			here = len(body) + max(slices.IndexFunc(lines, func(l console.Line) bool { return l.Cursor > 0 }), 0)
		}
		body = append(body, lines...)
	}
	body = append(body, console.Line{})
	send := console.Line{Text: mark(m.at == len(shown)) + "[ " + m.o.Submit + " ]"}
	if m.at == len(shown) {
		here, send.Invert = len(body), true
	}
	body = append(body, send)

	top := max(0, min(here-view/2, len(body)-view))
	for i := range view {
		line := console.Line{}
		if top+i < len(body) {
			line = body[top+i]
		}
		s = append(s, line)
	}
	s = append(s, console.Rule(width, 0, "", ""))
	text := "Enter sends the form."
	if f := m.field(); f != nil {
		text = f.Help
	}
	s = console.Block(s, text, help, width)
	s = console.Block(s, m.status, message, width)
	return append(s, m.keys(width))
}

func (m *Model) keys(width int) console.Line {
	hints := []string{"Esc: back", "Up/Down: field"}
	switch f := m.field(); {
	case f == nil:
		hints = append([]string{"Enter: send"}, hints...)
	case f.Choices != nil:
		hints = append([]string{"Enter: next", "Left/Right: change"}, hints...)
	default:
		hints = append([]string{"Enter: next"}, append(hints, "Ctrl-U: clear")...)
	}
	return console.Hints(width, hints...)
}

// beside returns how many columns labels have beside their fields; 0: they
// stand above.
func (m *Model) beside(width int) int {
	if width < besideWidth {
		return 0
	}
	n := 0
	for i := range m.fields {
		if !m.fields[i].Above {
			n = max(n, console.Width(m.fields[i].Label))
		}
	}
	if n > maxLabel {
		return 0
	}
	return n + 2
}

func (m *Model) draw(f *Field, here bool, beside, width int) []console.Line {
	label := mark(here) + f.Label
	indent := strings.Repeat(" ", markWidth)
	var out []console.Line
	head := ""
	if f.Above {
		beside = 0
	}
	if beside > 0 {
		head = label + strings.Repeat(" ", beside-console.Width(f.Label))
		indent += strings.Repeat(" ", beside)
	} else {
		out = append(out, console.Line{Text: label, Bold: here})
		head = indent
	}
	if f.Choices != nil {
		title := f.Value
		for _, c := range f.Choices {
			if c.Value == f.Value {
				title = c.Title
			}
		}
		return append(out, console.Line{Text: head + "< " + title + " >", Bold: here})
	}
	lines, row, col := wrap(f.Value, m.cursor, max(width-markWidth-beside-2, 1))
	for i, l := range lines {
		line := console.Line{Text: head + l, Bold: here}
		if l == "" && !here {
			line.Text = head + "-"
		}
		if here && i == row {
			line.Cursor = markWidth + beside + col + 1
		}
		out = append(out, line)
		head = indent
	}
	return out
}

// wrap breaks a text into lines of at most n columns and says in which line and
// column the cursor is that stands before byte at. There is room for it behind
// the last character.
func wrap(text string, at, n int) (lines []string, row, col int) {
	line, w := "", 0
	for i, r := range text {
		rw := console.Width(string(r))
		if w+rw > n {
			lines = append(lines, line)
			line, w = "", 0
		}
		if i == at {
			row, col = len(lines), w
		}
		line += string(r)
		w += rw
	}
	if at >= len(text) {
		row, col = len(lines), w
	}
	return append(lines, line), row, col
}

func mark(here bool) string {
	if here {
		return " > "
	}
	return "   "
}
