package lease

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/handoff"
)

// A DHCPv6 lease is renewed at T1, from T2 on with any server, and kept when
// nobody answers.
func TestKeeper6(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		l := handoff.Lease6{Address: netip.MustParseAddr("fd00::7"), ServerID: "aa", Obtained: begin.Unix(), Renew: 1800, Rebind: 2880, Expire: 3600}
		type call struct {
			Minute int
			Rebind bool
			Server string
		}
		var calls []call
		var log bytes.Buffer
		k := &Keeper6{Lease: l, Logger: slog.New(slog.NewTextHandler(&log, nil)), Renew: func(_ context.Context, l handoff.Lease6, rebind bool) (*handoff.Lease6, error) {
			at := int(time.Since(begin) / time.Minute)
			calls = append(calls, call{at, rebind, l.ServerID})
			if at > 30 && at < 100 {
				return nil, errors.New("silence")
			}
			l.Obtained = time.Now().Unix()
			if rebind {
				l.ServerID = "bb"
			}
			return &l, nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 140*time.Minute)
		defer cancel()
		if err := k.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Run = %v", err)
		}
		// T1 at 30; the next at 60; then half of the time to T2 at 78, and so on.
		want := []call{{30, false, "aa"}, {60, false, "aa"}, {69, false, "aa"}}
		if diff := cmp.Diff(want, calls[:3]); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		rebinds, last := 0, calls[len(calls)-1]
		for _, c := range calls {
			if c.Rebind != (c.Minute >= 78 && c.Minute <= 101) {
				t.Errorf("call %+v", c)
			}
			if c.Rebind {
				rebinds++
			}
		}
		if rebinds < 5 || last.Server != "bb" || last.Minute < 130 {
			t.Errorf("%d rebinds, last call %+v; want the other server's lease renewed after 130 minutes", rebinds, last)
		}
		if !strings.Contains(log.String(), "DHCPv6 lease has expired") || !strings.Contains(log.String(), "renewed at last") {
			t.Errorf("log:\n%s", log.String())
		}
	})
}
