// Package menu changes menus: the tree of entries that people pick from.
package menu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/catalog"
)

// ErrNoEntry is wrapped when the menu has no entry of an id.
var ErrNoEntry = errors.New("the menu has no such entry")

// NoEntry returns an error about the id.
func NoEntry(id string) error { return fmt.Errorf("%s: %w (see imagetool menu show)", id, ErrNoEntry) }

// Arch returns the architecture of the image whose manifest is target.
func Arch(target string) string {
	return strings.TrimSuffix(target[strings.LastIndexByte(target, '/')+1:], ".json")
}

// Parse reads a menu that a person has written. Unlike machines, which ignore
// what they do not know, it takes no unknown members: they are typing errors.
// names are the targets of the catalog.
func Parse(data []byte, names []string) (*catalog.Menu, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var m catalog.Menu
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("the menu%s: %w", line(data, d.InputOffset()), err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the menu%s: something comes behind it", line(data, d.InputOffset()))
	}
	if m.Entries == nil {
		m.Entries = []catalog.Entry{}
	}
	if err := Check(&m, names); err != nil {
		return nil, err
	}
	// As machines will read it.
	raw, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	return catalog.ParseMenu(raw)
}

// line says in which line of a text an offset is.
func line(data []byte, offset int64) string {
	offset = min(offset, int64(len(data)))
	return fmt.Sprintf(", line %d", 1+bytes.Count(data[:offset], []byte("\n")))
}

// Check returns an error if m is not a menu, or has entries of images that the
// catalog, whose targets are names, does not have.
func Check(m *catalog.Menu, names []string) error {
	if err := m.Check(); err != nil {
		return err
	}
	var walk func(entries []catalog.Entry) error
	walk = func(entries []catalog.Entry) error {
		for i := range entries {
			e := &entries[i]
			if e.Image != "" && !slices.Contains(names, e.Image) {
				return fmt.Errorf("entry %s: the catalog has no image %s (see imagetool ls)", e.ID, e.Image)
			}
			if e.Action != "" && !slices.Contains(catalog.Actions(), e.Action) && len(e.Requires) == 0 {
				return fmt.Errorf("entry %s: unknown action %q", e.ID, e.Action)
			}
			if err := walk(e.Entries); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(m.Entries); err != nil {
		return err
	}
	if e := m.Find(m.Default); m.Default != "" && (len(e.Entries) > 0 || e.Include != "") {
		return fmt.Errorf("the default %s is a submenu", m.Default)
	}
	return nil
}

// Place is where an entry goes: into the submenu Parent as its last one, or
// beside another entry. The zero Place is the end of the menu.
type Place struct{ Parent, Before, After string }

// Add puts an entry into the menu. An entry without image, action and include
// is a submenu, which the entries with are moved into.
func Add(m *catalog.Menu, e catalog.Entry, p Place, with []string) error {
	if m.Find(e.ID) != nil {
		return fmt.Errorf("the menu has an entry %s already", e.ID)
	}
	if e.Image == "" && e.Action == "" && e.Include == "" && len(with) == 0 {
		return fmt.Errorf("%s needs an image, an action, a prefix to include, or, as a submenu, entries that are moved into it", e.ID)
	}
	if err := insert(m, e, p); err != nil {
		return err
	}
	for _, id := range with {
		if err := Move(m, id, Place{Parent: e.ID}); err != nil {
			return err
		}
	}
	return nil
}

func insert(m *catalog.Menu, e catalog.Entry, p Place) error {
	if p.Parent != "" {
		parent := m.Find(p.Parent)
		if parent == nil {
			return NoEntry(p.Parent)
		}
		if parent.Image != "" || parent.Action != "" {
			return fmt.Errorf("%s is no submenu", p.Parent)
		}
		parent.Entries = append(parent.Entries, e)
		return nil
	}
	beside := p.Before + p.After
	if beside == "" {
		m.Entries = append(m.Entries, e)
		return nil
	}
	list, i := find(&m.Entries, beside)
	if list == nil {
		return NoEntry(beside)
	}
	if p.After != "" {
		i++
	}
	*list = slices.Insert(*list, i, e)
	return nil
}

// find returns the list that has the entry with an id, and its place there.
func find(list *[]catalog.Entry, id string) (*[]catalog.Entry, int) {
	for i := range *list {
		if (*list)[i].ID == id {
			return list, i
		}
		if l, n := find(&(*list)[i].Entries, id); l != nil {
			return l, n
		}
	}
	return nil, 0
}

// Remove takes an entry out of the menu, with all that is in it, and submenus
// that become empty. If the default goes with it, there is none.
func Remove(m *catalog.Menu, id string) (catalog.Entry, error) {
	e, err := take(m, id)
	if err != nil {
		return e, err
	}
	m.Entries = withoutEmpty(m.Entries)
	if m.Default != "" && m.Find(m.Default) == nil {
		m.Default = ""
	}
	return e, nil
}

func take(m *catalog.Menu, id string) (catalog.Entry, error) {
	list, i := find(&m.Entries, id)
	if list == nil {
		return catalog.Entry{}, NoEntry(id)
	}
	e := (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return e, nil
}

// withoutEmpty leaves out submenus without entries. Those that need something
// that is unknown here may be what they are.
func withoutEmpty(entries []catalog.Entry) []catalog.Entry {
	out := make([]catalog.Entry, 0, len(entries))
	for _, e := range entries {
		if e.Entries != nil {
			e.Entries = withoutEmpty(e.Entries)
		}
		if len(e.Entries) > 0 || e.Image != "" || e.Action != "" || len(e.Requires) > 0 {
			out = append(out, e)
		}
	}
	return out
}

// Move puts an entry, with all that is in it, elsewhere.
func Move(m *catalog.Menu, id string, p Place) error {
	e, err := take(m, id)
	if err != nil {
		return err
	}
	if err := insert(m, e, p); err != nil {
		if errors.Is(err, ErrNoEntry) && contains(e, p.Parent+p.Before+p.After) {
			return fmt.Errorf("%s cannot be moved into itself", id)
		}
		return err
	}
	m.Entries = withoutEmpty(m.Entries)
	return nil
}

func contains(e catalog.Entry, id string) bool {
	list := []catalog.Entry{e}
	l, _ := find(&list, id)
	return l != nil
}
