package console

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// A terminal that does not say how large it is, such as a serial line, is taken
// for one of this size.
const (
	Columns = 80
	Rows    = 24
)

// Size is what fits on a terminal, in characters.
type Size struct{ Columns, Rows int }

// standard is the size of a terminal that does not say.
func standard() Size { return Size{Columns, Rows} }

// Terminals that say that they are smaller or larger are taken for these.
const (
	minColumns, minRows = 20, 8
	maxColumns, maxRows = 1000, 400
)

// sizeOf turns what a terminal says of itself, 0 if nothing, into a Size.
func sizeOf(columns, rows int) Size {
	if columns <= 0 || rows <= 0 {
		return standard()
	}
	return Size{min(max(columns, minColumns), maxColumns), min(max(rows, minRows), maxRows)}
}

// Line is one line of a screen.
type Line struct {
	Text   string
	Invert bool // shown in reverse video
	Bold   bool
	Cursor int // column of the cursor, from 1; 0: it is not in this line
}

// same tells whether two lines look the same, the cursor aside.
func same(a, b Line) bool { return a.Text == b.Text && a.Invert == b.Invert && a.Bold == b.Bold }

// Screen is what a terminal shows, from the top. Lines behind it are empty.
type Screen []Line

// painter turns states into the bytes that lead there. It knows what its
// terminal shows.
type painter struct {
	size     Size
	started  bool   // something has been sent
	drawn    Screen // nil: the terminal scrolls
	progress string
	cursor   [2]int // row and column, from 1, if it is shown
}

// scroll returns the bytes that print lines and progress on a scrolling
// terminal.
func (p *painter) scroll(lines []string, progress string) string {
	var b strings.Builder
	if !p.started {
		// Whoever was here before may have left the cursor behind some text.
		b.WriteString("\x1b[0m\x1b[?25h\r\n")
		p.started = true
	}
	if p.drawn != nil {
		b.WriteString("\x1b[0m\x1b[H\x1b[2J\x1b[?25h")
		p.drawn, p.progress, p.cursor = nil, "", [2]int{}
	}
	if p.progress != "" && (len(lines) > 0 || p.progress != progress) {
		b.WriteString("\r\x1b[K")
		p.progress = ""
	}
	for _, l := range lines {
		b.WriteString(l)
		b.WriteString("\r\n")
	}
	if progress != p.progress {
		b.WriteString(Clip(progress, p.size.Columns-1))
		p.progress = progress
	}
	return b.String()
}

// draw returns the bytes that change what is shown into s. Lines that stay
// are not sent again, and of a line with the cursor in it only what is new.
func (p *painter) draw(s Screen) string {
	var b strings.Builder
	at := -1 // the line that the cursor is at the beginning of, where known
	if p.drawn == nil {
		// Cursor off, attributes off, all clear.
		b.WriteString("\x1b[?25l\x1b[0m\x1b[H\x1b[2J")
		p.drawn, p.progress, p.cursor, at = Screen{}, "", [2]int{}, 0
	}
	cursor := [2]int{}
	var lines strings.Builder
	for i := range min(p.size.Rows, max(len(s), len(p.drawn))) {
		var was, is Line
		if i < len(p.drawn) {
			was = p.drawn[i]
		}
		if i < len(s) {
			is = s[i]
		}
		if is.Cursor > 0 {
			cursor = [2]int{i + 1, min(is.Cursor, p.size.Columns)}
		}
		if same(was, is) {
			continue
		}
		text, from := Clip(is.Text, p.size.Columns-1), 0 // the last column would wrap on some terminals
		if is.Cursor > 0 && was.Invert == is.Invert && was.Bold == is.Bold {
			from = common(was.Text, text)
		}
		if i != at || from > 0 {
			lines.WriteString(position(i+1, Width(text[:from])+1))
		}
		switch {
		case is.Invert:
			lines.WriteString("\x1b[7m")
		case is.Bold:
			lines.WriteString("\x1b[1m")
		}
		lines.WriteString(text[from:])
		if is.Invert || is.Bold {
			lines.WriteString("\x1b[0m")
		}
		lines.WriteString("\x1b[K")
		// A line feed tells logs where the line ends. Behind the last line it
		// would scroll.
		at = -1
		if i < p.size.Rows-1 {
			lines.WriteString("\r\n")
			at = i + 1
		}
	}
	if p.cursor != [2]int{} && (cursor == [2]int{} || lines.Len() > 0) {
		b.WriteString("\x1b[?25l")
		p.cursor = [2]int{}
	}
	b.WriteString(lines.String())
	if cursor != p.cursor {
		b.WriteString(position(cursor[0], cursor[1]) + "\x1b[?25h")
		p.cursor = cursor
	}
	p.drawn = append(Screen{}, s...)
	return b.String()
}

func position(row, column int) string {
	return "\x1b[" + strconv.Itoa(row) + ";" + strconv.Itoa(column) + "H"
}

// common returns the length in bytes of what a and b have in common at their
// beginning, in whole characters.
func common(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	for n > 0 && n < len(b) && !utf8.RuneStart(b[n]) {
		n--
	}
	return n
}

// Width returns how many columns s takes.
func Width(s string) int {
	n := 0
	for _, r := range s {
		n += width(r)
	}
	return n
}

// width is 2 for the blocks of scripts whose characters are wide (UAX #11).
func width(r rune) int {
	switch {
	case r >= 0x300 && r <= 0x36f: // combining
		return 0
	case r >= 0x1100 && r <= 0x115f, r >= 0x2e80 && r <= 0xa4cf, r >= 0xac00 && r <= 0xd7a3,
		r >= 0xf900 && r <= 0xfaff, r >= 0xfe30 && r <= 0xfe6f, r >= 0xff00 && r <= 0xff60, r >= 0x1f300:
		return 2
	}
	return 1
}

// Clip cuts s to n columns.
func Clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i, r := range s {
		if n -= width(r); n < 0 {
			return s[:i]
		}
	}
	return s
}

// Wrap breaks s at spaces into lines of at most n columns. Line feeds stay
// breaks.
func Wrap(s string, n int) []string {
	var out []string
	for para := range strings.SplitSeq(s, "\n") {
		line, w := "", 0
		for word := range strings.FieldsSeq(para) {
			ww := Width(word)
			if line != "" && w+1+ww > n {
				out = append(out, line)
				line, w = "", 0
			}
			if line != "" {
				line += " "
				w++
			}
			for ww > n-w { // a word longer than a line, such as an URL
				head := Clip(word, n-w)
				if head == "" {
					break
				}
				out = append(out, line+head)
				line, w = "", 0
				word = word[len(head):]
				ww = Width(word)
			}
			line += word
			w += ww
		}
		out = append(out, line)
	}
	return out
}

// Printable returns s without characters that could repaint a terminal, for
// texts that come from elsewhere.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffd || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			return -1
		}
		return r
	}, s)
}
