package main

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/inetboot/inetboot/internal/bootlog"
	"github.com/inetboot/inetboot/internal/mirror"
)

// How long a log may take to the server, and how often the same failure is
// told.
const (
	reportTime  = 10 * time.Second
	refusalTime = 2 * time.Second // before the network of a refused catalog goes
	sameFailure = 10 * time.Minute
	leavingTime = 500 * time.Millisecond
	noLink      = "00:00:00:00:00:00"
)

// reporter sends the log of the boot to the server, one after the other.
type reporter struct {
	lines bootlog.Recorder

	mu      sync.Mutex
	last    chan struct{} // closed when the newest report is there, or given up; nil: there is none
	failure string        // that was told last
	told    time.Time
}

// known tells whether a failure has been told not long ago, and notes it.
func (r *reporter) known(failure string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if failure == r.failure && time.Since(r.told) < sameFailure {
		return true
	}
	r.failure, r.told = failure, time.Now()
	return false
}

// send posts a report in the background, after the one before, and returns a
// channel that is closed when that is over.
func (r *reporter) send(ctx context.Context, limit time.Duration, to []string, c *http.Client, rep *bootlog.Report) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	before, done := r.last, make(chan struct{})
	r.last = done
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		if before != nil {
			select {
			case <-before:
			case <-ctx.Done():
			}
		}
		for _, u := range to {
			if ctx.Err() != nil || bootlog.Post(ctx, c, u, rep) == nil {
				return
			}
		}
	}()
	return done
}

// bootLog is what the server is told; failure "": nothing is wrong.
func (s *session) bootLog(failure, entry string) *bootlog.Report {
	r := &bootlog.Report{BootID: s.id, Client: noLink, Part: bootlog.Preboot, Failure: failure, Entry: bootlog.Clip(entry), Stages: s.line.stages(), Lines: s.reports.lines.Lines()}
	if c := s.net.Config(); c != nil && c.MAC != "" {
		r.Client = c.MAC
	}
	return r
}

// tellFailure tells the server why this machine does not get on, if it answers.
// Nothing waits for that.
func (s *session) tellFailure(ctx context.Context, failure string) {
	if s.store == nil || s.store.client == nil || s.reports.known(failure) {
		return
	}
	s.reports.send(ctx, reportTime, s.store.client.URLs(), s.store.client.HTTP(), s.bootLog(failure, s.entry))
}

// tellRefusal does so for a catalog that cannot be used, over a client and a
// link that go afterwards: it waits, but not for long.
func (s *session) tellRefusal(ctx context.Context, client *mirror.Client, mac, failure string) {
	if s.reports.known(failure) {
		return
	}
	r := s.bootLog(failure, "")
	r.Client = mac
	<-s.reports.send(ctx, refusalTime, client.URLs(), client.HTTP(), r)
}

// tellLeaving sends the log of a boot that has got through, so far.
func (s *session) tellLeaving(ctx context.Context) {
	if s.store == nil || s.store.client == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, leavingTime)
	defer cancel()
	select {
	case <-s.reports.send(ctx, leavingTime, s.store.client.URLs(), s.store.client.HTTP(), s.bootLog("", s.entry)):
	case <-ctx.Done():
	}
}
