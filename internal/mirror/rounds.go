package mirror

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/inetboot/inetboot/internal/storepath"
)

// search is one file's way through the mirrors.
type search struct {
	round int
	tried []*tried // in the order in which they were asked first
	by    *peer    // the mirror that had it, if not the one that was asked
}

// tried is what a mirror did in a search.
type tried struct {
	peer  *peer
	round int  // in which it was asked last
	dead  bool // it would give the same answer again
	began time.Time
	err   error
}

func (s *search) find(p *peer) *tried {
	for _, t := range s.tried {
		if t.peer == p {
			return t
		}
	}
	return nil
}

// open tells whether p may be asked in this round.
func (s *search) open(p *peer) bool {
	t := s.find(p)
	return t == nil || !t.dead && t.round != s.round
}

// note remembers what p did.
func (s *search) note(p *peer, began time.Time, err error, dead bool) {
	t := s.find(p)
	if t == nil {
		t = &tried{peer: p}
		s.tried = append(s.tried, t)
	}
	t.round, t.began, t.err, t.dead = s.round, began, err, dead
}

// firstPause is the shortest pause before the second round; it doubles.
const firstPause = 200 * time.Millisecond

// pick is the mirror to ask now.
type pick struct {
	peer *peer
	last bool // it rests, but there is no other

	// Of mirrors that could not be reached, one request at a time finds out
	// whether they can be now. trial is its duty if mine; others wait for it.
	trial chan struct{}
	mine  bool
}

// next returns the mirror to ask now, one without peer if this round is over.
func (c *Client) next(s *search) pick {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.remeasure > 0 && time.Since(c.measured) > c.due {
		c.measureSoon()
	}
	if len(c.order) > 1 {
		c.retry()
	}
	// Without looking through the list: nearly always.
	if c.preferred.usable() && len(s.tried) == 0 {
		return pick{peer: c.preferred}
	}
	var p *peer
	for _, q := range c.ranked() {
		if s.open(q) {
			p = q
			break
		}
	}
	switch {
	case p == nil || p.usable():
		return pick{peer: p}
	case !p.away:
		return pick{peer: p, last: true}
	case p.trial != nil:
		return pick{peer: p, trial: p.trial}
	}
	trial := make(chan struct{})
	if time.Since(p.rested) < min(500*time.Millisecond, firstPause<<min(p.failures-1, 5)) {
		close(trial) // somebody else has just found out
		return pick{peer: p, trial: trial}
	}
	p.trial = trial
	return pick{peer: p, last: true, trial: trial, mine: true}
}

// rounds asks the mirrors in turn, the preferred one first, until try
// succeeds. try says whether it got new bytes, which starts the count of
// failed rounds anew. A mirror that failed permanently is not asked again
// unless attempts are unlimited.
func (c *Client) rounds(ctx context.Context, path string, try func(s *search, a attempt) (progress bool, err error)) error {
	s := &search{}
	for failed := 0; ; s.round++ {
		progress := false
		for {
			pick := c.next(s)
			p, trial := pick.peer, pick.trial
			if p != nil && s.absent(path) && (pick.last || !c.answers(p)) {
				if pick.mine {
					c.endTrial(p, trial)
				}
				p = nil
			}
			if p == nil {
				break
			}
			if trial != nil && !pick.mine {
				select {
				case <-trial:
				case <-ctx.Done():
					return fmt.Errorf("get %s: %w", path, context.Cause(ctx))
				}
				if err := c.awayError(p); err != nil {
					s.note(p, time.Now(), err, false)
				}
				continue
			}
			began := time.Now()
			got, err := try(s, attempt{peer: p, last: pick.last, trial: trial})
			progress = progress || got
			if err == nil {
				c.blame(s)
				if s.by == nil {
					c.succeed(p, began)
				}
				c.endTrial(p, trial)
				return nil
			}
			switch {
			case ctx.Err() != nil:
				c.endTrial(p, trial)
				return fmt.Errorf("get %s: %w", path, context.Cause(ctx))
			case errors.Is(err, errPassed):
				continue // it is asked when no other is left
			}
			if !permanent(err) {
				c.fail(p, err, began)
			} else if trial != nil {
				c.back(p)
			}
			c.endTrial(p, trial)
			s.note(p, began, err, permanent(err) && c.attempts >= 0)
			c.log.Debug("mirror failed", "url", p.url, "path", path, "error", err)
		}
		if failed++; progress {
			failed = 0
		}
		alive := false
		for _, t := range s.tried {
			alive = alive || !t.dead
		}
		if s.absent(path) || !alive || c.attempts >= 0 && failed >= c.attempts {
			e := &Error{Path: path}
			for _, t := range s.tried {
				e.Failures = append(e.Failures, Failure{URL: t.peer.url, Err: t.err})
			}
			return e
		}
		// Up to 5 s, doubling from 0.2 s, spread so that a room of machines
		// does not come back at the same moment.
		pause := min(5*time.Second, 2*firstPause<<min(max(failed-1, 0), 5))
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

// absent tells whether a mirror has said that it does not have a file that
// need not be there: the root after the newest one, for which each start asks.
// Mirrors of which it is not known that they answer are not waited for then.
func (s *search) absent(path string) bool {
	if role, _, ok := storepath.ParseRoleMetadata(path); !ok || role != "root" {
		return false
	}
	for _, t := range s.tried {
		if errors.Is(t.err, ErrNotFound) {
			return true
		}
	}
	return false
}

// answers tells whether p is known to answer.
func (c *Client) answers(p *peer) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.sound() && p.usual() > 0
}

// blame lets the mirrors rest that did not have what another one had.
func (c *Client) blame(s *search) {
	for _, t := range s.tried {
		if permanent(t.err) {
			c.fail(t.peer, t.err, t.began)
		}
	}
}

// back ends the rest of p, which has answered, if not with what was wanted.
func (c *Client) back(p *peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.until = time.Time{}
}

// awayError says why p cannot be reached, or returns nil if it can.
func (c *Client) awayError(p *peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.usable() || !p.away {
		return nil
	}
	return p.last
}
