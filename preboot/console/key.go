package console

import "unicode/utf8"

// Key is a key press: a rune, or one of the constants below it.
type Key rune

// Keys that are no printable characters.
const (
	Up Key = -1 - iota
	Down
	Left
	Right
	PageUp
	PageDown
	Home
	End
	Enter
	Escape
	Backspace
	Tab
	Delete
	Clear  // Control-U
	Reload // Control-R
	Redraw // Control-L
	Other  // a function key and the like: any key, but none with a meaning here
)

// Decode takes the keys from the beginning of what a terminal sent: ECMA-48
// sequences as the Linux console, xterm and VT100 send them. rest is the
// beginning of a sequence whose end has not arrived. When nothing has arrived
// for a while, the caller sets final: then an escape character is the key.
func Decode(in []byte, final bool) (keys []Key, rest []byte) {
	for len(in) > 0 {
		k, n := decode(in, final)
		if n == 0 {
			return keys, in
		}
		if k != 0 {
			keys = append(keys, k)
		}
		in = in[n:]
	}
	return keys, nil
}

// maxSequence bounds what is kept of a sequence that does not end.
const maxSequence = 32

// decode returns the first key and its length; 0 bytes if more are needed,
// key 0 for bytes that are no key.
func decode(in []byte, final bool) (Key, int) {
	switch c := in[0]; {
	case c == 0x1b:
		return decodeEscape(in, final)
	case c == '\r' || c == '\n':
		return Enter, 1
	case c == 0x7f || c == 0x08:
		return Backspace, 1
	case c < 0x20:
		return control(c), 1
	case c < utf8.RuneSelf:
		return Key(c), 1
	case !utf8.FullRune(in) && !final:
		return 0, 0
	}
	r, n := utf8.DecodeRune(in)
	if r == utf8.RuneError {
		return 0, n // line noise
	}
	return Key(r), n
}

// control returns the key of a control character. Those of Emacs are for
// terminals without arrows.
func control(c byte) Key {
	switch c {
	case 'P' - '@':
		return Up
	case 'N' - '@':
		return Down
	case 'B' - '@':
		return Left
	case 'F' - '@':
		return Right
	case 'A' - '@':
		return Home
	case 'E' - '@':
		return End
	case 'D' - '@':
		return Delete
	case 'C' - '@':
		return Escape
	case 'I' - '@':
		return Tab
	case 'U' - '@':
		return Clear
	case 'R' - '@':
		return Reload
	case 'L' - '@':
		return Redraw
	}
	return Other
}

func decodeEscape(in []byte, final bool) (Key, int) {
	if len(in) == 1 {
		if final {
			return Escape, 1
		}
		return 0, 0
	}
	switch in[1] {
	case '[', 'O':
	case 0x1b:
		return Escape, 1
	default:
		return Other, 2 // with the Alt key
	}
	if len(in) > 2 && in[1] == '[' && in[2] == '[' { // F1 to F5 of the Linux console: ESC [ [ A
		if len(in) > 3 {
			return Other, 4
		}
	} else {
		for i := 2; i < len(in); i++ {
			switch c := in[i]; {
			case c >= 0x40 && c <= 0x7e:
				return named(in[2:i], c), i + 1
			case c < 0x20 || c > 0x7e || i == maxSequence:
				return Other, i // broken off
			}
		}
	}
	if final {
		return Escape, len(in)
	}
	return 0, 0
}

func named(params []byte, last byte) Key {
	switch last {
	case 'A':
		return Up
	case 'B':
		return Down
	case 'C':
		return Right
	case 'D':
		return Left
	case 'H':
		return Home
	case 'F':
		return End
	case 'Z': // Shift-Tab
		return Up
	case 'M':
		return Enter // of the keypad, in application mode
	case '~':
		switch string(params) {
		case "1", "7":
			return Home
		case "3":
			return Delete
		case "4", "8":
			return End
		case "5":
			return PageUp
		case "6":
			return PageDown
		}
	}
	return Other
}
