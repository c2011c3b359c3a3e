package menu

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/preboot/console"
)

// layout is where the parts are on a screen.
type layout struct {
	width                     int // columns in use
	text, view, help, message int // rows for the text, entries, help and messages
}

// fixedRows are the title, two rules, the countdown and the keys.
const fixedRows = 5

// layout divides a screen. 24 rows have room for ten entries, four lines of
// help and five of messages. Larger ones show more entries if there are any.
// With a text, that gets what the entries leave.
func (m *Model) layout(size console.Size, entries int) layout {
	l := layout{width: size.Width()}
	rest := max(size.Rows-fixedRows, 3)
	if m.o.Text == "" {
		l.help = min(max(rest*4/19, 1), 8)
		l.message = min(max(rest*5/19, 1), 8)
		l.view = min(rest-l.help-l.message, max(entries, 10))
		return l
	}
	rest-- // a third rule
	if rest >= 10 {
		l.help, l.message = 2, 2
		rest -= 4
	}
	l.view = max(min(rest-1, max(entries, 1)), 1)
	l.text = max(min(rest-l.view, len(console.Wrap(m.o.Text, l.width-2))), 1)
	return l
}

// Screen returns what is to be seen on a screen of that size. It can be read
// without attributes and without any character outside of ASCII but those of
// the menu's own texts. Entries are shown page by page: going one further
// changes two lines.
func (m *Model) Screen(size console.Size) console.Screen {
	l := m.level()
	lay := m.layout(size, len(l.items))
	top := l.at / lay.view * lay.view
	s := make(console.Screen, 0, size.Rows)
	title := m.o.Title
	for _, p := range m.path[1:] {
		title += " > " + p.title
	}
	s = append(s, console.Line{Text: " " + title, Bold: true})
	if lay.text > 0 {
		s = append(s, console.Rule(lay.width, 0, "", ""))
		s = console.Block(s, m.o.Text, lay.text, lay.width)
	}
	t := m.table(l.items, lay.width)
	s = append(s, console.Rule(lay.width, top, "above", t.heads()))
	for row := range lay.view {
		i := top + row
		if i >= len(l.items) {
			s = append(s, console.Line{})
			continue
		}
		s = append(s, t.entry(i, &l.items[i], i == l.at, lay.width))
	}
	s = append(s, console.Rule(lay.width, len(l.items)-top-lay.view, "below", ""))
	s = console.Block(s, m.help(t, lay.width), lay.help, lay.width)
	s = append(s, console.Line{Text: m.countdown(lay.width)})
	if m.found != nil {
		s[len(s)-1] = m.searchLine(lay.width)
	}
	s = console.Block(s, m.status, lay.message, lay.width)
	return append(s, m.keys(lay.width))
}

// help is what there is to say about the selected entry.
func (m *Model) help(t table, width int) string {
	it := m.selected()
	switch {
	case it == nil && m.found != nil:
		return "Nothing in this menu has that in its name."
	case it == nil:
		return "This menu is empty."
	}
	var parts []string
	if len(t.widths) > 0 && console.Width(it.Title) > t.title {
		parts = append(parts, it.Title)
	}
	if facts := m.facts(it); len(t.widths) == 0 && facts != "" {
		parts = append(parts, facts)
	}
	if it.Blocked != "" {
		parts = append(parts, "("+it.Blocked+")")
	}
	if it.Help != "" {
		parts = append(parts, it.Help)
	}
	return strings.Join(parts, "\n")
}

// facts returns an item's facts for screens without room for a table.
func (m *Model) facts(it *Item) string {
	var parts []string
	for i, f := range it.Facts {
		if f != "" && i < len(m.o.Heads) {
			parts = append(parts, m.o.Heads[i]+": "+f)
		}
	}
	return strings.Join(parts, ", ")
}

// keys says which keys there are, as many as fit.
func (m *Model) keys(width int) console.Line {
	hints := []string{"Enter: " + cmp.Or(m.o.Enter, "start")}
	if m.found != nil || len(m.path) > 1 || m.o.Back {
		hints = append(hints, "Esc: back")
	}
	if m.found != nil {
		hints = append(hints, "Up/Down: choose")
	} else {
		hints = append(hints, "Up/Down, number, letters: choose")
	}
	if m.o.More != "" {
		hints = append(hints, "Tab: "+m.o.More)
	}
	if m.o.Reload {
		hints = append(hints, "Ctrl-R: read again")
	}
	return console.Hints(width, hints...)
}

// searchLine shows what is searched for, with the cursor behind it.
func (m *Model) searchLine(width int) console.Line {
	text := " Search: " + m.query
	return console.Line{Text: text, Cursor: min(console.Width(text), width-1) + 1}
}

func (m *Model) countdown(width int) string {
	if m.left <= 0 {
		return ""
	}
	title := ""
	if it := m.selected(); it != nil {
		title = it.Title
	}
	if console.Width(title) > width-39 {
		title = "the entry above"
	}
	return fmt.Sprintf(" In %d s: %s. Any key stops the clock.", m.left, title)
}

// table is where entries have their facts.
type table struct {
	title  int   // columns for the title and what stands behind it
	widths []int // of the facts; empty: there is no room, or there are none
	names  []string
}

// Columns of the mark and the number in front of a title, of a title that has
// to have room beside facts, and of the gap before each fact.
const (
	titleAt  = 7
	minTitle = 32
	gap      = 2
)

func (m *Model) table(items []Item, width int) table {
	t := table{title: width - 1 - titleAt}
	widths := make([]int, len(m.o.Heads))
	any := false
	for i := range items {
		for n, f := range items[i].Facts {
			if n < len(widths) && f != "" {
				widths[n] = max(widths[n], len(m.o.Heads[n]), min(console.Width(f), 12))
				any = true
			}
		}
	}
	room := t.title
	for _, w := range widths {
		if w > 0 {
			room -= gap + w
		}
	}
	if any && room >= minTitle {
		t.title, t.widths, t.names = room, widths, m.o.Heads
	}
	return t
}

// heads is the end of the rule above the entries.
func (t *table) heads() string {
	out := ""
	for i, w := range t.widths {
		if w > 0 {
			out += strings.Repeat(" ", gap+w-len(t.names[i])) + t.names[i]
		}
	}
	if out != "" {
		out += " " // rules are longer than entries by one
	}
	return out
}

func (t *table) entry(i int, it *Item, selected bool, width int) console.Line {
	mark := "   "
	if selected {
		mark = " > "
	}
	note := ""
	switch {
	case it.Blocked != "":
		note = "  (not possible here)"
	case it.Items != nil:
		note = "  ..."
	case it.Note != "":
		note = "  (" + it.Note + ")"
	}
	title := it.Title
	if room := t.title - console.Width(note); len(t.widths) > 0 && console.Width(title) > room {
		title = console.Clip(title, room-2) + ".."
	}
	number := strconv.Itoa(i + 1)
	text := mark + strings.Repeat(" ", max(0, 2-len(number))) + number + "  " + title + note
	if len(t.widths) > 0 {
		text += strings.Repeat(" ", max(0, titleAt+t.title-console.Width(text)))
		for n, w := range t.widths {
			f := ""
			if n < len(it.Facts) {
				f = console.Clip(it.Facts[n], w)
			}
			if w > 0 {
				text += strings.Repeat(" ", gap+w-console.Width(f)) + f
			}
		}
		if !selected {
			text = strings.TrimRight(text, " ")
		}
	}
	if selected {
		text += strings.Repeat(" ", max(0, width-1-console.Width(text)))
	}
	return console.Line{Text: text, Invert: selected}
}
