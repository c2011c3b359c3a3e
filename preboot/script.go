package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/bootscript"
	"github.com/inetboot/inetboot/preboot/boot"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/download"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/settings"
)

// runScript runs the script that the command line names, once. It returns what
// the menu is to say afterwards.
func (s *session) runScript(ctx context.Context) string {
	sc := s.set.Script
	if sc == nil || s.scripted {
		return s.ready()
	}
	s.scripted = true
	s.say("script %s", sc.Name)
	err := s.script(ctx, sc)
	s.con.Scroll()
	switch {
	case err == nil:
		s.say("the script has ended")
	case !errors.Is(err, errCancelled) && ctx.Err() == nil:
		text := explain(part("script "+sc.Name, err))
		s.say("%s", text)
		return text
	}
	return s.ready()
}

func (s *session) script(ctx context.Context, sc *settings.Script) error {
	data, err := s.readScript(ctx, sc)
	if err != nil {
		return err
	}
	p, err := bootscript.Parse(data)
	if err != nil {
		return err
	}
	return p.Run(ctx, &scriptMachine{s, sc.Name}, sc.Limit)
}

// readScript reads a script that the catalog lists, or whose hash is known.
func (s *session) readScript(ctx context.Context, sc *settings.Script) ([]byte, error) {
	if sc.Digest.IsZero() {
		return s.store.catalog.File(ctx, bootscript.Prefix+sc.Name, bootscript.MaxSize)
	}
	return s.store.source.Read(ctx, sc.Name, nil, bootscript.MaxSize, func(data []byte) error {
		return sc.Digest.Check(sc.Name, data)
	})
}

// scriptMachine is this machine as scripts see it.
type scriptMachine struct {
	s    *session
	name string // of the script
}

var _ bootscript.Machine = (*scriptMachine)(nil)

// Print implements bootscript.Machine.
func (m *scriptMachine) Print(line string) { m.s.con.Print(console.Printable(line)) }

// Fact implements bootscript.Machine.
func (m *scriptMachine) Fact(name string) string {
	switch name {
	case "arch":
		return runtime.GOARCH
	case "memory":
		if mem, err := download.ReadMemory("/proc/iomem", "/proc/meminfo"); err == nil && mem.Physical > 0 {
			return fmt.Sprint(mem.Physical >> 20)
		}
	case "offline":
		return console.Printable(m.s.store.offline)
	}
	c := m.s.net.Config()
	if c == nil {
		return ""
	}
	switch name {
	case "link":
		return c.Link
	case "mac":
		return c.MAC
	case "ip":
		if len(c.Addresses) > 0 {
			return c.Addresses[0].Addr().String()
		}
	}
	return ""
}

// Network implements bootscript.Machine.
func (m *scriptMachine) Network(ctx context.Context) error {
	if m.s.store.offline == "" {
		return nil
	}
	found, stop := m.s.background(ctx)
	defer stop()
	select {
	case <-found:
		return nil
	case <-ctx.Done():
		return errors.New(m.s.store.offline)
	}
}

// Choose implements bootscript.Machine. Escape fails the script's command.
func (m *scriptMachine) Choose(ctx context.Context, sm bootscript.Menu) (string, error) {
	const own = "item " // keeps the items apart from preboot's own
	o := menu.Options{Title: console.Printable(sm.Title), Default: own + sm.Default, Timeout: sm.Timeout, Back: true}
	for _, it := range sm.Items {
		o.Items = append(o.Items, menu.Item{ID: own + it.ID, Title: console.Printable(it.Title)})
	}
	ev := m.s.ask(ctx, o)
	if ev.Picked == nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", errCancelled
	}
	return strings.TrimPrefix(ev.Picked.ID, own), nil
}

// End implements bootscript.Machine.
func (m *scriptMachine) End(ctx context.Context, action string) error {
	return m.s.start(ctx, &catalog.Entry{ID: action, Action: catalog.Action(action)})
}

// Boot implements bootscript.Machine.
func (m *scriptMachine) Boot(ctx context.Context, b bootscript.Boot) error {
	if b.Entry == "" {
		return m.bootKernel(ctx, b)
	}
	e := m.s.store.menu.Find(b.Entry)
	switch {
	case e == nil:
		return fmt.Errorf("there is no entry %s in the menu", b.Entry)
	case e.Image == "" && e.Action == "":
		return fmt.Errorf("the entry %s is a submenu", b.Entry)
	}
	if err := e.Usable(runtime.GOARCH); err != nil {
		return err
	}
	own := *e
	own.Cmdline = strings.TrimSpace(own.Cmdline + " " + b.Cmdline)
	return m.s.start(ctx, &own)
}

// bootKernel starts a kernel and initrds that the script has named one by one.
func (m *scriptMachine) bootKernel(ctx context.Context, b bootscript.Boot) error {
	s, st := m.s, m.s.store
	if err := s.checkFloor(ctx); err != nil {
		return part("catalog", err)
	}
	var images []*catalog.Image
	for _, name := range slices.Concat([]string{b.Kernel}, b.Initrds) {
		img, err := st.catalog.Image(ctx, name)
		if err != nil {
			return part("manifest", err)
		}
		images = append(images, img)
	}
	if err := startable(images[0]); err != nil {
		return part("manifest", err)
	}
	p := &plan{id: "script " + m.name, source: st.source, proxy: st.proxy, offline: st.offline != ""}
	var first *catalog.Image
	for i, initrd := range images[1:] {
		// Each initrd has to be one that starts without a root.
		if _, err := catalog.Combine(images[0], initrd); err != nil {
			return part("manifest", err)
		}
		if i == 0 {
			first = initrd
		} else {
			p.more = append(p.more, initrd)
		}
	}
	var err error
	if p.img, err = catalog.Combine(images[0], first); err != nil {
		return part("manifest", err)
	}
	p.line = boot.Options(p.img, []string{b.Cmdline}, s.passed(p.img))
	return s.execute(ctx, p)
}
