package logs

import (
	"bufio"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// neighbours knows the MAC addresses of machines on the same link, as the
// kernel does. It reads its table at most once a second.
type neighbours struct {
	mu   sync.Mutex
	read time.Time
	macs map[netip.Addr]string
}

// client returns the name of the log for messages from an address: the MAC
// address with hyphens where it is known, else the IP address. A machine can
// forge neither the one nor the other more easily than the rest of its network
// traffic; what it says its name is does not matter.
func (n *neighbours) client(a netip.Addr) string {
	a = a.Unmap()
	if mac := n.mac(a); mac != "" {
		return strings.ReplaceAll(mac, ":", "-")
	}
	return strings.NewReplacer(":", "_", "%", "_").Replace(a.WithZone("").String())
}

func (n *neighbours) mac(a netip.Addr) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := time.Now(); now.Sub(n.read) > time.Second {
		n.read, n.macs = now, arp()
	}
	return n.macs[a]
}

// arp reads the kernel's table, see proc_net_arp(5).
func arp() map[netip.Addr]string {
	out := map[netip.Addr]string{}
	f, err := os.Open("/proc/net/arp")
	if err != nil {
		return out
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		c := strings.Fields(lines.Text()) // IP address, HW type, flags, HW address, mask, device
		if len(c) < 4 || c[2] == "0x0" {
			continue
		}
		ip, err := netip.ParseAddr(c[0])
		if err != nil {
			continue
		}
		if mac, err := net.ParseMAC(c[3]); err == nil {
			out[ip] = mac.String()
		}
	}
	return out
}
