package console

import (
	"strconv"
	"strings"
)

// Every terminal is taken for one of this size: nobody can ask a serial line.
const (
	Columns = 80
	Rows    = 24
)

// Line is one line of a screen.
type Line struct {
	Text   string
	Invert bool // shown in reverse video
	Bold   bool
}

// Screen is what a terminal shows, from the top. Lines behind it are empty.
type Screen []Line

// painter turns states into the bytes that lead there. It knows what its
// terminal shows.
type painter struct {
	started  bool   // something has been sent
	drawn    Screen // nil: the terminal scrolls
	progress string
}

// lines returns the bytes that print lines and progress on a scrolling
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
		p.drawn, p.progress = nil, ""
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
		b.WriteString(clip(progress, Columns-1))
		p.progress = progress
	}
	return b.String()
}

// draw returns the bytes that change what is shown into s. Lines that stay
// are not sent again.
func (p *painter) draw(s Screen) string {
	var b strings.Builder
	at := -1 // the line that the cursor is at the beginning of, where known
	if p.drawn == nil {
		// Cursor off, attributes off, all clear.
		b.WriteString("\x1b[?25l\x1b[0m\x1b[H\x1b[2J")
		p.drawn, p.progress, at = Screen{}, "", 0
	}
	for i := range min(Rows, max(len(s), len(p.drawn))) {
		var was, is Line
		if i < len(p.drawn) {
			was = p.drawn[i]
		}
		if i < len(s) {
			is = s[i]
		}
		if was == is {
			continue
		}
		if i != at {
			b.WriteString("\x1b[" + strconv.Itoa(i+1) + ";1H")
		}
		switch {
		case is.Invert:
			b.WriteString("\x1b[7m")
		case is.Bold:
			b.WriteString("\x1b[1m")
		}
		b.WriteString(clip(is.Text, Columns-1)) // the last column would wrap on some terminals
		if is.Invert || is.Bold {
			b.WriteString("\x1b[0m")
		}
		b.WriteString("\x1b[K")
		// A line feed tells logs where the line ends. Behind the last line it
		// would scroll.
		if i < Rows-1 {
			b.WriteString("\r\n")
			at = i + 1
		}
	}
	p.drawn = append(Screen{}, s...)
	return b.String()
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

// clip cuts s to n columns.
func clip(s string, n int) string {
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
				head := clip(word, n-w)
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
