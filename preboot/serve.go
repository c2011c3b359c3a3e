package main

import (
	"context"
	"errors"
	"runtime"
	"strings"

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
	show := func(d standing, text string) *menu.Model {
		s.startFacts(ctx)
		m := s.newMenu(ctx, d)
		m.Status("inetboot: " + text)
		return m
	}
	text := s.runScript(ctx)
	if ctx.Err() != nil {
		return
	}
	m := show(s.defaults(), text)
	for ctx.Err() == nil && s.store != nil && (s.store.offline != "" || s.net.Config() != nil) {
		offline := s.store.offline != ""
		ev := s.choose(ctx, m)
		selected := m.Selected()
		switch {
		case offline && s.store.offline == "" && ev.Picked == nil:
			// The network has come.
			d := at(selected)
			if m.Counting() {
				d = s.defaults()
			}
			m = show(d, s.ready())
		case ev.Reload:
			s.con.Scroll()
			m = show(at(selected), s.readAgain(ctx))
		case ev.More:
			switch n, text := s.more(ctx, selected); {
			case n == stay:
				if text != "" {
					m.Status("inetboot: " + text)
				}
			case text != "":
				m = show(at(selected), text)
			case n == reconnect:
				s.connect(ctx)
				m = show(at(selected), s.ready())
			default:
				m = show(at(selected), s.readAgain(ctx))
			}
		case ev.Picked != nil && ev.Picked.ID == announceID:
			text := s.announce(ctx)
			m = show(at(announceID), text)
		case ev.Picked != nil:
			id := ev.Picked.ID
			text := s.attempt(ctx, ev.Timed, func(ctx context.Context) error { return s.start(ctx, s.store.menu.Find(id)) })
			m = show(at(id), text)
		default: // something is known about the entries that was not
			m.SetItems(s.items(ctx))
		}
	}
}

// attempt does something that returns only with an error, until the person
// wants back to the menu. It returns what the menu is to say then. What was
// not chosen by a person is tried again by itself.
func (s *session) attempt(ctx context.Context, timed bool, try func(context.Context) error) string {
	s.store.facts.stop()
	for {
		s.con.Scroll()
		err := try(ctx)
		if err == nil || ctx.Err() != nil {
			return ""
		}
		text := explainAll(err)
		if err == errCancelled {
			text = s.ready()
		} else {
			s.say("%s", text)
		}
		n := stay
		if !isCancelled(err) {
			pause := -1
			if timed {
				pause = bootPause
			}
			n = s.failed(ctx, "this could not be started", text, "Back to the menu", pause)
		}
		if n == reconnect && s.set.Store() {
			s.connect(ctx)
		}
		// What is wrong may have been put right in the meantime.
		if s.store.offline == "" && s.net.Config() != nil {
			if err := s.reload(ctx); err != nil {
				s.say("%s", explain(err))
			}
		}
		if n == stay || ctx.Err() != nil {
			return text
		}
	}
}

// isCancelled tells whether a person knows why something ended.
func isCancelled(err error) bool {
	var d *declinedError
	return errors.Is(err, errCancelled) || errors.As(err, &d) || errors.Is(err, errGone)
}

// errGone is returned for an entry that the newest menu does not have.
var errGone = errors.New("this entry is no longer in the menu")

// readAgain reads the newest catalog and menu, as often as the person wants,
// and returns what the menu is to say.
func (s *session) readAgain(ctx context.Context) string {
	if s.store.offline != "" {
		s.connect(ctx)
		return s.ready()
	}
	for {
		err := s.reload(ctx)
		if err == nil || ctx.Err() != nil {
			return s.ready()
		}
		text := explain(err)
		s.say("%s", text)
		switch s.failed(ctx, "the newest menu cannot be read", text, "Back to the menu", -1) {
		case stay:
			return text
		case reconnect:
			s.connect(ctx)
			return s.ready()
		}
	}
}

// choose shows m until something is chosen, or there is news: about the
// entries; offline, that the network has come; else, once, that the search for
// the cache is over.
func (s *session) choose(ctx context.Context, m *menu.Model) menu.Event {
	if s.store.offline == "" {
		var found <-chan struct{}
		if s.cache != nil && !s.cacheShown {
			found = s.cache.Done()
		}
		return choose(ctx, s.con, m, found, s.store.facts.wake())
	}
	found, stop := s.background(ctx)
	defer stop()
	return choose(ctx, s.con, m, found)
}

// ready says what the menu is like.
func (s *session) ready() string {
	text := "menu ready"
	if s.store.offline != "" {
		text += ", offline: " + s.store.offline
	}
	if note := s.machineNote(); note != "" {
		text += "; " + note
	}
	return text
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
	if s.onlySetup() {
		return s.setupDefaults()
	}
	d := standing{s.store.menu.Default, s.store.menu.Timeout}
	if id, _ := s.machineEntry(); id != "" {
		d.id = id
	}
	if a := s.machine.answer; a != nil && a.Timeout != nil {
		d.seconds = *a.Timeout
	}
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
	text := ""
	switch {
	case s.onlySetup():
		title, text = "InetBoot: this machine is not known", s.setupText()
		if d.id != announceID && s.store.menu.Find(d.id) == nil {
			d = at(announceID)
		}
	case s.store.menu.Find(d.id) == nil && d.id != s.set.Entry:
		d.id = "" // gone since
	}
	return menu.New(menu.Options{Title: title, Text: text, Items: s.items(ctx), Heads: factHeads(), Default: d.id, Timeout: d.seconds, Reload: true, More: "network, mirror, log"})
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
	list := items(s.entries(), known{arch: runtime.GOARCH, complete: s.completeImages(ctx), offline: s.store.offline != "", facts: s.store.facts.get})
	if s.onlySetup() {
		list = append([]menu.Item{announceItem()}, list...)
	}
	return list
}

// notOffline is why an entry cannot be started without a network.
const notOffline = "it is not in the cache, and there is no network to get it from"

// known is what is known about this machine and the images.
type known struct {
	arch     string
	complete map[string]bool // images that the cache has whole
	offline  bool
	facts    func(image string) *facts // nil: they are not known
}

// items turns the publisher's entries into items. Entries for other machines
// are left out; those that this version cannot start, or not while offline,
// say so.
func items(entries []catalog.Entry, k known) []menu.Item {
	out := []menu.Item{}
	for i := range entries {
		e := &entries[i]
		if len(e.Arch) > 0 && !forArch(e, k.arch) {
			continue
		}
		it := menu.Item{ID: e.ID, Title: console.Printable(e.Title), Help: e.Help}
		if err := e.Usable(k.arch); err != nil {
			it.Blocked = console.Printable(err.Error())
		} else if len(e.Entries) > 0 {
			it.Items = items(e.Entries, k)
		} else if e.Image != "" {
			k.describe(&it, e.Image)
		}
		out = append(out, it)
	}
	return out
}

// describe adds to an item what is known about its image.
func (k *known) describe(it *menu.Item, image string) {
	f := k.facts(image)
	if f == nil {
		f = &facts{}
	}
	cached := ""
	if k.complete[image] {
		cached = "yes"
	} else if k.offline {
		it.Blocked = notOffline
	}
	if f.version != "" || cached != "" {
		load := ""
		if f.load > 0 {
			load = size(f.load)
		}
		it.Facts = []string{f.version, load, memorySize(f.memory), cached}
	}
	if f.short != "" {
		it.Note = "too little memory"
		it.Help = strings.TrimRight("("+f.short+")\n"+it.Help, "\n")
	}
	if more := f.sizes(); more != "" {
		it.Help = strings.TrimLeft(it.Help+"\n"+more, "\n")
	}
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
	var asked <-chan machine
	c := s.net.Config()
	if c != nil {
		asked = s.askMachine(ctx, c, s.store.client.HTTP())
	}
	st, err := s.load(ctx, s.store.client)
	if err != nil {
		return err
	}
	s.store.facts.stop()
	st.proxy, s.store = s.store.proxy, st
	if asked != nil {
		s.machine = <-asked
		s.tellMachine()
	}
	return nil
}

// start does what an entry says. It returns only with an error.
func (s *session) start(ctx context.Context, e *catalog.Entry) error {
	if e == nil {
		return errGone
	}
	switch e.Action {
	case catalog.ActionReboot:
		return part(e.ID, s.end(rebootID))
	case catalog.ActionPowerOff:
		return part(e.ID, s.end(powerOffID))
	case catalog.ActionLocalDisk:
		return s.localDisk(ctx)
	}
	return s.boot(ctx, e)
}
