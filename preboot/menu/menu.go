// Package menu is the menu as a state machine: keys and seconds go in, a
// screen and a choice come out. It knows neither terminals nor clocks.
package menu

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/preboot/console"
)

// Item is something to choose: a submenu if it has Items.
type Item struct {
	ID      string
	Title   string
	Help    string
	Note    string // a few words behind the title
	Items   []Item
	Blocked string // why it cannot be chosen; "": it can
}

// Options describes a menu.
type Options struct {
	Title   string
	Items   []Item
	Default string // id of the item to stand on, and to choose when the time is over
	Timeout int    // seconds until Default is chosen: 0 at once, below 0 never
	Reload  bool   // offer the key R
}

// Event is what a key or a second led to.
type Event struct {
	Picked *Item // an item without Items
	Timed  bool  // picked because the time was over
	Reload bool  // the person wants the menu to be read anew
}

// Model is a menu and where one stands in it.
type Model struct {
	title  string
	reload bool
	path   []level // the open menus, outermost first
	target string  // id of the default item
	left   int     // seconds until it is chosen; below 0: never
	number int     // digits typed so far
	status []string
}

type level struct {
	title string
	items []Item
	at    int // selected
	top   int // first one in view
}

// New returns a menu that stands on its default item.
func New(o Options) *Model {
	m := &Model{title: o.Title, reload: o.Reload, left: -1, path: []level{{items: o.Items}}}
	if o.Default == "" {
		return m
	}
	way := find(o.Items, o.Default)
	if way == nil {
		m.Status("There is no entry " + o.Default + " in this menu: choose one.")
		return m
	}
	for i, at := range way {
		l := &m.path[len(m.path)-1]
		l.at = at
		if i < len(way)-1 {
			m.path = append(m.path, level{title: l.items[at].Title, items: l.items[at].Items})
		}
	}
	m.target = o.Default
	if it := m.selected(); it.Items == nil && it.Blocked == "" {
		m.left = o.Timeout
	}
	m.scroll()
	return m
}

// find returns the positions that lead to the item with the id.
func find(items []Item, id string) []int {
	for i := range items {
		if items[i].ID == id {
			return []int{i}
		}
		if way := find(items[i].Items, id); way != nil {
			return append([]int{i}, way...)
		}
	}
	return nil
}

// Status shows text below the menu, wrapped.
func (m *Model) Status(text string) { m.status = console.Wrap(text, textWidth) }

// Due returns the default item if it is to be chosen without any waiting.
func (m *Model) Due() Event {
	if m.left == 0 {
		return m.timeUp()
	}
	return Event{}
}

// Counting tells whether time is running.
func (m *Model) Counting() bool { return m.left > 0 }

// SetItems replaces the items; the person and the time stay where they are,
// if their entry is still there.
func (m *Model) SetItems(items []Item) {
	at := m.Selected()
	fresh := New(Options{Title: m.title, Items: items, Reload: m.reload, Default: at, Timeout: m.left})
	fresh.status = m.status
	*m = *fresh
}

// Left returns how many seconds are left until the default item is chosen;
// below 0: it will not be.
func (m *Model) Left() int { return m.left }

// Tick says that a second has passed.
func (m *Model) Tick() Event {
	if m.left <= 0 {
		return Event{}
	}
	if m.left--; m.left == 0 {
		return m.timeUp()
	}
	return Event{}
}

func (m *Model) timeUp() Event {
	m.left = -1
	return Event{Picked: m.selected(), Timed: true}
}

// Press takes a key. Every key stops the time.
func (m *Model) Press(k console.Key) Event {
	m.left = -1
	l := m.level()
	last := len(l.items) - 1
	digit := k >= '0' && k <= '9'
	if !digit {
		m.number = 0
	}
	switch {
	case k == console.Up || k == 'k':
		l.at--
		if l.at < 0 {
			l.at = last
		}
	case k == console.Down || k == 'j':
		l.at++
		if l.at > last {
			l.at = 0
		}
	case k == console.PageUp:
		l.at -= viewRows
	case k == console.PageDown:
		l.at += viewRows
	case k == console.Home:
		l.at = 0
	case k == console.End:
		l.at = last
	case digit:
		m.digit(int(k - '0'))
	case k == console.Escape, k == console.Left, k == console.Backspace:
		if len(m.path) > 1 {
			m.path = m.path[:len(m.path)-1]
		}
	case k == console.Enter, k == console.Right && m.selected() != nil && m.selected().Items != nil:
		return m.enter()
	case m.reload && (k == 'r' || k == 'R'):
		return Event{Reload: true}
	}
	l = m.level()
	l.at = max(0, min(l.at, len(l.items)-1))
	m.scroll()
	return Event{}
}

// digit goes to the entry of the number typed so far, or to the entry of the
// digit alone if there is no such number.
func (m *Model) digit(d int) {
	l := m.level()
	if m.number = m.number*10 + d; m.number > len(l.items) {
		m.number = d
	}
	if m.number >= 1 && m.number <= len(l.items) {
		l.at = m.number - 1
	} else {
		m.number = 0
	}
}

func (m *Model) enter() Event {
	it := m.selected()
	switch {
	case it == nil:
	case it.Blocked != "":
		m.Status("This entry cannot be started: " + it.Blocked)
	case it.Items != nil:
		m.path = append(m.path, level{title: it.Title, items: it.Items})
		m.status = nil
	default:
		return Event{Picked: it}
	}
	return Event{}
}

func (m *Model) level() *level { return &m.path[len(m.path)-1] }

func (m *Model) selected() *Item {
	l := m.level()
	if l.at >= len(l.items) {
		return nil
	}
	return &l.items[l.at]
}

// Selected returns the id of the item one stands on, or "".
func (m *Model) Selected() string {
	if it := m.selected(); it != nil {
		return it.ID
	}
	return ""
}

// Where the parts are on the screen.
const (
	viewRows   = 10 // entries in view
	helpRows   = 4
	statusRows = 5
	textWidth  = console.Columns - 3
)

func (m *Model) scroll() {
	l := m.level()
	l.top = max(0, min(l.top, l.at, len(l.items)-1))
	if l.at >= l.top+viewRows {
		l.top = l.at - viewRows + 1
	}
}

// Screen returns what is to be seen: 24 lines of at most 79 columns. It can be
// read without attributes and without any character outside of ASCII but
// those of the menu's own texts.
func (m *Model) Screen() console.Screen {
	l := m.level()
	s := make(console.Screen, 0, console.Rows)
	title := m.title
	for _, p := range m.path[1:] {
		title += " > " + p.title
	}
	s = append(s, console.Line{Text: " " + title, Bold: true})
	s = append(s, rule(l.top, "above"))
	for row := range viewRows {
		i := l.top + row
		if i >= len(l.items) {
			s = append(s, console.Line{})
			continue
		}
		s = append(s, entry(i, &l.items[i], i == l.at))
	}
	s = append(s, rule(len(l.items)-l.top-viewRows, "below"))
	help := ""
	if it := m.selected(); it != nil {
		if help = it.Help; it.Blocked != "" {
			help = strings.TrimLeft(help+"\n", "\n") + "(" + it.Blocked + ")"
		}
	} else {
		help = "This menu is empty."
	}
	s = block(s, console.Wrap(help, textWidth), helpRows)
	s = append(s, console.Line{Text: m.countdown()})
	s = block(s, m.status, statusRows)
	hint := " Up/Down or number: choose   Enter: start"
	if len(m.path) > 1 {
		hint += "   Esc: back"
	}
	if m.reload {
		hint += "   R: read the menu again"
	}
	return append(s, console.Line{Text: hint, Bold: true})
}

func rule(more int, where string) console.Line {
	text := strings.Repeat("-", console.Columns-2)
	if more > 0 {
		note := fmt.Sprintf(" %d more %s ", more, where)
		text = text[:4] + note + text[4+len(note):]
	}
	return console.Line{Text: " " + text}
}

func entry(i int, it *Item, selected bool) console.Line {
	mark := "   "
	if selected {
		mark = " > "
	}
	number := strconv.Itoa(i + 1)
	text := mark + strings.Repeat(" ", max(0, 2-len(number))) + number + "  " + it.Title
	switch {
	case it.Blocked != "":
		text += "  (not possible here)"
	case it.Items != nil:
		text += "  ..."
	case it.Note != "":
		text += "  (" + it.Note + ")"
	}
	if selected {
		text += strings.Repeat(" ", max(0, console.Columns-2-console.Width(text)))
	}
	return console.Line{Text: text, Invert: selected}
}

func block(s console.Screen, lines []string, rows int) console.Screen {
	for row := range rows {
		line := console.Line{}
		if row < len(lines) && lines[row] != "" {
			line.Text = " " + lines[row]
		}
		s = append(s, line)
	}
	return s
}

func (m *Model) countdown() string {
	if m.left <= 0 {
		return ""
	}
	title := ""
	if it := m.selected(); it != nil {
		title = it.Title
	}
	if console.Width(title) > 40 {
		title = "the entry above"
	}
	return fmt.Sprintf(" In %d s: %s. Any key stops the clock.", m.left, title)
}
