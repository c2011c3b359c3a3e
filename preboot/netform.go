package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"strings"

	"github.com/inetboot/inetboot/internal/netconf"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/preboot/form"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/settings"
	"github.com/inetboot/inetboot/preboot/system"
)

// saved is what to go back to.
type saved struct {
	what    string // what was changed since
	cmdline string
	set     *settings.Settings
	prefer  string
}

// change puts options in place of those of the same names and reads all
// settings anew: what a form says is one with what a command line says.
func (s *session) change(what string, drop, options []string) error {
	cmdline := settings.Override(s.cmdline, drop, options)
	set, err := settings.Read(cmdline, os.DirFS("/"))
	if err != nil {
		return err
	}
	if s.before = nil; s.set.Store() || s.set.Image != "" {
		s.before = &saved{what, s.cmdline, s.set, s.prefer}
	}
	s.cmdline, s.set = cmdline, set
	var shown []string
	for _, o := range options {
		if proxy, ok := strings.CutPrefix(o, "http_proxy="); ok && proxy != "" {
			o = "http_proxy=" + withoutPassword(proxy)
		}
		shown = append(shown, o)
	}
	s.say("%s changed: %s", what, strings.Join(shown, " "))
	return nil
}

// undo goes back to the settings before the last change.
func (s *session) undo() {
	b := s.before
	s.before, s.cmdline, s.set, s.prefer = nil, b.cmdline, b.set, b.prefer
	s.say("%s as before", b.what)
	s.resetNetwork()
}

// resetNetwork takes the links down, so that nothing stays of what they were
// used for: addresses, routes, tagged links.
func (s *session) resetNetwork() {
	if err := s.net.Down(); err != nil {
		s.say("%v", err)
	}
}

// Ids of the network form's fields, and of its choices.
const (
	linkField    = "link"
	modeField    = "mode"
	addressField = "address"
	gatewayField = "gateway"
	vlanField    = "vlan"
	dnsField     = "dns"
	proxyField   = "proxy"

	modeAuto   = "dhcp"
	modeStatic = "off"

	noProxy = "none"
)

// editNetwork lets a person say what the network is like, and begins anew with
// it.
func (s *session) editNetwork(ctx context.Context) next {
	f := form.New(networkForm(s.set, system.Links()))
	ok := fill(ctx, s.con, f, func() (string, error) {
		options, field, err := networkOptions(f.Value)
		if err != nil {
			return field, err
		}
		return "", s.change("network settings", networkNames(), options)
	})
	s.con.Scroll()
	if !ok {
		return stay
	}
	s.resetNetwork()
	return reconnect
}

// networkForm is the form, filled in with what counts now.
func networkForm(set *settings.Settings, links []string) form.Options {
	n := &set.Network
	values := map[string]string{modeField: modeAuto, linkField: n.Link, proxyField: set.Proxy}
	if set.NoProxy {
		values[proxyField] = noProxy
	}
	if len(n.Addresses) > 0 {
		values[modeField] = modeStatic
	}
	values[addressField] = join(n.Addresses)
	values[gatewayField] = join(n.Gateways)
	values[dnsField] = join(set.Nameservers)
	if n.VLAN > 0 {
		values[vlanField] = fmt.Sprint(n.VLAN)
	}
	choices := []form.Choice{{Value: "", Title: "all; the first that leads to the store"}}
	known := n.Link == ""
	for _, l := range links {
		choices = append(choices, form.Choice{Value: l, Title: l})
		known = known || l == n.Link
	}
	if !known {
		choices = append(choices, form.Choice{Value: n.Link, Title: n.Link})
	}
	static := func(value func(string) string) bool { return value(modeField) == modeStatic }
	fields := []form.Field{
		{ID: linkField, Label: "Network adapters", Choices: choices, Help: "Which network adapter is used."},
		{ID: modeField, Label: "Addresses", Choices: []form.Choice{{Value: modeAuto, Title: "automatic, from the network (DHCP)"}, {Value: modeStatic, Title: "static, typed here"}}, Help: "Whether this machine asks the network for its address."},
		{ID: addressField, Label: "Address/length", When: static, Help: "With the length of the network's prefix, such as 192.0.2.7/24 or 2001:db8::7/64; several with commas."},
		{ID: gatewayField, Label: "Gateway", When: static, Help: "The router to other networks, such as 192.0.2.1; empty: there is none. At most one for IPv4 and one for IPv6, with a comma."},
		{ID: vlanField, Label: "VLAN", Help: "The number of a tagged network, 1 to 4094; empty: untagged."},
		{ID: dnsField, Label: "Name servers", Help: "Addresses with commas between them, instead of those that the network names; empty: the network's."},
		{ID: proxyField, Label: "HTTP proxy", Help: "As http://host:port or http://user:password@host:port; empty: the one that the network names, if it does; none: directly."},
	}
	for i := range fields {
		fields[i].Value = values[fields[i].ID]
	}
	return form.Options{Title: "InetBoot: network settings", Fields: fields, Submit: "Use these settings"}
}

func join[T fmt.Stringer](list []T) string {
	var parts []string
	for _, x := range list {
		parts = append(parts, x.String())
	}
	return strings.Join(parts, ",")
}

// networkNames are the options that the form stands for.
func networkNames() []string { return []string{"ip", "nodhcp", "vlan", "nameserver", "http_proxy"} }

// networkOptions turns the form's values into kernel command line options. With
// an error it names the field that is wrong.
func networkOptions(value func(string) string) (options []string, field string, err error) {
	link := value(linkField)
	option := func(name, v string) { options = append(options, name+"="+v) }
	if value(modeField) == modeAuto {
		option("ip", modeAuto)
		if link != "" {
			options[0] = "ip=:::::" + link + ":" + modeAuto
		}
	} else {
		addresses := list(value(addressField))
		if len(addresses) == 0 {
			return nil, addressField, errors.New("an address is needed, such as 192.0.2.7/24")
		}
		gateways := map[bool]netip.Addr{}
		for _, g := range list(value(gatewayField)) {
			a, err := netip.ParseAddr(g)
			if err != nil {
				return nil, gatewayField, fmt.Errorf("%q is no address", g)
			}
			if gateways[a.Is4()].IsValid() {
				return nil, gatewayField, errors.New("there can be one gateway for IPv4 and one for IPv6")
			}
			gateways[a.Is4()] = a
		}
		for _, x := range addresses {
			p, err := netip.ParsePrefix(x)
			if err != nil {
				return nil, addressField, fmt.Errorf("%q is no address with the length of its network's prefix, such as 192.0.2.7/24", x)
			}
			gateway := ""
			if g := gateways[p.Addr().Is4()]; g.IsValid() {
				gateway = bracketed(g)
				delete(gateways, g.Is4())
			}
			option("ip", fmt.Sprintf("%s::%s:%d::%s:%s", bracketed(p.Addr()), gateway, p.Bits(), link, modeStatic))
		}
		if len(gateways) > 0 {
			return nil, gatewayField, errors.New("there is no address of the gateway's kind")
		}
	}
	vlan := strings.TrimSpace(value(vlanField))
	if err := new(netconf.Setup).SetVLAN(vlan); err != nil {
		return nil, vlanField, err
	}
	option("vlan", vlan)
	if servers := list(value(dnsField)); len(servers) > 0 {
		for _, x := range servers {
			if _, err := netip.ParseAddr(x); err != nil {
				return nil, dnsField, fmt.Errorf("%q is no address", x)
			}
		}
		option("nameserver", strings.Join(servers, ","))
	}
	switch proxy := strings.TrimSpace(value(proxyField)); proxy {
	case "":
	case noProxy:
		option("http_proxy", "")
	default:
		if err := site.CheckURL(proxy); err != nil {
			return nil, proxyField, err
		}
		option("http_proxy", proxy)
	}
	return options, "", nil
}

// list splits a text at commas and spaces.
func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

func bracketed(a netip.Addr) string {
	if a.Is4() {
		return a.String()
	}
	return "[" + a.String() + "]"
}

// withoutPassword returns a proxy's URL as it may be shown.
func withoutPassword(proxy string) string {
	u, err := url.Parse(proxy)
	if err != nil {
		return "?"
	}
	return u.Redacted()
}

// chooseMirror lets a person say where the store is read from.
func (s *session) chooseMirror(ctx context.Context) next {
	var items []menu.Item
	urls := s.set.URLs
	if s.store != nil && s.store.client != nil {
		urls = nil
		for i, m := range s.store.client.Measurements() {
			it := menu.Item{ID: fmt.Sprint(i), Title: m.URL}
			if m.RTT > 0 {
				it.Note = fmt.Sprintf("%d ms", max(1, m.RTT.Milliseconds()))
			}
			items, urls = append(items, it), append(urls, m.URL)
		}
	} else {
		for i, u := range urls {
			items = append(items, menu.Item{ID: fmt.Sprint(i), Title: u})
		}
	}
	items = append(items, menu.Item{ID: storeID, Title: "Type another address", Help: "The base URL of a copy of the same store: its signatures are checked with the same keys."})
	ev := s.ask(ctx, menu.Options{Title: "InetBoot: the mirror to read from first", Items: items, Timeout: -1, Back: true})
	if ev.Picked == nil {
		return stay
	}
	if ev.Picked.ID == storeID {
		return s.editStore(ctx)
	}
	for i, u := range urls {
		if ev.Picked.ID == fmt.Sprint(i) {
			s.prefer = u
		}
	}
	s.say("mirror %s is asked first", s.prefer)
	if s.store == nil || s.store.client == nil {
		return reconnect
	}
	s.preferMirror(s.store.client)
	return again
}

// editStore lets a person type the address of the store, and whose signatures
// count where nobody has said that.
func (s *session) editStore(ctx context.Context) next {
	const urlField, keyField = "url", "key"
	value := "http://"
	if len(s.set.URLs) > 0 {
		value = s.set.URLs[0]
	}
	fields := []form.Field{{ID: urlField, Label: "Base URL of the store", Above: true, Value: value, Max: 2000, Help: "Such as http://boot.example.com or https://mirror.example.com/inetboot."}}
	if s.set.Anchor == nil {
		fields = append(fields, form.Field{ID: keyField, Label: "Key of the catalog's root", Above: true, Max: 2000, Help: "The publisher's public key, 64 hexadecimal digits; several with commas."})
	}
	f := form.New(form.Options{Title: "InetBoot: the store", Fields: fields, Submit: "Use this store"})
	ok := fill(ctx, s.con, f, func() (string, error) {
		u := strings.TrimRight(strings.TrimSpace(f.Value(urlField)), "/")
		if err := site.CheckURL(u); err != nil {
			return urlField, err
		}
		urls := []string{u}
		for _, old := range s.set.URLs {
			if old != u {
				urls = append(urls, old)
			}
		}
		options := []string{"inetboot.url=" + strings.Join(urls, ",")}
		drop := []string{"inetboot.url"}
		if s.set.Anchor == nil {
			options, drop = append(options, "inetboot.key="+strings.Join(list(f.Value(keyField)), ",")), append(drop, "inetboot.key")
		}
		if err := s.change("store", drop, options); err != nil {
			return keyField, err
		}
		s.prefer = u
		return "", nil
	})
	s.con.Scroll()
	if !ok {
		return stay
	}
	return reconnect
}
