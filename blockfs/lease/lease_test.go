package lease

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/inetboot/inetboot/internal/handoff"
)

func network(obtained int64) handoff.Network {
	return handoff.Network{
		MAC:       "52:54:00:12:34:56",
		Addresses: []netip.Prefix{netip.MustParsePrefix("fe80::1/64"), netip.MustParsePrefix("10.0.2.15/24")},
		Lease: &handoff.Lease{Server: netip.MustParseAddr("10.0.2.2"), ClientID: "01525400123456",
			Obtained: obtained, Renew: 600, Rebind: 1050, Expire: 1200},
	}
}

// run runs a Keeper for d and returns what it sent: seconds after the start
// and where to, and the log.
func run(t *testing.T, age int64, d time.Duration, answer func(at time.Duration, req *dhcpv4.DHCPv4, server netip.Addr) (*dhcpv4.DHCPv4, error)) (sent []string, log string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		start := time.Now()
		k, err := New(network(start.Unix()-age), func(_ context.Context, req *dhcpv4.DHCPv4, server netip.Addr) (*dhcpv4.DHCPv4, error) {
			at := time.Since(start)
			to := "broadcast"
			if server.IsValid() {
				to = server.String()
			}
			sent = append(sent, fmt.Sprintf("%d %s", int(at.Seconds()), to))
			if req.ClientIPAddr.String() != "10.0.2.15" || req.MessageType() != dhcpv4.MessageTypeRequest || req.ClientHWAddr.String() != "52:54:00:12:34:56" ||
				!bytes.Equal(req.Options.Get(dhcpv4.OptionClientIdentifier), []byte{1, 0x52, 0x54, 0, 0x12, 0x34, 0x56}) ||
				req.Options.Has(dhcpv4.OptionServerIdentifier) || req.Options.Has(dhcpv4.OptionRequestedIPAddress) {
				t.Errorf("request = %s", req.Summary())
			}
			return answer(at, req, server)
		}, slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelInfo})))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if err := k.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v; want the context's error", err)
		}
		log = buf.String()
	})
	return sent, log
}

func ack(req *dhcpv4.DHCPv4, kind dhcpv4.MessageType, ip string, mods ...dhcpv4.Modifier) (*dhcpv4.DHCPv4, error) {
	return dhcpv4.NewReplyFromRequest(req, append(mods, dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.ParseIP(ip)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 0, 2, 3))))...)
}

var errSilent = errors.New("no answer")

func TestRenewal(t *testing.T) {
	tests := []struct {
		name   string
		age    int64
		d      time.Duration
		answer func(at time.Duration, req *dhcpv4.DHCPv4, server netip.Addr) (*dhcpv4.DHCPv4, error)
		want   []string
		log    string // "": none
	}{
		{"renewed at T1, then by the new server's times", 0, 2000 * time.Second,
			func(_ time.Duration, req *dhcpv4.DHCPv4, _ netip.Addr) (*dhcpv4.DHCPv4, error) {
				return ack(req, dhcpv4.MessageTypeAck, "10.0.2.15", dhcpv4.WithLeaseTime(800))
			}, []string{"600 10.0.2.2", "1000 10.0.2.3", "1400 10.0.2.3", "1800 10.0.2.3"}, ""},
		{"age counts", 500, 500 * time.Second,
			func(_ time.Duration, req *dhcpv4.DHCPv4, _ netip.Addr) (*dhcpv4.DHCPv4, error) {
				return ack(req, dhcpv4.MessageTypeAck, "10.0.2.15")
			}, []string{"100 10.0.2.2"}, ""},
		{"clock was set: at once", -86400, 100 * time.Second,
			func(_ time.Duration, req *dhcpv4.DHCPv4, _ netip.Addr) (*dhcpv4.DHCPv4, error) {
				return ack(req, dhcpv4.MessageTypeAck, "10.0.2.15")
			}, []string{"0 10.0.2.2"}, ""},
		{"silence: unicast, broadcast, and on", 0, 1400 * time.Second,
			func(time.Duration, *dhcpv4.DHCPv4, netip.Addr) (*dhcpv4.DHCPv4, error) { return nil, errSilent },
			[]string{"600 10.0.2.2", "825 10.0.2.2", "937 10.0.2.2", "997 10.0.2.2", "1057 broadcast", "1128 broadcast", "1188 broadcast", "1248 broadcast", "1308 broadcast", "1368 broadcast"},
			"the address stays in use"},
		{"refused, then renewed late", 0, 1400 * time.Second,
			func(at time.Duration, req *dhcpv4.DHCPv4, _ netip.Addr) (*dhcpv4.DHCPv4, error) {
				switch {
				case at < 900*time.Second:
					return ack(req, dhcpv4.MessageTypeNak, "0.0.0.0")
				case at < 1300*time.Second:
					return ack(req, dhcpv4.MessageTypeAck, "10.0.2.99")
				}
				return ack(req, dhcpv4.MessageTypeAck, "10.0.2.15")
			}, []string{"600 10.0.2.2", "825 10.0.2.2", "937 10.0.2.2", "997 10.0.2.2", "1057 broadcast", "1128 broadcast", "1188 broadcast", "1248 broadcast", "1308 broadcast"},
			"renewed at last"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sent, log := run(t, tt.age, tt.d, tt.answer)
			if diff := cmp.Diff(tt.want, sent); diff != "" {
				t.Errorf("requests, seconds and where to (-want +got):\n%s", diff)
			}
			if !strings.Contains(log, tt.log) || tt.log == "" && log != "" {
				t.Errorf("log = %q; want %q", log, tt.log)
			}
		})
	}
}

func TestNew(t *testing.T) {
	n := network(0)
	n.Lease = nil
	if k, err := New(n, nil, nil); k != nil || err != nil {
		t.Errorf("New without a lease = %v, %v; want nil, nil", k, err)
	}
	n = network(0)
	n.Addresses = n.Addresses[:1]
	if k, err := New(n, nil, nil); k != nil || err == nil {
		t.Errorf("New without an IPv4 address = %v, %v; want an error", k, err)
	}
}

func TestTimes(t *testing.T) {
	req, err := dhcpv4.New()
	if err != nil {
		t.Fatal(err)
	}
	secs := func(code dhcpv4.OptionCode, v byte) dhcpv4.Modifier {
		return dhcpv4.WithGeneric(code, []byte{0, 0, 0, v})
	}
	old := handoff.Lease{Renew: 10, Rebind: 20, Expire: 30, Server: netip.MustParseAddr("10.0.2.2")}
	for _, tt := range []struct {
		mods []dhcpv4.Modifier
		want [3]int64
	}{
		{nil, [3]int64{10, 20, 30}},
		{[]dhcpv4.Modifier{secs(dhcpv4.OptionIPAddressLeaseTime, 80)}, [3]int64{40, 70, 80}},
		{[]dhcpv4.Modifier{secs(dhcpv4.OptionIPAddressLeaseTime, 80), secs(dhcpv4.OptionRenewTimeValue, 5), secs(dhcpv4.OptionRebindingTimeValue, 6)}, [3]int64{5, 6, 80}},
		{[]dhcpv4.Modifier{secs(dhcpv4.OptionIPAddressLeaseTime, 80), secs(dhcpv4.OptionRenewTimeValue, 90), secs(dhcpv4.OptionRebindingTimeValue, 91)}, [3]int64{40, 70, 80}},
		{[]dhcpv4.Modifier{secs(dhcpv4.OptionIPAddressLeaseTime, 0)}, [3]int64{10, 20, 30}},
		{[]dhcpv4.Modifier{secs(dhcpv4.OptionIPAddressLeaseTime, 2)}, [3]int64{1, 1, 2}},
	} {
		m, err := ack(req, dhcpv4.MessageTypeAck, "10.0.2.15", tt.mods...)
		if err != nil {
			t.Fatal(err)
		}
		l := (&Keeper{}).times(m, old)
		if got := [3]int64{l.Renew, l.Rebind, l.Expire}; got != tt.want {
			t.Errorf("times = %v; want %v", got, tt.want)
		}
	}
}
