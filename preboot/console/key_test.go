package console

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecode(t *testing.T) {
	for _, tt := range []struct {
		name  string
		in    string
		final bool
		want  []Key
		rest  string
	}{
		{"letters", "a1", false, []Key{'a', '1'}, ""},
		{"enter as CR and LF", "\r\n", false, []Key{Enter, Enter}, ""},
		{"arrows of the Linux console", "\x1b[A\x1b[B\x1b[C\x1b[D", false, []Key{Up, Down, Right, Left}, ""},
		{"arrows in application mode", "\x1bOA\x1bOB", false, []Key{Up, Down}, ""},
		{"arrow with a modifier", "\x1b[1;5A", false, []Key{Up}, ""},
		{"home and end of the Linux console", "\x1b[1~\x1b[4~", false, []Key{Home, End}, ""},
		{"home and end of xterm", "\x1b[H\x1b[F", false, []Key{Home, End}, ""},
		{"pages", "\x1b[5~\x1b[6~", false, []Key{PageUp, PageDown}, ""},
		{"F1 of the Linux console", "\x1b[[Aq", false, []Key{Other, 'q'}, ""},
		{"F1 of VT100", "\x1bOPq", false, []Key{Other, 'q'}, ""},
		{"F5 of xterm", "\x1b[15~q", false, []Key{Other, 'q'}, ""},
		{"backspace", "\x7f\x08", false, []Key{Backspace, Backspace}, ""},
		{"half an arrow", "\x1b[", false, nil, "\x1b["},
		{"escape so far", "\x1b", false, nil, "\x1b"},
		{"escape alone", "\x1b", true, []Key{Escape}, ""},
		{"escape twice", "\x1b\x1b", true, []Key{Escape, Escape}, ""},
		{"sequence that never ends", "\x1b[1;", true, []Key{Escape}, ""},
		{"with Alt", "\x1bx", false, []Key{Other}, ""},
		{"Control-L", "\x0c", false, []Key{Redraw}, ""},
		{"tab, shift-tab, delete", "\t\x1b[Z\x1b[3~", false, []Key{Tab, Up, Delete}, ""},
		{"keys of Emacs", "\x01\x05\x02\x06\x10\x0e\x04\x15\x12", false, []Key{Home, End, Left, Right, Up, Down, Delete, Clear, Reload}, ""},
		{"Control-C", "\x03", false, []Key{Escape}, ""},
		{"UTF-8", "ä", false, []Key{'ä'}, ""},
		{"half a character", "\xc3", false, nil, "\xc3"},
		{"line noise", "\xff\x80a", false, []Key{'a'}, ""},
	} {
		keys, rest := Decode([]byte(tt.in), tt.final)
		if diff := cmp.Diff(tt.want, keys); diff != "" || string(rest) != tt.rest {
			t.Errorf("%s: Decode(%q, %v) leaves %q, want %q; keys differ (-want +got):\n%s", tt.name, tt.in, tt.final, rest, tt.rest, diff)
		}
	}
}

// However the bytes are torn apart, the keys are the same.
func TestDecodeInPieces(t *testing.T) {
	in := "a\x1b[A\x1bOB\x1b[5~\x1b[[Aä\r"
	want, _ := Decode([]byte(in), false)
	for cut := range len(in) {
		first, rest := Decode([]byte(in[:cut]), false)
		second, rest := Decode(append(rest, in[cut:]...), false)
		if diff := cmp.Diff(want, append(first, second...)); diff != "" || len(rest) > 0 {
			t.Errorf("cut at %d: rest %q, keys differ (-want +got):\n%s", cut, rest, diff)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x1b[1;5Aä\x1b[[B\x1b"), false)
	f.Add([]byte("\x1b[99999999999999999999999999999999999999999999~"), true)
	f.Fuzz(func(t *testing.T, in []byte, final bool) {
		keys, rest := Decode(in, final)
		if len(keys) > len(in) {
			t.Errorf("%d keys out of %d bytes", len(keys), len(in))
		}
		if final && len(rest) > 0 {
			t.Errorf("Decode(%q, true) leaves %q", in, rest)
		}
		if len(rest) > maxSequence+2 {
			t.Errorf("Decode(%q) keeps %d bytes", in, len(rest))
		}
	})
}
