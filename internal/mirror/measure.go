package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// Another mirror is preferred only if its answers take less than gainShare of
// the time and arrive at least gainTime earlier, so that the choice does not
// go to and fro.
const (
	gainShare = 0.75
	gainTime  = 80 * time.Millisecond
)

// Limits of Measure.
const (
	measureLeast = 300 * time.Millisecond // that others have after the first answer
	measureMost  = 2 * time.Second        // if there was an answer
	measureTimes = 3                      // times the first answer's time
	remeasureGap = 30 * time.Second       // between measurements for cause
)

// Measurement says how near a mirror is.
type Measurement struct {
	URL string
	RTT time.Duration // from a request to the beginning of its answer; 0: not known
}

// Measure asks all mirrors at once for a few bytes and orders them, nearest
// first. A choice that was made before (by Measure or SetOrder) stays unless
// another mirror is clearly nearer: by a quarter and 80 ms. It returns when
// all have answered; once one has, the others get three times as long as it
// took, between 0.3 s and 2 s in all. Mirrors that fail rest like after any
// other failed request. The result is that of Measurements.
func (c *Client) Measure(ctx context.Context) []Measurement {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()

	c.mu.Lock()
	peers := slices.Clone(c.order)
	c.measured = time.Now()
	c.mu.Unlock()
	type result struct {
		p   *peer
		rtt time.Duration
		err error
	}
	results := make(chan result, len(peers))
	start := time.Now()
	for _, p := range peers {
		go func() {
			rtt, err := c.probe(ctx, p, nil)
			if err != nil && ctx.Err() == nil {
				c.fail(p, err, start)
			}
			results <- result{p, rtt, err}
		}()
	}
	found := make(map[*peer]time.Duration)
	var enough <-chan time.Time
	for range peers {
		select {
		case r := <-results:
			if r.err != nil {
				continue
			}
			found[r.p] = r.rtt
			if enough == nil {
				took := time.Since(start)
				t := time.NewTimer(min(measureMost, max(measureLeast, measureTimes*took)) - took)
				defer t.Stop()
				enough = t.C
			}
			continue
		case <-enough:
		case <-ctx.Done():
		}
		break
	}
	c.rank(found, time.Since(start))
	return c.Measurements()
}

// rank orders the mirrors by what was found; those that are missing did not
// answer within took.
func (c *Client) rank(found map[*peer]time.Duration, took time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(found) == 0 {
		return
	}
	for p, rtt := range found {
		p.rtt = rtt
	}
	rtt := func(p *peer) time.Duration {
		if d, ok := found[p]; ok {
			return d
		}
		return max(took, measureLeast)
	}
	for i := range c.order {
		for k := i; k > 0 && rtt(c.order[k]) < rtt(c.order[k-1]); k-- {
			c.order[k], c.order[k-1] = c.order[k-1], c.order[k]
		}
	}
	chosen := c.chosen
	c.chosen = true
	for _, best := range c.order {
		if !best.usable() {
			continue
		}
		now, is := rtt(c.preferred), rtt(best)
		switch {
		case !chosen || !c.preferred.usable():
			c.prefer(best, "it is the nearest")
		case float64(is) < gainShare*float64(now) && now-is >= gainTime:
			c.prefer(best, fmt.Sprintf("it answers in %v, the other one in %v", is, now))
		}
		return
	}
}

// probe measures how long p takes to answer: the better of two small
// requests, of which the second need not set up a connection.
func (c *Client) probe(ctx context.Context, p *peer, trial chan struct{}) (time.Duration, error) {
	best := time.Duration(0)
	for range 2 {
		a := &attempt{peer: p, trial: trial, probe: true}
		resp, took, err := c.get(ctx, a, storepath.Timestamp, "bytes=0-0")
		if err != nil {
			return 0, err
		}
		// A server without ranges sends all of it; that is little, and an
		// unread rest would cost the connection.
		_, err = io.CopyN(io.Discard, resp.Body, 16<<10)
		if err != nil && !errors.Is(err, io.EOF) {
			resp.Body.Close()
			return 0, err
		}
		resp.Body.Close()
		if best == 0 || took < best {
			best = took
		}
	}
	return best, nil
}

// measureSoon starts a measurement in the background if the client is to keep
// an eye on its mirrors. c.mu is held.
func (c *Client) measureSoon() {
	if c.remeasure <= 0 || len(c.order) < 2 || time.Since(c.measured) < remeasureGap {
		return
	}
	c.measured = time.Now()
	c.due = c.remeasure*3/4 + rand.N(c.remeasure/2)
	c.background(func(ctx context.Context) { c.Measure(ctx) })
}

// SetOrder applies a choice that was remembered: the mirrors of list come
// first, in its order, and are known to be as near as it says. URLs that the
// client does not have are ignored.
func (c *Client) SetOrder(list []Measurement) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var order []*peer
	for _, m := range list {
		p := c.find(m.URL)
		if p == nil || slices.Contains(order, p) {
			continue
		}
		if m.RTT > 0 {
			p.rtt = m.RTT
		}
		order = append(order, p)
	}
	if len(order) == 0 {
		return
	}
	for _, p := range c.order {
		if !slices.Contains(order, p) {
			order = append(order, p)
		}
	}
	c.order, c.chosen = order, true
	c.prefer(order[0], "it was used before")
}

// Measurements returns the mirrors in the order in which they are asked, for
// SetOrder of another client.
func (c *Client) Measurements() []Measurement {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Measurement
	for _, p := range c.ranked() {
		out = append(out, Measurement{URL: p.url, RTT: p.rtt})
	}
	return out
}
