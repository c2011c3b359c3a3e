package mirror

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/site"
)

// MaxMirrors bounds the number of a Client's mirrors.
const MaxMirrors = 64

// MirrorState is what a Client knows of one mirror, for status pages.
type MirrorState struct {
	URL       string
	Preferred bool          // it is asked first
	RTT       time.Duration // from a request to the beginning of its answer; 0: not known
	Rate      float64       // bytes a second that it brings if nothing else uses the line; 0: not known
	Resting   time.Duration // until it is tried again; 0: it does not rest; at least 1 ns while it does
	InARow    int           // failures in a row
	Requests  int64
	Failures  int64
	Bytes     int64  // of answers
	LastError string // of the newest failure; ""
}

// State returns what is known of the mirrors, in the order in which they are
// asked.
func (c *Client) State() []MirrorState {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []MirrorState
	for _, p := range c.ranked() {
		s := MirrorState{
			URL: p.url, Preferred: p == c.preferred, RTT: p.rtt, Rate: p.rate, InARow: p.failures,
			Requests: p.requests, Failures: p.failed, Bytes: p.bytes,
		}
		if s.RTT == 0 {
			s.RTT = p.first
		}
		if !p.usable() {
			s.Resting = max(1, time.Until(p.until))
		}
		if p.last != nil {
			s.LastError = p.last.Error()
		}
		out = append(out, s)
	}
	return out
}

// URLs returns the base URLs in the order in which they are asked.
func (c *Client) URLs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, p := range c.ranked() {
		out = append(out, p.url)
	}
	return out
}

// Add adds mirrors behind those that are there; URLs that the client has
// already are passed over. The error says which are no base URLs, or that
// there are more than MaxMirrors; the others are added all the same.
func (c *Client) Add(urls []string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, u := range urls {
		if err := site.CheckURL(u); err != nil {
			errs = append(errs, err)
			continue
		}
		if c.find(u) != nil {
			continue
		}
		if len(c.order) >= MaxMirrors {
			errs = append(errs, fmt.Errorf("only the first %d mirrors are used", MaxMirrors))
			break
		}
		c.order = append(c.order, &peer{url: strings.TrimRight(u, "/")})
	}
	return errors.Join(errs...)
}

// find returns the mirror with the URL. c.mu is held.
func (c *Client) find(url string) *peer {
	url = strings.TrimRight(url, "/")
	for _, p := range c.order {
		if p.url == url {
			return p
		}
	}
	return nil
}
