package initramfs

import (
	"bytes"
	"fmt"
	"path"
	"slices"
	"strings"
)

// The limits of what depmod(8) writes, in bytes. The largest of Debian's
// files has 1.4 MB.
const maxIndex = 64 << 20

// Modules is what modules.dep, modules.softdep, modules.alias and
// modules.builtin say about a kernel's modules. Modules are known by name, in
// which "-" and "_" are the same.
type Modules struct {
	paths   map[string]string   // name → path below the modules folder
	needs   map[string][]string // name → names, nearest first
	soft    map[string][]string // name → names or aliases to load before or after
	alias   map[string][]string // alias without wildcards → names
	builtin map[string]bool
}

// ModuleName returns the name of the module in the file p.
func ModuleName(p string) string {
	name, _, _ := strings.Cut(path.Base(p), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// ParseDep reads modules.dep: "path: path path…" on each line.
func ParseDep(data []byte) (*Modules, error) {
	m := &Modules{
		paths: make(map[string]string), needs: make(map[string][]string),
		soft: make(map[string][]string), alias: make(map[string][]string), builtin: make(map[string]bool),
	}
	n := 0
	for line := range bytes.Lines(data) {
		n++
		file, deps, ok := strings.Cut(strings.TrimSpace(string(line)), ":")
		if file == "" && !ok {
			continue
		}
		if !ok || !validPath(file) {
			return nil, fmt.Errorf("modules.dep, line %d: %w", n, ErrIndex)
		}
		name := ModuleName(file)
		m.paths[name] = file
		for dep := range strings.FieldsSeq(deps) {
			if !validPath(dep) {
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
func (m *Modules) AddSoftDep(data []byte) {
	for line := range bytes.Lines(data) {
		f := strings.Fields(string(line))
		if len(f) < 3 || f[0] != "softdep" {
			continue
		}
		name := ModuleName(f[1])
		for _, dep := range f[2:] {
			if dep != "pre:" && dep != "post:" {
				m.soft[name] = append(m.soft[name], dep)
			}
		}
	}
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
			m.builtin[ModuleName(p)] = true
		}
	}
}

// Has tells whether the kernel has name, as a module or built in.
func (m *Modules) Has(name string) bool {
	name = ModuleName(name)
	return m.paths[name] != "" || m.builtin[name]
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
		for _, s := range m.soft[n] {
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
