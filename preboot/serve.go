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
	m := s.newMenu(s.defaults())
	m.Status("inetboot: menu ready")
	for ctx.Err() == nil && s.net.Config() != nil {
		ev := choose(ctx, s.con, m)
		switch {
		case ev.Reload:
			s.con.Scroll()
			at := m.Selected()
			text := "menu ready"
			if err := s.reload(ctx); err != nil {
				text = explain(err)
				s.say("%s", text)
			}
			m = s.newMenu(at, -1)
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
			if s.net.Config() != nil {
				if err := s.reload(ctx); err != nil {
					s.say("%s", explain(err))
				}
			}
			seconds := -1
			if ev.Timed {
				seconds = bootPause
			}
			m = s.newMenu(id, seconds)
			m.Status("inetboot: " + text)
		}
	}
}

// defaults returns the entry that boots unattended, and after how many
// seconds.
func (s *session) defaults() (id string, seconds int) {
	id, seconds = s.store.menu.Default, s.store.menu.Timeout
	if s.set.Entry != "" {
		id, seconds = s.set.Entry, 0
	}
	if s.set.Timeout != nil {
		seconds = *s.set.Timeout
	}
	return id, seconds
}

func (s *session) newMenu(id string, seconds int) *menu.Model {
	st := s.store.menu
	title := st.Title
	if title == "" {
		title = "InetBoot"
	}
	if s.store.menu.Find(id) == nil && id != s.set.Entry {
		id = "" // gone since
	}
	return menu.New(menu.Options{Title: title, Items: items(st.Entries, runtime.GOARCH), Default: id, Timeout: seconds, Reload: true})
}

// items turns the publisher's entries into items. Entries for other machines
// are left out; those that this version cannot start say so.
func items(entries []catalog.Entry, arch string) []menu.Item {
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
			it.Items = items(e.Entries, arch)
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
