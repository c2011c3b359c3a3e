package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
)

// A publisher's menu stands in the place of the entry that includes it. One that
// is missing or no good takes that entry away, and nothing else.
func TestWholeMenu(t *testing.T) {
	many := make([]catalog.Entry, 501)
	for i := range many {
		many[i] = catalog.Entry{ID: fmt.Sprint("e", i), Title: "t", Image: "images/erin-x/1/amd64.json"}
	}
	good := catalog.Entry{ID: "desk-1", Title: "Desk", Image: "images/erin-desk/1/amd64.json", Cmdline: "quiet"}
	for _, tc := range []struct {
		name    string
		entries []catalog.Entry
		raw     string // in place of entries
		ok      bool
	}{
		{name: "good", entries: []catalog.Entry{good}, ok: true},
		{name: "nothing published"},
		{name: "empty", entries: []catalog.Entry{}},
		{name: "foreign image", entries: []catalog.Entry{good, {ID: "a", Title: "a", Image: "images/debian/12/amd64.json", Cmdline: "init=/bin/sh"}}},
		{name: "image of a like name", entries: []catalog.Entry{{ID: "a", Title: "a", Image: "images/erin/1/amd64.json"}}},
		{name: "other target", entries: []catalog.Entry{{ID: "a", Title: "a", Image: "menus/erin-.json"}}},
		{name: "action", entries: []catalog.Entry{{ID: "a", Title: "a", Action: catalog.ActionPowerOff}}},
		{name: "submenu", entries: []catalog.Entry{{ID: "a", Title: "a", Entries: []catalog.Entry{good}}}},
		{name: "another menu", entries: []catalog.Entry{catalog.Included("a", "a", "erin-")}},
		{name: "the same id twice", entries: []catalog.Entry{good, good}},
		{name: "id of the menu", entries: []catalog.Entry{{ID: "taken", Title: "a", Image: "images/erin-x/1/amd64.json"}}},
		{name: "long id", entries: []catalog.Entry{{ID: strings.Repeat("x", 96), Title: "a", Image: "images/erin-x/1/amd64.json"}}},
		{name: "too many", entries: many},
		{name: "no menu", raw: "{}"},
		{name: "control characters", entries: []catalog.Entry{{ID: "a", Title: "\x1b[2J", Image: "images/erin-x/1/amd64.json"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			menu := catalog.NewMenu("Title")
			own := catalog.Entry{ID: "erin.taken", Title: "Debian", Image: "images/debian/12/amd64.json"}
			menu.Entries = []catalog.Entry{own, {ID: "others", Title: "Others", Entries: []catalog.Entry{catalog.Included("erin", "Erin's", "erin-")}}}
			menu.Default = own.ID
			data, err := menu.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			targets := map[string][]byte{catalog.MenuName: data}
			if tc.entries != nil {
				fragment := catalog.NewMenu("erin-")
				fragment.Entries = tc.entries
				raw, err := json.Marshal(fragment) // unchecked
				if err != nil {
					t.Fatal(err)
				}
				tc.raw = string(raw)
			}
			if tc.raw != "" {
				targets[catalog.IncludedName("erin-")] = []byte(tc.raw)
			}
			repo := catalogtest.New(t, catalogtest.Options{Now: now})
			repo.Publish(t, targets)
			got, err := repo.Open(t).WholeMenu(t.Context())
			if err != nil {
				t.Fatalf("WholeMenu() = %v", err)
			}
			if len(got.Entries) != 2 || !cmp.Equal(got.Entries[0], own) || got.Default != own.ID {
				t.Errorf("the menu's own entries are %+v", got.Entries)
			}
			e := got.Find("erin")
			if tc.ok {
				want := catalog.Included("erin", "Erin's", "")
				want.Entries = []catalog.Entry{good}
				want.Entries[0].ID, want.Entries[0].From = "erin.desk-1", "menus/erin-.json"
				if !cmp.Equal(*e, want) || e.Usable("amd64") != nil || got.Check() != nil {
					t.Errorf("the included menu is %+v, %v; want %+v", *e, e.Usable("amd64"), want)
				}
				return
			}
			if len(e.Entries) > 0 || e.Broken == nil || !errors.Is(e.Usable("amd64"), e.Broken) {
				t.Errorf("the entry is %+v; want one that says why it cannot be used", *e)
			}
		})
	}
}

// What includes a menu is nothing else, and says what it requires, so that
// older media do not take it for damaged.
func TestIncludeCheck(t *testing.T) {
	for name, change := range map[string]func(e *catalog.Entry){
		"no requirement": func(e *catalog.Entry) { e.Requires = nil },
		"image":          func(e *catalog.Entry) { e.Image = "images/erin-x/1/amd64.json" },
		"action":         func(e *catalog.Entry) { e.Action = catalog.ActionReboot },
		"path":           func(e *catalog.Entry) { e.Include = "../menu" },
		"wildcard":       func(e *catalog.Entry) { e.Include = "*" },
	} {
		m := catalog.NewMenu("Title")
		m.Entries = []catalog.Entry{catalog.Included("erin", "Erin's", "erin-")}
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		change(&m.Entries[0])
		if err := m.Check(); !errors.Is(err, catalog.ErrFormat) {
			t.Errorf("%s: Check() = %v; want ErrFormat", name, err)
		}
	}
}
