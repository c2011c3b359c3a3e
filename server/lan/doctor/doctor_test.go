package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// What is asked as a kind of firmware is that kind by our own rules.
func TestFirmwares(t *testing.T) {
	for _, f := range firmwares() {
		p, err := f.request(net.HardwareAddr{2, 0, 0, 0, 0, 1})
		if err != nil {
			t.Fatal(err)
		}
		c := bootfile.Client{Vendor: p.ClassIdentifier(), User: p.UserClass()}
		for _, a := range p.ClientArch() {
			c.Arch = append(c.Arch, uint16(a))
		}
		if got := bootfile.Classify(c).String(); got != f.kind {
			t.Errorf("%s is asked as %s", f.kind, got)
		}
		if !p.IsBroadcast() {
			t.Errorf("%s asks for an answer to an address that it does not have", f.kind)
		}
	}
}

// judged returns the finding about offers to a kind of firmware.
func judged(kind string, offers ...offer) Finding {
	d := &doctor{o: Options{Interface: "eth0", Server: netip.MustParseAddr("10.0.0.1"), URL: "http://10.0.0.1:8080"}}
	for _, k := range firmwares() {
		if k.kind == kind {
			d.judge(k, "", offers)
		}
	}
	return d.list[0]
}

func TestJudge(t *testing.T) {
	ip := netip.MustParseAddr
	ours, other, gone := ip("10.0.0.1"), ip("10.0.0.2"), ip("10.0.0.9")
	lease := offer{server: other, address: ip("10.0.0.50")}
	for name, c := range map[string]struct {
		got    Finding
		status Status
		next   string
	}{
		"nobody":                 {judged("bios"), Failed, "is the server running"},
		"only leases":            {judged("uefi", lease), Failed, "none names a boot file"},
		"proxy beside leases":    {judged("uefi", lease, offer{server: ours, file: "x.efi", next: ours}), OK, ""},
		"another one names ours": {judged("bios", offer{server: other, address: lease.address, file: "pxelinux.0", next: ours}), OK, ""},
		"rival":                  {judged("bios", offer{server: ours, file: "a", next: ours}, offer{server: other, file: "b", next: other}), Failed, "10.0.0.2 names a boot file, too"},
		"wrong next-server":      {judged("bios", offer{server: other, file: "a", next: gone}), Failed, "next-server (siaddr, option 66) is 10.0.0.9"},
		"ours says another":      {judged("bios", offer{server: ours, file: "a", next: gone}), Failed, "next-server (siaddr) is 10.0.0.9"},
		"no URL":                 {judged("ipxe", offer{server: ours, file: "boot.ipxe", next: ours}), Failed, "needs a URL"},
		"no class":               {judged("http", offer{server: ours, file: "http://10.0.0.1:8080/x.efi"}), Failed, "class HTTPClient"},
		"HTTP":                   {judged("http", offer{server: other, file: "http://10.0.0.1:8080/x.efi", class: "HTTPClient"}), OK, ""},
	} {
		if c.got.Status != c.status || !strings.Contains(c.got.Next, c.next) {
			t.Errorf("%s: %+v", name, c.got)
		}
	}
	if got := First([]Finding{{Stage: StageRoot, Status: Failed}, {Stage: StageTFTP, Status: Failed}, {Stage: StageDHCP, Status: Warning}}); got != StageTFTP {
		t.Errorf("the first stage that failed: %q", got)
	}
}

// A TFTP server that breaks the rules is found out, and does not keep anybody.
func TestTFTP(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(request []byte) []byte
		want   string
	}{
		"error": {func([]byte) []byte { return append([]byte{0, opError, 0, 2}, "denied\x00"...) }, "TFTP error 2: denied"},
		"none":  {func([]byte) []byte { return append([]byte{0, opError, 0, 1}, "gone\x1b[2J\x00"...) }, "gone?[2J"},
		"junk":  {func([]byte) []byte { return []byte{0, 9, 0, 0} }, "opcode 9"},
		"short": {func([]byte) []byte { return []byte{0} }, "packet of 1 bytes"},
		"plain": {func([]byte) []byte { return append([]byte{0, opData, 0, 1}, "whole"...) }, ""},
	} {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			b := make([]byte, 2000)
			for {
				n, from, err := conn.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				_, _ = conn.WriteToUDPAddrPort(c.answer(b[:n]), from)
			}
		}()
		at := conn.LocalAddr().(*net.UDPAddr).AddrPort()
		size, head, err := fetchTFTP(t.Context(), at, "x", time.Second)
		conn.Close()
		if c.want == "" && (err != nil || size != 5 || string(head) != "whole") || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %d %q %v; want %q", name, size, head, err, c.want)
		}
		if name == "plain" { // nobody is there any more
			_, _, err := fetchTFTP(t.Context(), at, "x", 100*time.Millisecond)
			if got, _ := (&doctor{}).why(err, "udp", 69, "TFTP", "--x"); !strings.Contains(got, "refused") {
				t.Errorf("a closed port: %v, %q", err, got)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := fetchTFTP(ctx, netip.MustParseAddrPort("127.0.0.1:9"), "x", time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// answering is a connection whose other end says something fixed.
type answering struct {
	net.Conn
	r io.Reader
}

func (a answering) Read(b []byte) (int, error)  { return a.r.Read(b) }
func (a answering) Write(b []byte) (int, error) { return len(b), nil }

func FuzzAnswers(f *testing.F) {
	p, err := dhcpv4.New(dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer))
	if err != nil {
		f.Fatal(err)
	}
	p.OpCode, p.BootFileName = dhcpv4.OpcodeBootReply, "x\xff"
	f.Add(p.ToBytes())
	f.Add([]byte("\x00\x03\x00\x01data"))
	f.Add(append([]byte("NBDMAGICIHAVEOPT\x00\x03"), make([]byte, 64)...))
	rpcReply := binary.BigEndian.AppendUint32(nil, 1<<31|28)
	for _, v := range []uint32{0x646f6331, 1, 0, 0, 0, 0, 0} {
		rpcReply = binary.BigEndian.AppendUint32(rpcReply, v)
	}
	f.Add(rpcReply)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, o, ok := parseOffer(b, netip.Addr{}); ok && strings.ContainsFunc(o.file+o.class, func(r rune) bool { return r < ' ' }) {
			t.Errorf("%+v", o)
		}
		_, _ = parseTFTP(b)
		_, _ = parseRPC(b, 0x646f6331)
		_, _ = readNBD(answering{r: strings.NewReader(string(b))}, "x", true)
		_, _ = readNFS(answering{r: strings.NewReader(string(b))}, "x")
	})
}
