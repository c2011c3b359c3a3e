package console

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// vt is as much of a terminal of 80 by 24 as painter uses.
type vt struct {
	rows     [24][]rune
	row, col int
}

var csi = regexp.MustCompile(`^\x1b\[([?0-9;]*)([A-Za-z])`)

func (v *vt) write(t *testing.T, s string) {
	t.Helper()
	for len(s) > 0 {
		if m := csi.FindStringSubmatch(s); m != nil {
			s = s[len(m[0]):]
			switch m[2] {
			case "H":
				v.row, v.col = 0, 0
				if m[1] != "" {
					r, c, _ := strings.Cut(m[1], ";")
					v.row, _ = strconv.Atoi(r)
					v.col, _ = strconv.Atoi(c)
					v.row, v.col = v.row-1, v.col-1
				}
			case "J":
				v.rows = [24][]rune{}
			case "K":
				v.rows[v.row] = v.rows[v.row][:min(v.col, len(v.rows[v.row]))]
			case "m", "h", "l":
			default:
				t.Fatalf("sequence %q", m[0])
			}
			continue
		}
		r := []rune(s)[0]
		s = s[len(string(r)):]
		switch {
		case r == '\r':
			v.col = 0
		case r == '\n' && v.row == 23:
			copy(v.rows[:], v.rows[1:])
			v.rows[23] = nil
		case r == '\n':
			v.row++
		case r < 0x20:
			t.Fatalf("control character %q", r)
		default:
			for len(v.rows[v.row]) <= v.col {
				v.rows[v.row] = append(v.rows[v.row], ' ')
			}
			v.rows[v.row][v.col] = r
			if v.col++; v.col > 79 {
				t.Fatalf("column %d", v.col)
			}
		}
	}
}

func (v *vt) text() []string {
	var out []string
	for _, r := range v.rows {
		out = append(out, strings.TrimRight(string(r), " "))
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

func TestPainter(t *testing.T) {
	p := painter{size: standard()}
	var v vt
	step := func(out string, want ...string) {
		t.Helper()
		v.write(t, out)
		if diff := cmp.Diff(want, v.text()); diff != "" {
			t.Fatalf("after %q (-want +got):\n%s", out, diff)
		}
	}
	v.write(t, "left by others")
	step(p.scroll(nil, ""), "left by others")
	if v.row != 1 || v.col != 0 {
		t.Errorf("the cursor is at %d,%d; want a line of its own", v.row, v.col)
	}
	v = vt{}
	step(p.scroll([]string{"one", "two"}, ""), "one", "two")
	step(p.scroll(nil, "10 %"), "one", "two", "10 %")
	step(p.scroll(nil, "9 %"), "one", "two", "9 %")
	step(p.scroll([]string{"three"}, "20 %"), "one", "two", "three", "20 %")
	step(p.scroll(nil, ""), "one", "two", "three")

	full := make(Screen, Rows)
	var want []string
	for i := range full {
		full[i].Text = fmt.Sprint("line ", i, strings.Repeat("x", 100))
		want = append(want, full[i].Text[:79])
	}
	step(p.draw(full), want...)
	if out := p.draw(full); out != "" {
		t.Errorf("drawing the same again sends %q", out)
	}
	full[5] = Line{Text: "changed", Invert: true}
	full[23] = Line{Text: "last", Bold: true}
	want[5], want[23] = "changed", "last"
	out := p.draw(full)
	step(out, want...)
	if len(out) > 60 {
		t.Errorf("changing two short lines takes %d bytes: %q", len(out), out)
	}
	step(p.draw(Screen{{Text: "alone"}}), "alone")
	step(p.scroll([]string{"lines again"}, ""), "lines again")
}

// While somebody types, the terminal's cursor is where the text goes, and no
// more than what is new is sent.
func TestPainterCursor(t *testing.T) {
	p := painter{size: standard()}
	var v vt
	v.write(t, p.draw(Screen{{Text: "title"}, {Text: " > Name  ab", Bold: true, Cursor: 12}, {Text: "end"}}))
	if v.row != 1 || v.col != 11 {
		t.Errorf("the cursor is at %d,%d; want 1,11", v.row, v.col)
	}
	out := p.draw(Screen{{Text: "title"}, {Text: " > Name  abc", Bold: true, Cursor: 13}, {Text: "end"}})
	v.write(t, out)
	if v.row != 1 || v.col != 12 || v.text()[1] != " > Name  abc" {
		t.Errorf("the cursor is at %d,%d in %q; want 1,12", v.row, v.col, v.text())
	}
	if len(out) > 50 {
		t.Errorf("typing a letter sends %d bytes: %q", len(out), out)
	}
	out = p.draw(Screen{{Text: "title"}, {Text: " > Name  abc", Bold: true, Cursor: 10}, {Text: "end"}})
	v.write(t, out)
	if v.col != 9 || len(out) > 16 {
		t.Errorf("moving the cursor to column %d sends %q", v.col, out)
	}
	if out = p.draw(Screen{{Text: "title"}, {Text: "   Name  abc"}, {Text: "end"}}); !strings.HasPrefix(out, "\x1b[?25l") {
		t.Errorf("the cursor stays: %q", out)
	}
	v.write(t, out)
	if diff := cmp.Diff([]string{"title", "   Name  abc", "end"}, v.text()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		in   string
		n    int
		want []string
	}{
		{"", 10, []string{""}},
		{"one two three", 7, []string{"one two", "three"}},
		{"a\nb", 7, []string{"a", "b"}},
		{"http://a.very.long/url end", 10, []string{"http://a.v", "ery.long/u", "rl end"}},
		{"日本語 日本", 6, []string{"日本語", "日本"}},
	} {
		if diff := cmp.Diff(tt.want, Wrap(tt.in, tt.n)); diff != "" {
			t.Errorf("Wrap(%q, %d) (-want +got):\n%s", tt.in, tt.n, diff)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got, want := Printable("a\x1b[2Jb\nc\x07\u202ed\u009b"), "a[2Jb cd"; got != want {
		t.Errorf("Printable = %q; want %q", got, want)
	}
}

func FuzzWrap(f *testing.F) {
	f.Add("one two\nthree 日本語 http://long", 5)
	f.Fuzz(func(t *testing.T, s string, n int) {
		if n < 2 || n > 200 {
			return
		}
		for _, l := range Wrap(s, n) {
			if Width(l) > n {
				t.Errorf("Wrap(%q, %d) has the line %q", s, n, l)
			}
		}
	})
}
