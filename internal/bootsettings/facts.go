package bootsettings

import (
	"fmt"
	"strings"
)

// Facts is what a machine knows about itself, for patterns.
type Facts struct {
	MAC      string // of the link that it booted over, with colons
	IP       string // its first address
	Hostname string // that the network gave it
	UUID     string // of SMBIOS
	Serial   string // of SMBIOS
	Image    string // name
	Version  string // of the image
	Entry    string // of the menu
}

// values returns what the names in braces stand for.
func (f Facts) values() map[string]string {
	mac := strings.ReplaceAll(f.MAC, ":", "")
	return map[string]string{
		"mac":      mac,
		"mac6":     mac[max(0, len(mac)-6):],
		"ip":       f.IP,
		"ip-":      strings.NewReplacer(".", "-", ":", "-").Replace(f.IP),
		"hostname": f.Hostname,
		"uuid":     f.UUID,
		"serial":   f.Serial,
		"image":    f.Image,
		"version":  f.Version,
		"entry":    f.Entry,
	}
}

// Expand replaces the names in braces of a pattern: {mac} is the MAC address
// without colons and {mac6} the last six digits of it, {ip} the address and
// {ip-} the address with dashes, {hostname} the name that the network gave,
// {uuid} and {serial} those of SMBIOS, {image}, {version} and {entry} what was
// booted. Two braces stand for one.
func (f Facts) Expand(pattern string) string {
	out, err := expand(pattern, f.values())
	if err != nil {
		return pattern // Check has refused it
	}
	return out
}

// check returns an error if pattern has names that are not known.
func (f Facts) check(pattern string) error {
	_, err := expand(pattern, f.values())
	return err
}

func expand(pattern string, values map[string]string) (string, error) {
	var b strings.Builder
	for pattern != "" {
		i := strings.IndexAny(pattern, "{}")
		if i < 0 {
			b.WriteString(pattern)
			break
		}
		b.WriteString(pattern[:i])
		brace := pattern[i]
		pattern = pattern[i+1:]
		if pattern != "" && pattern[0] == brace {
			b.WriteByte(brace)
			pattern = pattern[1:]
			continue
		}
		name, rest, ok := strings.Cut(pattern, "}")
		if brace == '}' || !ok {
			return "", fmt.Errorf("a single brace: write {{ or }} for one")
		}
		v, known := values[name]
		if !known {
			return "", fmt.Errorf("{%s} is not known: there are {mac}, {mac6}, {ip}, {ip-}, {hostname}, {uuid}, {serial}, {image}, {version}, {entry}", name)
		}
		b.WriteString(v)
		pattern = rest
	}
	return b.String(), nil
}
