package initramfs

import (
	"bytes"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// The limits of what depmod(8) writes, in bytes. The largest of Debian's
// files has 1.4 MB.
const maxIndex = 64 << 20

// Modules is what modules.dep, modules.softdep, modules.weakdep, modules.alias
// and modules.builtin say about a kernel's modules. Modules are known by name,
// in which "-" and "_" are the same.
type Modules struct {
	paths   map[string]string   // name → path below the modules folder
	needs   map[string][]string // name → names, nearest first
	soft    map[string][]string // name → names or aliases to load before or after
	weak    map[string][]string // name → names or aliases that may be asked for later
	alias   map[string][]string // alias without wildcards → names
	builtin map[string]string   // name → path that it would have as a module
}

// ModuleName returns the name of the module in the file p.
func ModuleName(p string) string {
	name, _, _ := strings.Cut(path.Base(p), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func newModules() *Modules {
	return &Modules{
		paths: make(map[string]string), needs: make(map[string][]string),
		soft: make(map[string][]string), weak: make(map[string][]string), alias: make(map[string][]string), builtin: make(map[string]string),
	}
}

// ParseDep reads modules.dep: "path: path path…" on each line. Modules with an
// absolute path lie outside of the folder (depmod.d(5), external) and are left
// out.
func ParseDep(data []byte) (*Modules, error) {
	m := newModules()
	n := 0
	for line := range bytes.Lines(data) {
		n++
		file, deps, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if file == "" && !ok || strings.HasPrefix(file, "/") {
			continue
		}
		if !ok || !validPath(file) {
			return nil, fmt.Errorf("modules.dep, line %d: %w", n, ErrIndex)
		}
		name := ModuleName(file)
		m.paths[name] = file
		for dep := range strings.FieldsSeq(deps) {
			if !validPath(strings.TrimPrefix(dep, "/")) {
				return nil, fmt.Errorf("modules.dep, line %d: %w", n, ErrIndex)
			}
			m.needs[name] = append(m.needs[name], ModuleName(dep))
		}
	}
	return m, nil
}

func validPath(p string) bool {
	return p != "" && p[0] != '/' && !slices.Contains(strings.Split(p, "/"), "..") && strings.Contains(path.Base(p), ".ko")
}

// AddSoftDep reads modules.softdep: "softdep name pre: a b post: c".
func (m *Modules) AddSoftDep(data []byte) { m.addWanted(data, "softdep", m.soft) }

// AddWeakDep reads modules.weakdep: "weakdep name a b".
func (m *Modules) AddWeakDep(data []byte) { m.addWanted(data, "weakdep", m.weak) }

func (m *Modules) addWanted(data []byte, word string, to map[string][]string) {
	for line := range bytes.Lines(data) {
		if f := strings.Fields(string(line)); len(f) > 2 && f[0] == word {
			want(to, ModuleName(f[1]), f[2:])
		}
	}
}

// AddInfo adds the soft and weak dependencies that a module names itself, and
// tells whether one of them is news.
func (m *Modules) AddInfo(name string, i Info) bool {
	soft, weak := want(m.soft, name, i.words("softdep")), want(m.weak, name, i.words("weakdep"))
	return soft || weak
}

// want adds what is new of deps, which may have "pre:" and "post:" in between,
// to those of name.
func want(to map[string][]string, name string, deps []string) (news bool) {
	for _, d := range deps {
		if d != "pre:" && d != "post:" && !slices.Contains(to[name], d) {
			to[name] = append(to[name], d)
			news = true
		}
	}
	return news
}

// AddAlias reads modules.alias: "alias pattern name".
func (m *Modules) AddAlias(data []byte) {
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) == 3 && f[0] == "alias" && !strings.ContainsAny(f[1], "*?[") {
			m.alias[f[1]] = append(m.alias[f[1]], ModuleName(f[2]))
		}
	}
}

// AddBuiltin reads modules.builtin: a path on each line.
func (m *Modules) AddBuiltin(data []byte) {
	for line := range bytes.Lines(data) {
		if p := strings.TrimSpace(string(line)); p != "" {
			m.builtin[ModuleName(p)] = p
		}
	}
}

// Drop forgets modules whose files are not there, and returns how many those
// are: systems that were made smaller by hand list more than they have.
func (m *Modules) Drop(there func(path string) bool) int {
	n := 0
	for name, p := range m.paths {
		if !there(p) {
			delete(m.paths, name)
			n++
		}
	}
	return n
}

// Has tells whether the kernel has name, as a module or built in.
func (m *Modules) Has(name string) bool {
	name = ModuleName(name)
	return m.paths[name] != "" || m.builtin[name] != ""
}

// builtinUnder tells whether name is built in and would be in a folder below
// one of dirs if it were not.
func (m *Modules) builtinUnder(name string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return strings.HasPrefix(m.builtin[ModuleName(name)], d+"/") })
}

// resolve returns the modules that name or alias stands for.
func (m *Modules) resolve(name string) []string {
	if n := ModuleName(name); m.paths[n] != "" {
		return []string{n}
	}
	return m.alias[name]
}

// Under returns the names of all modules in folders below one of dirs.
func (m *Modules) Under(dirs ...string) []string {
	var out []string
	for name, p := range m.paths {
		for _, d := range dirs {
			if strings.HasPrefix(p, d+"/") {
				out = append(out, name)
				break
			}
		}
	}
	slices.Sort(out)
	return out
}

// Closure returns the paths of the modules that names stand for and of all
// that they need, hard and soft, sorted. Names that the kernel does not have
// are left out.
func (m *Modules) Closure(names ...string) []string {
	seen := make(map[string]bool)
	var queue []string
	for _, n := range names {
		queue = append(queue, m.resolve(n)...)
	}
	for len(queue) > 0 {
		n := queue[0]
		queue = queue[1:]
		if seen[n] || m.paths[n] == "" {
			continue
		}
		seen[n] = true
		queue = append(queue, m.needs[n]...)
		for _, s := range slices.Concat(m.soft[n], m.weak[n]) {
			queue = append(queue, m.resolve(s)...)
		}
	}
	out := make([]string, 0, len(seen))
	for n := range seen {
		out = append(out, m.paths[n])
	}
	slices.Sort(out)
	return out
}

// softdep returns modules.softdep for the modules in keep.
func (m *Modules) softdep(keep map[string]bool) []byte {
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(keep)) {
		if deps := m.soft[name]; len(deps) > 0 {
			fmt.Fprintf(&out, "softdep %s pre: %s\n", name, strings.Join(deps, " "))
		}
	}
	return out.Bytes()
}

// filter returns the lines of an index that are about modules in keep. field
// says which word of a line names the module.
func filter(data []byte, field int, keep map[string]bool) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) > field && keep[ModuleName(f[field])] {
			out.Write(bytes.TrimRight(line, "\r\n"))
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

// plainName returns a module's path without the suffix of a compression:
// modules are unpacked here, so that the whole is compressed once and /init
// needs no decoder.
func plainName(p string) string {
	head, _, _ := strings.Cut(path.Base(p), ".ko")
	return path.Join(path.Dir(p), head+".ko")
}

// plainDep does the same for all of modules.dep.
func plainDep(dep []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(dep) {
		file, rest, _ := strings.Cut(strings.TrimSpace(string(line)), ":")
		out.WriteString(plainName(file) + ":")
		for d := range strings.FieldsSeq(rest) {
			out.WriteString(" " + plainName(d))
		}
		out.WriteByte('\n')
	}
	return out.Bytes()
}
