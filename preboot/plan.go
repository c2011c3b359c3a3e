package main

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/bootscript"
	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/preboot/boot"
	"github.com/inetboot/inetboot/preboot/cache"
	"github.com/inetboot/inetboot/preboot/download"
)

// plan is what is to be started, and where it comes from.
type plan struct {
	id       string // for messages
	entry    string // the menu's entry; "": it is in no menu
	img      *catalog.Image
	more     []*catalog.Image // whose initrds follow
	settings []catalog.SettingsFile
	machine  *catalog.SettingsFile // of this machine, which goes over the others; nil: there is none
	document []byte                // that it is
	source   *cache.Source
	proxy    string // that leads to the store; "": none
	offline  bool
	version  uint64 // of the catalog; 0: none lists the image
	line     string // for the target's kernel, without the boot's marker

	mirrors func(context.Context) []string
	keep    func(context.Context) ([]handoff.StoreFile, map[string][]byte) // nil: nothing is kept
}

// plan finds out what an entry of the menu starts.
func (s *session) plan(ctx context.Context, e *catalog.Entry) (*plan, error) {
	if err := s.checkFloor(ctx); err != nil {
		return nil, part("catalog", err)
	}
	st := s.store
	img, err := st.catalog.Image(ctx, e.Image)
	if err != nil {
		return nil, part("manifest", err)
	}
	if err := startable(img); err != nil {
		return nil, part("manifest", err)
	}
	p := &plan{id: e.ID, entry: e.ID, img: img, source: st.source, proxy: st.proxy, offline: st.offline != "", version: st.catalog.Version()}
	if p.offline {
		p.proxy = s.set.Proxy // the target may get a network
	}
	if p.settings, err = st.catalog.Settings(ctx, img, e.ID); err != nil {
		return nil, part("settings", err)
	}
	s.freshMachine(ctx)
	if p.machine, p.document, err = s.machineDocument(); err != nil {
		return nil, err
	}
	for _, f := range p.apply() {
		s.say("settings %s", f.Name)
	}
	p.line = boot.Options(img, []string{e.Cmdline, cmdlineOf(p.apply())}, s.passed(img))
	p.mirrors = func(ctx context.Context) []string {
		if p.offline {
			return s.offlineURLs(ctx)
		}
		return st.client.URLs()
	}
	p.keep = func(ctx context.Context) ([]handoff.StoreFile, map[string][]byte) {
		// Of publishers' menus the one that the entry is in: others are no reason
		// for which it could not be started.
		names := []string{catalog.MenuName, catalog.MirrorsName, e.From, e.Image}
		if sc := s.set.Script; sc != nil {
			names = append(names, bootscript.Prefix+sc.Name)
		}
		return st.keep(ctx, names, img, p.settings)
	}
	return p, nil
}

// apply returns all documents of settings, the more general ones first.
func (p *plan) apply() []catalog.SettingsFile {
	if p.machine == nil {
		return p.settings
	}
	return append(slices.Clone(p.settings), *p.machine)
}

// startable returns an error that says why this machine cannot start an image,
// whatever it has.
func startable(img *catalog.Image) error {
	man := img.Manifest()
	if man.Arch != runtime.GOARCH {
		return fmt.Errorf("%w: the image is for %s, this machine is %s", errArch, man.Arch, runtime.GOARCH)
	}
	return nil
}

// passed returns the options of this machine's own command line that are for
// the image.
func (s *session) passed(img *catalog.Image) []string {
	man := img.Manifest()
	pass := s.set.Pass
	if man.NoRoot() {
		pass = slices.Concat(s.set.PassAlone, pass) // it sets its network up itself
	}
	if man.Hypervisor != nil {
		pass = firstDomain(pass)
	}
	return pass
}

// cmdlineOf returns what settings add to the kernel's command line.
func cmdlineOf(list []catalog.SettingsFile) string {
	var all []*bootsettings.Settings
	for _, f := range list {
		all = append(all, f.Settings)
	}
	return bootsettings.Merge(all...).Cmdline
}

// boot starts the image of an entry. It returns only with an error.
func (s *session) boot(ctx context.Context, e *catalog.Entry) error {
	s.say("starting %s", e.ID)
	p, err := s.plan(ctx, e)
	if err != nil {
		return err
	}
	return s.execute(ctx, p)
}

// execute downloads and starts what p says. It returns only with an error.
func (s *session) execute(ctx context.Context, p *plan) error {
	s.entry = p.entry
	man := p.img.Manifest()
	s.say("%s %s: kernel %s of %s, initrd of %s", man.Name, man.Version, man.Kernel.Release, size(man.Kernel.Size), size(man.Initrd.Size))
	if err := s.confirmDriver(ctx, p); err != nil {
		return part("driver", err)
	}
	if err := s.confirmMemory(ctx, p); err != nil {
		return part("memory", err)
	}
	cmdline, err := boot.CommandLine(p.img, p.line, s.id)
	if err != nil {
		return part("command line", err)
	}
	files, err := s.fetch(ctx, p)
	if err != nil {
		return err
	}
	defer files.Close()
	if man.NoRoot() {
		s.line.mark("kexec")
	} else if err := s.handOver(ctx, p, files); err != nil {
		return err
	}
	load := s.loadFiles
	if man.Hypervisor != nil {
		load = func(files *download.Files, cmdline string) error { return s.loadHypervisor(&man, files, cmdline) }
	}
	if err := load(files, cmdline); err != nil {
		return err
	}
	return s.jump(ctx, p.id)
}
