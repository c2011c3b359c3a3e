package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/lantest"
)

// A message comes in at the service that the options make, and out by the
// command.
func TestLogs(t *testing.T) {
	data := t.TempDir()
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := probe.LocalAddr().(*net.UDPAddr).AddrPort()
	probe.Close()
	parts := &lanParts{iface: &lan.Interface{Name: "lo", All: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}, data: data, log: slog.New(slog.DiscardHandler)}
	for _, bad := range []string{"--syslog-port 0", "--log-size 1", "--log-clients 0", "--log-rate 0"} {
		if _, err := newLogs(t.Context(), parsedOptions(t, bad), parts); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if s, err := newLogs(t.Context(), parsedOptions(t, "--no-syslog"), parts); s != nil || err != nil {
		t.Errorf("--no-syslog: %v, %v", s, err)
	}
	s, err := newLogs(t.Context(), parsedOptions(t, "--syslog-port "+port.String()[len("127.0.0.1:"):]), parts)
	if err != nil {
		t.Fatal(err)
	}
	lantest.Run(t, s)
	c, err := net.Dial("tcp", port.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "<27>1 - lab7 app 5 - [inetboot@32473 boot=\"b1\"] first\n<27>1 - lab7 app 5 - [inetboot@32473 boot=\"b2\"] second\n"); err != nil {
		t.Fatal(err)
	}
	show := func(args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"logs", "--data", data}, args...), &out, io.Discard)
		return out.String(), err
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		out, err := show("lab7")
		if err == nil && strings.HasSuffix(out, " app[5]: ERROR second\n") && !strings.Contains(out, "first") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("logs lab7 printed %q, %v", out, err)
		}
	}
	if out, err := show("127.0.0.1", "--boot", "1"); err != nil || !strings.HasSuffix(out, "first\n") {
		t.Errorf("boot 1: %q, %v", out, err)
	}
	out, err := show("lab7", "--boot", "all", "--json")
	if n := strings.Count(out, "\n"); err != nil || n != 2 || !json.Valid([]byte(out[:strings.Index(out, "\n")])) {
		t.Errorf("--json: %q, %v", out, err)
	}
	if out, err := show("lab7", "--boots"); err != nil || strings.Count(out, "\n") != 3 || !strings.Contains(out, "b2") {
		t.Errorf("--boots: %q, %v", out, err)
	}
	for _, bad := range [][]string{{"nobody"}, {"lab7", "--boot", "x"}, {"lab7", "--boot", "3"}, {}} {
		if _, err := show(bad...); err == nil {
			t.Errorf("logs %v: no error", bad)
		}
	}
}

func parsedOptions(t *testing.T, args string) *options {
	t.Helper()
	var o options
	cmd := &cobra.Command{}
	o.lan.flags(cmd)
	if err := cmd.ParseFlags(strings.Fields(args)); err != nil {
		t.Fatal(err)
	}
	return &o
}
