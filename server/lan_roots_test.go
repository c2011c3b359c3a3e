package main

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/nbd"
	"github.com/inetboot/inetboot/server/store/storetest"
)

func TestRootOptions(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "clients.conf")
	conf := "[52:54:00:00:00:01]\nswap = yes\n\n[52:54:00:00:00:02]\nswap = 8M\n\n[52:54:00:00:00:03]\nswap = no\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	known, err := clients.Open(t.Context(), clients.Options{File: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args     string
		err      string // "" is none
		nfs, nbd bool
	}{
		{"", "", false, false},
		{"--nfs", "", true, false},
		{"--nbd --nfs --portmap-port 0 --roots-network 10.9.0.0/24", "", true, true},
		{"--swap --swap-size 16M", "", false, true},
		{"--nfs --nfs-port 0", "want from 1 to 65535", false, false},
		{"--nbd --nbd-port 70000", "want from 1 to 65535", true, false},
		{"--nfs --roots-network lan", "want a network", false, false},
		{"--nbd --roots-memory much", "--roots-memory: size", false, false},
		{"--swap --swap-size 0", "--swap-size: size", false, false},
		{"--swap --swap-quota x", "--swap-quota: size", false, false},
	} {
		parts := &lanParts{
			iface: &lan.Interface{Name: "eth0", IPv4: netip.MustParsePrefix("10.0.0.1/24"), All: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
			data:  base, store: storetest.New(t, t.TempDir()).Dir, clients: known, log: slog.New(slog.DiscardHandler),
		}
		var o options
		cmd := &cobra.Command{}
		o.lan.flags(cmd)
		if err := cmd.ParseFlags(strings.Fields(c.args)); err != nil {
			t.Fatal(err)
		}
		files, err := newNFS(t.Context(), &o, parts)
		var disks lan.Service
		if err == nil {
			disks, err = newNBD(t.Context(), &o, parts)
		}
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v; want %q", c.args, err, c.err)
			}
		} else if err != nil || (files != nil) != c.nfs || (disks != nil) != c.nbd {
			t.Errorf("%q: %v, %v, %v", c.args, files, disks, err)
		}
		if s, ok := disks.(*nbd.Service); ok && s.Swap != nil {
			for mac, want := range map[byte]int64{1: 16 << 20, 2: 8 << 20, 3: 0, 4: 0} {
				got, err := s.Swap.Size(context.Background(), net.HardwareAddr{0x52, 0x54, 0, 0, 0, mac})
				if err != nil || got != want {
					t.Errorf("swap of client %d: %d, %v; want %d", mac, got, err, want)
				}
			}
		}
		if parts.images != nil {
			parts.images.Close()
		}
	}
}
