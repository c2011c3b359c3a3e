package lease

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// weather is what the network does to requests from a given moment on.
type weather struct {
	name    string
	length  time.Duration
	lease   time.Duration // that the server grants
	server  byte          // last byte of its address; 0: nobody answers
	loss    float64       // share of requests or answers that are lost
	refuse  int           // each so many requests one is answered with NAK; 0: none
	unicast bool          // the server answers requests to its address
}

// weatherAt returns the weather of a moment.
func weatherAt(plan []weather, at time.Duration) weather {
	for _, w := range plan {
		if at < w.length {
			return w
		}
		at -= w.length
	}
	return plan[len(plan)-1]
}

// TestDays keeps a lease for ten days through losses, refusals, outages and
// changes of the server. A model of RFC 2131 section 4.4.5 says when and where
// to each request has to go: the first at T1, to the server; then, after half
// of the time that is left until T2, at least 60 s, again; from T2 on by
// broadcast in the same way until the end, and on.
//
// The clock plays no part: moments are monotonic from the start, which
// TestLasting of package target shows on a machine whose clock is set.
func TestDays(t *testing.T) {
	const day = 24 * time.Hour
	plan := []weather{
		{name: "fine", length: day, lease: 2 * time.Hour, server: 2, unicast: true},
		{name: "two of five are lost", length: day, lease: 2 * time.Hour, server: 2, unicast: true, loss: 0.4},
		{name: "another server", length: day, lease: time.Hour, server: 3, unicast: true},
		{name: "hears broadcasts only", length: day, lease: time.Hour, server: 4},
		{name: "refuses every other time", length: day, lease: 2 * time.Hour, server: 4, unicast: true, refuse: 2},
		{name: "silent for an hour", length: time.Hour},
		{name: "fine again", length: 23 * time.Hour, lease: 2 * time.Hour, server: 4, unicast: true},
		{name: "silent for five hours", length: 5 * time.Hour},
		{name: "back", length: 43 * time.Hour, lease: day, server: 2, unicast: true},
		{name: "for ever", length: 2 * day, lease: (1<<32 - 1) * time.Second, server: 2, unicast: true},
	}
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var buf bytes.Buffer
		rnd := rand.New(rand.NewPCG(1, 2))
		requests := map[string]int{}

		// The model: the lease as it was granted last, and when the next request is due.
		n := network(begin.Unix())
		n.Lease.Renew, n.Lease.Rebind, n.Lease.Expire = 3600, 6300, 7200
		secs := func(s int64) time.Duration { return time.Duration(s) * time.Second }
		from, t1, t2, end := time.Duration(0), secs(3600), secs(6300), secs(7200)
		server := netip.MustParseAddr("10.0.2.2")
		due := t1
		lapsed := time.Duration(0)
		back := 7*day + 5*time.Hour // the end of the longest silence
		count := 0

		k, err := New(n, func(_ context.Context, req *dhcpv4.DHCPv4, to netip.Addr) (*dhcpv4.DHCPv4, error) {
			at := time.Since(begin)
			count++
			if d := at - due; d < 0 || d > time.Millisecond {
				t.Errorf("request %d at %v; want one at %v", count, at, due)
			}
			until := from + t2
			want := server
			if at >= until {
				want, until = netip.Addr{}, from+end
			}
			if to != want {
				t.Errorf("request %d at %v goes to %v; want %v", count, at, to, want)
			}
			w := weatherAt(plan, at)
			requests[w.name]++
			if w.server != 0 && at > from+end {
				lapsed = max(lapsed, at-max(from+end, back))
			}
			heard := w.server != 0 && (!to.IsValid() || w.unicast && to == netip.AddrFrom4([4]byte{10, 0, 2, w.server})) && rnd.Float64() >= w.loss
			refused := heard && w.refuse > 0 && count%w.refuse == 0
			if !heard {
				time.Sleep(answerTime)
			}
			if !heard || refused {
				now := time.Since(begin)
				due = now + max((until-now)/2, minRetry)
				if !heard {
					return nil, errSilent
				}
				return ack(req, dhcpv4.MessageTypeNak, "0.0.0.0")
			}
			from, end = at, w.lease
			t1, t2 = end/2, end*7/8
			server = netip.AddrFrom4([4]byte{10, 0, 2, w.server})
			due = from + t1.Truncate(time.Second)
			t2 = t2.Truncate(time.Second)
			reply, err := ack(req, dhcpv4.MessageTypeAck, "10.0.2.15", dhcpv4.WithLeaseTime(uint32(w.lease/time.Second)))
			if err == nil {
				reply.UpdateOption(dhcpv4.OptServerIdentifier(server.AsSlice()))
			}
			return reply, err
		}, slog.New(slog.NewTextHandler(&buf, &slog.HandlerOptions{Level: slog.LevelInfo})))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*day)
		defer cancel()
		if err := k.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v; want the context's error", err)
		}
		t.Logf("requests: %v", requests)
		// Five hours of silence run out; nothing else does.
		if n := strings.Count(buf.String(), "has expired"); n != 1 || strings.Count(buf.String(), "renewed at last") != 1 || strings.Count(buf.String(), "\n") != 2 {
			t.Errorf("log:\n%swant that the lease ran out once, and was renewed once", buf.String())
		}
		if lapsed > minRetry+answerTime {
			t.Errorf("the lease stays lapsed for %v though a server is back; want %v at most", lapsed, minRetry+answerTime)
		}
		for name, want := range map[string][2]int{
			"fine":                     {23, 24}, // one an hour
			"fine again":               {22, 24},
			"two of five are lost":     {24, 60},
			"another server":           {47, 54}, // two an hour, and some until it is found
			"hears broadcasts only":    {24 * 4, 24 * 8},
			"refuses every other time": {24, 60},
			"silent for five hours":    {10, 5 * 60},
			"back":                     {3, 6},
			"for ever":                 {0, 1}, // asked once more when the day is half over, then never
		} {
			if got := requests[name]; got < want[0] || got > want[1] {
				t.Errorf("%s: %d requests; want %d to %d", name, got, want[0], want[1])
			}
		}
	})
}
