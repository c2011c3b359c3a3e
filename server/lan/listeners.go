package lan

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Listener is a port at which a program on this machine can be reached from
// others.
type Listener struct {
	Proto string // "tcp" or "udp"
	Port  int
}

// ephemeral is where ports begin that programs get for what they ask others.
const ephemeral = 32768

// Listeners returns the ports at which programs on this machine, in this network
// namespace, listen at other addresses than its own loopback ones; of UDP only
// those below the ephemeral ones.
func Listeners() ([]Listener, error) {
	var list []Listener
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6"} {
		f, err := os.Open("/proc/net/" + table)
		if os.IsNotExist(err) {
			continue // no IPv6
		}
		if err != nil {
			return nil, fmt.Errorf("look for programs that listen: %w", err)
		}
		list = append(list, listeners(f, table[:3])...)
		f.Close()
	}
	slices.SortFunc(list, func(a, b Listener) int {
		if a.Port != b.Port {
			return a.Port - b.Port
		}
		return strings.Compare(a.Proto, b.Proto)
	})
	return slices.Compact(list), nil
}

// listeners reads a table of /proc/net (proc_net_tcp.txt).
func listeners(r io.Reader, proto string) (list []Listener) {
	const listen, unconnected = "0A", "07"
	for lines := bufio.NewScanner(r); lines.Scan(); {
		c := strings.Fields(lines.Text())
		if len(c) < 10 || c[3] != map[string]string{"tcp": listen, "udp": unconnected}[proto] {
			continue
		}
		at, ok := socketAddr(c[1])
		if !ok || at.Port() == 0 || at.Addr().IsLoopback() || proto == "udp" && at.Port() >= ephemeral {
			continue
		}
		list = append(list, Listener{proto, int(at.Port())})
	}
	return list
}
