// Package menu is the menu as a state machine: keys and seconds go in, a
// screen and a choice come out. It knows neither terminals nor clocks.
package menu

import (
	"github.com/inetboot/inetboot/preboot/console"
)

// Item is something to choose: a submenu if it has Items.
type Item struct {
	ID      string
	Title   string
	Help    string
	Note    string   // a few words behind the title
	Facts   []string // what there is to know, one for each of the menu's Heads; "": not known
	Items   []Item
	Blocked string // why it cannot be chosen; "": it can
}

// Options describes a menu.
type Options struct {
	Title   string
	Text    string // what it is all about, above the items
	Items   []Item
	Heads   []string // what the items' Facts are about
	Default string   // id of the item to stand on, and to choose when the time is over
	Timeout int      // seconds until Default is chosen: 0 at once, below 0 never
	Enter   string   // what the key Enter does; "": start
	Reload  bool     // offer Control-R
	More    string   // what the key Tab leads to; "": nowhere
	Back    bool     // Escape leaves the outermost menu
}

// Event is what a key or a second led to.
type Event struct {
	Picked *Item // an item without Items
	Timed  bool  // picked because the time was over
	Reload bool  // the person wants the menu to be read anew
	More   bool  // the key Tab
	Back   bool  // the person wants to leave the menu
}

// Model is a menu and where one stands in it.
type Model struct {
	o      Options
	path   []level // the open menus, outermost first
	found  *level  // what matches query; nil: nobody searches
	query  string
	left   int // seconds until the default item is chosen; below 0: never
	number int // digits typed so far
	status string
}

type level struct {
	title string
	items []Item
	at    int // selected
}

// New returns a menu that stands on its default item.
func New(o Options) *Model {
	m := &Model{o: o, left: -1, path: []level{{items: o.Items}}}
	if o.Default == "" {
		return m
	}
	way := find(o.Items, o.Default)
	if way == nil {
		m.Status("There is no entry " + o.Default + " in this menu: choose one.")
		return m
	}
	m.open(way)
	if it := m.selected(); it.Items == nil && it.Blocked == "" {
		m.left = o.Timeout
	}
	return m
}

// open goes to the item at the end of way, in the menu that it is in.
func (m *Model) open(way []int) {
	m.path = m.path[:1]
	for i, at := range way {
		l := m.level()
		l.at = at
		if i < len(way)-1 {
			m.path = append(m.path, level{title: l.items[at].Title, items: l.items[at].Items})
		}
	}
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
func (m *Model) Status(text string) { m.status = text }

// Due returns the default item if it is to be chosen without any waiting.
func (m *Model) Due() Event {
	if m.left == 0 {
		return m.timeUp()
	}
	return Event{}
}

// Counting tells whether time is running.
func (m *Model) Counting() bool { return m.left > 0 }

// SetItems replaces the items; the person, what is searched for, and the time
// stay where they are, if their entry is still there.
func (m *Model) SetItems(items []Item) {
	at, outer := m.Selected(), ""
	if len(m.path) > 0 && m.found != nil {
		if l := &m.path[len(m.path)-1]; l.at < len(l.items) {
			outer = l.items[l.at].ID
		}
	}
	old := *m
	o := m.o
	o.Items, o.Timeout, o.Default = items, m.left, at
	if outer != "" {
		o.Default = outer
	}
	if find(items, o.Default) == nil {
		o.Default = ""
	}
	*m = *New(o)
	m.o.Timeout, m.o.Default, m.status, m.number = old.o.Timeout, old.o.Default, old.status, old.number
	if old.found != nil {
		m.query = old.query
		m.search(at)
	}
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

// pageRows is how far the keys for pages go: a page of a small terminal.
const pageRows = 10

// Press takes a key. Every key stops the time.
func (m *Model) Press(k console.Key) Event {
	m.left = -1
	l := m.level()
	last := len(l.items) - 1
	digit := k >= '0' && k <= '9' && m.found == nil
	if !digit {
		m.number = 0
	}
	switch {
	case k == console.Up:
		l.at--
		if l.at < 0 {
			l.at = last
		}
	case k == console.Down:
		l.at++
		if l.at > last {
			l.at = 0
		}
	case k == console.PageUp:
		l.at -= pageRows
	case k == console.PageDown:
		l.at += pageRows
	case k == console.Home:
		l.at = 0
	case k == console.End:
		l.at = last
	case digit:
		m.digit(int(k - '0'))
	case m.found != nil && m.edit(k):
	case k == console.Escape, k == console.Left, k == console.Backspace:
		if len(m.path) == 1 {
			return Event{Back: m.o.Back}
		}
		m.path = m.path[:len(m.path)-1]
	case k == console.Enter, k == console.Right && m.selected() != nil && m.selected().Items != nil:
		return m.enter()
	case k == console.Tab:
		return Event{More: m.o.More != ""}
	case k == console.Reload:
		return Event{Reload: m.o.Reload}
	case k == '/':
		m.search("")
	case k > ' ':
		m.query = string(rune(k))
		m.search("")
	}
	l = m.level()
	l.at = max(0, min(l.at, len(l.items)-1))
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
		if m.found != nil {
			m.open(find(m.o.Items, it.ID))
			m.endSearch()
		}
		m.path = append(m.path, level{title: m.selected().Title, items: it.Items})
		m.status = ""
	default:
		return Event{Picked: it}
	}
	return Event{}
}

func (m *Model) level() *level {
	if m.found != nil {
		return m.found
	}
	return &m.path[len(m.path)-1]
}

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
