package menu

import (
	"strings"

	"github.com/inetboot/inetboot/preboot/console"
)

// maxQuery bounds what is searched for, in bytes.
const maxQuery = 60

// search shows, in place of the menus, all items that have every word of the
// query in their titles or in those of the menus around them. It stands on the
// item with the id, else on the first one that is no menu.
func (m *Model) search(id string) {
	words := strings.Fields(strings.ToLower(m.query))
	found := level{items: []Item{}}
	at := -1
	var walk func(items []Item, where string)
	walk = func(items []Item, where string) {
		for _, it := range items {
			inner := where + it.Title + " > "
			it.Title = where + it.Title
			if matches(it.Title+" "+it.ID, words) {
				if it.ID == id || at < 0 && id == "" && it.Items == nil {
					at = len(found.items)
				}
				found.items = append(found.items, it)
			}
			walk(it.Items, inner)
		}
	}
	walk(m.o.Items, "")
	found.at = max(at, 0)
	m.found = &found
}

func matches(text string, words []string) bool {
	text = strings.ToLower(text)
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func (m *Model) endSearch() { m.found, m.query = nil, "" }

// edit takes the keys that change what is searched for.
func (m *Model) edit(k console.Key) bool {
	switch {
	case k == console.Escape:
		m.endSearch()
	case k == console.Backspace && m.query == "":
		m.endSearch()
	case k == console.Backspace:
		q := []rune(m.query)
		m.query = string(q[:len(q)-1])
		m.search("")
	case k == console.Clear:
		m.query = ""
		m.search("")
	case k == console.Left: // it is no way back here
	case k >= ' ':
		if len(m.query) < maxQuery {
			m.query += string(rune(k))
			m.search("")
		}
	default:
		return false
	}
	return true
}
