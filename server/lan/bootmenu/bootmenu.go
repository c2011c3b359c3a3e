// Package bootmenu writes menus for machines that boot without preboot: for
// pxelinux and for iPXE, of the same entries. Whatever stands in titles and
// arguments, nothing in a menu is read as anything but text.
package bootmenu

import (
	"fmt"
	"strings"
)

// Menu is what a machine is shown.
type Menu struct {
	Title   string
	Default string // id of the entry that starts by itself; one that cannot is none
	Timeout int    // seconds until it does: 0 at once, below 0 never
	Entries []Entry
}

// Entry is a submenu (Entries), or what starts.
type Entry struct {
	ID      string // letters, digits and ._+~-
	Title   string
	Refused string // why it cannot start; "": it can

	Entries []Entry
	Kernel  string   // path below the boot files
	Initrds []string // likewise
	Args    string   // of the kernel
	Action  Action
}

// Action is something that needs no kernel.
type Action int

// The actions.
const (
	None      Action = iota
	LocalDisk        // what the firmware has next
	Reboot
	PowerOff
)

// maxArgs bounds a kernel's arguments, in bytes: COMMAND_LINE_SIZE of x86 is
// 2048, and the loaders add theirs.
const maxArgs = 1900

// maxTitle bounds a title, in characters: a line of a console.
const maxTitle = 70

// plain returns text as both loaders show it and neither reads anything into:
// one line of ASCII without quotes, signs of variables and separators.
func plain(s string) string {
	var b strings.Builder
	n := 0
	for _, c := range s {
		switch {
		case n == maxTitle:
			return strings.TrimLeft(b.String(), "- ")
		case c == '"' || c == '\'' || c == '`' || c == '^':
			continue
		case c == '\n' || c == '\t':
			c = ' '
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.ContainsRune(" .,:()+_/@=!*-", c):
		default:
			c = '?'
		}
		b.WriteRune(c)
		n++
	}
	return strings.TrimLeft(strings.TrimSpace(b.String()), "-") // no option of a command
}

// unfit says why a kernel cannot be given arguments by a loader; "": it can.
func unfit(args string) string {
	if len(args) > maxArgs {
		return fmt.Sprintf("its arguments have %d bytes, at most %d are possible here", len(args), maxArgs)
	}
	for _, c := range args {
		if c < ' ' && c != '\t' && c != '\n' || c == 0x7f || c > '~' {
			return "its arguments have characters that are not ASCII"
		}
	}
	return ""
}

// usable returns the entry with an id if it can start, nil otherwise.
func usable(entries []Entry, id string) *Entry {
	for i := range entries {
		e := &entries[i]
		if e.ID == id && len(e.Entries) == 0 && e.Refused == "" {
			return e
		}
		if found := usable(e.Entries, id); found != nil {
			return found
		}
	}
	return nil
}

// checked returns entries with those refused that the loader cannot start.
func checked(entries []Entry, why func(*Entry) string) []Entry {
	out := make([]Entry, len(entries))
	for i, e := range entries {
		if e.Refused == "" && len(e.Entries) == 0 {
			e.Refused = why(&e)
		}
		e.Entries = checked(e.Entries, why)
		out[i] = e
	}
	return out
}
