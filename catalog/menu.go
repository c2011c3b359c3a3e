package catalog

import (
	"encoding/json"
	"fmt"
	"slices"
	"unicode"

	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
)

// MenuName is the target that holds the menu.
const MenuName = "menu.json"

// MenuFormat is the value of a Menu's "format".
const MenuFormat = "inetboot-menu/1"

// MaxTarget bounds a menu or a manifest, in bytes.
const MaxTarget = 4 << 20

const (
	maxEntries = 10000
	maxNesting = 8
	maxTitle   = 200
	maxHelp    = 8000
)

// Menu is the tree that a person picks from.
type Menu struct {
	Format   string   `json:"format"`
	Requires []string `json:"requires,omitempty"`
	Title    string   `json:"title"`
	Timeout  int      `json:"timeout"`           // seconds until Default boots; 0: at once; -1: never
	Default  string   `json:"default,omitempty"` // an entry's id
	Entries  []Entry  `json:"entries"`
}

// Entry is a submenu (Entries), an image to boot (Image), something that
// preboot itself does (Action), or the place for a publisher's menu (Include):
// exactly one of them.
type Entry struct {
	ID       string   `json:"id"`
	Requires []string `json:"requires,omitempty"` // features without which the entry cannot be picked
	Title    string   `json:"title"`
	Help     string   `json:"help,omitempty"`
	Arch     []string `json:"arch,omitempty"` // shown only on these; empty: on all

	Entries []Entry `json:"entries,omitempty"`
	Image   string  `json:"image,omitempty"` // target name of a manifest
	Action  Action  `json:"action,omitempty"`
	Include string  `json:"include,omitempty"` // prefix of the images whose menu it shows

	Broken error  `json:"-"` // why what it includes cannot be shown; nil: it can
	From   string `json:"-"` // target that has it, if that is a publisher's menu

	Cmdline string `json:"cmdline,omitempty"` // appended to the image's command line
}

// Action is something that preboot does itself.
type Action string

// The actions.
const (
	ActionLocalDisk Action = "local-disk" // leave it to the firmware to boot what comes next
	ActionReboot    Action = "reboot"
	ActionPowerOff  Action = "poweroff"
)

// Actions lists the actions that this version knows.
func Actions() []Action { return []Action{ActionLocalDisk, ActionReboot, ActionPowerOff} }

// NewMenu returns an empty menu.
func NewMenu(title string) *Menu {
	return &Menu{Format: MenuFormat, Title: title, Timeout: 10, Entries: []Entry{}}
}

// ParseMenu reads and checks a menu. Entries that need features or actions
// unknown here are kept: see [Entry.Usable].
func ParseMenu(data []byte) (*Menu, error) {
	var m Menu
	if err := strictjson.Unmarshal(data, MaxTarget, &m); err != nil {
		return nil, fmt.Errorf("the menu is %w: %w", ErrFormat, err)
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	return &m, nil
}

// Marshal checks m and returns it as a file.
func (m *Menu) Marshal() ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, err
	}
	return json.MarshalIndent(m, "", " ")
}

// Check returns an error that wraps ErrFormat if m is not a menu.
func (m *Menu) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("the menu is %w: %w", ErrFormat, fmt.Errorf(format, args...))
	}
	if m.Format != MenuFormat {
		return bad("format is %q, want %q", m.Format, MenuFormat)
	}
	if err := strictjson.Requires("the menu", m.Requires, nil); err != nil {
		return err
	}
	if m.Timeout < -1 || m.Timeout > 86400 {
		return bad("timeout %d is not between -1 and 86400 seconds", m.Timeout)
	}
	if err := printable(m.Title, maxTitle); err != nil {
		return bad("title: %w", err)
	}
	ids := make(map[string]bool)
	var walk func(entries []Entry, depth int) error
	walk = func(entries []Entry, depth int) error {
		if depth > maxNesting {
			return bad("submenus nest deeper than %d", maxNesting)
		}
		for i := range entries {
			e := &entries[i]
			if !storepath.ValidElement(e.ID) {
				return bad("entry id %q: use letters, digits and ._+~-", e.ID)
			}
			if ids[e.ID] {
				return bad("entry %s stands twice", e.ID)
			}
			ids[e.ID] = true
			if len(ids) > maxEntries {
				return bad("more than %d entries", maxEntries)
			}
			if e.Title == "" {
				return bad("entry %s has no title", e.ID)
			}
			for _, err := range []error{printable(e.Title, maxTitle), printable(e.Help, maxHelp), printable(e.Cmdline, 2000)} {
				if err != nil {
					return bad("entry %s: %w", e.ID, err)
				}
			}
			kinds := 0
			for _, is := range []bool{len(e.Entries) > 0, e.Image != "", e.Action != ""} {
				if is {
					kinds++
				}
			}
			if kinds > 1 || kinds == 0 && len(e.Requires) == 0 {
				return bad("entry %s has %d of entries, image and action, want one", e.ID, kinds)
			}
			if e.Include != "" && (kinds > 0 || !storepath.ValidElement(e.Include) || !slices.Contains(e.Requires, FeatureInclude)) {
				return bad("entry %s: %w", e.ID, errInclude)
			}
			if e.Image != "" && !storepath.ValidTarget(e.Image) {
				return bad("entry %s: image %q", e.ID, e.Image)
			}
			if err := walk(e.Entries, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	if err := walk(m.Entries, 1); err != nil {
		return err
	}
	if m.Default != "" && m.Find(m.Default) == nil {
		return bad("default %q is no entry", m.Default)
	}
	return nil
}

// CheckText returns an error if s cannot be a title: it is too long or has
// characters that consoles act on.
func CheckText(s string) error { return printable(s, maxTitle) }

// printable refuses control characters, which could repaint a console.
func printable(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("text of %d bytes, at most %d are allowed", len(s), limit)
	}
	for _, r := range s {
		if r != '\n' && !unicode.IsPrint(r) {
			return fmt.Errorf("character %U in a text", r)
		}
	}
	return nil
}

// Usable returns nil if this version can do what e says on arch, or an error
// that says what is missing.
func (e *Entry) Usable(arch string) error {
	if err := strictjson.Requires("this entry", e.Requires, Features()); err != nil {
		return err
	}
	if e.Action != "" && !slices.Contains(Actions(), e.Action) {
		return &strictjson.RequiresError{What: "this entry", Missing: []string{"the action " + string(e.Action)}}
	}
	if e.Broken != nil {
		return e.Broken
	}
	if len(e.Arch) > 0 && !slices.Contains(e.Arch, arch) {
		return fmt.Errorf("this entry is for %v, this machine is %s", e.Arch, arch)
	}
	return nil
}

// Find returns the entry with the id, anywhere in the tree, or nil. The
// pointer is into m.
func (m *Menu) Find(id string) *Entry { return find(m.Entries, id) }

func find(entries []Entry, id string) *Entry {
	for i := range entries {
		if entries[i].ID == id {
			return &entries[i]
		}
		if e := find(entries[i].Entries, id); e != nil {
			return e
		}
	}
	return nil
}
