package configure

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// kea writes the configuration of kea-dhcp4. Boot files are in classes; what
// depends on the machine is decided after its reservation has been found.
type kea struct {
	site  *Site
	files []string // boot files of machines' own; a class for each
}

func newKea(site *Site) (*kea, error) {
	w := &kea{site: site}
	for _, n := range site.Networks {
		for _, p := range n.Pools {
			if p.File != "" {
				return nil, fmt.Errorf("pool %v-%v: file=%s: Kea chooses the boot file before it chooses the pool: give the file to machines, by their settings", p.First, p.Last, p.File)
			}
		}
	}
	for _, h := range site.Hosts {
		if h.File != "" && !slices.Contains(w.files, h.File) {
			w.files = append(w.files, h.File)
		}
	}
	slices.Sort(w.files)
	return w, nil
}

func (w *kea) join() string { return ",\n" }

func (w *kea) parts() map[string]func() (string, error) {
	return map[string]func() (string, error){"CLASSES": w.classes, "INTERFACES": func() (string, error) {
		name := w.site.Interface
		if name == "" {
			name = "*"
		}
		return elements([]any{name})
	}}
}

func (w *kea) network(i int) map[string]func() (string, error) {
	n := &w.site.Networks[i]
	return map[string]func() (string, error){
		"OPTIONS": func() (string, error) { return elements(keaOptions(&n.Options)) },
		"POOLS":   func() (string, error) { return w.pools(i, n) },
		"HOSTS":   func() (string, error) { return w.hosts(i) },
	}
}

// elements writes what stands between [ and ].
func elements(list []any) (string, error) {
	var out []string
	for _, v := range list {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return "", fmt.Errorf("write the configuration of Kea: %w", err)
		}
		out = append(out, strings.TrimSpace(b.String()))
	}
	return strings.Join(out, ",\n"), nil
}

type object = map[string]any

// test is true for firmware of a kind.
func (w *kea) test(k bootfile.Kind) string {
	if k == bootfile.IPXE {
		return "option[175].exists or substring(option[77].hex,-4,all) == 'iPXE'"
	}
	or := firmwareTest(k, tests{
		arch: func(a uint16) string { return fmt.Sprintf("substring(option[93].hex,0,2) == 0x%04x", a) },
		named: func(vendor string, a uint16) string {
			return fmt.Sprintf("substring(option[60].hex,%d,11) == ':Arch:%05d'", len(vendor), a)
		},
		bare: "not (substring(option[60].hex,9,6) == ':Arch:')",
		whole: func(vendor, arch, named string) string {
			return fmt.Sprintf("(substring(option[60].hex,0,%d) == '%s' and ((%s) or (not option[93].exists and (%s))))", len(vendor), vendor, arch, named)
		},
	})
	return "not member('inetboot-ipxe') and (" + or + ")"
}

func class(k bootfile.Kind) string { return "inetboot-" + k.String() }

// known makes a test be looked at after the machine's reservation was found.
const known = "member('KNOWN') and "

func (w *kea) classes() (string, error) {
	var list []any
	var denied []string
	for _, h := range w.site.Hosts {
		if h.Denied {
			denied = append(denied, "pkt4.mac == 0x"+strings.ReplaceAll(h.MAC, ":", ""))
		}
	}
	if len(denied) > 0 {
		list = append(list, object{"name": "DROP", "test": strings.Join(denied, " or ")})
	}
	list = append(list, object{"name": "inetboot-own"}, object{"name": "inetboot-known"})
	for i := range w.files {
		list = append(list, object{"name": fmt.Sprint("inetboot-file", i)})
	}
	for _, k := range Kinds() {
		list = append(list, object{"name": class(k), "test": w.test(k)})
	}
	list = append(list, object{"name": class(bootfile.Ordinary), "test": "not (substring(option[60].hex,0,9) == 'PXEClient' or substring(option[60].hex,0,10) == 'HTTPClient')"})
	common := "not (" + known + "member('inetboot-own'))"
	if !w.site.Unknown {
		common = known + common
	}
	list = append(list, w.choice("boot", common, bootfile.Settings{})...)
	for i, f := range w.files {
		own := fmt.Sprint("inetboot-file", i)
		list = append(list, w.choice(fmt.Sprint("file", i), known+"member('"+own+"')", settings(f, false))...)
	}
	for i, n := range w.site.Networks {
		for j, p := range n.Pools {
			if c := poolClass(i, j, &p); c != nil {
				list = append(list, c)
			}
		}
	}
	return elements(list)
}

func (w *kea) choice(name, test string, s bootfile.Settings) []any {
	var list []any
	for _, k := range Kinds() {
		file := bootfile.Choose(k, s, w.site.Files)
		if file == "" {
			continue
		}
		c := object{"name": class(k) + "-" + name, "test": test + " and member('" + class(k) + "')", "boot-file-name": file}
		if k.PXE() {
			c["next-server"] = w.site.Server.String()
		} else if k != bootfile.IPXE {
			c["option-data"] = []object{{"name": "vendor-class-identifier", "data": "HTTPClient", "always-send": true}}
		}
		list = append(list, c)
	}
	return list
}

// poolClass is who a pool is for, and what Kea has for classes only; nil for
// everybody.
func poolClass(i, j int, p *Pool) object {
	var test []string
	switch p.Clients {
	case Known:
		test = append(test, "member('KNOWN')")
	case Unknown:
		test = append(test, "member('UNKNOWN')")
	}
	var kinds []string
	for _, k := range p.Kinds {
		kinds = append(kinds, "member('"+class(k)+"')")
	}
	if len(kinds) > 0 {
		test = append(test, "("+strings.Join(kinds, " or ")+")")
	}
	if len(test) == 0 {
		return nil
	}
	return object{"name": fmt.Sprintf("inetboot-pool%d-%d", i, j), "test": strings.Join(test, " and ")}
}

func keaOptions(o *Options) []any {
	var list []any
	add := func(name, data string) {
		if data != "" {
			list = append(list, object{"name": name, "data": data})
		}
	}
	add("routers", addrs(o.Router, ", "))
	add("domain-name-servers", addrs(o.DNS, ", "))
	add("ntp-servers", addrs(o.NTP, ", "))
	add("domain-name", o.Domain)
	add("domain-search", strings.Join(o.Search, ", "))
	if o.MTU != 0 {
		add("interface-mtu", fmt.Sprint(o.MTU))
	}
	if len(o.Routes) > 0 {
		list = append(list, object{"code": 121, "space": "dhcp4", "csv-format": false, "data": fmt.Sprintf("%x", routeBytes(o))})
	}
	return list
}

func (w *kea) pools(i int, n *Network) (string, error) {
	var list []any
	for j, p := range n.Pools {
		c := object{"pool": fmt.Sprintf("%v - %v", p.First, p.Last)}
		if k := poolClass(i, j, &p); k != nil {
			c["client-class"] = k["name"]
		}
		o := p.Options.less(n.Options)
		if o.Lease != 0 {
			return "", fmt.Errorf("pool %v-%v: lease: Kea has one lease time for a network", p.First, p.Last)
		}
		if data := keaOptions(&o); len(data) > 0 {
			c["option-data"] = data
		}
		list = append(list, c)
	}
	return elements(list)
}

// hosts are the machines with addresses in the network, and those without
// any, which are known everywhere.
func (w *kea) hosts(i int) (string, error) {
	var list []any
	for _, h := range w.site.Hosts {
		if h.Denied || (h.network >= 0 && h.network != i) {
			continue
		}
		c := object{"hw-address": h.MAC}
		if h.Address.IsValid() {
			c["ip-address"] = h.Address.String()
		}
		if h.Name != "" {
			c["hostname"] = h.Name
		}
		classes := []string{"inetboot-known"}
		if h.Local || h.File != "" {
			classes = append(classes, "inetboot-own")
		}
		if at := slices.Index(w.files, h.File); at >= 0 && !h.Local {
			classes = append(classes, fmt.Sprint("inetboot-file", at))
		}
		c["client-classes"] = classes
		list = append(list, c)
	}
	return elements(list)
}
