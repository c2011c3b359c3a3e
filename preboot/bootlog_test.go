package main

import (
	"net"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/syslog"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/network"
	"github.com/inetboot/inetboot/preboot/settings"
)

// The lines from before there is a network are sent, those that nobody sees
// too; the settings beat the network, and its receiver is used without them.
func TestLog(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	here := syslog.Receiver{Network: "udp", Host: "127.0.0.1", Port: c.LocalAddr().(*net.UDPAddr).Port}
	elsewhere := syslog.UDP(netip.MustParseAddr("192.0.2.1"))
	for _, tt := range []struct {
		name     string
		said     *syslog.Receiver
		network  syslog.Receiver
		hostname string
		want     string // host name; "": nothing is sent
	}{
		{"said", &here, elsewhere, "pc7", "pc7"},
		{"the network's", nil, here, "", "52:54:00:12:34:56"},
		{"switched off", &syslog.Receiver{}, here, "pc7", ""},
		{"none", nil, syslog.Receiver{}, "pc7", ""},
	} {
		s := &session{con: console.New(), line: newTimeline(), id: "0f3c", syslog: syslog.New("0f3c"), set: &settings.Settings{Syslog: tt.said}}
		s.say("early %d", 1)
		s.quiet.Store(true)
		s.report("failed: network: behind the menu")
		s.startLog(t.Context(), &network.Config{Syslog: tt.network, Network: handoff.Network{MAC: "52:54:00:12:34:56", Hostname: tt.hostname}}, nil)
		s.flushLog()
		s.syslog.Close()
		if tt.want == "" {
			wait := 100 * time.Millisecond
			if err := c.SetReadDeadline(time.Now().Add(wait)); err != nil {
				t.Fatal(err)
			}
			if n, _, err := c.ReadFrom(make([]byte, 2000)); err == nil {
				t.Errorf("%s: %d bytes were sent; want none", tt.name, n)
			}
			continue
		}
		for i, want := range []string{"<30> early 1", "<27> failed: network: behind the menu", "<30> the log goes to " + here.String()} {
			if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			b := make([]byte, 2000)
			n, _, err := c.ReadFrom(b)
			if err != nil {
				t.Fatalf("%s: line %d: %v", tt.name, i, err)
			}
			pri, text, _ := strings.Cut(want, " ")
			format := "^" + pri + `1 \S+ ` + tt.want + ` inetboot - - \[meta sequenceId="\d"\]\[inetboot@32473 boot="0f3c"\] ` + regexp.QuoteMeta(text) + "$"
			if !regexp.MustCompile(format).Match(b[:n]) {
				t.Errorf("%s: received %q; want %s", tt.name, b[:n], format)
			}
		}
	}
}
