package lan

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// explain says which service could not open, and what to do about it.
func explain(service string, err error) error {
	what := fmt.Sprintf("open %s", service)
	var op *net.OpError
	network, port := "", 0
	if errors.As(err, &op) && op.Addr != nil {
		network = op.Addr.Network()
		if _, p, serr := net.SplitHostPort(op.Addr.String()); serr == nil {
			port, _ = strconv.Atoi(p)
		}
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && port != 0:
		by := Holder(network, port)
		if by == "" {
			return fmt.Errorf("%s: %w: another program has %s port %d: end it, or give %s another port or turn it off", what, err, network, port, service)
		}
		return fmt.Errorf("%s: %w: %s has %s port %d: end it, or give %s another port or turn it off", what, err, by, network, port, service)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return fmt.Errorf("%s: %w: start the server as root (it changes to the user of --user), or by systemd with AmbientCapabilities=CAP_NET_BIND_SERVICE CAP_NET_RAW", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// Holder returns which process has a port of the network "tcp" or "udp", as
// "dnsmasq (process 123)", or "" if that is not known: seeing the processes of
// others needs privileges. If addresses are given, only who has the port at one
// of them counts, or at all of the machine's.
func Holder(network string, port int, at ...netip.Addr) string {
	family := strings.TrimRight(network, "46")
	inodes := make(map[string]bool)
	for _, table := range []string{family, family + "6"} {
		f, err := os.Open("/proc/net/" + table)
		if err != nil {
			continue
		}
		lines := bufio.NewScanner(f)
		for lines.Scan() {
			// sl local_address rem_address st … inode (proc_net_tcp.txt)
			c := strings.Fields(lines.Text())
			if len(c) < 10 || (family == "tcp" && c[3] != "0A") {
				continue
			}
			local, ok := socketAddr(c[1])
			if !ok || int(local.Port()) != port {
				continue
			}
			if a := local.Addr(); len(at) == 0 || a.IsUnspecified() || slices.Contains(at, a) {
				inodes["socket:["+c[9]+"]"] = true
			}
		}
		f.Close()
	}
	links, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil || len(inodes) == 0 {
		return ""
	}
	for _, l := range links {
		if to, err := os.Readlink(l); err != nil || !inodes[to] {
			continue
		}
		pid := strings.Split(l, "/")[2]
		name, err := os.ReadFile("/proc/" + pid + "/comm")
		if err != nil {
			return "process " + pid
		}
		return fmt.Sprintf("%s (process %s)", strings.TrimSpace(string(name)), pid)
	}
	return ""
}

// socketAddr reads an address of /proc/net: words of the machine's byte order,
// in hexadecimal digits, and the port.
func socketAddr(s string) (netip.AddrPort, bool) {
	words, p, ok := strings.Cut(s, ":")
	b, err := hex.DecodeString(words)
	port, perr := strconv.ParseUint(p, 16, 16)
	if !ok || err != nil || perr != nil || len(b)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for w := range slices.Chunk(b, 4) {
		binary.NativeEndian.PutUint32(w, binary.BigEndian.Uint32(w))
	}
	a, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), uint16(port)), ok
}
