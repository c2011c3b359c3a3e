package configure

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Port is a port that is to be open.
type Port struct {
	Proto string // "tcp" or "udp"
	Port  int
	What  string // what it is for, such as "TFTP"
}

// String is as ss(8) and firewalls write it: 69/udp.
func (p Port) String() string { return fmt.Sprintf("%d/%s", p.Port, p.Proto) }

// ParsePort reads PORT/tcp or PORT/udp.
func ParsePort(s string) (Port, error) {
	n, proto, _ := strings.Cut(s, "/")
	port, err := strconv.Atoi(n)
	if err != nil || port < 1 || port > 65535 || (proto != "tcp" && proto != "udp") {
		return Port{}, fmt.Errorf("port %q: want a number with its protocol, such as 22/tcp", s)
	}
	return Port{Proto: proto, Port: port, What: "allowed beside the server"}, nil
}

// nftTable is the server's own.
const nftTable = "inet inetboot"

// Nftables writes rules, in a table of their own, that open the ports on the
// interfaces and refuse all others there. Other interfaces are left alone.
// Loading them replaces what an earlier run loaded, at once.
func Nftables(interfaces []string, ports []Port) (string, error) {
	if len(interfaces) == 0 {
		return "", errors.New("firewall rules need an interface: name it with --lan")
	}
	var names []string
	for _, i := range interfaces {
		if !interfaceOK(i) {
			return "", fmt.Errorf("interface %q: characters that are not taken into a configuration", i)
		}
		names = append(names, strconv.Quote(i))
	}
	ports = slices.Clone(ports)
	slices.SortStableFunc(ports, func(a, b Port) int {
		if a.Proto != b.Proto {
			return strings.Compare(a.Proto, b.Proto)
		}
		return a.Port - b.Port
	})
	ports = slices.CompactFunc(ports, func(a, b Port) bool { return a.Proto == b.Proto && a.Port == b.Port })
	var b strings.Builder
	fmt.Fprintf(&b, `#!/usr/sbin/nft -f
# By "server configure nftables": what is open on the LAN's interface. To take
# the rules away: nft delete table %[1]s

table %[1]s
delete table %[1]s

table %[1]s {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname != { %[2]s } return
    ct state established,related accept
    # ICMP, IGMP and ICMPv6: neighbours, path MTU, errors, multicast.
    meta l4proto { 1, 2, 58 } accept
    # They are broadcast, so no answers to what this machine has sent.
    udp sport 67 udp dport 68 accept comment "answers of DHCP servers"
`, nftTable, strings.Join(names, ", "))
	for _, p := range ports {
		if p.Port < 1 || p.Port > 65535 || (p.Proto != "tcp" && p.Proto != "udp") || strings.Trim(p.What, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ") != "" {
			return "", fmt.Errorf("firewall rules: %v, %q is no port", p, p.What)
		}
		fmt.Fprintf(&b, "    %s dport %d accept comment \"%s\"\n", p.Proto, p.Port, p.What)
	}
	b.WriteString("    meta l4proto tcp counter reject with tcp reset\n    counter reject\n  }\n}\n")
	return b.String(), nil
}

// NftablesFile is where the rules lie unless somebody says otherwise.
const NftablesFile = "/etc/inetboot/nftables.conf"

// NftablesCheck is how nft checks a file, as root.
func NftablesCheck(file string) []string { return []string{"nft", "-c", "-f", file} }
