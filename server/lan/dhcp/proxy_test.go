package dhcp

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

func withUserClass(b string) dhcpv4.Modifier {
	return dhcpv4.WithGeneric(dhcpv4.OptionUserClassInformation, []byte(b))
}

var guid = append([]byte{0}, []byte("0123456789abcdef")...)

// The exchange of each kind of firmware with the proxy.
func TestProxy(t *testing.T) {
	var log bytes.Buffer
	s := newSite(t, func(c *Config) {
		c.Mode, c.Ranges, c.Log = Proxy, nil, slog.New(slog.NewTextHandler(&log, nil))
	})
	s.book.set(mac(8), Host{Known: true, Denied: true})
	s.book.set(mac(9), Host{Known: true, Boot: bootfile.Settings{File: "pxelinux.0"}})
	s.book.set(mac(10), Host{Known: true, Boot: bootfile.Settings{Local: true}})
	withGUID := dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(optUUID), guid)
	want67 := dhcpv4.WithRequestedOptions(dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName)
	ipxe := dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(optIPXE), []byte{0x13, 1, 1, 0x15, 1, 1})
	bootNow := []byte{6, 1, 8, 255}
	for _, c := range []struct {
		name   string
		mac    int
		mods   []dhcpv4.Modifier
		file   string
		class  string
		vendor []byte
	}{
		{"BIOS", 1, []dhcpv4.Modifier{withClass("PXEClient:Arch:00000:UNDI:002001"), withArch(0), withGUID}, bootfile.BIOS, "PXEClient", bootNow},
		{"BIOS without option 97", 1, []dhcpv4.Modifier{withClass("PXEClient:Arch:00000:UNDI:002001"), withArch(0)}, bootfile.BIOS, "PXEClient", bootNow},
		{"UEFI, number 7", 1, []dhcpv4.Modifier{withClass("PXEClient:Arch:00007:UNDI:003000"), withArch(7), withGUID, want67}, bootfile.UEFI, "PXEClient", nil},
		{"UEFI, number 9", 1, []dhcpv4.Modifier{withClass("PXEClient:Arch:00009:UNDI:003000"), withArch(9), withGUID}, bootfile.UEFI, "PXEClient", nil},
		{"UEFI HTTP", 1, []dhcpv4.Modifier{withClass("HTTPClient:Arch:00016:UNDI:003001"), withArch(16), withGUID}, allFiles.Base + bootfile.UEFI, "HTTPClient", nil},
		{"iPXE", 1, []dhcpv4.Modifier{withClass("PXEClient:Arch:00000:UNDI:002001"), withArch(0), withUserClass("iPXE"), ipxe}, allFiles.Base + bootfile.Script, "PXEClient", bootNow},
		{"its own file", 9, []dhcpv4.Modifier{withClass("PXEClient"), withArch(0)}, "pxelinux.0", "PXEClient", bootNow},
		{"32 bits", 1, []dhcpv4.Modifier{withClass("PXEClient:Arch:00006:UNDI:003000"), withArch(6)}, "", "", nil},
		{"arm64 without a file", 1, []dhcpv4.Modifier{withClass("PXEClient:Arch:00011:UNDI:003000"), withArch(11)}, "", "", nil},
		{"an ordinary machine", 1, nil, "", "", nil},
		{"denied", 8, []dhcpv4.Modifier{withClass("PXEClient"), withArch(0)}, "", "", nil},
		{"from its disk", 10, []dhcpv4.Modifier{withClass("PXEClient"), withArch(0)}, "", "", nil},
	} {
		for _, port4011 := range []bool{false, true} {
			kind, reply := dhcpv4.MessageTypeDiscover, "OFFER"
			mods := c.mods
			if port4011 {
				kind, reply = dhcpv4.MessageTypeRequest, "ACK"
				mods = append([]dhcpv4.Modifier{withAddress(netip.MustParseAddr("10.0.0.77"))}, mods...)
			}
			p := s.askAt(port4011, mac(c.mac), kind, mods...)
			if c.file == "" {
				if p != nil {
					t.Errorf("%s: %v; want silence", c.name, p.Summary())
				}
				continue
			}
			if kindOf(p) != reply {
				t.Errorf("%s: %v; want %s", c.name, kindOf(p), reply)
				continue
			}
			if p.BootFileName != c.file || p.ClassIdentifier() != c.class || !p.ServerIPAddr.Equal(serverAddr.AsSlice()) || p.ServerHostName != serverAddr.String() {
				t.Errorf("%s: %v", c.name, p.Summary())
			}
			if !p.YourIPAddr.IsUnspecified() || p.Options.Has(dhcpv4.OptionIPAddressLeaseTime) || p.Options.Has(dhcpv4.OptionSubnetMask) {
				t.Errorf("%s: a proxy gave an address: %v", c.name, p.Summary())
			}
			if got := p.Options.Get(dhcpv4.OptionVendorSpecificInformation); !bytes.Equal(got, c.vendor) {
				t.Errorf("%s: option 43 = %x; want %x", c.name, got, c.vendor)
			}
			asked, err := Parse(packet(t, mac(c.mac), kind, mods...))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(p.Options[optUUID], asked.Packet.Options[optUUID]) {
				t.Errorf("%s: option 97 = %x", c.name, p.Options[optUUID])
			}
			if strings.Contains(c.name, "number 7") && (p.BootFileNameOption() != c.file || p.TFTPServerName() != serverAddr.String()) {
				t.Errorf("%s: options 66 and 67 were asked for: %v", c.name, p.Summary())
			}
		}
	}
	// Machines that get nothing to boot are named, and why.
	for _, want := range []string{"there is no program for arm64", "there is no program for this architecture"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), "gets no boot file"); n != 2 {
		t.Errorf("%d machines are said to get no boot file; want 2:\n%s", n, log.String())
	}
	arm := newSite(t, func(c *Config) { c.Mode, c.Ranges, c.Files.ARM64 = Proxy, nil, bootfile.ARM64 })
	for arch, want := range map[byte]string{11: bootfile.ARM64, 19: allFiles.Base + bootfile.ARM64} {
		class := "PXEClient"
		if arch == 19 {
			class = "HTTPClient"
		}
		if p := arm.ask(mac(1), dhcpv4.MessageTypeDiscover, withClass(class), withArch(arch)); p == nil || p.BootFileName != want || p.ClassIdentifier() != class {
			t.Errorf("arm64, number %d: %v; want %s", arch, p, want)
		}
	}
	// What follows is between the client and the server with the address.
	pxe := []dhcpv4.Modifier{withClass("PXEClient:Arch:00000:UNDI:002001"), withArch(0)}
	for kind, mods := range map[dhcpv4.MessageType][]dhcpv4.Modifier{
		dhcpv4.MessageTypeRequest: append([]dhcpv4.Modifier{withRequested(netip.MustParseAddr("192.168.1.1"))}, pxe...),
		dhcpv4.MessageTypeInform:  pxe, dhcpv4.MessageTypeRelease: pxe, dhcpv4.MessageTypeDecline: pxe,
	} {
		if p := s.ask(mac(1), kind, mods...); p != nil {
			t.Errorf("a proxy answered %v with %v", kind, kindOf(p))
		}
	}
	// A search for boot servers gets the item that it asked for.
	item := []byte{pxeBootItem, 4, 0x80, 1, 0, 0, 255}
	p := s.askAt(true, mac(1), dhcpv4.MessageTypeRequest, append([]dhcpv4.Modifier{dhcpv4.WithGeneric(dhcpv4.OptionVendorSpecificInformation, item)}, pxe...)...)
	if got := p.Options.Get(dhcpv4.OptionVendorSpecificInformation); !bytes.Equal(got, item) {
		t.Errorf("boot item = %x; want %x", got, item)
	}
	// Through a relay.
	p = s.ask(mac(1), dhcpv4.MessageTypeDiscover, append([]dhcpv4.Modifier{dhcpv4.WithGatewayIP(net.IPv4(10, 9, 0, 1).To4())}, pxe...)...)
	if p == nil || !p.GatewayIPAddr.Equal(net.IPv4(10, 9, 0, 1)) {
		t.Errorf("through a relay: %v", p)
	}
}

// With addresses, a boot file comes as in plain DHCP, which firmware that knows
// no proxies understands.
func TestFullDHCPBoots(t *testing.T) {
	s := newSite(t, nil)
	p := s.lease(mac(1), withClass("PXEClient:Arch:00007:UNDI:003000"), withArch(7))
	if p.BootFileName != bootfile.UEFI || !p.ServerIPAddr.Equal(serverAddr.AsSlice()) || p.ClassIdentifier() != "" {
		t.Errorf("UEFI: %v", p.Summary())
	}
	p = s.lease(mac(2), withClass("HTTPClient:Arch:00016:UNDI:003001"), withArch(16))
	if p.BootFileNameOption() != allFiles.Base+bootfile.UEFI || p.ClassIdentifier() != "HTTPClient" {
		t.Errorf("UEFI HTTP: %v", p.Summary())
	}
	p = s.lease(mac(3), withClass("PXEClient:Arch:00000:UNDI:002001"), withArch(0), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(optIPXE), []byte{0x13, 1, 1}))
	if p.BootFileName != allFiles.Base+bootfile.Script || !bytes.Equal(p.Options[optIPXE], []byte{ipxeNoProxy, 1, 1}) {
		t.Errorf("iPXE: %v", p.Summary())
	}
	if p = s.lease(mac(4)); p.BootFileName != "" || !p.ServerIPAddr.IsUnspecified() {
		t.Errorf("an ordinary machine got a boot file: %v", p.Summary())
	}
}

func TestEncodeFits(t *testing.T) {
	var o Options
	for _, kv := range [][2]string{{"router", "10.0.0.1"}, {"ntp", strings.Repeat("10.0.0.1+", 15) + "10.0.0.1"}, {"dns", strings.Repeat("10.0.0.1+", 15) + "10.0.0.1"}, {"search", strings.Repeat("a.very-long-name-of-a-domain.example+", 7) + "example"}, {"domain", "example"}} {
		if err := o.Set(kv[0], kv[1]); err != nil {
			t.Fatal(err)
		}
	}
	s := newSite(t, func(c *Config) { c.Options = o })
	r, err := Parse(packet(t, mac(1), dhcpv4.MessageTypeDiscover))
	if err != nil {
		t.Fatal(err)
	}
	var small []byte
	s.Handle(t.Context(), r, false, func(b []byte) { small = b })
	large := s.ask(mac(1), dhcpv4.MessageTypeDiscover, dhcpv4.WithGeneric(dhcpv4.OptionMaximumDHCPMessageSize, []byte{5, 220}))
	if len(small) == 0 || len(small) > 548 || len(large.NTPServers()) != 16 {
		t.Errorf("%d bytes for a client that takes 548; %d NTP servers for one that takes 1472", len(small), len(large.NTPServers()))
	}
	if p, err := dhcpv4.FromBytes(small); err != nil || len(p.Router()) != 1 || len(p.DNS()) != 16 {
		t.Errorf("what matters is missing: %v, %v", p, err)
	}
}

func TestParseRefuses(t *testing.T) {
	good := packet(t, mac(1), dhcpv4.MessageTypeDiscover)
	edit := func(f func([]byte)) []byte { b := bytes.Clone(good); f(b); return b }
	for name, b := range map[string][]byte{
		"empty":                  nil,
		"short":                  good[:200],
		"no cookie":              edit(func(b []byte) { b[236] = 0 }),
		"answer":                 edit(func(b []byte) { b[0] = 2 }),
		"address of 16 bytes":    edit(func(b []byte) { b[2] = 16 }),
		"address of 255 bytes":   edit(func(b []byte) { b[2] = 255 }),
		"address of zeros":       edit(func(b []byte) { clear(b[28:44]) }),
		"Infiniband":             edit(func(b []byte) { b[1] = 32 }),
		"17 hops":                edit(func(b []byte) { b[3] = 17 }),
		"BOOTP":                  edit(func(b []byte) { b[240] = 255 }),
		"an option past the end": append(bytes.Clone(good[:240]), 53, 1, 1, 12, 200, 'x'),
		"jumbo":                  append(bytes.Clone(good), make([]byte, 2000)...),
	} {
		if r, err := Parse(b); err == nil {
			t.Errorf("%s: parsed as %v", name, r.Packet.Summary())
		}
	}
	if _, err := Parse(append(bytes.Clone(good[:240]), 53, 1, 1)); err != nil {
		t.Errorf("without an End option: %v", err)
	}
}

func TestParseRange(t *testing.T) {
	for _, s := range []string{"", "10.0.0.1", "10.0.0.2-10.0.0.1", "::1-::2", "10.0.0.1-10.0.0.9/31", "10.0.0.1-10.0.1.9/24", "10.0.0.0-11.0.0.0", "10.0.0.1-10.0.0.2,lease=1s", "10.0.0.1-10.0.0.2,mtu=67",
		"10.0.0.1-10.0.0.2,route=10.0.0.0/8", "10.0.0.1-10.0.0.2,for=nothing", "10.0.0.1-10.0.0.2,clients=all", "10.0.0.1-10.0.0.2,search=a b", "10.0.0.1-10.0.0.2,colour=red", "10.0.0.1-10.0.0.2,router"} {
		if r, err := ParseRange(s); err == nil {
			t.Errorf("ParseRange(%q) = %+v", s, r)
		}
	}
	for _, ranges := range [][]string{{"10.0.0.1-10.0.0.9", "10.0.0.9-10.0.0.20"}, {"10.1.0.1-10.1.0.9"}} {
		c := Config{Mode: Full, Server: serverAddr, Subnet: lanPrefix, Directory: &book{}, Store: openStore(t, openDB(t), false)}
		for _, s := range ranges {
			r, err := ParseRange(s)
			if err != nil {
				t.Fatal(err)
			}
			c.Ranges = append(c.Ranges, r)
		}
		if _, err := New(c); err == nil {
			t.Errorf("ranges %v are taken", ranges)
		}
	}
}

// What comes from the network neither stops the server nor makes it send what
// nobody can read.
func FuzzHandle(f *testing.F) {
	hw, _ := net.ParseMAC(mac(1))
	for _, mods := range [][]dhcpv4.Modifier{
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover)},
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), withClass("PXEClient:Arch:00000:UNDI:002001"), withArch(0), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(optUUID), guid)},
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), withClass("HTTPClient:Arch:00016:UNDI:003001"), withArch(16)},
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), withUserClass("\x04iPXE"), withClass("PXEClient"), dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(optIPXE), []byte{0x13, 1, 1}), dhcpv4.WithGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{71, 4, 0, 0, 0, 0, 255})},
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeInform), dhcpv4.WithGatewayIP(net.IPv4(10, 9, 0, 1).To4()), dhcpv4.WithOption(dhcpv4.OptRelayAgentInfo(dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, []byte{10, 0, 0, 0})))},
		{dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline), withServer(serverAddr), withRequested(netip.MustParseAddr("10.0.0.100"))},
	} {
		p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hw)}, mods...)...)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p.ToBytes(), true)
		f.Add(p.ToBytes(), false)
	}
	r, err := ParseRange("10.0.0.100-10.0.0.103")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, pxe bool) {
		req, err := Parse(b)
		if err != nil {
			return
		}
		for _, m := range []Mode{Proxy, Full} {
			// Nothing is written: grants stay in the queue.
			e, err := New(Config{Mode: m, Server: serverAddr, Subnet: lanPrefix, Ranges: []Range{r}, Files: allFiles, Directory: &book{}, Store: &Leases{}})
			if err != nil {
				t.Fatal(err)
			}
			e.Handle(t.Context(), req, pxe, func(out []byte) {
				p, err := dhcpv4.FromBytes(out)
				if err != nil || len(out) > maxPacket || p.OpCode != dhcpv4.OpcodeBootReply || p.TransactionID != req.Packet.TransactionID {
					t.Errorf("answer %x: %v", out, err)
				}
			})
		}
	})
}
