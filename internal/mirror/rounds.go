package mirror

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// rounds asks the mirrors in turn, the preferred one first, until try
// succeeds. try says whether it got new bytes, which starts the count of
// failed rounds anew. A mirror that failed permanently is not asked again
// unless attempts are unlimited.
func (c *Client) rounds(ctx context.Context, path string, try func(base string) (progress bool, err error)) error {
	n := len(c.bases)
	last := make([]error, n)
	dead := make([]bool, n)
	for failed := 0; ; {
		first := int(c.preferred.Load())
		progress, alive := false, false
		for k := range n {
			i := (first + k) % n
			if dead[i] {
				continue
			}
			got, err := try(c.bases[i])
			progress = progress || got
			if err == nil {
				c.preferred.Store(int32(i))
				return nil
			}
			if ctx.Err() != nil {
				return fmt.Errorf("get %s: %w", path, context.Cause(ctx))
			}
			last[i] = err
			c.log.Debug("mirror failed", "url", c.bases[i], "path", path, "error", err)
			if permanent(err) && c.attempts >= 0 {
				dead[i] = true
			} else {
				alive = true
			}
		}
		if failed++; progress {
			failed = 0
		}
		if !alive || c.attempts >= 0 && failed >= c.attempts {
			e := &Error{Path: path}
			for k := range n {
				i := (first + k) % n
				e.Failures = append(e.Failures, Failure{URL: c.bases[i], Err: last[i]})
			}
			return e
		}
		// Up to 5 s, doubling from 0.2 s, spread so that a room of machines
		// does not come back at the same moment.
		pause := min(5*time.Second, 200*time.Millisecond<<min(failed, 6))
		pause = pause/2 + rand.N(pause/2+1)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("get %s: %w", path, context.Cause(ctx))
		}
	}
}
