// Package syslog sends a machine's log lines to a syslog receiver (RFC 5424)
// while nothing else on the machine does: over UDP, a line in a datagram
// (RFC 5426), or over TCP with octet counting (RFC 6587 section 3.4.1). Lines
// from before there was a network wait in memory. For receivers it reads what
// any machine sends.
package syslog

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// Receiver is where lines go. The zero value is none.
type Receiver struct {
	Network string // "udp" or "tcp"
	Host    string // a name or an IP address, of IPv6 without brackets
	Port    int
}

// Ports where the URL names none: RFC 5426 section 3.3, RFC 6587 section 3.2
// and the registry of IANA.
const (
	portUDP = 514
	portTCP = 601
)

// ErrReceiver is wrapped when the URL of a receiver cannot be used.
var ErrReceiver = errors.New("unusable syslog receiver")

// maxHost is the length of the longest name of a host, in bytes (RFC 1035).
const maxHost = 253

// ParseURL reads "udp://host[:port]" or "tcp://host[:port]". Errors wrap
// ErrReceiver.
func ParseURL(s string) (Receiver, error) {
	bad := func(why string) (Receiver, error) {
		return Receiver{}, fmt.Errorf("%w %.300q: %s; want udp://HOST[:514] or tcp://HOST[:601]", ErrReceiver, s, why)
	}
	u, err := url.Parse(s)
	if err != nil {
		return bad("it is no URL")
	}
	r := Receiver{Network: u.Scheme, Host: u.Hostname(), Port: portUDP}
	switch {
	case r.Network != "udp" && r.Network != "tcp":
		return bad("the protocol is not udp or tcp")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Trim(u.Path, "/") != "" || u.Opaque != "":
		return bad("it has more than a host and a port")
	case !validHost(r.Host):
		return bad("it has no usable host")
	}
	if r.Network == "tcp" {
		r.Port = portTCP
	}
	if p := u.Port(); p != "" {
		if r.Port, err = strconv.Atoi(p); err != nil || r.Port < 1 || r.Port > 65535 {
			return bad("the port is not between 1 and 65535")
		}
	}
	return r, nil
}

// UDP returns the receiver at the usual port of an address.
func UDP(a netip.Addr) Receiver { return Receiver{"udp", a.String(), portUDP} }

func validHost(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._:%", rune(c)) {
			return false
		}
	}
	return s != "" && len(s) <= maxHost
}

// Address returns host and port as the functions of package net take them.
func (r Receiver) Address() string { return net.JoinHostPort(r.Host, strconv.Itoa(r.Port)) }

// String returns the URL.
func (r Receiver) String() string {
	u := url.URL{Scheme: r.Network, Host: r.Address()}
	return u.String()
}
