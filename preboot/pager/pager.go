// Package pager shows lines that are more than fit on a screen, such as a log.
package pager

import (
	"github.com/inetboot/inetboot/preboot/console"
)

// Model is a text and where one stands in it: at its end, at first.
type Model struct {
	title string
	lines []string
	top   int // the first line in view
}

// New returns a Model of lines, each of which is wrapped to the screen.
func New(title string, lines []string) *Model {
	m := &Model{title: title, lines: lines}
	m.top = m.last(reference())
	return m
}

// reference is the size of screen that decides how far keys go, since there
// may be several. Larger ones show more.
func reference() console.Size { return console.Size{Columns: console.Columns, Rows: console.Rows} }

// fixedRows are the title, two rules and the keys.
const fixedRows = 4

// wrapped returns how line i looks on a screen.
func (m *Model) wrapped(i int, size console.Size) []string {
	return console.Wrap(m.lines[i], max(size.Width()-2, 1))
}

// last returns the first line of the last page.
func (m *Model) last(size console.Size) int {
	rows := size.Rows - fixedRows
	i := len(m.lines)
	for i > 0 {
		if rows -= len(m.wrapped(i-1, size)); rows < 0 {
			break
		}
		i--
	}
	return min(i, max(len(m.lines)-1, 0))
}

// page returns how many lines a page has that begins at the top.
func (m *Model) page() int {
	size := reference()
	rows, n := size.Rows-fixedRows, 0
	for i := m.top; i < len(m.lines); i++ {
		if rows -= len(m.wrapped(i, size)); rows < 0 {
			break
		}
		n++
	}
	return max(n, 1)
}

// Press takes a key. It returns true if the person has seen enough.
func (m *Model) Press(k console.Key) bool {
	switch k {
	case console.Up:
		m.top--
	case console.Down, console.Enter:
		m.top++
	case console.PageUp, console.Left:
		m.top -= (console.Rows - fixedRows) / 2
	case console.PageDown, console.Right, ' ':
		m.top += m.page()
	case console.Home:
		m.top = 0
	case console.End:
		m.top = len(m.lines)
	case console.Escape, console.Backspace, 'q':
		return true
	}
	m.top = max(0, min(m.top, m.last(reference())))
	return false
}

// Screen returns what is to be seen.
func (m *Model) Screen(size console.Size) console.Screen {
	s := console.Screen{{Text: " " + m.title, Bold: true}}
	top := min(m.top, m.last(size))
	var body []string
	rows := max(size.Rows-fixedRows, 1)
	end := top
	for ; end < len(m.lines) && len(body) < rows; end++ {
		body = append(body, m.wrapped(end, size)...)
	}
	if len(body) > rows {
		body = body[:rows]
		end--
	}
	s = append(s, console.Rule(size.Width(), top, "above", ""))
	for i := range rows {
		line := console.Line{}
		if i < len(body) && body[i] != "" {
			line.Text = " " + body[i]
		}
		s = append(s, line)
	}
	s = append(s, console.Rule(size.Width(), len(m.lines)-end, "below", ""))
	return append(s, console.Hints(size.Width(), "Esc: back", "Up/Down, Page Up/Down, Home, End: move"))
}
