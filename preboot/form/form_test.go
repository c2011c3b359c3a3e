package form

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/preboot/console"
)

var update = flag.Bool("update", false, "write the screens in testdata anew")

func options() Options {
	static := func(value func(string) string) bool { return value("mode") == "static" }
	return Options{
		Title: "Network settings",
		Text:  "What this machine does not ask the network for.",
		Fields: []Field{
			{ID: "mode", Label: "Addresses", Value: "dhcp", Choices: []Choice{{"dhcp", "automatic"}, {"static", "static, typed here"}}, Help: "Whether the network is asked."},
			{ID: "address", Label: "Address/length", When: static, Help: "Such as 192.0.2.7/24."},
			{ID: "gateway", Label: "Gateway", When: static, Max: 12},
			{ID: "line", Label: "Command line", Above: true, Value: strings.Repeat("option.of.many=value ", 12), Max: 1000},
		},
		Submit: "Use these settings",
	}
}

// keys: arrows as ^ v < >, Enter as $, Escape as !, Backspace as ~, Delete as
// #, Tab as |, Home and End as { and }, Control-U as @, pages as ( and ).
func play(m *Model, keys string) (last Event) {
	named := map[rune]console.Key{'^': console.Up, 'v': console.Down, '<': console.Left, '>': console.Right, '$': console.Enter, '!': console.Escape,
		'~': console.Backspace, '#': console.Delete, '|': console.Tab, '{': console.Home, '}': console.End, '@': console.Clear, '(': console.PageUp, ')': console.PageDown}
	for _, r := range keys {
		k, ok := named[r]
		if !ok {
			k = console.Key(r)
		}
		last = m.Press(k)
	}
	return last
}

// text shows a screen with the cursor as an underscore under no character.
func text(s console.Screen) string {
	var b strings.Builder
	for _, l := range s {
		attr := " "
		switch {
		case l.Invert:
			attr = "#"
		case l.Bold:
			attr = "*"
		}
		b.WriteString(strings.TrimRight(attr+"|"+l.Text, " ") + "\n")
		if l.Cursor > 0 {
			b.WriteString("  " + strings.Repeat(" ", l.Cursor-1) + "_\n")
		}
	}
	return b.String()
}

func TestScreens(t *testing.T) {
	standard := console.Size{Columns: 80, Rows: 24}
	for _, tt := range []struct {
		name, keys string
		size       console.Size
	}{
		{"start", "", standard},
		{"static", ">v192.0.2.7/24<<<", standard},
		{"wrapped", "v{>>", standard},
		{"last-row", "^", standard},
		{"narrow", ">v10.0.0.1", console.Size{Columns: 40, Rows: 16}},
		{"tiny", "v}", console.Size{Columns: 20, Rows: 8}},
		{"wide", "", console.Size{Columns: 480, Rows: 135}},
	} {
		m := New(options())
		play(m, tt.keys)
		s := m.Screen(tt.size)
		if len(s) > tt.size.Rows || tt.size == standard && len(s) != tt.size.Rows {
			t.Errorf("%s: %d lines on %d", tt.name, len(s), tt.size.Rows)
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

func TestKeys(t *testing.T) {
	for _, tt := range []struct {
		name, keys string
		want       Event
		values     map[string]string
	}{
		{"fields that are not shown have no value", ">vabc^<", None, map[string]string{"mode": "dhcp", "address": ""}},
		{"and keep it", ">vabc^<>", None, map[string]string{"mode": "static", "address": "abc"}},
		{"choice by number", "2", None, map[string]string{"mode": "static"}},
		{"a number that is none", "7", None, map[string]string{"mode": "dhcp"}},
		{"choices go round", "<<>", None, map[string]string{"mode": "static"}},
		{"typing in the middle", ">vad<bc", None, map[string]string{"address": "abcd"}},
		{"delete, backspace", ">vabcd{#}~", None, map[string]string{"address": "bc"}},
		{"UTF-8", ">vaßä<~", None, map[string]string{"address": "aä"}},
		{"clear", ">vabc@x", None, map[string]string{"address": "x"}},
		{"bounded", ">vv123456789012345", None, map[string]string{"gateway": "123456789012"}},
		{"enter goes on", ">$a$b", None, map[string]string{"address": "a", "gateway": "b"}},
		{"tab, too", ">|a|b", None, map[string]string{"address": "a", "gateway": "b"}},
		{"around", "^^", None, nil},
		{"sent", ")$", Submit, map[string]string{"mode": "dhcp"}},
		{"keys on the last row", ")abc<>~", None, map[string]string{"mode": "dhcp"}},
		{"cancelled", ">va!", Cancel, nil},
	} {
		m := New(options())
		if got := play(m, tt.keys); got != tt.want {
			t.Errorf("%s: %q = %v; want %v", tt.name, tt.keys, got, tt.want)
		}
		for id, want := range tt.values {
			if got := m.Value(id); got != want {
				t.Errorf("%s: after %q %s = %q; want %q", tt.name, tt.keys, id, got, want)
			}
		}
	}
}

func TestFail(t *testing.T) {
	m := New(options())
	play(m, ">)")
	m.Fail("gateway", "that is no address")
	play(m, "1")
	if got := m.Value("gateway"); got != "1" {
		t.Errorf("after Fail one does not stand on the field: %q", got)
	}
	if s := text(m.Screen(console.Size{Columns: 80, Rows: 24})); !strings.Contains(s, "that is no address") {
		t.Errorf("the screen does not say what is wrong:\n%s", s)
	}
	if play(m, ")$"); strings.Contains(text(m.Screen(console.Size{Columns: 80, Rows: 24})), "that is no address") {
		t.Error("sending it again leaves the old error")
	}
}

func FuzzModel(f *testing.F) {
	f.Add(">v192.0.2.7/24<<#~v$", 80, 24)
	f.Add("))^^@日本語}{", 20, 8)
	f.Fuzz(func(t *testing.T, keys string, columns, rows int) {
		size := console.Size{Columns: min(max(columns, 20), 500), Rows: min(max(rows, 8), 200)}
		m := New(options())
		for _, k := range keys {
			play(m, string(k))
			s := m.Screen(size)
			cursors := 0
			for _, l := range s {
				if l.Cursor > size.Columns {
					t.Fatalf("after %q: the cursor is in column %d of %d", keys, l.Cursor, size.Columns)
				}
				if l.Cursor > 0 {
					cursors++
				}
			}
			text := m.field() != nil && m.field().Choices == nil
			if len(s) > size.Rows || cursors > 1 || text != (cursors == 1) {
				t.Fatalf("after %q: %d lines on %d, %d cursors:\n%v", keys, len(s), size.Rows, cursors, s)
			}
		}
	})
}
