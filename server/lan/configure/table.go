package configure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// Table is what each machine is told, in one line for each: MAC address to
// words. Others are the machines that are not listed.
type Table map[string]string

// Lines that are not of one machine: what those without a line of their own are
// told, and the pools with boot files of their own.
const (
	Others = "others"
	Pools  = "pools"
)

// tableMark begins the comment lines in which a configuration keeps its table,
// so that the next one can be compared with it.
const tableMark = "#inetboot "

func table(s *Site) Table {
	t := Table{}
	line := func(name, address string, denied bool, set bootfile.Settings) string {
		if denied {
			return "denied"
		}
		w := []string{"name=" + name, "address=" + address}
		for _, k := range Kinds() {
			w = append(w, k.String()+"="+bootfile.Choose(k, set, s.Files))
		}
		return strings.Join(append(w, fmt.Sprint("server=", s.Server)), " ")
	}
	set := bootfile.Settings{Local: !s.Unknown}
	var pools []string
	for _, n := range s.Networks {
		for _, p := range n.Pools {
			if p.File != "" {
				pools = append(pools, fmt.Sprintf("%v-%v=%s", p.First, p.Last, p.File))
			}
		}
	}
	t[Others] = line("", "", false, set)
	if len(pools) > 0 {
		t[Pools] = strings.Join(pools, " ")
	}
	for _, h := range s.Hosts {
		address := ""
		if h.Address.IsValid() {
			address = h.Address.String()
		}
		t[h.MAC] = line(h.Name, address, h.Denied, settings(h.File, h.Local))
	}
	return t
}

func (t Table) comment() string {
	var b strings.Builder
	b.WriteString("\n# What machines are told, for the comparison with the next configuration.\n")
	keys := make([]string, 0, len(t))
	for k := range t {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		b.WriteString(tableMark + k + " " + t[k] + "\n")
	}
	return b.String()
}

// ReadTable reads the table of a configuration; nil if it has none.
func ReadTable(config string) Table {
	var t Table
	for l := range strings.Lines(config) {
		if rest, ok := strings.CutPrefix(strings.TrimRight(l, "\r\n"), tableMark); ok {
			if name, line, ok := strings.Cut(rest, " "); ok {
				if t == nil {
					t = Table{}
				}
				t[name] = line
			}
		}
	}
	return t
}

// Reboot is a machine that has to boot again for what it is told now.
type Reboot struct {
	Client string   `json:"client"` // MAC address, Others or Pools
	What   []string `json:"what"`   // what changed
}

// Compare returns the machines for which something changed: their boot file,
// address or name. Without an old table that is all of them.
func Compare(before, now Table) []Reboot {
	list := []Reboot{}
	keys := map[string]bool{}
	for k := range before {
		keys[k] = true
	}
	for k := range now {
		keys[k] = true
	}
	for k := range keys {
		was, had := before[k]
		is, has := now[k]
		if !had && k != Pools {
			was = before[Others]
		}
		if !has && k != Pools {
			is = now[Others]
		}
		if what := difference(was, is); len(what) > 0 {
			list = append(list, Reboot{k, what})
		}
	}
	slices.SortFunc(list, func(a, b Reboot) int { return strings.Compare(a.Client, b.Client) })
	return list
}

func difference(a, b string) []string {
	if a == b {
		return nil
	}
	var out []string
	add := func(s string) {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	was, is := words(a), words(b)
	for _, m := range []map[string]string{was, is} {
		for k := range m {
			if was[k] == is[k] {
				continue
			}
			switch k {
			case "name", "address":
				add(k)
			case "denied":
				add("whether it is answered")
			default:
				add("boot file")
			}
		}
	}
	slices.Sort(out)
	return out
}

func words(s string) map[string]string {
	m := map[string]string{}
	for _, w := range strings.Fields(s) {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			v = "yes"
		}
		m[k] = v
	}
	return m
}
