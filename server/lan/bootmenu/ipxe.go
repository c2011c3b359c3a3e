package bootmenu

import (
	"fmt"
	"path"
	"strings"
)

// IPXE returns the menu as a script of iPXE. Paths are relative to the script's
// own.
func (m *Menu) IPXE() []byte {
	entries := checked(m.Entries, func(e *Entry) string {
		if why := unfit(e.Args); why != "" {
			return why
		}
		if strings.Contains(e.Args, "${") {
			return "its arguments have ${, which iPXE would replace"
		}
		// There are no quotes in iPXE (core/exec.c, split_command and
		// command_terminator): what looks like its own is.
		for _, w := range strings.Fields(e.Args) {
			if w == "||" || w == "&&" || w == ";" || strings.HasPrefix(w, "#") {
				return "its arguments have a word that iPXE takes for its own"
			}
		}
		return ""
	})
	s := &script{labels: map[string]string{}}
	s.line("#!ipxe")
	standard := usable(entries, m.Default)
	s.plan(entries, "")
	switch {
	case standard == nil || m.Timeout < 0:
		s.line("set menu-timeout 0")
	case m.Timeout == 0:
		s.line("set menu-timeout 0")
		s.line("goto %s", s.labels[standard.ID])
	default:
		s.line("set menu-timeout %d", m.Timeout*1000)
		s.line("goto %s", s.levelOf(entries, standard.ID, "menu"))
	}
	id := ""
	if standard != nil {
		id = s.labels[standard.ID]
	}
	s.level(m.Title, entries, "menu", "", id)
	s.line(":failed")
	s.line("echo It could not be started from ${cwuri}.")
	s.line("prompt --timeout 30000 Press any key for the menu ||")
	s.line("goto menu")
	return []byte(s.b.String())
}

// script is a script as it is written. Labels are made up: ids may have
// characters that iPXE takes for its own.
type script struct {
	b      strings.Builder
	labels map[string]string // of ids
}

func (s *script) line(format string, args ...any) { fmt.Fprintf(&s.b, format+"\n", args...) }

// plan gives each entry a label.
func (s *script) plan(entries []Entry, prefix string) {
	for i, e := range entries {
		label := fmt.Sprintf("%se%d", prefix, i+1)
		s.labels[e.ID] = label
		s.plan(e.Entries, label)
	}
}

// levelOf returns the label of the level that has an id.
func (s *script) levelOf(entries []Entry, id, label string) string {
	for _, e := range entries {
		if e.ID == id {
			return label
		}
		if found := s.levelOf(e.Entries, id, s.labels[e.ID]); found != "" {
			return found
		}
	}
	return ""
}

// level writes a menu and what is below it.
func (s *script) level(title string, entries []Entry, label, parent, standard string) {
	s.line(":%s", label)
	s.line("menu %s", plain(title))
	choice := ""
	for _, e := range entries {
		switch text := plain(e.Title); {
		case len(e.Entries) > 0:
			s.line("item %s %s ...", s.labels[e.ID], text)
		case e.Refused != "":
			s.line("item %s %s (not possible)", s.labels[e.ID], text)
		default:
			s.line("item %s %s", s.labels[e.ID], text)
		}
		if s.labels[e.ID] == standard {
			choice = " --default " + standard
		}
	}
	back := "exit"
	if parent != "" {
		s.line("item %s Back", parent)
		back = "goto " + parent
	}
	s.line("choose%s --timeout ${menu-timeout} selected || %s", choice, back)
	s.line("set menu-timeout 0")
	s.line("goto ${selected}")
	for _, e := range entries {
		if len(e.Entries) > 0 {
			s.level(e.Title, e.Entries, s.labels[e.ID], label, standard)
			continue
		}
		s.line(":%s", s.labels[e.ID])
		switch {
		case e.Refused != "":
			s.line("echo Not possible: %s", plain(e.Title))
			s.line("echo Reason: %s", plain(e.Refused))
			s.line("prompt --timeout 30000 Press any key for the menu ||")
			s.line("goto %s", label)
		case e.Action == LocalDisk:
			s.line("exit")
		case e.Action == Reboot:
			s.line("reboot || goto failed")
		case e.Action == PowerOff:
			s.line("poweroff || goto failed")
		default:
			s.start(&e)
		}
	}
}

// start writes what starts a kernel. UEFI's kernel looks its initrds up by
// their names, a BIOS's gets them one behind the other.
func (s *script) start(e *Entry) {
	var args []string
	for _, i := range e.Initrds {
		args = append(args, "initrd="+path.Base(i))
	}
	args = append(args, strings.Fields(e.Args)...)
	s.line("imgfree")
	s.line("kernel %s %s BOOTIF=01-${netX/mac:hexhyp} || goto failed", e.Kernel, strings.Join(args, " "))
	for _, i := range e.Initrds {
		s.line("initrd %s || goto failed", i)
	}
	s.line("boot || goto failed")
}
