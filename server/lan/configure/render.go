package configure

import (
	"fmt"
	"net/netip"
	"strings"
)

// Config is configuration of a DHCP server.
type Config struct {
	Text     string
	Clients  Table    // what machines are told
	Warnings []string // what was left out
}

// writer makes the parts of a format.
type writer interface {
	// parts are those of the whole.
	parts() map[string]func() (string, error)
	// network are those of the network i.
	network(i int) map[string]func() (string, error)
	// join is what stands between networks.
	join() string
}

// Render makes the configuration of a site.
func Render(t *Template, site Site) (*Config, error) {
	folders, err := t.networkFolders()
	if err != nil {
		return nil, err
	}
	perNetwork := make([]map[string]string, max(folders, len(site.Networks)))
	for i := range folders {
		if perNetwork[i], err = t.values(fmt.Sprintf("network%d/values", i)); err != nil {
			return nil, err
		}
		text, named := perNetwork[i]["SUBNET"]
		if !named {
			if i >= len(site.Networks) {
				return nil, fmt.Errorf("%w: network%d/values lacks SUBNET=ADDRESS/BITS, as no option names that network", ErrTemplate, i)
			}
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil || !p.Addr().Is4() || p != p.Masked() {
			return nil, fmt.Errorf("%w: network%d/values: SUBNET=%s: want a network such as 192.168.1.0/24", ErrTemplate, i, text)
		}
		delete(perNetwork[i], "SUBNET") // the key is the address alone
		if i >= len(site.Networks) {
			site.Networks = append(site.Networks, Network{Subnet: p})
		} else if site.Networks[i].Subnet != p {
			return nil, fmt.Errorf("%w: network%d/values: SUBNET=%s, but the options say %v", ErrTemplate, i, text, site.Networks[i].Subnet)
		}
	}
	warnings, err := site.Validate()
	if err != nil {
		return nil, err
	}
	var w writer
	switch t.format {
	case ISC:
		w = &isc{&site}
	case Dnsmasq:
		w = &dnsmasq{&site}
	case Kea:
		if w, err = newKea(&site); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("no format %q: there are %v", t.format, Formats())
	}
	own, err := t.values("values")
	if err != nil {
		return nil, err
	}
	whole := &scope{parts: w.parts(), values: []map[string]string{t.set, own, {
		"SERVER": site.Server.String(), "URL": site.Files.Base, "INTERFACE": site.Interface, "LEASE": fmt.Sprint(seconds(site.Lease)),
	}}}
	whole.parts["NETWORKS"] = func() (string, error) {
		var all []string
		for i := range site.Networks {
			n := &site.Networks[i]
			s := &scope{folder: fmt.Sprint("network", i), parts: w.network(i)}
			for k, v := range w.parts() {
				if s.parts[k] == nil {
					s.parts[k] = v
				}
			}
			s.values = append([]map[string]string{perNetwork[i]}, whole.values...)
			s.values = append(s.values, map[string]string{
				"NUMBER": fmt.Sprint(i), "ID": fmt.Sprint(i + 1), "SUBNET": n.Subnet.Addr().String(), "NETMASK": netmask(n.Subnet), "CIDR": n.Subnet.String(),
			})
			// A network's lease goes before the default one, and after what people say.
			s.values[3] = map[string]string{"SERVER": site.Server.String(), "URL": site.Files.Base, "INTERFACE": site.Interface, "LEASE": fmt.Sprint(seconds(n.Options.Lease))}
			name, text, err := t.source(s.folder+"/"+NetworkFile, NetworkFile)
			if err != nil {
				return "", err
			}
			out, err := t.render(s, name, text, 1)
			if err != nil {
				return "", err
			}
			all = append(all, strings.TrimRight(out, "\n"))
		}
		return strings.Join(all, w.join()) + "\n", nil
	}
	name, text := MainFile(t.format), t.text
	if text == "" {
		if name, text, err = t.source(MainFile(t.format)); err != nil {
			return nil, err
		}
	}
	c := &Config{Warnings: warnings, Clients: table(&site)}
	if c.Text, err = t.render(whole, name, text, 0); err != nil {
		return nil, err
	}
	c.Text += c.Clients.comment()
	return c, nil
}

// source returns the first of the files that the template has, else the one
// that is built in under the last name.
func (t *Template) source(names ...string) (name, text string, err error) {
	for _, name = range names {
		text, ok, err := t.read(name)
		if err != nil || ok {
			return name, text, err
		}
	}
	text, err = Builtin(t.format, name)
	return name, text, err
}
