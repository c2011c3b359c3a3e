// Package module finds and loads kernel modules: by name or by a device's
// modalias, with what they depend on, plain or compressed. It reads the files
// that depmod(8) writes beside the modules.
package module

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// ErrNotFound is wrapped when there is no module of a name.
var ErrNotFound = errors.New("no such kernel module")

// Tree is what is known about the modules in one folder.
type Tree struct {
	files   map[string]string   // name → path in the folder
	deps    map[string][]string // name → names that have to be loaded before, the first one last
	soft    map[string][]string // name → names that are loaded before, if there are any
	builtin map[string]bool
	aliases []alias
}

// alias is a pattern for modaliases. Most of some ten thousand differ from a
// given modalias in what comes before the first special character.
type alias struct{ literal, pattern, name string }

// Open reads the files of depmod in fsys, a folder such as
// /lib/modules/6.1.0-13-amd64. Only modules.dep has to be there.
func Open(fsys fs.FS) (*Tree, error) {
	dep, err := fs.ReadFile(fsys, "modules.dep")
	if err != nil {
		return nil, fmt.Errorf("kernel modules: %w", err)
	}
	t := &Tree{}
	t.files, t.deps = parseDep(dep)
	for name, parse := range map[string]func([]byte){
		"modules.alias":   func(b []byte) { t.aliases = parseAlias(b) },
		"modules.softdep": func(b []byte) { t.soft = parseSoftdep(b) },
		"modules.builtin": func(b []byte) { t.builtin = parseBuiltin(b) },
	} {
		b, err := fs.ReadFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("kernel modules: %w", err)
		}
		parse(b)
	}
	return t, nil
}

// Name returns the name of the module in a file: its base without .ko and what
// follows, with underscores for dashes, as the kernel has it.
func Name(file string) string {
	base, _, _ := strings.Cut(path.Base(file), ".ko")
	return strings.ReplaceAll(base, "-", "_")
}

func lines(b []byte, f func(line string)) {
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		if line := strings.TrimSpace(s.Text()); line != "" && line[0] != '#' {
			f(line)
		}
	}
}

// parseDep reads "kernel/a.ko: kernel/b.ko kernel/c.ko": c is loaded first.
func parseDep(b []byte) (files map[string]string, deps map[string][]string) {
	files, deps = map[string]string{}, map[string][]string{}
	lines(b, func(line string) {
		file, rest, ok := strings.Cut(line, ":")
		if !ok || !safe(file) {
			return
		}
		name := Name(file)
		files[name] = file
		for _, d := range strings.Fields(rest) {
			deps[name] = append(deps[name], Name(d))
		}
	})
	return files, deps
}

// safe tells whether a path stays in the folder.
func safe(file string) bool { return fs.ValidPath(strings.TrimPrefix(file, "/")) && file != "." }

// parseAlias reads "alias pci:v00008086d*sv* e1000e".
func parseAlias(b []byte) []alias {
	var out []alias
	lines(b, func(line string) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			literal := f[1]
			if i := strings.IndexAny(literal, `*?[\\`); i >= 0 {
				literal = literal[:i]
			}
			out = append(out, alias{literal, f[1], Name(f[2])})
		}
	})
	return out
}

// parseSoftdep reads "softdep a pre: b c post: d". Modules behind post: are
// wanted after the module; for what happens here before is as good.
func parseSoftdep(b []byte) map[string][]string {
	out := map[string][]string{}
	lines(b, func(line string) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "softdep" {
			return
		}
		for _, m := range f[2:] {
			if m != "pre:" && m != "post:" {
				out[Name(f[1])] = append(out[Name(f[1])], Name(m))
			}
		}
	})
	return out
}

func parseBuiltin(b []byte) map[string]bool {
	out := map[string]bool{}
	lines(b, func(line string) { out[Name(line)] = true })
	return out
}

// Match returns the modules that a device's modalias asks for.
func (t *Tree) Match(modalias string) []string {
	modalias = strings.TrimSpace(modalias)
	var out []string
	seen := map[string]bool{}
	for _, a := range t.aliases {
		if !strings.HasPrefix(modalias, a.literal) || seen[a.name] {
			continue
		}
		if ok, err := path.Match(a.pattern, modalias); err == nil && ok {
			seen[a.name] = true
			out = append(out, a.name)
		}
	}
	return out
}

// File returns the path of a module in the folder, "" if it is built in.
func (t *Tree) File(name string) (string, error) {
	name = Name(name)
	if t.builtin[name] {
		return "", nil
	}
	if f := t.files[name]; f != "" {
		return f, nil
	}
	return "", fmt.Errorf("%w: %s", ErrNotFound, name)
}

// Order returns the names of the modules to load for name, in order, name
// last. Built-in ones are left out, as are soft dependencies that are not
// there. A name may be an alias, such as "crypto-crc32c".
func (t *Tree) Order(name string) ([]string, error) {
	name = Name(name)
	var out []string
	state := map[string]int{}
	var visit func(n string, soft bool) error
	visit = func(n string, soft bool) error {
		if state[n] > 0 {
			return nil
		}
		state[n] = 1
		if t.builtin[n] {
			return nil
		}
		if t.files[n] == "" {
			found := t.Match(strings.ReplaceAll(n, "_", "-"))
			found = append(found, t.Match(n)...)
			for _, m := range found {
				// One of several implementations may be for another processor.
				if err := visit(m, true); err != nil {
					return err
				}
			}
			if len(found) == 0 && !soft {
				return fmt.Errorf("%w: %s", ErrNotFound, n)
			}
			return nil
		}
		for _, d := range t.soft[n] {
			if err := visit(d, true); err != nil {
				return err
			}
		}
		for i := len(t.deps[n]) - 1; i >= 0; i-- {
			if err := visit(t.deps[n][i], false); err != nil {
				return err
			}
		}
		out = append(out, n)
		return nil
	}
	if err := visit(name, false); err != nil {
		return nil, err
	}
	return out, nil
}
