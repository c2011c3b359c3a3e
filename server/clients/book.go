package clients

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Bounds of what is known of clients.
const (
	maxSections = 65536
	maxGlobs    = 1024
	maxValues   = 256 // of one section
	maxLike     = 16  // how long a chain of "like" may be
)

// ErrInvalid is wrapped by errors about what sections say.
var ErrInvalid = errors.New("invalid client settings")

// Settings are what holds for one machine.
type Settings struct {
	Known       bool              `json:"known"`            // there is a section for this very machine
	Name        string            `json:"name,omitempty"`   // host name that DHCP gives
	Address     netip.Addr        `json:"address,omitzero"` // fixed address; invalid if there is none
	Type        string            `json:"type,omitempty"`   // hardware
	Groups      []string          `json:"groups,omitempty"` //
	Services    []string          `json:"services,omitempty"`
	Boot        Method            `json:"boot"`                 // never empty
	File        string            `json:"file,omitempty"`       // boot file in place of the usual one
	Image       string            `json:"image,omitempty"`      // NAME or NAME/VERSION to boot unattended
	Entry       string            `json:"entry,omitempty"`      // of the menu, to boot unattended
	Timeout     *int              `json:"timeout,omitempty"`    // seconds until that boots: 0 at once, -1 never; nil: as the menu says
	SetupOnly   bool              `json:"setup_only,omitempty"` // not known, and only to be set up
	Arguments   []string          `json:"arguments,omitempty"`  // of the kernel
	Modules     map[string]string `json:"modules,omitempty"`    // options by name of the kernel module
	Environment map[string]string `json:"environment,omitempty"`
	Hostname    string            `json:"hostname,omitempty"` // a pattern, that the system gives itself
	Timezone    string            `json:"timezone,omitempty"`
	Locale      string            `json:"locale,omitempty"`
	Keyboard    string            `json:"keyboard,omitempty"` // LAYOUT or LAYOUT/VARIANT
	Swap        int64             `json:"swap,omitempty"`     // bytes; 0: none; see DefaultSwap
	Origins     map[string]string `json:"origins,omitempty"`  // where each setting is from: FILE:LINE, or the section in the database
}

// KernelArguments returns Arguments, and the modules' options in the form that
// the kernel and modprobe take from its command line: MODULE.OPTION=VALUE.
func (s *Settings) KernelArguments() []string {
	out := slices.Clone(s.Arguments)
	for _, m := range sortedKeys(s.Modules) {
		for _, o := range strings.Fields(s.Modules[m]) {
			out = append(out, m+"."+o)
		}
	}
	return out
}

type ref struct {
	kind Kind
	name string
}

// Book is sections, checked and ready for lookups. It does not change.
type Book struct {
	policy   Policy
	file     []Section
	stored   []Section
	sections map[ref][]*Section // those of the file first, then that of the database
	globs    []string           // names of clients, the less particular ones first
	machines int
}

// NewBook checks the sections of a file and of the database. Errors wrap
// ErrInvalid and name all places.
func NewBook(file, stored []Section) (*Book, error) {
	b := &Book{policy: BootUnknown, file: file, stored: stored, sections: make(map[ref][]*Section)}
	var errs []error
	bad := func(s *Section, line int, format string, args ...any) {
		if len(errs) < 50 {
			errs = append(errs, fmt.Errorf("%w: %s: %s", ErrInvalid, s.where(line), fmt.Sprintf(format, args...)))
		}
	}
	if len(file)+len(stored) > maxSections {
		return nil, fmt.Errorf("%w: %d sections, at most %d are allowed", ErrInvalid, len(file)+len(stored), maxSections)
	}
	for _, part := range [][]Section{file, stored} {
		for i := range part {
			s := &part[i]
			r := ref{s.Kind, s.Name}
			if have := b.sections[r]; len(have) > 0 && have[len(have)-1].File == s.File {
				bad(s, 0, "%s is there already, in %s", s.Header(), have[len(have)-1].where(0))
				continue
			}
			if len(b.sections[r]) == 0 && s.Kind == Client {
				b.machines++
				if isGlob(s.Name) {
					b.globs = append(b.globs, s.Name)
				}
			}
			b.sections[r] = append(b.sections[r], s)
			b.check(s, bad)
		}
	}
	if len(b.globs) > maxGlobs {
		return nil, fmt.Errorf("%w: %d patterns of clients, at most %d are allowed", ErrInvalid, len(b.globs), maxGlobs)
	}
	slices.SortFunc(b.globs, func(x, y string) int {
		if lx, ly := literals(x), literals(y); lx != ly {
			return lx - ly
		}
		return strings.Compare(x, y)
	})
	b.checkLike(bad)
	b.checkUnique(bad)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return b, nil
}

// literals counts the characters of a pattern that stand for themselves.
func literals(glob string) int {
	n, class := 0, false
	for _, c := range []byte(glob) {
		switch {
		case c == '[':
			class = true
		case c == ']':
			class = false
		case !class && c != '*' && c != '?':
			n++
		}
	}
	return n
}

type report func(s *Section, line int, format string, args ...any)

func (b *Book) check(s *Section, bad report) {
	if len(s.Values) > maxValues {
		bad(s, 0, "%s has %d settings, at most %d are allowed", s.Header(), len(s.Values), maxValues)
		return
	}
	lines := make(map[string]int)
	for _, v := range s.Values {
		if err := checkValue(s.Kind, s.Name, v); err != nil {
			bad(s, v.Line, "%v", err)
		}
		if was, twice := lines[v.Key]; twice && v.Key != "argument" {
			bad(s, v.Line, "%s is set twice, first in line %d", v.Key, was)
		}
		lines[v.Key] = v.Line
	}
}

// checkLike finds sections that are not there, and circles.
func (b *Book) checkLike(bad report) {
	for _, list := range b.sections {
		for _, s := range list {
			for _, v := range s.Values {
				switch v.Key {
				case "like":
					for _, n := range splitList(v.Text) {
						if r, ok := likeRef(n); !ok || len(b.sections[r]) == 0 {
							bad(s, v.Line, "like = %s: there is no section [%s]", n, likeHeader(n))
						}
					}
				case "type", "group", "service":
					for _, n := range splitList(v.Text) {
						if len(b.sections[ref{Kind(v.Key), n}]) == 0 {
							bad(s, v.Line, "%s = %s: there is no section [%s %s]", v.Key, n, v.Key, n)
						}
					}
				}
			}
		}
	}
	depth := make(map[ref]int) // -1: being looked at
	var visit func(r ref, level int) int
	visit = func(r ref, level int) int {
		if d, seen := depth[r]; seen {
			return d
		}
		if level > maxLike {
			return maxLike + 1
		}
		depth[r] = -1
		deepest := 0
		for _, s := range b.sections[r] {
			for _, v := range s.Values {
				if v.Key != "like" {
					continue
				}
				for _, n := range splitList(v.Text) {
					to, ok := likeRef(n)
					if !ok {
						continue
					}
					d := visit(to, level+1)
					if d < 0 {
						bad(s, v.Line, "like = %s goes in a circle", n)
						continue
					}
					if d+1 > maxLike {
						bad(s, v.Line, "like = %s: a chain of more than %d sections", n, maxLike)
						d = 0
					}
					deepest = max(deepest, d+1)
				}
			}
		}
		depth[r] = deepest
		return deepest
	}
	for _, r := range b.refs() {
		visit(r, 0)
	}
}

func likeRef(n string) (ref, bool) {
	k, name, err := ParseHeader(likeHeader(n))
	return ref{k, name}, err == nil
}

// refs returns the sections' names in a fixed order.
func (b *Book) refs() []ref {
	out := make([]ref, 0, len(b.sections))
	for r := range b.sections {
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y ref) int {
		if c := strings.Compare(string(x.kind), string(y.kind)); c != 0 {
			return c
		}
		return strings.Compare(x.name, y.name)
	})
	return out
}

// checkUnique finds addresses and names that two machines would have.
func (b *Book) checkUnique(bad report) {
	type place struct {
		s    *Section
		line int
	}
	for _, key := range []string{"address", "name"} {
		have := make(map[string]place)
		for _, r := range b.refs() {
			if r.kind != Client {
				continue
			}
			list := b.sections[r]
			for i := len(list) - 1; i >= 0; i-- { // the database's goes over the file's
				at := slices.IndexFunc(list[i].Values, func(v Value) bool { return v.Key == key })
				if at < 0 {
					continue
				}
				v := list[i].Values[at]
				if was, twice := have[v.Text]; twice {
					bad(list[i], v.Line, "%s %s is that of %s, too, in %s", key, v.Text, was.s.Header(), was.s.where(was.line))
				} else {
					have[v.Text] = place{list[i], v.Line}
				}
				break
			}
		}
	}
}

// Sections returns the sections of the file and of the database.
func (b *Book) Sections() (file, stored []Section) { return b.file, b.stored }

// Machines returns how many clients, and patterns of clients, there are.
func (b *Book) Machines() int { return b.machines }

// layers returns the sections of clients that a machine matches, the more
// particular ones later, and whether it is known.
func (b *Book) layers(id Identity) (out []ref, known bool) {
	for _, g := range b.globs {
		for _, what := range []string{id.MAC, id.UUID, id.Host} {
			if ok, err := path.Match(g, what); err == nil && ok && what != "" {
				r := ref{Client, g}
				out = append(out, r)
				known = b.flag(r, known)
				break
			}
		}
	}
	for _, what := range []string{id.Host, id.UUID, id.MAC} {
		if r := (ref{Client, what}); what != "" && len(b.sections[r]) > 0 {
			out = append(out, r)
			known = b.flag(r, true)
		}
	}
	return out, known
}

// flag returns the value of "known" in a section, else otherwise.
func (b *Book) flag(r ref, otherwise bool) bool {
	for _, s := range b.sections[r] {
		if v, ok := s.Get("known"); ok {
			otherwise = v == "yes"
		}
	}
	return otherwise
}

// Lookup returns what holds for a machine. Of settings of which there can be
// only one, the last of these counts: [default]; [unknown], for machines that
// are not known; type; groups, in the order in which they are listed; services;
// patterns, the less particular ones first; host name; UUID; MAC address. What
// a section is like comes before it, and the file before the database.
// Arguments of the kernel are added up in the same order.
func (b *Book) Lookup(id Identity) Settings {
	id = Identity{MAC: strings.ToLower(id.MAC), UUID: strings.ToLower(id.UUID), Host: strings.ToLower(id.Host)}
	own, known := b.layers(id)
	// A machine that says its name only by DHCP has the one that is set for it.
	general := []ref{{Default, ""}}
	if !known {
		general = append(general, ref{Unknown, ""})
	}
	out := Settings{Known: known, Boot: Preboot, Origins: make(map[string]string)}
	if !known {
		// What is called so is meant for machines that nobody has set up.
		for _, k := range []Kind{Type, Group} {
			if len(b.sections[ref{k, "default"}]) > 0 {
				out.assign(string(k), "default")
			}
		}
	}
	for _, r := range slices.Concat(general, own) {
		b.each(r, func(s *Section, v Value) {
			if out.assign(v.Key, v.Text) {
				out.Origins[v.Key] = s.where(v.Line)
			}
		})
	}
	if !known && len(b.sections[ref{Service, SetupEntry}]) > 0 {
		out.Services = withSetup(out.Services) // beside what [unknown] may say
	}
	order := slices.Clone(general)
	if out.Type != "" {
		order = append(order, ref{Type, out.Type})
	}
	for _, g := range out.Groups {
		order = append(order, ref{Group, g})
	}
	for _, v := range out.Services {
		order = append(order, ref{Service, v})
	}
	for _, r := range slices.Concat(order, own) {
		b.each(r, func(s *Section, v Value) {
			if out.apply(v) {
				if was := out.Origins[v.Key]; v.Key == "argument" && was != "" {
					out.Origins[v.Key] = was + ", " + s.where(v.Line)
				} else {
					out.Origins[v.Key] = s.where(v.Line)
				}
			}
		})
	}
	if !known {
		switch b.policy {
		case RefuseUnknown:
			out.Boot = Refuse
		case SetupUnknown:
			out.Boot, out.Entry, out.SetupOnly = Preboot, SetupEntry, true
		}
	}
	return out
}

// each calls f with the values of a section, after those that it is like.
func (b *Book) each(r ref, f func(*Section, Value)) {
	b.expand(r, make(map[ref]bool), f)
}

func (b *Book) expand(r ref, done map[ref]bool, f func(*Section, Value)) {
	if done[r] {
		return
	}
	done[r] = true
	for _, s := range b.sections[r] {
		for _, v := range s.Values {
			if v.Key != "like" {
				continue
			}
			for _, n := range splitList(v.Text) {
				if to, ok := likeRef(n); ok {
					b.expand(to, done, f)
				}
			}
		}
	}
	for _, s := range b.sections[r] {
		for _, v := range s.Values {
			if v.Key != "like" {
				f(s, v)
			}
		}
	}
}

// assign takes the settings that say what a machine belongs to.
func (s *Settings) assign(key, text string) bool {
	switch key {
	case "type":
		s.Type = text
	case "group":
		s.Groups = splitList(text)
	case "service":
		s.Services = splitList(text)
	default:
		return false
	}
	return true
}

// apply takes all other settings.
func (s *Settings) apply(v Value) bool {
	key, sub, _ := strings.Cut(v.Key, ".")
	switch key {
	case "name":
		s.Name = v.Text
	case "address":
		s.Address = address(v.Text)
	case "boot":
		s.Boot = Method(v.Text)
	case "file":
		s.File = v.Text
	case "image":
		s.Image = v.Text
	case "entry":
		s.Entry = v.Text
	case "timeout":
		if n, err := strconv.Atoi(v.Text); err == nil {
			s.Timeout = &n
		}
	case "argument":
		s.Arguments = append(s.Arguments, v.Text)
	case "module":
		s.Modules = put(s.Modules, sub, v.Text)
	case "env":
		s.Environment = put(s.Environment, sub, v.Text)
	case "hostname":
		s.Hostname = v.Text
	case "timezone":
		s.Timezone = v.Text
	case "locale":
		s.Locale = v.Text
	case "keyboard":
		s.Keyboard = v.Text
	case "swap":
		s.Swap = 0
		if v.Text == "yes" {
			s.Swap = DefaultSwap
		}
		if n, err := ParseSize(v.Text); err == nil {
			s.Swap = n
		}
	default:
		return false
	}
	return true
}

func put(m map[string]string, k, v string) map[string]string {
	if m == nil {
		m = make(map[string]string)
	}
	m[k] = v
	return m
}

// Merged returns all sections, where file and database have one of the same
// name as one, in which the database's settings go over the file's.
func (b *Book) Merged() []Section {
	out := make([]Section, 0, len(b.sections))
	for _, r := range b.refs() {
		list := b.sections[r]
		s := *list[0]
		s.Values = slices.Clone(s.Values)
		for _, more := range list[1:] {
			for _, v := range more.Values {
				if v.Key != "argument" {
					s.Set(v.Key)
				}
			}
			s.Values = append(s.Values, more.Values...)
		}
		out = append(out, s)
	}
	return out
}

// Duplicates returns an error that names the places if two sections are about
// the same.
func Duplicates(list []Section) error {
	first := make(map[ref]*Section, len(list))
	var errs []error
	for i := range list {
		s := &list[i]
		r := ref{s.Kind, s.Name}
		if was := first[r]; was == nil {
			first[r] = s
		} else if len(errs) < 50 {
			errs = append(errs, fmt.Errorf("%w: %s: %s is there already, in %s", ErrInvalid, s.where(0), s.Header(), was.where(0)))
		}
	}
	return errors.Join(errs...)
}
