package lease

import (
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// minRetry is how long to wait for an answer before the message is repeated
// (RFC 2131 section 4.4.5: half of the remaining time, at least 60 s).
const minRetry = 60 * time.Second

// times are a lease's, in seconds: when it was obtained, by the clock, and T1,
// T2 and its end after that.
type times struct{ obtained, renew, rebind, expire int64 }

// rhythm is when a lease is renewed.
type rhythm struct {
	protocol string // for messages
	address  netip.Addr
	log      *slog.Logger
	now      func() time.Time // nil: time.Now
}

// run calls ask when it is time to, until ctx ends, and returns ctx's error.
func (r rhythm) run(ctx context.Context, l times, ask func(ctx context.Context, rebind bool) (times, error)) error {
	now := r.now
	if now == nil {
		now = time.Now
	}
	// The time since the lease was obtained is taken from the clock once. From
	// here on time is monotonic, whatever is done to the clock.
	start := now()
	if age := start.Unix() - l.obtained; age > 0 && age <= l.expire {
		start = start.Add(-time.Duration(age) * time.Second)
	} else if age != 0 {
		start = start.Add(-time.Duration(l.renew) * time.Second) // the clock was set: ask at once
	}
	overdue := false
	for {
		t1 := start.Add(time.Duration(l.renew) * time.Second)
		t2 := start.Add(time.Duration(l.rebind) * time.Second)
		end := start.Add(time.Duration(l.expire) * time.Second)
		if err := sleep(ctx, t1.Sub(now())); err != nil {
			return err
		}
		for {
			at := now()
			rebind, until := false, t2
			if !at.Before(t2) {
				rebind, until = true, end
			}
			next, err := ask(ctx, rebind)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err == nil {
				l = next
				start = at // when the request was sent, RFC 2131 section 4.4.1
				if overdue {
					r.log.Info("the "+r.protocol+" lease is renewed at last", "address", r.address)
				} else {
					r.log.Debug(r.protocol+" lease renewed", "address", r.address)
				}
				overdue = false
				break
			}
			if at = now(); !at.Before(end) && !overdue {
				overdue = true
				r.log.Warn("the "+r.protocol+" lease has expired and could not be renewed: the address stays in use, because the root filesystem needs it",
					"address", r.address, "error", err)
			}
			if err := sleep(ctx, max(until.Sub(at)/2, minRetry)); err != nil {
				return err
			}
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
