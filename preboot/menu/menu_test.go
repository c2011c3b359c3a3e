package menu

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/preboot/console"
)

var update = flag.Bool("update", false, "write the screens in testdata anew")

func tree() []Item {
	var many []Item
	for i := range 25 {
		many = append(many, Item{ID: fmt.Sprint("m", i+1), Title: fmt.Sprint("Version ", i+1)})
	}
	return []Item{
		{ID: "debian", Title: "Debian 12", Facts: []string{"12.5", "48.1 MB", "512 MB", "yes"}, Help: "The universal operating system.\nWith sshd and Python."},
		{ID: "old", Title: "Older versions", Items: many},
		{ID: "rescue", Title: "Rettungssystem für Notfälle und Datenrettung", Note: "too little memory", Facts: []string{"2026.10", "1.20 GB", "16.0 GB"}, Help: strings.Repeat("A long help text. ", 40)},
		{ID: "future", Title: "Xen", Blocked: "this entry needs multiboot, which this version of InetBoot does not have"},
		{ID: "off", Title: "Switch off"},
	}
}

func text(s console.Screen) string {
	var b strings.Builder
	for _, l := range s {
		attr := " "
		if l.Invert {
			attr = "#"
		} else if l.Bold {
			attr = "*"
		}
		b.WriteString(strings.TrimRight(attr+"|"+l.Text, " ") + "\n")
	}
	return b.String()
}

// keys: arrows as ^ and v, Enter as $, Escape as <, Backspace as ~, Tab as |,
// Control-R as !, pages as } and {, seconds as '.'.
func play(m *Model, keys string) (last Event) {
	for _, k := range keys {
		var ev Event
		switch k {
		case '^':
			ev = m.Press(console.Up)
		case 'v':
			ev = m.Press(console.Down)
		case '$':
			ev = m.Press(console.Enter)
		case '<':
			ev = m.Press(console.Escape)
		case '~':
			ev = m.Press(console.Backspace)
		case '|':
			ev = m.Press(console.Tab)
		case '!':
			ev = m.Press(console.Reload)
		case '}':
			ev = m.Press(console.PageDown)
		case '{':
			ev = m.Press(console.PageUp)
		case '.':
			ev = m.Tick()
		default:
			ev = m.Press(console.Key(k))
		}
		if ev != (Event{}) {
			last = ev
		}
	}
	return last
}

var (
	standard = console.Size{Columns: 80, Rows: 24}
	heads    = []string{"version", "to load", "memory", "cached"}
)

const longText = "refused: kernel: it has SHA-256 123456789abc there, but the catalog says abcdef123456 (http://boot.example.com); unavailable: connection refused (http://mirror.example.com)\nTried with: eth0"

func TestScreens(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
		keys string
		size console.Size
	}{
		{"start", Options{Default: "debian", Timeout: 10}, "", standard},
		{"countdown", Options{Default: "debian", Timeout: 10}, "...", standard},
		{"stopped", Options{Default: "debian", Timeout: 10}, " ....", standard},
		{"submenu", Options{Default: "debian", Timeout: -1, Reload: true, More: "more"}, "v$", standard},
		{"submenu-scrolled", Options{Reload: true}, "v$vvvvvvvvvvvv", standard},
		{"submenu-end", Options{}, "v$^", standard},
		{"long-help", Options{}, "vv", standard},
		{"blocked", Options{}, "4$", standard},
		{"default-in-submenu", Options{Default: "m20", Timeout: 5}, ".", standard},
		{"unknown-default", Options{Default: "nothing", Timeout: 5}, ".", standard},
		{"facts", Options{Heads: heads, Reload: true, More: "network, mirror, log"}, "vv", standard},
		{"facts-narrow", Options{Heads: heads, Reload: true, More: "more"}, "", console.Size{Columns: 40, Rows: 16}},
		{"facts-tiny", Options{Heads: heads, Reload: true, More: "more", Default: "debian", Timeout: 99}, "", console.Size{Columns: 20, Rows: 8}},
		{"facts-wide", Options{Heads: heads, Reload: true, More: "more"}, "2$v", console.Size{Columns: 480, Rows: 135}},
		{"search", Options{Heads: heads, More: "more"}, "Ver 2", standard},
		{"text", Options{Text: longText, Back: true, Enter: "choose", Default: "debian", Timeout: 30}, "", standard},
		{"text-narrow", Options{Text: longText, Back: true}, "v", console.Size{Columns: 40, Rows: 14}},
		{"text-tiny", Options{Text: longText, Back: true}, "vv", console.Size{Columns: 20, Rows: 8}},
		{"search-nothing", Options{}, "nothing", standard},
	} {
		tt.o.Title, tt.o.Items = "Example Ltd.", tree()
		m := New(tt.o)
		play(m, tt.keys)
		s := m.Screen(tt.size)
		check(t, tt.name, s, tt.size, tt.o.Text != "")
		file := filepath.Join("testdata", tt.name+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(text(s)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), text(s)); diff != "" {
			t.Errorf("%s: the screen differs from %s (-want +got):\n%s", tt.name, file, diff)
		}
	}
}

// check fails if a screen does not fit on its terminal.
func check(t *testing.T, name string, s console.Screen, size console.Size, shorter bool) {
	t.Helper()
	if len(s) > size.Rows || size == standard && !shorter && len(s) != size.Rows {
		t.Errorf("%s: %d lines for %d", name, len(s), size.Rows)
	}
	for i, l := range s {
		// Texts of the menu's own are cut off when they are drawn.
		if console.Width(l.Text) > size.Columns-1 && size.Columns >= standard.Columns {
			t.Errorf("%s: line %d has %d columns: %q", name, i+1, console.Width(l.Text), l.Text)
		}
	}
}

func TestEvents(t *testing.T) {
	for _, tt := range []struct {
		name     string
		o        Options
		keys     string
		picked   string // "": none
		timed    bool
		reload   bool
		selected string
	}{
		{"enter", Options{}, "$", "debian", false, false, "debian"},
		{"wrap around", Options{}, "^$", "off", false, false, "off"},
		{"wrap around downwards", Options{}, "vvvvvvv$", "rescue", false, false, "rescue"},
		{"number", Options{}, "5$", "off", false, false, "off"},
		{"number of two digits", Options{}, "2$12$", "m12", false, false, "m12"},
		{"number too large begins anew", Options{}, "2$126$", "m6", false, false, "m6"},
		{"zero is no entry", Options{}, "0$", "debian", false, false, "debian"},
		{"blocked", Options{}, "4$", "", false, false, "future"},
		{"submenu and back", Options{}, "2$vv<", "", false, false, "old"},
		{"back at the top", Options{}, "<<", "", false, false, "debian"},
		{"time", Options{Default: "rescue", Timeout: 3}, "...", "rescue", true, false, "rescue"},
		{"time not over", Options{Default: "rescue", Timeout: 3}, "..", "", false, false, "rescue"},
		{"any key stops the time", Options{Default: "rescue", Timeout: 3}, ".. ....", "", false, false, "rescue"},
		{"never", Options{Default: "rescue", Timeout: -1}, "......", "", false, false, "rescue"},
		{"no default, no time", Options{Timeout: 1}, "......", "", false, false, "debian"},
		{"blocked default", Options{Default: "future", Timeout: 1}, "......", "", false, false, "future"},
		{"default that is a submenu", Options{Default: "old", Timeout: 1}, "......", "", false, false, "old"},
		{"default in a submenu", Options{Default: "m7", Timeout: 1}, ".", "m7", true, false, "m7"},
		{"reload", Options{Reload: true}, "!", "", false, true, "debian"},
		{"no reload", Options{}, "!", "", false, false, "debian"},
		{"pages", Options{}, "2$}}{v$", "m12", false, false, "m12"},
		{"letters search", Options{}, "resc$", "rescue", false, false, "rescue"},
		{"in submenus, too", Options{}, "version 17$", "m17", false, false, "m17"},
		{"words in any order, any case", Options{}, "25 OLD 7$", "m7", false, false, "m7"}, // the number is none: it begins with a digit
		{"after a slash numbers are searched for", Options{}, "/25 OLD$", "m25", false, false, "m25"},
		{"by the id", Options{}, "/m13$", "m13", false, false, "m13"},
		{"Escape ends a search", Options{}, "resc<v$", "", false, false, "m1"},
		{"Backspace widens it", Options{}, "swiz~$", "off", false, false, "off"},
		{"and ends it", Options{}, "swi~~~~v$", "", false, false, "m1"},
		{"nothing found", Options{}, "swizz$$v^", "", false, false, ""},
		{"a submenu that was found opens", Options{}, "older^$v$", "m2", false, false, "m2"},
		{"what is blocked stays so", Options{}, "xen$", "", false, false, "future"},
		{"no way back at the top", Options{}, "<", "", false, false, "debian"},
	} {
		tt.o.Items = tree()
		m := New(tt.o)
		ev := play(m, tt.keys)
		picked := ""
		if ev.Picked != nil {
			picked = ev.Picked.ID
		}
		if picked != tt.picked || ev.Timed != tt.timed || ev.Reload != tt.reload || m.Selected() != tt.selected {
			t.Errorf("%s: %q leads to %q (timed %v, reload %v) on %q; want %q (%v, %v) on %q",
				tt.name, tt.keys, picked, ev.Timed, ev.Reload, m.Selected(), tt.picked, tt.timed, tt.reload, tt.selected)
		}
	}
}

func TestAtOnce(t *testing.T) {
	m := New(Options{Items: tree(), Default: "debian", Timeout: 0})
	if ev := m.Due(); ev.Picked == nil || ev.Picked.ID != "debian" || !ev.Timed {
		t.Errorf("Due = %+v; want debian", ev)
	}
	if ev := m.Due(); ev.Picked != nil {
		t.Error("Due picks twice")
	}
}

func TestEmptyMenu(t *testing.T) {
	m := New(Options{Title: "Nothing", Items: []Item{}})
	if ev := play(m, "v^$<5.$"); ev != (Event{}) {
		t.Errorf("an empty menu gives %+v", ev)
	}
	if !strings.Contains(text(m.Screen(standard)), "This menu is empty.") {
		t.Errorf("screen:\n%s", text(m.Screen(standard)))
	}
}

func TestMoreAndBack(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		keys string
		want Event
	}{
		{Options{More: "more"}, "|", Event{More: true}},
		{Options{}, "|", Event{}},
		{Options{Back: true}, "<", Event{Back: true}},
		{Options{Back: true}, "2$<", Event{}},
		{Options{}, "<", Event{}},
	} {
		tt.o.Items = tree()
		if got := play(New(tt.o), tt.keys); got != tt.want {
			t.Errorf("%q of %+v = %+v; want %+v", tt.keys, tt.o, got, tt.want)
		}
	}
}

// What is found out about the entries comes while somebody looks at them.
func TestSetItems(t *testing.T) {
	fresh := tree()
	fresh[0].Facts[0] = "13"
	fresh[1].Items = fresh[1].Items[:20]
	for _, tt := range []struct{ keys, selected, more, then string }{
		{"2$12", "m12", "v", "m13"},
		{"ver 12", "m12", "~~~v", "m2"},
		{"2$25", "debian", "", "debian"}, // gone
		{"..", "rescue", "", "rescue"},
	} {
		m := New(Options{Items: tree(), Heads: heads, Default: "rescue", Timeout: 5})
		if tt.keys != ".." {
			m.Press(console.Home)
		}
		play(m, tt.keys)
		left := m.Left()
		m.SetItems(fresh)
		if got := m.Selected(); got != tt.selected || m.Left() != left {
			t.Errorf("after %q and new items: on %q with %d s left; want %q, %d s", tt.keys, got, m.Left(), tt.selected, left)
		}
		if play(m, tt.more); m.Selected() != tt.then {
			t.Errorf("after %q, new items and %q: on %q; want %q", tt.keys, tt.more, m.Selected(), tt.then)
		}
	}
}

// Over a line of 9600 baud, 960 bytes take a second.
func TestFewLinesChange(t *testing.T) {
	m := New(Options{Items: tree(), Heads: heads})
	play(m, "2$")
	for i := range 9 {
		before := m.Screen(standard)
		m.Press(console.Down)
		changed := 0
		for n, l := range m.Screen(standard) {
			if l != before[n] {
				changed++
			}
		}
		if changed > 2 {
			t.Errorf("going to entry %d changes %d lines; want 2", i+2, changed)
		}
	}
}

func FuzzModel(f *testing.F) {
	f.Add("v$vv12$<^!.....", "", 3, 80, 24)
	f.Add("ver 2~~|{}$<<", longText, -1, 20, 8)
	f.Add("v", longText, -1, 40, 14)
	f.Fuzz(func(t *testing.T, keys, about string, timeout, columns, rows int) {
		size := console.Size{Columns: min(max(columns, 20), 500), Rows: min(max(rows, 8), 200)}
		m := New(Options{Title: "T", Text: about, Items: tree(), Heads: heads, Default: "m3", Timeout: timeout, Reload: true, More: "more", Back: true})
		for _, k := range keys {
			play(m, string(k))
			s := m.Screen(size)
			if len(s) > size.Rows {
				t.Fatalf("after %q: %d lines on %d", keys, len(s), size.Rows)
			}
			marks, want := 0, 1
			if m.Selected() == "" {
				want = 0
			}
			for _, l := range s {
				if l.Invert {
					marks++
				}
			}
			if marks != want {
				t.Fatalf("after %q: %d selected lines, want %d", keys, marks, want)
			}
			if k == '!' {
				m.SetItems(tree())
			}
		}
	})
}
