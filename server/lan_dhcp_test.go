package main

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/database"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/bootfile"
)

func TestDHCPOptions(t *testing.T) {
	db, err := database.Open(t.Context(), filepath.Join(t.TempDir(), "server.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	parts := &lanParts{
		iface: &lan.Interface{Name: "eth0", IPv4: netip.MustParsePrefix("10.0.0.1/24")}, scheme: "http",
		http: &net.TCPAddr{Port: 8080}, db: db, log: slog.New(slog.DiscardHandler),
	}
	for _, c := range []struct {
		args string
		err  string // "" is none
		off  bool
	}{
		{"", "", false},
		{"--dhcp off", "", true},
		{"--dhcp full --dhcp-range 10.0.0.10-10.0.0.20,lease=1h --dhcp-option router=10.0.0.1 --dhcp-part 2/2", "", false},
		{"--dhcp full", "", false},
		{"--dhcp maybe", "want proxy, full or off", false},
		{"--dhcp-range 10.0.0.10-10.0.0.20", "a proxy gives no addresses", false},
		{"--dhcp full --dhcp-range 10.1.0.10-10.1.0.20", "not within 10.0.0.0/24", false},
		{"--dhcp full --dhcp-option router", "option router", false},
		{"--dhcp full --dhcp-part 3/2", "want N/M", false},
		{"--dhcp-port 70000", "want from 1 to 65534", false},
	} {
		var o options
		cmd := &cobra.Command{}
		o.lan.flags(cmd)
		if err := cmd.ParseFlags(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		s, err := newDHCP(t.Context(), &o, parts)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: %v; want %q", c.args, err, c.err)
		case c.err == "" && (err != nil || (s == nil) != c.off):
			t.Errorf("%q: %v, %v", c.args, s, err)
		}
	}
}

func TestDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "clients.conf")
	text := "[52:54:00:00:00:01]\naddress = 10.0.0.9\nname = one\nfile = pxelinux.0\n[52:54:00:00:00:02]\nboot = no\n[52:54:00:00:00:03]\nboot = local\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for policy, denied := range map[clients.Policy]bool{clients.BootUnknown: false, clients.SetupUnknown: false, clients.RefuseUnknown: true} {
		c, err := clients.Open(t.Context(), clients.Options{File: file, Unknown: policy, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		if err != nil {
			t.Fatal(err)
		}
		d := &directory{clients: c}
		h, err := d.Lookup(t.Context(), "52:54:00:00:00:01", "", "")
		if err != nil || !h.Known || h.Denied || h.Address.String() != "10.0.0.9" || h.Name != "one" || h.Boot.File != "pxelinux.0" {
			t.Errorf("the first machine: %+v, %v", h, err)
		}
		if h, err := d.Lookup(t.Context(), "52:54:00:00:00:02", "", ""); err != nil || !h.Denied {
			t.Errorf("a refused machine: %+v, %v", h, err)
		}
		if h, err := d.Lookup(t.Context(), "52:54:00:00:00:03", "", ""); err != nil || h.Boot != (bootfile.Settings{Local: true}) {
			t.Errorf("a machine with a disk: %+v, %v", h, err)
		}
		if h, err := d.Lookup(t.Context(), "52:54:00:00:00:04", "", ""); err != nil || h.Known || h.Denied != denied {
			t.Errorf("%s: an unknown machine: %+v, %v", policy, h, err)
		}
		if got := d.Owner(netip.MustParseAddr("10.0.0.9")); got != "52:54:00:00:00:01" {
			t.Errorf("owner %q", got)
		}
		if got := d.Owner(netip.MustParseAddr("10.0.0.10")); got != "" {
			t.Errorf("owner of a free address: %q", got)
		}
	}
}
