package console

import (
	"fmt"
	"strings"
)

// MaxWidth is how much of a wide screen is used: longer lines are hard to read.
const MaxWidth = 120

// Width returns how many columns lines may have on a terminal of that size: not
// the last one, behind which some terminals wrap.
func (s Size) Width() int { return min(s.Columns, MaxWidth) - 1 }

// Rule returns a line across the screen, which says how many more lines there
// are where, and ends with tail.
func Rule(width, more int, where, tail string) Line {
	text := strings.Repeat("-", max(width-1-Width(tail), 0))
	if more > 0 {
		if note := fmt.Sprintf(" %d more %s ", more, where); len(note)+4 < len(text) {
			text = text[:4] + note + text[4+len(note):]
		}
	}
	return Line{Text: " " + text + tail}
}

// Block adds exactly so many rows with text, wrapped, and cut off with two
// dots if there is more.
func Block(s Screen, text string, rows, width int) Screen {
	lines := Wrap(text, width-2)
	if len(lines) > rows && rows > 0 {
		lines = lines[:rows]
		lines[rows-1] = Clip(lines[rows-1], width-5) + " .."
	}
	for i := range rows {
		line := Line{}
		if i < len(lines) && lines[i] != "" {
			line.Text = " " + lines[i]
		}
		s = append(s, line)
	}
	return s
}

// Hints returns a line that says which keys there are, as many of them as fit.
func Hints(width int, hints ...string) Line {
	line := ""
	for _, h := range hints {
		if Width(line)+2+Width(h) <= width {
			line += "  " + h
		}
	}
	return Line{Text: strings.TrimPrefix(line, " "), Bold: true}
}
