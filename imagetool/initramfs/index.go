package initramfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/imagetool/source"
)

// indexes are the files that depmod(8) writes beside the modules, or that come
// with a kernel (modules.builtin, modules.builtin.modinfo). nil: there is none.
type indexes struct {
	dep, soft, weak, alias, builtin, builtinInfo []byte
}

// readIndexes reads the indexes in dir. Only modules.dep has to be there; the
// error wraps fs.ErrNotExist if it is not.
func readIndexes(t *source.Tree, dir *source.Entry) (*indexes, error) {
	x := &indexes{}
	for _, f := range []struct {
		name string
		data *[]byte
		must bool
	}{
		{"modules.dep", &x.dep, true},
		{"modules.softdep", &x.soft, false},
		{"modules.weakdep", &x.weak, false},
		{"modules.alias", &x.alias, false},
		{"modules.builtin", &x.builtin, false},
		{"modules.builtin.modinfo", &x.builtinInfo, false},
	} {
		data, err := t.ReadFile(dir.Path+"/"+f.name, maxIndex)
		if errors.Is(err, fs.ErrNotExist) && !f.must {
			continue
		}
		if err != nil {
			return nil, err
		}
		*f.data = data
	}
	return x, nil
}

// scan makes the indexes from the modules in dir, as depmod(8) would: for
// systems that were put together without it. Of several modules of one name it
// takes the one in the folder that depmod.d(5) prefers.
func scan(ctx context.Context, t *source.Tree, dir *source.Entry) (*indexes, error) {
	order := searchOrder(t)
	paths := make(map[string]string) // by name
	for _, p := range moduleFiles(t, dir) {
		name := ModuleName(p)
		if have, ok := paths[name]; !ok || priority(order, p) > priority(order, have) {
			paths[name] = p
		}
	}
	needs := make(map[string][]string)
	x := &indexes{}
	var soft, weak, alias bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		packed, err := t.ReadFile(dir.Path+"/"+paths[name], maxModule)
		if err != nil {
			return nil, err
		}
		data, err := Unpack(packed)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", paths[name], err)
		}
		info, err := ModInfo(data)
		if err != nil {
			return nil, fmt.Errorf("module %s: %w", paths[name], err)
		}
		for _, d := range info.Depends() {
			needs[name] = append(needs[name], ModuleName(d))
		}
		for _, a := range info["alias"] {
			fmt.Fprintf(&alias, "alias %s %s\n", a, name)
		}
		for _, l := range info["softdep"] {
			fmt.Fprintf(&soft, "softdep %s %s\n", name, l)
		}
		for _, l := range info["weakdep"] {
			fmt.Fprintf(&weak, "weakdep %s %s\n", name, l)
		}
	}
	var dep bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		dep.WriteString(paths[name] + ":")
		for _, n := range inOrder(name, needs) {
			if p := paths[n]; p != "" { // else it is built in
				dep.WriteString(" " + p)
			}
		}
		dep.WriteByte('\n')
	}
	x.dep, x.soft, x.weak, x.alias = dep.Bytes(), soft.Bytes(), weak.Bytes(), alias.Bytes()
	for name, to := range map[string]*[]byte{"modules.builtin": &x.builtin, "modules.builtin.modinfo": &x.builtinInfo} {
		data, err := t.ReadFile(dir.Path+"/"+name, maxIndex)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		*to = data
	}
	return x, nil
}

// inOrder returns all that name needs, such that what is loaded first stands
// last, as in modules.dep.
func inOrder(name string, needs map[string][]string) []string {
	seen := map[string]bool{name: true}
	var loaded []string
	var visit func(n string)
	visit = func(n string) {
		for _, d := range needs[n] {
			if !seen[d] {
				seen[d] = true
				visit(d)
				loaded = append(loaded, d)
			}
		}
	}
	visit(name)
	slices.Reverse(loaded)
	return loaded
}

// moduleFiles returns the paths, in dir, of all files and links to files whose
// names are those of modules. Links to folders, such as build and source, are
// not followed.
func moduleFiles(t *source.Tree, dir *source.Entry) []string {
	var out []string
	var walk func(e *source.Entry)
	walk = func(e *source.Entry) {
		for _, c := range e.Children() {
			switch base := path.Base(c.Path); {
			case c.IsDir():
				walk(c)
			case !isModule(base):
			case c.IsRegular():
				out = append(out, strings.TrimPrefix(c.Path, dir.Path+"/"))
			default: // as in weak-updates
				if to, err := t.Resolve(c.Path); err == nil && to.IsRegular() {
					out = append(out, strings.TrimPrefix(c.Path, dir.Path+"/"))
				}
			}
		}
	}
	walk(dir)
	return out
}

func isModule(name string) bool {
	for _, suffix := range []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// maxDepmodConf bounds a file of depmod.d(5), in bytes.
const maxDepmodConf = 64 << 10

// builtIn is depmod's word for the folders that no other word names.
const builtIn = "built-in"

// searchOrder returns the folders in which depmod looks for modules, the
// preferred ones first, as the tree configures them (depmod.d(5)).
func searchOrder(t *source.Tree) []string {
	var order []string
	seen := make(map[string]bool)
	for _, dir := range []string{"etc/depmod.d", "usr/local/lib/depmod.d", "usr/lib/depmod.d", "lib/depmod.d"} {
		d, err := t.Resolve(dir)
		if err != nil || !d.IsDir() {
			continue
		}
		for _, c := range d.Children() {
			if !strings.HasSuffix(c.Path, ".conf") || seen[c.Name()] {
				continue // a file of the same name in a former folder replaces it
			}
			seen[c.Name()] = true
			data, err := t.ReadFile(c.Path, maxDepmodConf)
			if err != nil {
				continue
			}
			for line := range bytes.Lines(data) {
				if f := strings.Fields(string(line)); len(f) > 1 && f[0] == "search" {
					order = append(order, f[1:]...)
				}
			}
		}
	}
	if order == nil {
		return []string{"updates", builtIn}
	}
	return order
}

// priority tells how much the folder of a module's path is preferred.
func priority(order []string, p string) int {
	other := 0
	for i, dir := range order {
		if dir == builtIn {
			other = len(order) - i
		} else if strings.HasPrefix(p, dir+"/") {
			return len(order) - i
		}
	}
	return other
}
