package mirror

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"
)

// How mirrors are judged.
const (
	firstRest = 5 * time.Second // after one failure; doubles with each that follows
	maxRest   = 2 * time.Minute

	tellEvery = 10 * time.Minute // changes of the mirror are logged at most

	slowWindow = 4 * time.Second // of waiting, after which a transfer is judged
	slowFloor  = 16 << 10        // bytes a second of the line below which it is too slow
	slowShare  = 8               // so many times slower than another mirror is too slow

	// headPatience is how long an answer may take to begin while another
	// mirror is there, or headTimes times what the mirror usually takes.
	headPatience = 4 * time.Second
	headTimes    = 8
)

// Why a request was ended from here.
var (
	errIdle      = errors.New("no byte arrived in time")
	errSlow      = errors.New("too slow, and there is another mirror")
	errAbandoned = errors.New("others found out that the mirror does not answer")
	errOutrun    = errors.New("another mirror was faster")
	errPassed    = errors.New("the mirror rests") // never leaves this package
)

// peer is a mirror and what is known of it. Client.mu guards all but url.
type peer struct {
	url string

	rtt   time.Duration // by Measure, or remembered; 0: not known
	first time.Duration // time to the first byte of ordinary answers, smoothed; 0: not known
	rate  float64       // bytes a second if nothing else used the line; 0: not known

	failures int           // in a row
	strikes  int           // times in a row that another mirror had to help out
	rested   time.Time     // when the last rest began
	until    time.Time     // end of the rest; zero: none, the mirror is usable
	away     bool          // it rests because it cannot be reached, not for what it sent
	trial    chan struct{} // closed when somebody knows whether it is back
	last     error         // of the newest failure
	failed   int64
	requests int64
	bytes    int64
	pending  map[*attempt]struct{}
}

func (p *peer) usable() bool { return p.until.IsZero() }

// sound tells whether p can be relied on: it is usable, and not just on
// probation after a rest.
func (p *peer) sound() bool { return p.usable() && p.failures == 0 }

// usual is how long p takes to answer, as far as is known.
func (p *peer) usual() time.Duration {
	if p.first > 0 {
		return p.first
	}
	return p.rtt
}

func (p *peer) patience(least time.Duration) time.Duration { return max(least, headTimes*p.usual()) }

// attempt is one request to one mirror.
type attempt struct {
	peer   *peer
	second bool          // a hedge: it does not wait for its turn
	probe  bool          // a few bytes: it needs no turn
	last   bool          // the mirror rests, but there is no other
	trial  chan struct{} // not nil: this request finds out whether the mirror is back

	// Guarded by Client.mu.
	start    time.Time // zero: it waits for its turn
	answered time.Time // zero: not yet
	bytes    int64
	cancel   context.CancelCauseFunc
}

// ranked returns the mirrors in the order in which they are asked: the
// preferred one, the nearest, those that rest. c.mu is held.
func (c *Client) ranked() []*peer {
	out := make([]*peer, 0, len(c.order))
	for _, usable := range []bool{true, false} {
		if c.preferred.usable() == usable {
			out = append(out, c.preferred)
		}
		for _, p := range c.order {
			if p != c.preferred && p.usable() == usable {
				out = append(out, p)
			}
		}
	}
	return out
}

// other returns the best mirror but p that can be relied on, nil if there is
// none. c.mu is held.
func (c *Client) other(p *peer) *peer {
	if c.preferred != p && c.preferred.sound() {
		return c.preferred
	}
	for _, q := range c.order {
		if q != p && q.sound() {
			return q
		}
	}
	return nil
}

// alone tells whether there is no mirror but p that can be relied on.
func (c *Client) alone(p *peer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.other(p) == nil
}

// begin notes that a starts now. It returns false if its mirror has gone to
// rest meanwhile and another one can be asked.
func (c *Client) begin(a *attempt, cancel context.CancelCauseFunc) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := a.peer
	if !a.last && !a.probe && !p.usable() && c.other(p) != nil {
		return false
	}
	a.start, a.cancel = time.Now(), cancel
	p.requests++
	if p.pending == nil {
		p.pending = make(map[*attempt]struct{})
	}
	p.pending[a] = struct{}{}
	return true
}

// headLimit is how long the answer to a may take to begin, 0 if there is
// nobody else to ask.
func (c *Client) headLimit(a *attempt) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.other(a.peer) == nil && (!a.last || len(c.order) == 1) {
		return 0
	}
	return a.peer.patience(headPatience)
}

// answer notes that a good answer to a has begun, and returns how long that
// took.
func (c *Client) answer(a *attempt) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := a.peer
	a.answered = time.Now()
	c.bodies++
	took := a.answered.Sub(a.start)
	if p.first == 0 {
		p.first = took
	} else {
		// One late answer does not make a slow mirror.
		p.first += (min(took, 2*p.first+50*time.Millisecond) - p.first) / 4
	}
	if !a.start.Before(p.rested) {
		p.until = time.Time{}
		c.endTrialLocked(p, a.trial)
	}
	return took
}

// end notes that a is over.
func (c *Client) end(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(a.peer.pending, a)
	if !a.answered.IsZero() {
		c.bodies--
	}
}

// received counts n bytes of the answer to a.
func (c *Client) received(a *attempt, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.bytes += int64(n)
	a.peer.bytes += int64(n)
}

// lineRate is what n bytes in d of one of all transfers say about the line.
// c.mu is held.
func (c *Client) lineRate(n int64, d time.Duration) float64 {
	return float64(n) / max(d, 2*time.Millisecond).Seconds() * float64(max(1, c.bodies))
}

// sample remembers that p brought n bytes in d.
func (c *Client) sample(p *peer, n int64, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rate := c.lineRate(n, d)
	if p.rate > 0 {
		rate = p.rate + (rate-p.rate)/4
	}
	p.rate = rate
}

// tooSlow tells whether a transfer from p that brought n bytes in d should be
// ended. It is judged by what the line carries: transfers that run side by
// side share it. A line that is slow for all mirrors is no reason, so without
// another sound mirror nothing is too slow.
func (c *Client) tooSlow(p *peer, n int64, d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.other(p) == nil {
		return false
	}
	limit := float64(slowFloor)
	for _, q := range c.order {
		if q != p && q.sound() {
			limit = max(limit, q.rate/slowShare)
		}
	}
	rate := c.lineRate(n, d)
	if rate >= limit {
		return false
	}
	p.rate = max(rate, 1)
	return true
}

// succeed notes that p did what a request that began then wanted.
func (c *Client) succeed(p *peer, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if began.Before(p.rested) {
		return // says nothing about now
	}
	p.failures, p.strikes, p.until = 0, 0, time.Time{}
	if !c.preferred.usable() {
		c.prefer(p, "the other one is still away")
	}
}

// fail notes that a request to p that began then failed, and lets p rest.
func (c *Client) fail(p *peer, err error, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(p, err, began)
}

func (c *Client) failLocked(p *peer, err error, began time.Time) {
	p.failed++
	p.last = err
	if began.Before(p.rested) {
		return // this rest is for the same trouble
	}
	p.failures++
	p.strikes = 0
	p.away = !permanent(err)
	now := time.Now()
	d := min(maxRest, firstRest<<min(p.failures-1, 10))
	p.rested, p.until = now, now.Add(d*3/4+rand.N(d/2))
	if p == c.preferred {
		for _, q := range c.order {
			if q.usable() {
				c.prefer(q, err.Error())
				if c.switched != nil {
					c.switched(p.url, q.url, err)
				}
				c.measureSoon()
				break
			}
		}
	}
	if c.other(p) == nil {
		return
	}
	for a := range p.pending {
		if a.answered.IsZero() && now.Sub(a.start) >= p.patience(hedgePatience) {
			a.cancel(errAbandoned)
		}
	}
}

// strike notes that p was so slow that another mirror had to help out.
func (c *Client) strike(p *peer, began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.strikes++; p.strikes > 1 {
		c.failLocked(p, errSlow, began)
	}
}

// prefer makes p the mirror that is asked first. c.mu is held.
func (c *Client) prefer(p *peer, why string) {
	if c.preferred == p {
		return
	}
	// Mirrors that come and go all the time are told of now and then only.
	level := slog.LevelDebug
	c.changes++
	if c.told.IsZero() || time.Since(c.told) >= tellEvery {
		level = slog.LevelInfo
	}
	c.log.Log(context.Background(), level, "another mirror is used", "url", p.url, "before", c.preferred.url, "why", why, "changes", c.changes)
	if level == slog.LevelInfo {
		c.told, c.changes = time.Now(), 0
	}
	c.preferred = p
}

// endTrial tells those who wait for the trial that it is over.
func (c *Client) endTrial(p *peer, trial chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endTrialLocked(p, trial)
}

func (c *Client) endTrialLocked(p *peer, trial chan struct{}) {
	if trial != nil && p.trial == trial {
		close(trial)
		p.trial = nil
	}
}

// retry finds out by requests of its own whether mirrors whose rest is over
// are back, so that no reader waits for it. c.mu is held.
func (c *Client) retry() {
	now := time.Now()
	for _, p := range c.order {
		if p.usable() || p.trial != nil || now.Before(p.until) {
			continue
		}
		trial := make(chan struct{})
		p.trial = trial
		c.background(func(ctx context.Context) {
			began := time.Now()
			rtt, err := c.probe(ctx, p, trial)
			if err != nil && ctx.Err() == nil {
				c.fail(p, err, began)
			} else if err == nil {
				c.mu.Lock()
				p.rtt = rtt
				c.mu.Unlock()
			}
			c.endTrial(p, trial)
		})
	}
}

// background runs f until Close. c.mu is held.
func (c *Client) background(f func(context.Context)) {
	if c.ctx.Err() != nil {
		return
	}
	c.wg.Go(func() { f(c.ctx) })
}
