package configure

import (
	"fmt"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// isc writes dhcpd.conf(5). Boot files are chosen by conditions, the same ones
// in the whole, in pools and for machines: what is nearer to a machine counts.
type isc struct{ site *Site }

func (w *isc) join() string { return "\n\n" }

func (w *isc) parts() map[string]func() (string, error) {
	return map[string]func() (string, error){"CLASSES": text(w.classes), "BOOT": text(w.boot), "HOSTS": text(w.hosts)}
}

func (w *isc) network(i int) map[string]func() (string, error) {
	n := &w.site.Networks[i]
	return map[string]func() (string, error){
		"OPTIONS": text(func() string { return iscOptions(&n.Options) }),
		"POOLS":   text(func() string { return w.pools(n) }),
	}
}

func text(f func() string) func() (string, error) { return func() (string, error) { return f(), nil } }

const iscClass = "substring(option vendor-class-identifier, 0, %d) = \"%s\""

// condition is true for firmware of a kind. Option 93 counts, of which the
// first architecture is read; without it, the class says the architecture.
func (w *isc) condition(k bootfile.Kind) string {
	const ipxe = `(exists inetboot-ipxe or suffix(option user-class, 4) = "iPXE")`
	if k == bootfile.IPXE {
		return ipxe
	}
	or := firmwareTest(k, tests{
		arch: func(a uint16) string {
			return fmt.Sprintf("substring(option inetboot-arch, 0, 2) = %02x:%02x", a>>8, a&0xff)
		},
		named: func(vendor string, a uint16) string {
			return fmt.Sprintf("substring(option vendor-class-identifier, %d, 11) = \":Arch:%05d\"", len(vendor), a)
		},
		bare: `not (substring(option vendor-class-identifier, 9, 6) = ":Arch:")`,
		whole: func(vendor, arch, named string) string {
			return fmt.Sprintf("("+iscClass+" and (%s or (not exists inetboot-arch and (%s))))", len(vendor), vendor, arch, named)
		},
	})
	return "not " + ipxe + " and (" + or + ")"
}

// classes are for pools, one for each kind of firmware and one for what is none.
func (w *isc) classes() string {
	var b strings.Builder
	for _, k := range Kinds() {
		fmt.Fprintf(&b, "class \"inetboot-%s\" { match if %s; }\n", k, w.condition(k))
	}
	fmt.Fprintf(&b, "class \"inetboot-ordinary\" { match if not ("+iscClass+" or "+iscClass+"); }\n", 9, "PXEClient", 10, "HTTPClient")
	return b.String()
}

// choice gives each kind of firmware its boot file.
func (w *isc) choice(kinds []bootfile.Kind, s bootfile.Settings) string {
	var b strings.Builder
	word := "if"
	for _, k := range kinds {
		file := bootfile.Choose(k, s, w.site.Files)
		if file == "" {
			continue
		}
		fmt.Fprintf(&b, "%s %s {\n", word, w.condition(k))
		if k == bootfile.HTTPUEFI || k == bootfile.HTTPARM64 {
			// The firmware takes only offers with this class, and does not always ask for it.
			b.WriteString("  option vendor-class-identifier \"HTTPClient\";\n  option dhcp-parameter-request-list = concat(option dhcp-parameter-request-list, 3c);\n")
		}
		if k.PXE() {
			fmt.Fprintf(&b, "  next-server %v;\n", w.site.Server)
		}
		fmt.Fprintf(&b, "  filename \"%s\";\n}\n", file)
		word = "elsif"
	}
	return b.String()
}

func (w *isc) boot() string {
	body := w.choice(Kinds(), bootfile.Settings{})
	if w.site.Unknown {
		return body
	}
	return "if known {\n" + indent(body) + "}\n"
}

func indent(s string) string {
	var b strings.Builder
	for l := range strings.Lines(s) {
		b.WriteString("  " + l)
	}
	return b.String()
}

func iscOptions(o *Options) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+";\n", args...) }
	if len(o.Router) > 0 {
		line("option routers %s", addrs(o.Router, ", "))
	}
	if len(o.DNS) > 0 {
		line("option domain-name-servers %s", addrs(o.DNS, ", "))
	}
	if len(o.NTP) > 0 {
		line("option ntp-servers %s", addrs(o.NTP, ", "))
	}
	if o.Domain != "" {
		line("option domain-name \"%s\"", o.Domain)
	}
	if len(o.Search) > 0 {
		line("option domain-search \"%s\"", strings.Join(o.Search, `", "`))
	}
	if o.MTU != 0 {
		line("option interface-mtu %d", o.MTU)
	}
	if len(o.Routes) > 0 {
		var n []string
		for _, b := range routeBytes(o) {
			n = append(n, fmt.Sprint(b))
		}
		line("option inetboot-routes %s", strings.Join(n, ", "))
	}
	if o.Lease != 0 {
		line("default-lease-time %d", seconds(o.Lease))
		line("max-lease-time %d", seconds(o.Lease))
	}
	return b.String()
}

func (w *isc) pools(n *Network) string {
	var b strings.Builder
	for _, p := range n.Pools {
		b.WriteString("pool {\n")
		// A machine has to be in what is allowed, and not in what is denied.
		switch p.Clients {
		case Known:
			b.WriteString("  deny unknown-clients;\n")
		case Unknown:
			b.WriteString("  deny known-clients;\n")
		}
		for _, k := range p.Kinds {
			fmt.Fprintf(&b, "  allow members of \"inetboot-%s\";\n", k)
		}
		fmt.Fprintf(&b, "  range %v %v;\n", p.First, p.Last)
		o := p.Options.less(n.Options)
		b.WriteString(indent(iscOptions(&o)))
		if p.File != "" && (w.site.Unknown || p.Clients == Known) {
			kinds := Kinds()
			if len(p.Kinds) > 0 {
				kinds = slices.DeleteFunc(kinds, func(k bootfile.Kind) bool { return !slices.Contains(p.Kinds, k) })
			}
			b.WriteString(indent(w.choice(kinds, settings(p.File, false))))
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func (w *isc) hosts() string {
	var b strings.Builder
	for _, h := range w.site.Hosts {
		fmt.Fprintf(&b, "host inetboot-%s {\n  hardware ethernet %s;\n", strings.ReplaceAll(h.MAC, ":", ""), h.MAC)
		if h.Address.IsValid() {
			fmt.Fprintf(&b, "  fixed-address %v;\n", h.Address)
		}
		if h.Name != "" {
			fmt.Fprintf(&b, "  option host-name \"%s\";\n", h.Name)
		}
		switch {
		case h.Denied:
			b.WriteString("  deny booting;\n")
		case h.Local:
			b.WriteString("  filename \"\";\n  option vendor-class-identifier \"\";\n")
		case h.File != "":
			b.WriteString(indent(w.choice(Kinds(), settings(h.File, false))))
		}
		b.WriteString("}\n")
	}
	return b.String()
}
