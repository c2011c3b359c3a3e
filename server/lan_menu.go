package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/lan/bootmedia"
	"github.com/inetboot/inetboot/server/lan/bootmenu"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/lan/nbd"
	"github.com/inetboot/inetboot/server/lan/nfs"
	"github.com/inetboot/inetboot/server/store"
)

// bootArch is the architecture of machines with pxelinux, and with our iPXE.
const bootArch = "amd64"

// Names of an image's own files below bootmedia.Images and its manifest's hash.
const (
	ownKernel = "vmlinuz"
	ownInitrd = "initrd"
)

// menus makes the menus of machines that boot without preboot, with their root
// on the network: from the catalog, and what is set for each.
type menus struct {
	clients *clients.Clients
	store   *store.Dir
	library *images.Library
	server  string // address of NFS and NBD
	roots   *rootOptions
	log     *slog.Logger

	mu     sync.Mutex
	judged map[digest.SHA256]error // why an image cannot boot so; nil: it can
}

var _ bootmedia.MachineFiles = (*menus)(nil)

// maxJudged bounds what is remembered of images.
const maxJudged = 1024

func newMenus(o *options, p *lanParts) (*menus, error) {
	library, err := p.library(o)
	if err != nil {
		return nil, err
	}
	return &menus{clients: p.clients, store: p.store, library: library, server: p.iface.IPv4.Addr().String(), roots: &o.lan.roots, log: p.log, judged: make(map[digest.SHA256]error)}, nil
}

// Pxelinux implements bootmedia.MachineFiles.
func (m *menus) Pxelinux(ctx context.Context, mac, uuid string, preboot []byte, modules bool) ([]byte, error) {
	id := clients.Identity{MAC: mac}
	if mac == "" {
		var ok bool
		// What is not listed by its UUID is asked for once more, by its MAC address.
		if id, ok = m.clients.ByPxelinux(uuid); !ok {
			return nil, nil
		}
	}
	b, err := m.menu(ctx, id)
	if err != nil {
		return nil, err
	}
	if b == nil {
		if mac == "" {
			return preboot, nil // by its MAC address alone it might get something else
		}
		return nil, nil
	}
	return b.Pxelinux(modules), nil
}

// IPXE implements bootmedia.MachineFiles.
func (m *menus) IPXE(ctx context.Context, mac, uuid string) ([]byte, error) {
	b, err := m.menu(ctx, clients.Identity{MAC: mac, UUID: uuid})
	if b == nil || err != nil {
		return nil, err
	}
	return b.IPXE(), nil
}

// Image implements bootmedia.MachineFiles.
func (m *menus) Image(ctx context.Context, name string) (io.ReaderAt, int64, error) {
	hash, file, _ := strings.Cut(name, "/")
	sum, err := digest.Parse(hash)
	if err != nil || file != ownKernel && file != ownInitrd {
		return nil, 0, fs.ErrNotExist
	}
	img, err := m.library.Open(ctx, sum)
	if errors.Is(err, images.ErrNoImage) {
		return nil, 0, fs.ErrNotExist
	}
	if err != nil {
		return nil, 0, err
	}
	kernel, initrd, err := img.BootFiles(ctx)
	if errors.Is(err, images.ErrNoKernel) || errors.Is(err, images.ErrNoTree) {
		return nil, 0, fs.ErrNotExist
	}
	if err != nil {
		return nil, 0, err
	}
	if file == ownInitrd {
		return initrd, initrd.Size(), nil
	}
	return kernel, kernel.Size(), nil
}

// menu returns the menu of a machine, nil if it boots by preboot.
func (m *menus) menu(ctx context.Context, id clients.Identity) (*bootmenu.Menu, error) {
	if mac, ok := clients.ParseMAC(id.MAC); ok {
		id.MAC = mac
	} else if id.MAC != "" || id.UUID == "" {
		return nil, nil
	}
	who := cmp.Or(id.MAC, id.UUID)
	s, err := m.clients.Lookup(ctx, id)
	if err != nil || s.Boot != clients.NFS && s.Boot != clients.NBD {
		return nil, err
	}
	b, err := m.build(ctx, &s)
	if err != nil {
		m.log.Error("the menu of a machine could not be made", "client", who, "boot", s.Boot, "error", err)
		return nil, err
	}
	m.log.Info("menu", "client", who, "boot", s.Boot, "default", b.Default, "seconds", b.Timeout)
	return b, nil
}

func (m *menus) build(ctx context.Context, s *clients.Settings) (*bootmenu.Menu, error) {
	cm, err := m.store.Menu(ctx)
	if err != nil {
		return nil, err
	}
	if cm == nil {
		return nil, errors.New("there is no catalog yet: imagetool init")
	}
	list, err := m.library.List(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string]*images.Name)
	for i := range list {
		names[catalog.ManifestName(list[i].Name, list[i].Version, list[i].Arch)] = &list[i]
	}
	out := &bootmenu.Menu{Title: cm.Title, Default: cm.Default, Timeout: cm.Timeout, Entries: m.entries(ctx, cm.Entries, names, s)}
	if out.Title == "" {
		out.Title = "InetBoot"
	}
	if id := m.wanted(cm, s); id != "" {
		out.Default = id
	} else if s.Image != "" {
		// It is in no menu, but published.
		n, err := m.library.Find(ctx, s.Image)
		e := bootmenu.Entry{ID: freeID(cm, "image"), Title: s.Image}
		if err != nil {
			e.Refused = err.Error()
		} else {
			m.own(ctx, &e, &n, "", s)
		}
		out.Entries, out.Default = append([]bootmenu.Entry{e}, out.Entries...), e.ID
	}
	if s.Timeout != nil {
		out.Timeout = *s.Timeout
	}
	out.Entries = append(out.Entries, bootmenu.Entry{
		ID: freeID(cm, "inetboot"), Title: "InetBoot's own menu", Kernel: bootmedia.Kernel, Initrds: []string{bootmedia.Initramfs, bootmedia.SiteCPIO}, Args: bootmedia.Cmdline,
	})
	return out, nil
}

// freeID returns an id that no entry has.
func freeID(m *catalog.Menu, id string) string {
	for m.Find(id) != nil {
		id += "-"
	}
	return id
}

// wanted returns the entry that a machine's settings name, as preboot does: of
// several versions of an image the menu's default, else the last one.
func (m *menus) wanted(cm *catalog.Menu, s *clients.Settings) string {
	if s.Entry != "" && cm.Find(s.Entry) != nil {
		return s.Entry
	}
	if s.Image == "" {
		return ""
	}
	starts := func(e *catalog.Entry) bool {
		name, version, exact := strings.Cut(s.Image, "/")
		if exact {
			return e.Image == catalog.ManifestName(name, version, bootArch)
		}
		return strings.HasPrefix(e.Image, "images/"+name+"/") && strings.HasSuffix(e.Image, "/"+bootArch+".json")
	}
	if e := cm.Find(cm.Default); e != nil && starts(e) {
		return e.ID
	}
	found := ""
	var walk func(entries []catalog.Entry)
	walk = func(entries []catalog.Entry) {
		for i := range entries {
			if starts(&entries[i]) {
				found = entries[i].ID
			}
			walk(entries[i].Entries)
		}
	}
	walk(cm.Entries)
	return found
}

// entries turns the catalog's entries into those of a machine. What is for
// other machines is left out, what cannot boot so says why.
func (m *menus) entries(ctx context.Context, list []catalog.Entry, names map[string]*images.Name, s *clients.Settings) []bootmenu.Entry {
	var out []bootmenu.Entry
	for i := range list {
		e := &list[i]
		x := bootmenu.Entry{ID: e.ID, Title: e.Title}
		if forOthers(e.Arch) {
			continue
		}
		switch err := e.Usable(bootArch); {
		case err != nil:
			x.Refused = err.Error()
		case len(e.Entries) > 0:
			if x.Entries = m.entries(ctx, e.Entries, names, s); len(x.Entries) == 0 {
				continue
			}
		case e.Action == catalog.ActionLocalDisk:
			x.Action = bootmenu.LocalDisk
		case e.Action == catalog.ActionReboot:
			x.Action = bootmenu.Reboot
		case e.Action == catalog.ActionPowerOff:
			x.Action = bootmenu.PowerOff
		case names[e.Image] == nil:
			x.Refused = "the image has no root that could be on the network"
		default:
			m.own(ctx, &x, names[e.Image], e.Cmdline, s)
		}
		out = append(out, x)
	}
	return out
}

func forOthers(arch []string) bool {
	for _, a := range arch {
		if a == bootArch {
			return false
		}
	}
	return len(arch) > 0
}

// own makes an entry start an image's own kernel.
func (m *menus) own(ctx context.Context, e *bootmenu.Entry, n *images.Name, cmdline string, s *clients.Settings) {
	root, err := m.root(n, s.Boot)
	if err == nil {
		err = m.judge(ctx, n)
	}
	if err != nil {
		e.Refused = err.Error()
		return
	}
	at := bootmedia.Images + n.Manifest.String() + "/"
	e.Kernel, e.Initrds = at+ownKernel, []string{at + ownInitrd}
	e.Args = strings.Join(append([]string{n.Cmdline, cmdline, root}, s.KernelArguments()...), " ")
}

// root returns the arguments with which Debian's initramfs mounts a root.
func (m *menus) root(n *images.Name, method clients.Method) (string, error) {
	if n.Arch != bootArch {
		return "", fmt.Errorf("%s is for %s", n, n.Arch)
	}
	if method == clients.NBD {
		switch {
		case !m.roots.nbd:
			return "", errors.New("the server exports nothing over NBD: it runs without --nbd")
		case m.roots.nbdPort != nbd.DefaultPort:
			return "", fmt.Errorf("NBD is at port %d, which initramfs cannot be told", m.roots.nbdPort)
		}
		return fmt.Sprintf("nbdroot=%s,%s,nbd0 root=/dev/nbd0 rootfstype=%s ip=dhcp ro", m.server, n, n.Kind), nil
	}
	if !m.roots.nfs {
		return "", errors.New("the server exports nothing over NFS: it runs without --nfs")
	}
	if n.Kind != "erofs" {
		return "", fmt.Errorf("the root of %s is %s: over NFS there are only EROFS roots", n, n.Kind)
	}
	port := ""
	if m.roots.nfsPort != nfs.DefaultPort {
		port = fmt.Sprintf(",port=%d,mountport=%d", m.roots.nfsPort, m.roots.nfsPort)
	}
	return fmt.Sprintf("root=/dev/nfs nfsroot=%s:/%s%s ip=dhcp ro", m.server, n, port), nil
}

// judge tells why an image cannot boot with its own kernel. What is wrong with
// the store is not remembered.
func (m *menus) judge(ctx context.Context, n *images.Name) error {
	m.mu.Lock()
	err, known := m.judged[n.Manifest]
	m.mu.Unlock()
	if known {
		return err
	}
	img, err := m.library.Open(ctx, n.Manifest)
	if err != nil {
		return err
	}
	_, _, err = img.BootFiles(ctx)
	if err == nil || errors.Is(err, images.ErrNoKernel) || errors.Is(err, images.ErrNoTree) {
		m.mu.Lock()
		if len(m.judged) >= maxJudged {
			clear(m.judged)
		}
		m.judged[n.Manifest] = err
		m.mu.Unlock()
	}
	return err
}
