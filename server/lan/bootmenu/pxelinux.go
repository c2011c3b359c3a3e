package bootmenu

import (
	"fmt"
	"strings"
)

// Pxelinux returns the menu as a configuration of pxelinux (syslinux 6). With
// modules there are menu.c32 and libutil.c32, which show it on a screen with
// submenus; without, it is a list of names to type.
func (m *Menu) Pxelinux(modules bool) []byte {
	entries := checked(m.Entries, func(e *Entry) string {
		if e.Action == Reboot || e.Action == PowerOff {
			return "pxelinux cannot do this"
		}
		return unfit(e.Args)
	})
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	standard := usable(entries, m.Default)
	timeout := m.Timeout
	if standard == nil {
		timeout = -1
		standard = firstUsable(entries)
	}
	if standard != nil {
		line("DEFAULT %s", standard.ID)
	}
	switch {
	case timeout == 0 && standard != nil:
		line("PROMPT 0") // Shift asks
	case modules:
		line("UI menu.c32")
		line("MENU TITLE %s", plain(m.Title))
	default:
		line("SAY %s", plain(m.Title))
		say(line, entries, "  ")
		line("PROMPT 1")
	}
	if timeout > 0 {
		line("TIMEOUT %d", min(timeout*10, 35996)) // tenths of a second; syslinux's limit
		line("ONTIMEOUT %s", standard.ID)
	}
	standardID := ""
	if standard != nil {
		standardID = standard.ID
	}
	pxelinuxEntries(line, entries, standardID)
	return []byte(b.String())
}

func firstUsable(entries []Entry) *Entry {
	for i := range entries {
		e := &entries[i]
		if len(e.Entries) > 0 {
			if found := firstUsable(e.Entries); found != nil {
				return found
			}
		} else if e.Refused == "" {
			return e
		}
	}
	return nil
}

// say lists the entries for somebody who types their names.
func say(line func(string, ...any), entries []Entry, indent string) {
	for _, e := range entries {
		switch {
		case len(e.Entries) > 0:
			line("SAY %s%s:", indent, plain(e.Title))
			say(line, e.Entries, indent+"  ")
		case e.Refused != "":
			line("SAY %s- %s", indent, plain(e.Title))
			line("SAY %s  (%s)", indent, plain(e.Refused))
		default:
			line("SAY %s%s - %s", indent, e.ID, plain(e.Title))
		}
	}
}

func pxelinuxEntries(line func(string, ...any), entries []Entry, standard string) {
	for _, e := range entries {
		if len(e.Entries) > 0 {
			line("MENU BEGIN %s", e.ID)
			line("MENU TITLE %s", plain(e.Title))
			pxelinuxEntries(line, e.Entries, standard)
			line("LABEL %s..", e.ID)
			line("  MENU LABEL Back")
			line("  MENU EXIT")
			line("MENU END")
			continue
		}
		line("LABEL %s", e.ID)
		line("  MENU LABEL %s", plain(e.Title))
		if e.ID == standard {
			line("  MENU DEFAULT")
		}
		switch {
		case e.Refused != "":
			// Menus show why; typed, it starts nothing.
			line("  MENU DISABLE")
			line("  TEXT HELP")
			line("  Not possible: %s", plain(e.Refused))
			line("  ENDTEXT")
			line("  LOCALBOOT -1")
		case e.Action == LocalDisk:
			line("  LOCALBOOT 0")
		default:
			line("  KERNEL %s", e.Kernel)
			line("  INITRD %s", strings.Join(e.Initrds, ","))
			line("  APPEND %s", strings.Join(strings.Fields(e.Args), " "))
			line("  IPAPPEND 2") // BOOTIF=, the adapter that it booted over
		}
	}
}
