package configure

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// dnsmasq writes the configuration of dnsmasq(8), which knows tags. Rules for
// boot files exclude each other, so that their order does not matter.
type dnsmasq struct{ site *Site }

func (w *dnsmasq) join() string { return "\n\n" }

func (w *dnsmasq) parts() map[string]func() (string, error) {
	return map[string]func() (string, error){"CLASSES": text(w.classes), "BOOT": text(w.boot), "HOSTS": text(w.hosts)}
}

func (w *dnsmasq) network(i int) map[string]func() (string, error) {
	n := &w.site.Networks[i]
	return map[string]func() (string, error){
		"OPTIONS": text(func() string { return dnsmasqOptions(fmt.Sprint("inetboot-net", i), &n.Options) }),
		"POOLS":   text(func() string { return w.pools(i, n) }),
	}
}

// classes sets the tag of the kind of firmware.
func (w *dnsmasq) classes() string {
	var b strings.Builder
	b.WriteString("dhcp-vendorclass=set:inetboot-is-pxe,PXEClient\ndhcp-vendorclass=set:inetboot-is-http,HTTPClient\n" +
		"dhcp-userclass=set:inetboot-ipxe,iPXE\ndhcp-match=set:inetboot-ipxe,175\ndhcp-match=set:inetboot-arch,option:client-arch\n")
	for _, f := range firmwares() {
		for _, a := range f.arch {
			fmt.Fprintf(&b, "dhcp-match=set:inetboot-arch-%s,option:client-arch,%d\n", f.name, a)
			// Without option 93 the class says the architecture.
			fmt.Fprintf(&b, "dhcp-vendorclass=set:inetboot-class-%s,Client:Arch:%05d\n", f.name, a)
		}
		fmt.Fprintf(&b, "tag-if=set:inetboot-arch-%s,tag:inetboot-class-%s,tag:!inetboot-arch\n", f.name, f.name)
		if f.pxe == bootfile.PXEBIOS {
			fmt.Fprintf(&b, "dhcp-vendorclass=set:inetboot-class,Client:Arch:\ntag-if=set:inetboot-arch-%s,tag:!inetboot-class,tag:!inetboot-arch\n", f.name)
		}
		for _, k := range []struct {
			kind bootfile.Kind
			by   string
		}{{f.pxe, "pxe"}, {f.http, "http"}} {
			if k.kind != bootfile.Unsupported {
				fmt.Fprintf(&b, "tag-if=set:inetboot-%s,tag:inetboot-is-%s,tag:inetboot-arch-%s,tag:!inetboot-ipxe\n", k.kind, k.by, f.name)
			}
		}
	}
	b.WriteString("tag-if=set:inetboot-ordinary,tag:!inetboot-is-pxe,tag:!inetboot-is-http\n")
	return b.String()
}

// choice gives each kind of firmware with all of the tags its boot file.
func (w *dnsmasq) choice(tags string, s bootfile.Settings) string {
	var b strings.Builder
	for _, k := range Kinds() {
		file := bootfile.Choose(k, s, w.site.Files)
		if file == "" {
			continue
		}
		if k.PXE() {
			fmt.Fprintf(&b, "dhcp-boot=tag:inetboot-%s%s,%s,,%v\n", k, tags, file, w.site.Server)
			continue
		}
		fmt.Fprintf(&b, "dhcp-boot=tag:inetboot-%s%s,%s\n", k, tags, file)
		if k != bootfile.IPXE {
			fmt.Fprintf(&b, "dhcp-option-force=tag:inetboot-%s%s,60,HTTPClient\n", k, tags)
		}
	}
	return b.String()
}

func (w *dnsmasq) boot() string {
	tags := ",tag:!inetboot-own"
	if !w.site.Unknown {
		tags += ",tag:known"
	}
	for _, n := range w.site.Networks {
		for _, p := range n.Pools {
			if p.File != "" {
				return w.choice(tags+",tag:!inetboot-pool-file", bootfile.Settings{})
			}
		}
	}
	return w.choice(tags, bootfile.Settings{})
}

func dnsmasqOptions(tag string, o *Options) string {
	var b strings.Builder
	line := func(name, value string) { fmt.Fprintf(&b, "dhcp-option=tag:%s,%s,%s\n", tag, name, value) }
	if len(o.Router) > 0 {
		line("option:router", addrs(o.Router, ","))
	}
	if len(o.DNS) > 0 {
		line("option:dns-server", addrs(o.DNS, ","))
	}
	if len(o.NTP) > 0 {
		line("option:ntp-server", addrs(o.NTP, ","))
	}
	if o.Domain != "" {
		line("option:domain-name", o.Domain)
	}
	if len(o.Search) > 0 {
		line("option:domain-search", strings.Join(o.Search, ","))
	}
	if o.MTU != 0 {
		line("option:mtu", fmt.Sprint(o.MTU))
	}
	if len(o.Routes) > 0 {
		all := o.Routes
		if len(o.Router) > 0 {
			all = append(all[:len(all):len(all)], Route{netip.PrefixFrom(netip.IPv4Unspecified(), 0), o.Router[0]})
		}
		var r []string
		for _, x := range all {
			r = append(r, x.To.String(), x.Via.String())
		}
		line("option:classless-static-route", strings.Join(r, ","))
	}
	return b.String()
}

func (w *dnsmasq) pools(i int, n *Network) string {
	var b strings.Builder
	net := fmt.Sprint("inetboot-net", i)
	// A range without addresses serves machines with addresses of their own.
	fmt.Fprintf(&b, "dhcp-range=set:%s,%v,static,%s,%d\n", net, n.Subnet.Addr(), netmask(n.Subnet), seconds(n.Options.Lease))
	for j, p := range n.Pools {
		tag := fmt.Sprintf("inetboot-pool%d-%d", i, j)
		tags := ""
		if len(p.Kinds) > 0 {
			for _, k := range p.Kinds {
				fmt.Fprintf(&b, "tag-if=set:%s-may,tag:inetboot-%s\n", tag, k)
			}
			tags = "tag:" + tag + "-may,"
		}
		switch p.Clients {
		case Known:
			tags += "tag:known,"
		case Unknown:
			tags += "tag:!known,"
		}
		lease := n.Options.Lease
		if p.Options.Lease != 0 {
			lease = p.Options.Lease
		}
		fmt.Fprintf(&b, "dhcp-range=%sset:%s,%v,%v,%s,%d\n", tags, tag, p.First, p.Last, netmask(n.Subnet), seconds(lease))
		// Options and boot files go by the range's tag; a range sets one.
		fmt.Fprintf(&b, "tag-if=set:%s,tag:%s\n", net, tag)
		o := p.Options.less(n.Options)
		b.WriteString(dnsmasqOptions(tag, &o))
		if p.File != "" {
			fmt.Fprintf(&b, "tag-if=set:inetboot-pool-file,tag:%s\n", tag)
			own := ",tag:!inetboot-own,tag:" + tag
			if !w.site.Unknown {
				own += ",tag:known"
			}
			b.WriteString(w.choice(own, settings(p.File, false)))
		}
	}
	return b.String()
}

func (w *dnsmasq) hosts() string {
	var b strings.Builder
	for _, h := range w.site.Hosts {
		if h.Denied {
			fmt.Fprintf(&b, "dhcp-host=%s,ignore\n", h.MAC)
			continue
		}
		fmt.Fprintf(&b, "dhcp-host=%s", h.MAC)
		tag := "inetboot-" + strings.ReplaceAll(h.MAC, ":", "")
		own := h.Local || h.File != ""
		if own {
			fmt.Fprintf(&b, ",set:inetboot-own,set:%s", tag)
		}
		if h.Address.IsValid() {
			fmt.Fprintf(&b, ",%v", h.Address)
		}
		if h.Name != "" {
			fmt.Fprintf(&b, ",%s", h.Name)
		}
		b.WriteByte('\n')
		if own {
			b.WriteString(w.choice(",tag:"+tag, settings(h.File, h.Local)))
		}
	}
	return b.String()
}
