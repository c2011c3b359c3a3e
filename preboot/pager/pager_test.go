package pager

import (
	"fmt"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/preboot/console"
)

func log(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("line %d", i+1))
	}
	return out
}

func body(s console.Screen) (first, last string) {
	for _, l := range s[2 : len(s)-2] {
		if l.Text != "" {
			if first == "" {
				first = strings.TrimSpace(l.Text)
			}
			last = strings.TrimSpace(l.Text)
		}
	}
	return first, last
}

func TestKeys(t *testing.T) {
	standard := console.Size{Columns: 80, Rows: 24} // 20 lines of text
	large := console.Size{Columns: 240, Rows: 67}   // 63
	for _, tt := range []struct {
		name        string
		lines       int
		keys        []console.Key
		size        console.Size
		first, last string
	}{
		{"begins at the end", 100, nil, standard, "line 81", "line 100"},
		{"on a large screen, too", 100, nil, large, "line 38", "line 100"},
		{"home", 100, []console.Key{console.Home}, standard, "line 1", "line 20"},
		{"home on a large screen", 100, []console.Key{console.Home}, large, "line 1", "line 63"},
		{"up", 100, []console.Key{console.Up, console.Up}, standard, "line 79", "line 98"},
		{"no further down", 100, []console.Key{console.Down, console.PageDown}, standard, "line 81", "line 100"},
		{"a page", 100, []console.Key{console.Home, console.PageDown}, standard, "line 21", "line 40"},
		{"no further up", 100, []console.Key{console.Home, console.Up, console.PageUp}, standard, "line 1", "line 20"},
		{"short", 3, []console.Key{console.Down, console.Up}, standard, "line 1", "line 3"},
		{"nothing", 0, []console.Key{console.Down, console.End}, standard, "", ""},
	} {
		m := New("Log", log(tt.lines))
		for _, k := range tt.keys {
			if m.Press(k) {
				t.Errorf("%s: key %v ends it", tt.name, k)
			}
		}
		s := m.Screen(tt.size)
		if first, last := body(s); first != tt.first || last != tt.last || len(s) != tt.size.Rows {
			t.Errorf("%s: %q to %q in %d lines; want %q to %q in %d", tt.name, first, last, len(s), tt.first, tt.last, tt.size.Rows)
		}
	}
	if m := New("Log", nil); !m.Press(console.Escape) {
		t.Error("Escape does not end it")
	}
}

func TestLongLinesAreWrapped(t *testing.T) {
	lines := append(log(30), strings.Repeat("word ", 100))
	m := New("Log", lines)
	s := m.Screen(console.Size{Columns: 80, Rows: 24})
	if first, last := body(s); first != "line 18" || !strings.HasPrefix(last, "word") {
		t.Errorf("%q to %q; want all of the long line at the end", first, last)
	}
	for range 200 {
		m.Press(console.Up)
	}
	if first, _ := body(m.Screen(console.Size{Columns: 20, Rows: 8})); first != "line 1" {
		t.Errorf("on a tiny screen it begins with %q", first)
	}
}

func FuzzModel(f *testing.F) {
	f.Add("UUDpPHE ", 40, 80, 24)
	f.Fuzz(func(t *testing.T, keys string, n, columns, rows int) {
		size := console.Size{Columns: min(max(columns, 20), 500), Rows: min(max(rows, 8), 200)}
		m := New("T", append(log(min(max(n, 0), 200)), strings.Repeat("x", 3000)))
		named := map[rune]console.Key{'U': console.Up, 'D': console.Down, 'P': console.PageUp, 'p': console.PageDown, 'H': console.Home, 'E': console.End}
		for _, r := range keys {
			m.Press(named[r])
			if s := m.Screen(size); len(s) != size.Rows {
				t.Fatalf("after %q: %d lines on %d", keys, len(s), size.Rows)
			}
		}
	})
}
