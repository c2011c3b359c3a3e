package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/sys/unix"
)

// firmware is a kind of firmware as which is asked.
type firmware struct {
	kind, class string
	arch        uint16
	user        string
	http        bool
	optional    bool // a server need not have boot files for it
}

func firmwares() []firmware {
	return []firmware{
		{kind: "bios", class: "PXEClient:Arch:00000:UNDI:002001"},
		{kind: "uefi", class: "PXEClient:Arch:00007:UNDI:003016", arch: 7},
		{kind: "http", class: "HTTPClient:Arch:00016:UNDI:003016", arch: 16, http: true},
		{kind: "ipxe", class: "PXEClient:Arch:00007:UNDI:003016", arch: 7, user: "iPXE", http: true},
		{kind: "arm64", class: "PXEClient:Arch:00011:UNDI:003016", arch: 11, optional: true},
		{kind: "http-arm64", class: "HTTPClient:Arch:00019:UNDI:003016", arch: 19, http: true, optional: true},
	}
}

// request makes what firmware of a kind sends. All bytes are random or constant.
func (f *firmware) request(mac net.HardwareAddr) (*dhcpv4.DHCPv4, error) {
	mods := []dhcpv4.Modifier{
		dhcpv4.WithHwAddr(mac), dhcpv4.WithBroadcast(true), dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(f.class)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientSystemArchitectureType, []byte{byte(f.arch >> 8), byte(f.arch)}),
		dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1472)),
		dhcpv4.WithRequestedOptions(dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionVendorSpecificInformation,
			dhcpv4.OptionServerIdentifier, dhcpv4.OptionClassIdentifier, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName),
	}
	if f.user != "" {
		mods = append(mods, dhcpv4.WithUserClass(f.user, false))
	}
	return dhcpv4.New(mods...)
}

// offer is an answer of a DHCP server.
type offer struct {
	server  netip.Addr // option 54, or where it came from
	address netip.Addr // invalid if it gives none
	file    string
	next    netip.Addr // TFTP server
	class   string
}

// parseOffer reads an answer to the request xid; ok is false for anything else.
func parseOffer(b []byte, from netip.Addr) (xid dhcpv4.TransactionID, o offer, ok bool) {
	p, err := dhcpv4.FromBytes(bytes.Clone(b))
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply {
		return xid, o, false
	}
	if t := p.MessageType(); t != dhcpv4.MessageTypeOffer && t != dhcpv4.MessageTypeAck {
		return xid, o, false
	}
	o.server = from
	if a, ok := netip.AddrFromSlice(p.ServerIdentifier().To4()); ok {
		o.server = a
	}
	if a, ok := netip.AddrFromSlice(p.YourIPAddr.To4()); ok && !a.IsUnspecified() {
		o.address = a
	}
	// EDK2 and iPXE take option 67 before the field of the header, and 66 where
	// siaddr is empty.
	o.file = printable(p.BootFileNameOption())
	if o.file == "" {
		o.file = printable(p.BootFileName)
	}
	if a, ok := netip.AddrFromSlice(p.ServerIPAddr.To4()); ok && !a.IsUnspecified() {
		o.next = a
	} else if a, err := netip.ParseAddr(p.TFTPServerName()); err == nil {
		o.next = a
	} else {
		o.next = o.server
	}
	o.class = printable(string(p.Options.Get(dhcpv4.OptionClassIdentifier)))
	return p.TransactionID, o, true
}

// printable cleans what others say for a terminal.
func printable(s string) string {
	for len(s) > 0 && (s[len(s)-1] == 0 || s[len(s)-1] == 0xff) { // as Kea ends names
		s = s[:len(s)-1]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0xfffd {
			return '?'
		}
		return r
	}, s[:min(len(s), 255)])
}

// listen binds the port of DHCP clients on the interface, beside a client of this
// machine.
func listen(ctx context.Context, ifname string, port int) (net.PacketConn, error) {
	c := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
		var err error
		if cerr := rc.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_BROADCAST, 1), unix.BindToDevice(int(fd), ifname))
		}); cerr != nil {
			return cerr
		}
		return err
	}}
	return c.ListenPacket(ctx, "udp4", fmt.Sprintf("0.0.0.0:%d", port))
}

// ask sends the requests, all at once and again after a second, and collects
// what comes.
func (d *doctor) ask(ctx context.Context, kinds []firmware) ([][]offer, error) {
	conn, err := listen(ctx, d.o.Interface, d.o.DHCPPort+1)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	requests := make([]*dhcpv4.DHCPv4, len(kinds))
	for i := range kinds {
		if requests[i], err = kinds[i].request(d.o.MAC); err != nil {
			return nil, err
		}
	}
	got := make([][]offer, len(kinds))
	buf := make([]byte, 2048)
	end := time.Now().Add(d.o.Wait)
	again := time.Now()
	for time.Now().Before(end) && ctx.Err() == nil {
		if !time.Now().Before(again) {
			for _, r := range requests {
				if _, err := conn.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: d.o.DHCPPort}); err != nil {
					return nil, err
				}
			}
			again = time.Now().Add(time.Second)
		}
		next := again
		if end.Before(next) {
			next = end
		}
		if err := conn.SetReadDeadline(next); err != nil {
			return nil, err
		}
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			continue
		}
		var sender netip.Addr
		if u, ok := from.(*net.UDPAddr); ok {
			sender = u.AddrPort().Addr().Unmap()
		}
		xid, o, ok := parseOffer(buf[:n], sender)
		if !ok {
			continue
		}
		at := slices.IndexFunc(requests, func(r *dhcpv4.DHCPv4) bool { return r.TransactionID == xid })
		if at >= 0 && len(got[at]) < 16 && !slices.ContainsFunc(got[at], func(x offer) bool { return x.server == o.server }) {
			got[at] = append(got[at], o)
		}
	}
	return got, ctx.Err()
}

func (d *doctor) dhcp(ctx context.Context) {
	kinds := firmwares()
	got, err := d.ask(ctx, kinds)
	if err != nil {
		next := "look at the interface: ip address show " + d.o.Interface
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES) {
			next = "run it as root: DHCP clients have port 68"
		}
		d.add(Finding{StageDHCP, "all", Failed, "", err.Error(), next})
		return
	}
	addresses := 0
	for i, k := range kinds {
		sent := fmt.Sprintf("DHCPDISCOVER from %s on %s, class %s, architecture %d", d.o.MAC, d.o.Interface, k.class, k.arch)
		if k.user != "" {
			sent += ", user class " + k.user
		}
		for _, o := range got[i] {
			if o.address.IsValid() {
				addresses++
			}
		}
		d.judge(k, sent, got[i])
	}
	if addresses == 0 && slices.ContainsFunc(got, func(l []offer) bool { return len(l) > 0 }) {
		d.add(Finding{StageDHCP, "address", Failed, "", "nobody offers an address", "a proxy tells only what to boot: the LAN needs a DHCP server, or this one with --dhcp full"})
	}
}

// judge says what the offers for a kind of firmware mean.
func (d *doctor) judge(k firmware, sent string, offers []offer) {
	var said []string
	var ours, rivals []offer
	for _, o := range offers {
		text := o.server.String() + " offers"
		if o.address.IsValid() {
			text += " " + o.address.String()
		}
		if o.file == "" {
			said = append(said, text+" and no boot file")
			continue
		}
		text += " " + o.file
		if !k.http {
			text += " from " + o.next.String()
		}
		said = append(said, text)
		if h := host(o.file); o.next == d.o.Server || o.server == d.o.Server || h == d.o.Server.String() || (h != "" && h == host(d.o.URL)) {
			ours = append(ours, o)
		} else {
			rivals = append(rivals, o)
		}
	}
	f := Finding{StageDHCP, k.kind, OK, sent, strings.Join(said, "; "), ""}
	if k.optional && len(ours) == 0 {
		if f.Status = Skipped; len(rivals) == 0 {
			f.Got = "no boot file: machines with arm64 do not boot from this server; --arm64 names a program for them"
			if k.kind == "arm64" {
				f.Got += ", as a file where they boot by PXE"
			}
		}
		d.add(f)
		return
	}
	switch {
	case len(offers) == 0:
		f.Status, f.Got = Failed, "no answer"
		f.Next = "is the server running with --lan " + d.o.Interface + "? Else a firewall drops UDP port 67, or machines that are not known get no answer (--unknown no; try --mac of a known one)"
		if d.o.Local && d.o.Holder != nil {
			if by := d.o.Holder("udp", d.o.DHCPPort); by == "" {
				f.Next = fmt.Sprintf("nobody on this machine listens at UDP port %d: start the server with --lan %s", d.o.DHCPPort, d.o.Interface)
			} else if slices.Contains([]string{"dhcpd", "dnsmasq", "kea-dhcp4"}, strings.Split(by, " ")[0]) {
				f.Status, f.Got = Warning, "no answer that this machine could hear"
				f.Next = fmt.Sprintf("%s does not answer its own machine, or by packets that go to the wire alone: run the doctor on another machine of the LAN (server doctor --interface eth0 --server %v)", by, d.o.Server)
			} else {
				f.Next = fmt.Sprintf("%s listens at UDP port %d, so a firewall drops it (nft list ruleset), or machines that are not known get no answer (--unknown no; try --mac of a known one)", by, d.o.DHCPPort)
			}
		}
	case len(rivals) > 0 && len(ours) == 0 && !k.http:
		r := rivals[0]
		f.Status = Failed
		f.Next = fmt.Sprintf("next-server (siaddr, option 66) is %v, but the boot server is %v: set it where the DHCP server %v is configured, or by server configure", r.next, d.o.Server, r.server)
		d.boots = append(d.boots, boot{k.kind, r.file, r.next})
	case len(rivals) > 0:
		r := rivals[0]
		f.Status = Failed
		f.Next = fmt.Sprintf("the DHCP server %v names a boot file, too, and the firmware takes either: take its boot options (next-server, filename, options 66 and 67) away, or have it name this server by server configure", r.server)
	case len(ours) == 0:
		f.Status = Failed
		f.Next = "DHCP servers answer, but none names a boot file: start the server with --lan " + d.o.Interface + ", with boot files (--media), or look at the settings of the machine (server clients show)"
	default:
		for _, o := range ours {
			if slices.ContainsFunc(d.boots, func(b boot) bool { return b.kind == k.kind && b.file == o.file }) {
				continue
			}
			if k.http {
				if h := host(o.file); h == "" {
					f.Status, f.Next = Failed, "firmware that boots by HTTP needs a URL as its boot file: "+o.file+" is none"
				} else if strings.HasPrefix(k.kind, "http") && o.class != "HTTPClient" {
					f.Status, f.Next = Failed, fmt.Sprintf("UEFI HTTP boot takes only offers with the class HTTPClient (option 60), and %v sends %q", o.server, o.class)
				} else {
					d.boots = append(d.boots, boot{k.kind, o.file, netip.Addr{}})
				}
				continue
			}
			if o.next != d.o.Server {
				f.Status = Failed
				f.Next = fmt.Sprintf("next-server (siaddr) is %v, but the boot server is %v: set it where %v is configured", o.next, d.o.Server, o.server)
			}
			d.boots = append(d.boots, boot{k.kind, o.file, o.next})
		}
	}
	d.add(f)
}
