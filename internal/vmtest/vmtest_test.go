package vmtest

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// sector returns a boot sector with the code in 16-bit real mode.
func sector(t *testing.T, code ...byte) string {
	t.Helper()
	s := make([]byte, 512)
	if copy(s[:510], code) != len(code) {
		t.Fatal("code does not fit into a boot sector")
	}
	s[510], s[511] = 0x55, 0xaa
	disk := filepath.Join(t.TempDir(), "disk")
	// A stick of a plausible size: firmware refuses very small ones.
	if err := os.WriteFile(disk, append(s, make([]byte, 1<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	return disk
}

// echo: sends "ready\n", then everything that it receives, in upper case by
// clearing bit 5, to the serial port; 'q' ends the machine by a reset.
func echo(t *testing.T) string {
	return sector(t,
		0xbe, 0x33, 0x7c, // mov si, 0x7c33
		0xac,       // next: lodsb
		0x84, 0xc0, // test al, al
		0x74, 0x06, // jz loop
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xee,       // out dx, al
		0xeb, 0xf5, // jmp next
		0xba, 0xfd, 0x03, // loop: mov dx, 0x3fd
		0xec,       // in al, dx
		0xa8, 0x01, // test al, 1
		0x74, 0xf8, // jz loop
		0xba, 0xf8, 0x03, // mov dx, 0x3f8
		0xec,      // in al, dx
		0x3c, 'q', // cmp al, 'q'
		0x74, 0x05, // je reset
		0x24, 0xdf, // and al, 0xdf
		0xee,       // out dx, al
		0xeb, 0xeb, // jmp loop
		0xb0, 0xfe, // reset: mov al, 0xfe
		0xe6, 0x64, // out 0x64, al
		0xf4,       // hlt
		0xeb, 0xfd, // jmp back
		0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,
		'r', 'e', 'a', 'd', 'y', '\n', 0,
	)
}

func TestConsoleAndUSBBoot(t *testing.T) {
	v := StartT(t, Config{USB: echo(t), NoReboot: true, Memory: 64, CPUs: 1})
	v.ExpectT(t, 60, `ready\n`)
	v.SendT(t, "abc")
	if got, want := v.ExpectT(t, 20, `[A-Z]+C`), []string{"ABC"}; !cmp.Equal(got, want) {
		t.Errorf("echo = %q; want %q", got, want)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := v.Expect(ctx, "ready"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ABC") {
		t.Errorf("Expect of consumed text = %v; want a time-out that shows the console", err)
	}
	v.SendT(t, "q")
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if reason, err := v.Wait(ctx); err != nil || reason != "guest-reset" {
		t.Errorf("Wait = %q, %v; want guest-reset", reason, err)
	}
	if _, err := v.Expect(t.Context(), "never"); !errors.Is(err, ErrEnded) {
		t.Errorf("Expect after the end = %v; want %v", err, ErrEnded)
	}
}

func TestScreenAndKeyboard(t *testing.T) {
	// Reads keys from the BIOS and writes them to the top left of the screen.
	disk := sector(t,
		0xb8, 0x00, 0xb8, // mov ax, 0xb800
		0x8e, 0xc0, // mov es, ax
		0x31, 0xff, // xor di, di
		0xb0, '>', // mov al, '>'
		0xb4, 0x07, // put: mov ah, 7
		0xab,       // stosw
		0xb4, 0x00, // mov ah, 0
		0xcd, 0x16, // int 0x16
		0xeb, 0xf7, // jmp put
	)
	v := StartT(t, Config{USB: disk, VGA: true, Memory: 64, CPUs: 1})
	shows := func(want string) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for {
			text, err := v.ScreenText(t.Context())
			if err == nil && strings.HasPrefix(text, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("screen shows %q, %v; want %q first", text, err, want)
			}
			time.Sleep(100 * time.Millisecond) // there is no event for a changed screen
		}
	}
	shows(">")
	if err := v.SendKeys(t.Context(), "h", "i"); err != nil {
		t.Fatal(err)
	}
	shows(">hi")
	png := filepath.Join(t.TempDir(), "screen.png")
	if err := v.Screenshot(t.Context(), png); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(png); err != nil || !strings.HasPrefix(string(b), "\x89PNG") {
		t.Errorf("Screenshot wrote %d bytes, %v; want a PNG", len(b), err)
	}
}

func TestStartReportsQEMUsError(t *testing.T) {
	_, err := Start(t.Context(), Config{Args: []string{"-device", "no-such-thing"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-thing") || !strings.Contains(err.Error(), "qemu-system-x86_64 ") {
		t.Errorf("Start = %v; want QEMU's message and command", err)
	}
}

func TestConfigRefused(t *testing.T) {
	for _, c := range []Config{
		{CD: "a", USB: "b"}, {Append: "x"}, {NICs: []NIC{{MAC: "nonsense"}}},
	} {
		if _, err := Start(t.Context(), c); err == nil {
			t.Errorf("Start(%+v) succeeded", c)
		}
	}
}

func TestCloseEndsQEMU(t *testing.T) {
	v, err := Start(t.Context(), Config{Memory: 64, CPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	pid := v.cmd.Process.Pid
	v.Close()
	v.Close()
	if p, err := os.FindProcess(pid); err == nil && p.Signal(nil) == nil {
		t.Errorf("process %d lives after Close", pid)
	}
}

// A hypervisor that opens and hangs must not be chosen, nor wait for long.
func TestProbe(t *testing.T) {
	if _, err := os.Stat("/dev/kvm"); err != nil {
		t.Skip("no /dev/kvm: the answer is tcg without a probe")
	}
	tests := []struct{ script, want string }{
		{"sleep 1000", "tcg"}, {"exit 1", "tcg"}, {"exit 0", "tcg"}, {"exit 33", "kvm"},
	}
	for _, tt := range tests {
		fake := filepath.Join(t.TempDir(), "qemu")
		if err := os.WriteFile(fake, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := probe(t.Context(), fake, 300*time.Millisecond); got != tt.want {
			t.Errorf("probe with %q = %s; want %s", tt.script, got, tt.want)
		}
	}
}

func TestStripper(t *testing.T) {
	var s stripper
	var got []byte
	for _, part := range []string{"\x1b[2", "J\x1b[1;31mred\x1b[0m\r\n", "\x1b]0;title\x07x", "\x1b(By\x1b]0;t\x1b\\z\x00"} {
		got = s.append(got, []byte(part))
	}
	if want := "red\nxyz"; string(got) != want {
		t.Errorf("text = %q; want %q", got, want)
	}
}

func TestQuote(t *testing.T) {
	args := []string{"a", "b c", "d'e", "", "$x"}
	out, err := exec.Command("sh", "-c", "printf '%s\\n' "+quote(args)).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(out), strings.Join(args, "\n")+"\n"; got != want {
		t.Errorf("quoted arguments are %q to a shell; want %q", got, want)
	}
}

func TestDHCPExchanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pcap")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	mac, _ := net.ParseMAC("52:54:00:12:34:56")
	for _, m := range []struct {
		xid  uint32
		kind layers.DHCPMsgType
	}{{1, layers.DHCPMsgTypeDiscover}, {1, layers.DHCPMsgTypeDiscover}, {1, layers.DHCPMsgTypeOffer}, {1, layers.DHCPMsgTypeRequest}, {1, layers.DHCPMsgTypeAck}, {2, layers.DHCPMsgTypeRequest}} {
		eth := &layers.Ethernet{SrcMAC: mac, DstMAC: net.HardwareAddr{255, 255, 255, 255, 255, 255}, EthernetType: layers.EthernetTypeIPv4}
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IPv4zero, DstIP: net.IPv4bcast}
		udp := &layers.UDP{SrcPort: 68, DstPort: 67}
		udp.SetNetworkLayerForChecksum(ip)
		dhcp := &layers.DHCPv4{Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6, Xid: m.xid, ClientHWAddr: mac,
			Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(m.kind)}), layers.NewDHCPOption(layers.DHCPOptEnd, nil)}}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, udp, dhcp); err != nil {
			t.Fatal(err)
		}
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(buf.Bytes()), Length: len(buf.Bytes())}, buf.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	f.Write([]byte{1, 2, 3}) // QEMU is in the middle of the next packet
	f.Close()
	messages, err := DHCPMessages(file)
	if err != nil || len(messages) != 6 || messages[0].MAC != mac.String() {
		t.Fatalf("DHCPMessages = %v, %v; want 6 of %v", messages, err, mac)
	}
	if d, r := DHCPExchanges(messages); d != 1 || r != 1 {
		t.Errorf("DHCPExchanges = %d, %d; want 1, 1", d, r)
	}
}

func TestLAN(t *testing.T) {
	lan, err := NewLAN(t.Context(), "192.168.77.1/24")
	if errors.Is(err, ErrNotRoot) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lan.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat("/run/netns/" + lan.Name); err == nil {
			t.Errorf("namespace %s is left over", lan.Name)
		}
	})
	l, err := lan.Listen("tcp", "192.168.77.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Write([]byte("hello"))
			c.Close()
		}
	}()
	c, err := lan.Dial(t.Context(), "tcp", "192.168.77.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 5)
	if _, err := c.Read(buf); err != nil || string(buf) != "hello" {
		t.Errorf("Read on the LAN = %q, %v", buf, err)
	}
	// A card is plugged in, and its link follows SetLink.
	v := StartT(t, Config{NICs: []NIC{{LAN: lan}}, Memory: 64, CPUs: 1})
	if err := v.SetLink(t.Context(), 0, false); err != nil {
		t.Error(err)
	}
	out, err := lan.Command(t.Context(), "ip", "-o", "link", "show", "master", "br0").Output()
	if err != nil || !strings.Contains(string(out), "tap0") {
		t.Errorf("bridge has %q, %v; want tap0", out, err)
	}
}
