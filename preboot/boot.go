package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/syslog"
	"github.com/inetboot/inetboot/preboot/boot"
	"github.com/inetboot/inetboot/preboot/bzimage"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/download"
	"github.com/inetboot/inetboot/preboot/system"
)

// errCancelled says that a person has gone back to the menu.
var errCancelled = errors.New("cancelled")

// errArch is wrapped when an image is for other machines.
var errArch = errors.New("wrong architecture")

// fetch downloads an image and shows how far it is. Escape goes back.
func (s *session) fetch(ctx context.Context, p *plan) (*download.Files, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var now atomic.Pointer[download.Sizes]
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		begin := time.Now()
		var r rate
		for {
			select {
			case k := <-s.con.Keys():
				if k == console.Escape {
					cancel(errCancelled)
				}
			case t := <-tick.C:
				if n := now.Load(); n != nil {
					s.con.Progress(progressLine(*n, r.at(n.Done(), t.Sub(begin))))
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	begin := time.Now()
	before := p.source.Cached()
	files, err := download.Fetch(ctx, p.source, p.img, func(n download.Sizes) { now.Store(&n) }, s.markFile, p.more...)
	cancel(nil)
	<-shown
	s.con.Progress("")
	if err != nil {
		return nil, part("download", err)
	}
	n := files.Kernel.Size()
	if files.Initrd != nil {
		n += files.Initrd.Size()
	}
	for _, f := range files.Below {
		n += f.Size()
	}
	took := max(time.Since(begin), time.Millisecond)
	s.say("%s in %.1f s, %s/s", origin(n, p.source.Cached()-before), took.Seconds(), size(int64(float64(n)/took.Seconds())))
	return files, nil
}

// origin says where n bytes of kernel and initrd came from.
func origin(n, cached int64) string {
	switch {
	case cached >= n:
		return "read from the cache and verified " + size(n)
	case cached > 0:
		return fmt.Sprintf("downloaded and verified %s, %s of it from the cache,", size(n), size(cached))
	}
	return "downloaded and verified " + size(n)
}

// markFile notes when the kernel and the initrd are there.
func (s *session) markFile(what string) {
	if what == "kernel" || what == "initrd" {
		s.line.mark(what)
	}
}

// handOver puts the handoff and the settings behind the initrd.
func (s *session) handOver(ctx context.Context, p *plan, files *download.Files) error {
	s.line.mark("kexec")
	h := newHandoff(p.img, s.id, s.line.stages())
	h.Entry, h.Proxy, h.CA = p.entry, p.proxy, s.set.CA
	h.Mirrors = p.mirrors(ctx)
	if h.Offline = p.offline; !h.Offline {
		c := s.net.Config()
		if c == nil {
			return part("network", errors.New("the connection is gone"))
		}
		h.Network = c.Network
		if r := s.receiver(c); r != (syslog.Receiver{}) {
			h.Syslog = r.String()
		}
		if len(s.set.Nameservers) > 0 {
			h.Network.Nameservers = s.set.Nameservers
		}
	}
	h.Cache, h.CatalogVersion = s.handoffCache(), p.version
	var kept map[string][]byte
	if p.keep != nil && (h.Cache.Mode == "" || h.Cache.Mode == handoff.CacheAuto) {
		h.Keep, kept = p.keep(ctx)
	}
	if kept == nil {
		kept = make(map[string][]byte)
	}
	for _, f := range p.settings {
		h.Settings = append(h.Settings, handoff.StoreFile{Path: f.Path, Blob: f.Blob})
		kept[f.Path] = p.source.Kept(f.Path)
	}
	if f := p.machine; f != nil {
		h.Settings = append(h.Settings, handoff.StoreFile{Path: f.Path, Blob: f.Blob})
		kept[f.Path] = p.document
		h.Variables = s.machine.answer.Variables
	}
	archive, err := h.Archive(files.Indexes, kept)
	if err != nil {
		return part("handoff", err)
	}
	return part("initrd", files.Initrd.Append(archive))
}

// loadFiles gives the files to the kernel.
func (s *session) loadFiles(files *download.Files, cmdline string) error {
	kernel, err := files.Kernel.ReadOnly()
	if err != nil {
		return part("kernel", err)
	}
	defer kernel.Close()
	var initrd *os.File
	if files.Initrd != nil {
		if initrd, err = files.Initrd.ReadOnly(); err != nil {
			return part("initrd", err)
		}
		defer initrd.Close()
	}
	s.say("command line: %s", cmdline)
	err = s.kexec.load(kernel, initrd, cmdline)
	if err == nil {
		s.say("kernel and initrd are loaded (kexec_file_load)")
		return nil
	}
	if !errors.Is(err, boot.ErrKind) {
		return part("kernel", err)
	}
	switch low := loadLow(kernel, initrd, cmdline); {
	case errors.Is(low, bzimage.ErrFormat):
		return part("kernel", err)
	case low != nil:
		return part("kernel", low)
	}
	s.say("kernel and initrd are loaded (kexec_load)")
	return nil
}

// newHandoff says what the catalog says. Who calls it adds the network and the
// store's mirrors.
func newHandoff(img *catalog.Image, id string, stages []handoff.Stage) *handoff.Handoff {
	man := img.Manifest()
	h := &handoff.Handoff{
		BootID: id,
		Image:  handoff.Image{Name: man.Name, Version: man.Version, Arch: man.Arch, Manifest: img.Digest()},
		Root:   handoff.Root{Type: man.Root.Type},
		Stages: stages,
	}
	for _, f := range man.Root.Files {
		h.Root.Files = append(h.Root.Files, handoff.RootFile{Name: f.Name, Size: f.Size, Index: f.Index})
	}
	return h
}

// keep returns what a cache has to have of the store, besides blocks, to start
// the entry again without a network, and those of the files that the target
// cannot get as easily itself: the catalog's metadata, the targets of these
// names and settings, as they were verified.
func (st *store) keep(ctx context.Context, names []string, img *catalog.Image, settings []catalog.SettingsFile) ([]handoff.StoreFile, map[string][]byte) {
	var list []handoff.StoreFile
	files := make(map[string][]byte)
	for _, name := range names {
		b, err := st.catalog.Blob(ctx, name)
		if err != nil {
			continue // not all need exist
		}
		path := storepath.Target(name, b.SHA256)
		if data := st.source.Kept(path); data != nil {
			files[path] = data
			list = append(list, handoff.StoreFile{Path: path, Blob: b})
		}
	}
	for _, f := range settings {
		if data := st.source.Kept(f.Path); data != nil {
			files[f.Path] = data
			list = append(list, handoff.StoreFile{Path: f.Path, Blob: f.Blob})
		}
	}
	man := img.Manifest()
	for _, b := range man.Files() {
		list = append(list, handoff.StoreFile{Path: storepath.File(b.SHA256), Blob: b})
	}
	for _, f := range man.Root.Files {
		list = append(list, handoff.StoreFile{Path: storepath.Index(f.Index.SHA256), Blob: f.Index})
	}
	// The timestamp, which makes the rest count, is the last one.
	for _, f := range st.catalog.Trusted().Files() {
		files[f.Path] = f.Data
		list = append(list, handoff.StoreFile{Path: f.Path, Blob: digest.BlobOf(f.Data)})
	}
	return list, files
}

// jump starts what is loaded: links down first, so that no card writes into
// the next kernel's memory; consoles as they were.
func (s *session) jump(ctx context.Context, id string) error {
	s.cache.Close()
	s.log("leaving for " + id)
	s.log(s.line.text())
	s.tellLeaving(ctx)
	s.flushLog()
	s.syslog.Close()
	if err := s.net.Down(); err != nil {
		s.say("%v", err)
	}
	s.con.Print("inetboot: leaving for " + id)
	flush(s.con)
	s.con.Close()
	err := s.kexec.exec()
	// The consoles are gone; the supervisor opens them anew and says this.
	panic(fmt.Sprintf("%s was loaded but did not start: %v", id, err))
}

// diskPause is how long the person has to take the medium out.
const diskPause = 10 * time.Second

// localDisk restarts the machine, which is all that can be done from here: no
// firmware takes a boot back.
func (s *session) localDisk(ctx context.Context) error {
	s.say("this machine restarts in %d s: take the boot medium out now, or choose the disk in the firmware's boot menu (Esc: back)", diskPause/time.Second)
	end := time.After(diskPause)
	for {
		select {
		case k := <-s.con.Keys():
			if k == console.Escape {
				return part("local-disk", errCancelled)
			}
		case <-end:
			flush(s.con)
			return part("local-disk", system.Reboot())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
