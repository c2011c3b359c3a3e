package main

import (
	"context"
	"time"

	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/form"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/pager"
)

// choose shows m until something is chosen. An empty event says that ctx
// ended, or that there is something in one of news.
func choose(ctx context.Context, con *console.Set, m *menu.Model, news ...<-chan struct{}) menu.Event {
	if ev := m.Due(); ev.Picked != nil {
		return ev
	}
	var wake [2]<-chan struct{}
	copy(wake[:], news)
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		con.Draw(m.Screen)
		var ev menu.Event
		select {
		case k := <-con.Keys():
			if k == console.Redraw {
				con.Redraw()
			}
			ev = m.Press(k)
		case <-second.C:
			ev = m.Tick()
		case <-wake[0]:
			return menu.Event{}
		case <-wake[1]:
			return menu.Event{}
		case <-ctx.Done():
			return menu.Event{}
		}
		if ev != (menu.Event{}) {
			return ev
		}
	}
}

// key shows a screen and waits for a key. It returns false if ctx ended.
func key(ctx context.Context, con *console.Set, screen func(console.Size) console.Screen) (console.Key, bool) {
	for {
		con.Draw(screen)
		select {
		case k := <-con.Keys():
			if k != console.Redraw {
				return k, true
			}
			con.Redraw()
		case <-ctx.Done():
			return 0, false
		}
	}
}

// fill shows a form until it is sent, with values that check, which says what
// is wrong with which field, lets through. It returns false if the person
// goes back.
func fill(ctx context.Context, con *console.Set, f *form.Model, check func() (field string, err error)) bool {
	for {
		k, ok := key(ctx, con, f.Screen)
		if !ok {
			return false
		}
		switch f.Press(k) {
		case form.Cancel:
			return false
		case form.Submit:
			field, err := check()
			if err == nil {
				return true
			}
			f.Fail(field, console.Printable(err.Error()))
		}
	}
}

// page shows a text until the person has seen enough.
func page(ctx context.Context, con *console.Set, title string, lines []string) {
	p := pager.New(title, lines)
	for {
		if k, ok := key(ctx, con, p.Screen); !ok || p.Press(k) {
			return
		}
	}
}
