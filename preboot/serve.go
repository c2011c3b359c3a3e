package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/menu"
)

// serve shows the store's menu and does what is chosen, for as long as the
// network is there.
func (s *session) serve(ctx context.Context) {
	s.line.mark("menu")
	if s.store == nil {
		return // only if ctx has ended
	}
	m := s.newMenu(ctx, s.defaults())
	m.Status("inetboot: " + s.ready())
	for ctx.Err() == nil && (s.store.offline != "" || s.net.Config() != nil) {
		offline := s.store.offline != ""
		ev := s.choose(ctx, m)
		switch {
		case offline && s.store.offline == "" && ev.Picked == nil:
			// The network has come.
			d := at(m.Selected())
			if m.Counting() {
				d = s.defaults()
			}
			m = s.newMenu(ctx, d)
			m.Status("inetboot: " + s.ready())
		case ev.Reload && offline:
			selected := m.Selected()
			s.connect(ctx)
			m = s.newMenu(ctx, at(selected))
			m.Status("inetboot: " + s.ready())
		case ev.Reload:
			s.con.Scroll()
			selected := m.Selected()
			text := s.ready()
			if err := s.reload(ctx); err != nil {
				text = explain(err)
				s.say("%s", text)
			}
			m = s.newMenu(ctx, at(selected))
			m.Status("inetboot: " + text)
		case ev.Picked != nil:
			id := ev.Picked.ID
			entry := s.store.menu.Find(id)
			s.con.Scroll()
			err := s.start(ctx, entry)
			if err == nil || ctx.Err() != nil {
				return // only if ctx ended: a started entry does not come back
			}
			text := explain(err)
			s.say("%s", text)
			// What is wrong may have been put right in the meantime.
			if s.store.offline == "" && s.net.Config() != nil {
				if err := s.reload(ctx); err != nil {
					s.say("%s", explain(err))
				}
			}
			d := at(id)
			if ev.Timed {
				d.seconds = bootPause
			}
			m = s.newMenu(ctx, d)
			m.Status("inetboot: " + text)
		default: // the cache has been found
			m.SetItems(s.items(ctx))
		}
	}
}

// choose shows m until something is chosen, or there is news: offline, that
// the network has come; else, once, that the search for the cache is over.
func (s *session) choose(ctx context.Context, m *menu.Model) menu.Event {
	if s.store.offline == "" {
		var news <-chan struct{}
		if s.cache != nil && !s.cacheShown {
			news = s.cache.Done()
		}
		return choose(ctx, s.con, m, news)
	}
	found, stop := s.background(ctx)
	defer stop()
	return choose(ctx, s.con, m, found)
}

// ready says what the menu is like.
func (s *session) ready() string {
	if s.store.offline == "" {
		return "menu ready"
	}
	return "menu ready, offline: " + s.store.offline
}

// standing is where a menu stands, and after how many seconds that entry
// boots; below 0: not by itself.
type standing struct {
	id      string
	seconds int
}

// at is an entry that does not boot by itself.
func at(id string) standing { return standing{id, -1} }

// defaults returns the entry that boots unattended. Where none does, the menu
// stands on the one that was started last.
func (s *session) defaults() standing {
	d := standing{s.store.menu.Default, s.store.menu.Timeout}
	if s.set.Entry != "" {
		d = standing{s.set.Entry, 0}
	}
	if s.set.Timeout != nil {
		d.seconds = *s.set.Timeout
	}
	if disk := s.cache.Disk(); disk != nil && d.id == "" {
		d = at(disk.State().Entry)
	}
	return d
}

func (s *session) newMenu(ctx context.Context, d standing) *menu.Model {
	st := s.store.menu
	title := st.Title
	if title == "" {
		title = "InetBoot"
	}
	if s.store.offline != "" {
		title += " (offline)"
	}
	if s.store.menu.Find(d.id) == nil && d.id != s.set.Entry {
		d.id = "" // gone since
	}
	return menu.New(menu.Options{Title: title, Items: s.items(ctx), Default: d.id, Timeout: d.seconds, Reload: true})
}

// items returns the menu's items, with what is known about the cache by now.
func (s *session) items(ctx context.Context) []menu.Item {
	if s.cache != nil {
		select {
		case <-s.cache.Done():
			s.cacheShown = true
		default:
		}
	}
	return items(s.store.menu.Entries, runtime.GOARCH, s.completeImages(ctx), s.store.offline != "")
}

// notOffline is why an entry cannot be started without a network.
const notOffline = "it is not in the cache, and there is no network to get it from"

// items turns the publisher's entries into items. Entries for other machines
// are left out; those that this version cannot start, or not while offline,
// say so. complete has the images that the cache has whole.
func items(entries []catalog.Entry, arch string, complete map[string]bool, offline bool) []menu.Item {
	out := []menu.Item{}
	for i := range entries {
		e := &entries[i]
		if len(e.Arch) > 0 && !forArch(e, arch) {
			continue
		}
		it := menu.Item{ID: e.ID, Title: console.Printable(e.Title), Help: e.Help}
		if err := e.Usable(arch); err != nil {
			it.Blocked = console.Printable(err.Error())
		} else if len(e.Entries) > 0 {
			it.Items = items(e.Entries, arch, complete, offline)
		} else if complete[e.Image] {
			it.Note = "in the cache"
		} else if offline && e.Image != "" {
			it.Blocked = notOffline
		}
		out = append(out, it)
	}
	return out
}

func forArch(e *catalog.Entry, arch string) bool {
	for _, a := range e.Arch {
		if a == arch {
			return true
		}
	}
	return false
}

// reload reads the newest catalog and menu. On an error the old ones stay.
func (s *session) reload(ctx context.Context) error {
	st, err := s.load(ctx, s.store.client)
	if err != nil {
		return err
	}
	s.store = st
	return nil
}

// start does what an entry says. It returns only with an error.
func (s *session) start(ctx context.Context, e *catalog.Entry) error {
	if e == nil {
		return fmt.Errorf("this entry is no longer in the menu")
	}
	switch e.Action {
	case catalog.ActionReboot:
		return part(e.ID, endMachine(s.con, rebootID))
	case catalog.ActionPowerOff:
		return part(e.ID, endMachine(s.con, powerOffID))
	case catalog.ActionLocalDisk:
		return s.localDisk(ctx)
	}
	return s.boot(ctx, e)
}
