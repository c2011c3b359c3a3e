package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/inetboot/inetboot/server/lan/configure"
)

// configuredPorts are the ports that a server with these options opens on the LAN.
func configuredPorts(o *options) ([]configure.Port, error) {
	var list []configure.Port
	add := func(what, proto string, ports ...int) {
		for _, p := range ports {
			list = append(list, configure.Port{Proto: proto, Port: p, What: what})
		}
	}
	host, port, err := net.SplitHostPort(o.listen)
	n, nerr := strconv.Atoi(port)
	if err != nil || nerr != nil || n < 1 || n > 65535 {
		return nil, fmt.Errorf("--listen %q: want an address with the port that the server has, as :8080", o.listen)
	}
	if a, err := netip.ParseAddr(host); err != nil || !a.IsLoopback() {
		add("HTTP", "tcp", n)
	}
	l := &o.lan
	if l.iface == "" {
		return list, nil
	}
	switch l.dhcp.mode {
	case "proxy":
		add("DHCP", "udp", l.dhcp.port)
		add("PXE", "udp", l.dhcp.pxePort)
	case "full":
		add("DHCP", "udp", l.dhcp.port)
	}
	if l.dns.on {
		add("DNS", "udp", l.dns.port)
		add("DNS", "tcp", l.dns.port)
	}
	if !l.boot.noTFTP {
		add("TFTP", "udp", l.boot.tftpPort)
	}
	if l.roots.nfs {
		add("NFS", "tcp", l.roots.nfsPort)
		if l.roots.portmap != 0 {
			add("port mapper", "tcp", l.roots.portmap)
			add("port mapper", "udp", l.roots.portmap)
		}
	}
	if l.roots.nbd || l.roots.swap {
		add("NBD", "tcp", l.roots.nbdPort)
	}
	if !l.logs.off {
		add("syslog", "udp", l.logs.port)
		add("syslog", "tcp", l.logs.port)
		if l.logs.port == syslogPort {
			add("syslog", "tcp", syslogTCPPort)
		}
	}
	return list, nil
}
