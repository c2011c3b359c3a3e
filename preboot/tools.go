package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/preboot/boot"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/form"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/system"
)

// Ids of items that are not the publisher's.
const (
	retryID     = "retry"
	backID      = "back"
	editID      = "edit"
	networkID   = "network"
	undoID      = "undo"
	mirrorID    = "mirror"
	urlID       = "url"
	storeID     = "store"
	logID       = "log"
	kernelLogID = "kernel-log"
	readID      = "read"
	localDiskID = "local-disk"
	rebootID    = "reboot"
	powerOffID  = "poweroff"
)

// next is what a person wants after something has been shown or changed.
type next int

const (
	stay      next = iota // nothing has changed
	again                 // what failed is to be tried again, what was read to be read again
	reconnect             // the settings have changed: the store is to be looked for
)

func endItems(retry string) []menu.Item {
	items := []menu.Item{
		{ID: rebootID, Title: "Restart this machine"},
		{ID: powerOffID, Title: "Switch this machine off"},
	}
	if retry != "" {
		items = append([]menu.Item{{ID: retryID, Title: retry}}, items...)
	}
	return items
}

// remedies are what is offered wherever something has failed.
func (s *session) remedies(retry, back string) []menu.Item {
	items := []menu.Item{{ID: retryID, Title: retry}}
	if s.before != nil {
		items = append(items, menu.Item{ID: undoID, Title: "Go back to the settings from before", Help: "Undoes what was changed last: " + s.before.what + "."})
	}
	if s.set.Image != "" {
		items = append(items, menu.Item{ID: urlID, Title: "Type another URL"})
	}
	if len(s.set.URLs) > 0 {
		items = append(items, menu.Item{ID: mirrorID, Title: "Choose another mirror", Help: "Where the store is read from: one of the mirrors that are known, or an address that you type."})
	}
	items = append(items,
		menu.Item{ID: networkID, Title: "Change the network settings", Help: networkHelp},
		menu.Item{ID: logID, Title: "Look at the log", Help: "All that has been tried since the start."},
	)
	if back != "" {
		items = append(items, menu.Item{ID: backID, Title: back})
	}
	return append(items, endItems("")...)
}

const networkHelp = "Automatic or static address, VLAN, name servers, HTTP proxy."

// failed shows what has gone wrong and what can be done about it. Unless
// seconds is below 0, it is tried again when the time is over. An empty
// back offers no way back.
func (s *session) failed(ctx context.Context, title, text, back string, seconds int) next {
	s.tellFailure(ctx, text)
	for ctx.Err() == nil {
		ev := s.ask(ctx, menu.Options{
			Title: "InetBoot: " + title, Text: text + "\n" + s.circumstances(), Items: s.remedies("Try again", back), Default: retryID, Timeout: seconds, Back: back != "",
			More: "more",
		})
		if ev.More {
			ev = s.ask(ctx, menu.Options{Title: "InetBoot: this machine", Items: s.machineItems(), Timeout: -1, Back: true})
			ev.Back, seconds = false, -1 // Escape leads to what has failed
		}
		switch {
		case ev.Back || ev.Picked != nil && ev.Picked.ID == backID:
			return stay
		case ev.Picked == nil:
			continue
		case ev.Picked.ID == retryID:
			return again
		}
		seconds = -1
		n, err := s.tool(ctx, ev.Picked.ID)
		if errors.Is(err, errCancelled) {
			continue
		}
		if err != nil {
			text = explain(err)
			s.say("%s", text)
		} else if n != stay {
			return n
		}
	}
	return stay
}

// circumstances says over what, and by whose leave, the store is asked.
func (s *session) circumstances() string {
	var parts []string
	if c := s.net.Config(); c != nil && len(c.Addresses) > 0 {
		how := "from router advertisements"
		switch {
		case c.Lease != nil:
			how = "by DHCP from " + c.Lease.Server.String()
		case c.Lease6 != nil:
			how = "by DHCPv6"
		case len(s.set.Network.Addresses) > 0:
			how = "static"
		}
		parts = append(parts, fmt.Sprintf("%s, address %s %s", c.Link, strings.ReplaceAll(join(c.Addresses), ",", ", "), how))
	}
	proxy := s.set.Proxy
	if s.store != nil && s.store.proxy != "" {
		proxy = s.store.proxy
	}
	if proxy != "" {
		parts = append(parts, "proxy "+withoutPassword(proxy))
	}
	if s.store != nil && s.store.client != nil {
		parts = append(parts, "mirrors "+strings.Join(s.store.client.URLs(), ", "))
	} else if len(s.set.URLs) > 0 {
		parts = append(parts, "store "+strings.Join(s.set.URLs, ", "))
	}
	return "Tried with: " + strings.Join(parts, "; ")
}

// toolItems are what the key Tab leads to. edit is the title of the entry whose
// command line can be edited; "": there is none.
func (s *session) toolItems(edit string) []menu.Item {
	var items []menu.Item
	if edit != "" {
		items = append(items, menu.Item{ID: editID, Title: "Edit the command line of " + edit, Help: "What its kernel is told, for this start alone."})
	}
	items = append(items,
		menu.Item{ID: networkID, Title: "Network settings", Help: networkHelp},
		menu.Item{ID: mirrorID, Title: "Choose a mirror", Help: "Where the store is read from."},
		menu.Item{ID: urlID, Title: "Start an image by its URL", Help: "An image that is in no menu: the URL of its manifest."},
		menu.Item{ID: logID, Title: "Look at the log"},
		kernelLogItem(),
		menu.Item{ID: readID, Title: "Read the menu again"},
		localDiskItem(),
	)
	return append(items, endItems("")...)
}

// machineItems are those of toolItems that need neither a menu nor a store, and
// for which there is no room beside the remedies.
func (s *session) machineItems() []menu.Item {
	return append([]menu.Item{kernelLogItem(), localDiskItem()}, endItems("")...)
}

func kernelLogItem() menu.Item {
	return menu.Item{ID: kernelLogID, Title: "Look at the kernel's messages", Help: "What drivers say about this machine's hardware."}
}

func localDiskItem() menu.Item {
	return menu.Item{ID: localDiskID, Title: "Start from the local disk", Help: "Restarts this machine, so that its firmware takes the disk."}
}

// tool does what an item of toolItems or remedies says.
func (s *session) tool(ctx context.Context, id string) (next, error) {
	switch id {
	case networkID:
		return s.editNetwork(ctx), nil
	case undoID:
		s.undo()
		return reconnect, nil
	case mirrorID:
		return s.chooseMirror(ctx), nil
	case storeID:
		return s.editStore(ctx), nil
	case urlID:
		if url, ok := s.typeURL(ctx); ok {
			return again, s.changeImage(url)
		}
	case logID:
		page(ctx, s.con, "Log", s.con.Lines())
	case kernelLogID:
		lines, err := system.KernelLog()
		if err != nil {
			return stay, part("log", err)
		}
		for i := range lines {
			lines[i] = console.Printable(lines[i])
		}
		page(ctx, s.con, "Messages of the kernel", lines)
	case readID:
		return again, nil
	case localDiskID:
		s.con.Scroll()
		return stay, s.localDisk(ctx)
	case rebootID, powerOffID:
		return stay, part(id, s.end(id))
	}
	return stay, nil
}

// more shows the tools, with the entry of that id in mind. It returns a line
// for the menu, too.
func (s *session) more(ctx context.Context, id string) (next, string) {
	edit := ""
	if e := s.store.menu.Find(id); e != nil && e.Image != "" {
		edit = e.Title
	}
	tools := s.toolItems(edit)
	if s.onlySetup() {
		tools = slices.DeleteFunc(tools, func(it menu.Item) bool { return it.ID == urlID })
	}
	ev := s.ask(ctx, menu.Options{Title: "InetBoot: this machine", Items: tools, Timeout: -1, Back: true})
	if ev.Picked == nil {
		return stay, ""
	}
	switch ev.Picked.ID {
	case editID:
		return again, s.attempt(ctx, false, s.edited(id))
	case urlID:
		url, ok := s.typeURL(ctx)
		if !ok {
			return stay, ""
		}
		return again, s.attempt(ctx, false, func(ctx context.Context) error { return s.direct(ctx, url) })
	}
	n, err := s.tool(ctx, ev.Picked.ID)
	switch {
	case errors.Is(err, errCancelled):
	case err != nil:
		text := explain(err)
		s.say("%s", text)
		return stay, text
	}
	return n, ""
}

// edited returns what starts an entry with a command line that a person types.
// It is typed once and kept for further attempts.
func (s *session) edited(id string) func(context.Context) error {
	line, typed := "", false
	return func(ctx context.Context) error {
		e := s.store.menu.Find(id)
		if e == nil {
			return errGone
		}
		p, err := s.plan(ctx, e)
		if err != nil {
			return err
		}
		if !typed {
			if line, typed = s.editLine(ctx, e.Title, p); !typed {
				return errCancelled
			}
		}
		s.con.Scroll()
		p.line = line
		s.say("starting %s with another command line", e.ID)
		return s.execute(ctx, p)
	}
}

// editLine lets a person change the target's command line.
func (s *session) editLine(ctx context.Context, title string, p *plan) (string, bool) {
	const id = "line"
	f := form.New(form.Options{
		Title: "InetBoot: the command line of " + title,
		Text:  "It counts for this start alone. What preboot needs itself is added.",
		Fields: []form.Field{
			{ID: id, Label: "Command line", Above: true, Value: p.line, Max: boot.MaxCommandLine, Help: "Options for the kernel and the system, separated by spaces. Emptying it with Ctrl-U is possible, too."},
		},
		Submit: "Start it",
	})
	ok := fill(ctx, s.con, f, func() (string, error) {
		_, err := boot.CommandLine(p.img, f.Value(id), s.id)
		return id, err
	})
	return strings.TrimSpace(f.Value(id)), ok
}
