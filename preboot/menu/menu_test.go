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
		{ID: "debian", Title: "Debian 12", Help: "The universal operating system.\nWith sshd and Python."},
		{ID: "old", Title: "Older versions", Items: many},
		{ID: "rescue", Title: "Rettungssystem für Notfälle", Help: strings.Repeat("A long help text. ", 40)},
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

// keys: arrows as ^ and v, Enter as $, Escape as <, seconds as '.'.
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

func TestScreens(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    Options
		keys string
	}{
		{"start", Options{Default: "debian", Timeout: 10}, ""},
		{"countdown", Options{Default: "debian", Timeout: 10}, "..."},
		{"stopped", Options{Default: "debian", Timeout: 10}, "x...."},
		{"submenu", Options{Default: "debian", Timeout: -1, Reload: true}, "v$"},
		{"submenu-scrolled", Options{Reload: true}, "v$vvvvvvvvvvvv"},
		{"submenu-end", Options{}, "v$^"},
		{"long-help", Options{}, "vv"},
		{"blocked", Options{}, "4$"},
		{"default-in-submenu", Options{Default: "m20", Timeout: 5}, "."},
		{"unknown-default", Options{Default: "nothing", Timeout: 5}, "."},
	} {
		tt.o.Title, tt.o.Items = "Example Ltd.", tree()
		m := New(tt.o)
		play(m, tt.keys)
		s := m.Screen()
		if len(s) != console.Rows {
			t.Errorf("%s: %d lines; want %d", tt.name, len(s), console.Rows)
		}
		for i, l := range s {
			if console.Width(l.Text) > console.Columns-1 {
				t.Errorf("%s: line %d has %d columns: %q", tt.name, i+1, console.Width(l.Text), l.Text)
			}
		}
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
		{"any key stops the time", Options{Default: "rescue", Timeout: 3}, "..x....", "", false, false, "rescue"},
		{"never", Options{Default: "rescue", Timeout: -1}, "......", "", false, false, "rescue"},
		{"no default, no time", Options{Timeout: 1}, "......", "", false, false, "debian"},
		{"blocked default", Options{Default: "future", Timeout: 1}, "......", "", false, false, "future"},
		{"default that is a submenu", Options{Default: "old", Timeout: 1}, "......", "", false, false, "old"},
		{"default in a submenu", Options{Default: "m7", Timeout: 1}, ".", "m7", true, false, "m7"},
		{"reload", Options{Reload: true}, "r", "", false, true, "debian"},
		{"no reload", Options{}, "r", "", false, false, "debian"},
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
	if !strings.Contains(text(m.Screen()), "This menu is empty.") {
		t.Errorf("screen:\n%s", text(m.Screen()))
	}
}

func FuzzModel(f *testing.F) {
	f.Add("v$vv12$<^r.....", 3)
	f.Fuzz(func(t *testing.T, keys string, timeout int) {
		m := New(Options{Title: "T", Items: tree(), Default: "m3", Timeout: timeout, Reload: true})
		for _, k := range keys {
			play(m, string(k))
			s := m.Screen()
			if len(s) != console.Rows {
				t.Fatalf("after %q: %d lines", keys, len(s))
			}
			marks := 0
			for _, l := range s {
				if l.Invert {
					marks++
				}
				if console.Width(l.Text) > console.Columns-1 {
					t.Fatalf("after %q: line %q", keys, l.Text)
				}
			}
			if marks != 1 {
				t.Fatalf("after %q: %d selected lines", keys, marks)
			}
		}
	})
}
