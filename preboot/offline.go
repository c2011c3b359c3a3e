package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/preboot/cache"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/network"
)

// How long the network is waited for where the cache has a menu, too.
const (
	hintPatience    = 6 * time.Second  // until it is said what a person can do
	cablePatience   = 8 * time.Second  // while no link has a carrier
	networkPatience = 45 * time.Second // altogether; spanning tree and DHCP may take 40
	searchPatience  = 10 * time.Second // for the end of the search for the cache
	backgroundPause = 5 * time.Second  // between attempts behind the menu
)

// The reasons for which a network is waited for no longer.
var (
	errNoCable = errors.New("no link has a carrier: is the cable in?")
	errNoStore = errors.New("no store answers")
	errSkipped = errors.New("the network was not waited for")
)

// reasonOffline says why there is no network.
func reasonOffline(err error) string {
	for _, e := range []error{errNoCable, errNoStore, errSkipped} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return explainAll(err)
}

// findCache begins to look for the cache's disk, unless none is wanted.
func (s *session) findCache(ctx context.Context) {
	switch s.set.Cache.Mode {
	case handoff.CacheNone, handoff.CacheRAM:
		return
	}
	s.cache = cache.Start(ctx, cache.Options{Dir: "/run/cache", UUID: s.set.Cache.UUID, Log: func(l string) { s.say("%s", l) }})
}

// newSource puts the cache in front of client; nil: there is no network.
func (s *session) newSource(client *mirror.Client) *cache.Source {
	src := &cache.Source{Disk: s.cache.Disk, Log: func(l string) { s.say("%s", l) }}
	if client != nil {
		src.Remote = client
	}
	return src
}

// cachedCatalog is the catalog on the cache's disk, as far as it can be
// verified.
type cachedCatalog struct {
	mu   sync.Mutex
	disk *cache.Disk  // that the rest is about
	set  *tuf.Trusted // nil: there is none that counts
}

// readCached returns the catalog of the cache once it has been verified, or
// nil. Whether it has expired is for others to judge, and it may lack what the
// timestamp leads to.
func (s *session) readCached(ctx context.Context) *tuf.Trusted {
	d := s.cache.Disk()
	c := &s.cached
	c.mu.Lock()
	defer c.mu.Unlock()
	if d == nil || c.disk == d {
		return c.set
	}
	set, err := tuf.Floor(ctx, s.set.Anchor, d)
	if ctx.Err() != nil {
		return nil
	}
	c.disk, c.set = d, set
	if err != nil && !errors.Is(err, cache.ErrNotCached) {
		s.say("%s", explain(part("catalog in the cache", err)))
	}
	return c.set
}

// floor returns what a catalog must not be older than: the newest of what the
// cache has and what was read since the start.
func (s *session) floor(ctx context.Context) *tuf.Trusted {
	seen := []*tuf.Trusted{s.readCached(ctx), s.seen}
	if s.store != nil {
		seen = append(seen, s.store.catalog.Trusted())
	}
	var newest *tuf.Trusted
	for _, t := range seen {
		if newest == nil || t != nil && newest.NotOlder(t) != nil {
			newest = t
		}
	}
	return newest
}

// checkFloor refuses to go on from a catalog that is older than the cache's.
// The disk may have been found after the catalog was read.
func (s *session) checkFloor(ctx context.Context) error {
	return s.store.catalog.Trusted().NotOlder(s.readCached(ctx))
}

// tryNetwork looks for a store once. Where the cache has a menu it does so
// with less patience, and until somebody presses Escape.
func (s *session) tryNetwork(ctx context.Context) error {
	attempt, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	watching.Go(func() { s.hurry(attempt, cancel) })
	defer watching.Wait()
	s.net.Use(s.set.Network)
	var last error // from a store
	err := s.net.Connect(attempt, func(ctx context.Context, c *network.Config) error {
		err := s.openStore(ctx, c)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		return err
	})
	if cause := context.Cause(attempt); err != nil && cause != nil {
		if err = cause; cause == errSkipped {
			err = errors.Join(cause, last)
		}
	}
	cancel(nil)
	return err
}

// hurry ends the attempt when a person presses Escape, or the cache's menu is
// the better choice.
func (s *session) hurry(ctx context.Context, end context.CancelCauseFunc) {
	begin := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	said, menu := false, false
	for {
		select {
		case k := <-s.con.Keys():
			if k == console.Escape {
				end(errSkipped)
			}
		case <-tick.C:
			took := time.Since(begin)
			if set := s.readCached(ctx); set == nil || set.Snapshot() == nil {
				if !said && took >= hintPatience {
					said = true
					s.report("still waiting for the network (Esc: do not wait, change its settings)")
				}
				continue
			}
			if !menu {
				menu = true
				s.report("there is a menu in the cache (Esc: do not wait for the network)")
			}
			switch {
			case took >= cablePatience && !s.net.Carrier():
				end(errNoCable)
			case took >= networkPatience:
				end(errNoStore)
			}
		case <-ctx.Done():
			return
		}
	}
}

// openCached opens the store in the cache. why says why there is no other one.
func (s *session) openCached(ctx context.Context, why error) bool {
	if s.cache == nil {
		return false
	}
	select {
	case <-s.cache.Done():
	case <-time.After(searchPatience):
	case <-ctx.Done():
	}
	if set := s.readCached(ctx); set == nil || set.Snapshot() == nil {
		return false
	}
	st, err := s.loadCached(ctx, why)
	if err != nil {
		s.say("%s", explain(err))
		return false
	}
	s.store.close()
	s.store = st
	s.say("offline: %s", st.offline)
	s.say("catalog %d from the cache on %s, valid until %s", st.catalog.Version(), s.cache.Disk().Device(), stamp(st.catalog.Expires()))
	return true
}

// loadCached makes a store of the cache's catalog. An expired one is good
// enough only where no store could be asked: its signatures hold, it is the
// newest that this machine has seen, and the clock may be what is wrong. A
// store that answered with an expired catalog has said that there is no
// better one.
func (s *session) loadCached(ctx context.Context, why error) (*store, error) {
	st := &store{source: s.newSource(nil), offline: reasonOffline(why)}
	o := catalog.Options{Now: time.Now()}
	if s.store != nil {
		o.Floor = s.store.catalog.Trusted()
	}
	c, err := catalog.Open(ctx, st.source, s.set.Anchor, o)
	var expired *catalog.ExpiredError
	if errors.As(err, &expired) && !errors.Is(why, catalog.ErrExpired) {
		o.Now = time.Time{}
		if c, err = catalog.Open(ctx, st.source, s.set.Anchor, o); err == nil {
			text := fmt.Sprintf("the cache's catalog expired at %s (this machine's clock says %s) and is used because no store can be asked", stamp(expired.Expires), stamp(expired.Now))
			s.say("warning: %s", text)
			st.offline += "; " + text
		}
	}
	if err != nil {
		return nil, part("catalog in the cache", err)
	}
	m, err := c.WholeMenu(ctx)
	if err != nil {
		return nil, part("menu", err)
	}
	st.catalog, st.menu = c, m
	return st, nil
}

// completeImages returns the targets of those images of the menu that the
// cache has whole.
func (s *session) completeImages(ctx context.Context) map[string]bool {
	d := s.cache.Disk()
	if d == nil || len(d.State().Complete) == 0 {
		return nil
	}
	// From the disk alone: nothing is to be downloaded for this.
	c := s.store.catalog.From(d)
	out := make(map[string]bool)
	for _, name := range images(s.store.menu.Entries) {
		if b, err := c.Blob(ctx, name); err != nil || !d.Listed(b.SHA256) {
			continue
		}
		if img, err := c.Image(ctx, name); err == nil && d.Complete(ctx, img) {
			out[name] = true
		}
	}
	return out
}

// images returns the images that entries name.
func images(entries []catalog.Entry) []string {
	var out []string
	for i := range entries {
		if e := &entries[i]; e.Image != "" {
			out = append(out, e.Image)
		} else {
			out = append(out, images(e.Entries)...)
		}
	}
	return out
}

// background looks for the network while a menu from the cache is shown. found
// is closed when a store is open; stop ends the search.
func (s *session) background(ctx context.Context) (found <-chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	open, ended := make(chan struct{}), make(chan struct{})
	s.quiet.Store(true)
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			s.net.Use(s.set.Network)
			if s.net.Connect(ctx, s.openStore) == nil {
				close(open)
				return
			}
			select {
			case <-time.After(backgroundPause):
			case <-ctx.Done():
			}
		}
	}()
	return open, func() {
		cancel()
		<-ended
		s.quiet.Store(false)
	}
}

// remembered returns the order of mirrors that served this machine best the
// last time.
func (s *session) remembered() []mirror.Measurement {
	d := s.cache.Disk()
	if d == nil {
		return nil
	}
	var list []mirror.Measurement
	for _, m := range d.State().Mirrors {
		list = append(list, mirror.Measurement{URL: m.URL, RTT: time.Duration(m.RTT * float64(time.Millisecond))})
	}
	return list
}

// handoffCache says what the target is told about the cache.
func (s *session) handoffCache() handoff.Cache {
	c := s.set.Cache
	if d := s.cache.Disk(); d != nil && handoff.ValidUUID(d.UUID()) {
		c.UUID, c.Device = d.UUID(), d.Device()
	}
	return c
}
