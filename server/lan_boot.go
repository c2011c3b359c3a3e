package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/bootmedia"
	"github.com/inetboot/inetboot/server/lan/tftp"
)

// bootOptions are the options of the files that machines boot from.
type bootOptions struct {
	media    string
	arm64    string
	noTFTP   bool
	tftpPort int
}

func (o *bootOptions) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.media, "media", "", "with --lan: folder with inetboot.efi, vmlinuz, initramfs.xz, pxelinux.0 and ldlinux.c32, which `make iso` builds (default: the program's own folder if they are there, else "+mediaFolder+")")
	f.StringVar(&o.arm64, "arm64", "", "with --lan: UEFI program for machines with arm64: a file, or a URL, which UEFI HTTP boot alone can load (default: "+bootmedia.ARM64+" in the folder of --media, if it is there)")
	f.BoolVar(&o.noTFTP, "no-tftp", false, "with --lan: no TFTP; machines that boot by HTTP still can")
	f.IntVar(&o.tftpPort, "tftp-port", tftp.Port, "port of TFTP")
}

// mediaFolder is where packages put the media.
const mediaFolder = "/usr/lib/inetboot"

// arm64File returns the file of --arm64, "" where it is a URL or nothing.
func (o *bootOptions) arm64File() string {
	if strings.Contains(o.arm64, "://") {
		return ""
	}
	return o.arm64
}

// checkARM64 checks what --arm64 names.
func (o *bootOptions) checkARM64() (err error) {
	if file := o.arm64File(); file != "" {
		err = bootmedia.CheckARM64(file)
	} else if o.arm64 != "" {
		err = site.CheckURL(o.arm64)
	}
	if err != nil {
		return fmt.Errorf("--arm64: %w", err)
	}
	return nil
}

// arm64Name returns what machines with arm64 are told to load, "" for nothing. has
// tells whether the boot files have a program for them.
func (o *bootOptions) arm64Name(has bool) string {
	switch {
	case strings.Contains(o.arm64, "://"):
		return o.arm64
	case has || o.arm64 != "":
		return bootmedia.ARM64
	}
	return ""
}

// openMedia opens the boot files, made for this server; nil if nobody named a
// folder and there is none.
func openMedia(o *options, p *lanParts) (*bootmedia.Files, error) {
	if err := o.lan.boot.checkARM64(); err != nil {
		return nil, err
	}
	b := bootmedia.Options{Dir: o.lan.boot.media, ARM64: o.lan.boot.arm64File(), Site: site.Site{URLs: []string{p.url()}}}
	if !o.lan.logs.off {
		b.Site.Syslog = fmt.Sprintf("udp://%s", netip.AddrPortFrom(p.iface.IPv4.Addr(), uint16(o.lan.logs.port)))
	}
	if p.settingsKey != nil {
		b.Site.Settings, b.Site.SettingsKey = p.url(), hex.EncodeToString(p.settingsKey)
	}
	b.Root = func() ([]byte, error) {
		return p.store.Read(storepath.RoleMetadata(tuf.RoleRoot, 1), tuf.MaxRoot)
	}
	if p.clients != nil {
		m, err := newMenus(o, p)
		if err != nil {
			return nil, err
		}
		b.Machines = m
	}
	if b.Dir == "" {
		if b.Dir = findMedia(); b.Dir == "" {
			p.log.Warn("no boot files are served: they are neither beside the program nor in "+mediaFolder, "needed", strings.Join(bootmedia.Needed(), " "), "option", "--media")
			return nil, nil
		}
	}
	files, err := bootmedia.Open(b)
	if err != nil {
		return nil, err
	}
	if _, err := b.Root(); errors.Is(err, fs.ErrNotExist) {
		p.log.Warn("machines cannot boot before a publisher has made a catalog: imagetool init")
	}
	if !files.HasBIOS() {
		p.log.Warn("the PXE of a BIOS gets no boot file: the folder lacks it", "folder", b.Dir, "needed", bootmedia.BIOS+" "+bootmedia.Module)
	}
	if !files.HasIPXE() {
		p.log.Info("UEFI machines with boot = nfs or nbd get InetBoot's menu: the folder has no "+bootmedia.Loader, "folder", b.Dir)
	}
	if o.lan.boot.arm64Name(files.HasARM64()) == "" {
		p.log.Info("machines with arm64 get no boot file: name a program for them with --arm64, or put it into the folder as "+bootmedia.ARM64, "folder", b.Dir)
	}
	p.log.Info("boot files", "folder", b.Dir, "url", p.url()+bootFolder)
	return files, nil
}

// findMedia returns the folder of the media, "" if there is none.
func findMedia() string {
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Dir(exe))
	}
	for _, d := range append(dirs, mediaFolder, installFolder) {
		found := true
		for _, name := range bootmedia.Needed() {
			if _, err := os.Stat(filepath.Join(d, name)); err != nil {
				found = false
			}
		}
		if found {
			return d
		}
	}
	return ""
}

// newTFTP makes the TFTP service.
func newTFTP(_ context.Context, o *options, p *lanParts) (lan.Service, error) {
	b := &o.lan.boot
	if b.tftpPort < 1 || b.tftpPort > 65535 {
		return nil, fmt.Errorf("--tftp-port %d: want from 1 to 65535", b.tftpPort)
	}
	if b.noTFTP || p.media == nil {
		return nil, nil
	}
	c := tftp.Options{FS: p.media, Log: p.log}
	for _, a := range p.iface.All {
		if !a.Addr().IsLinkLocalUnicast() {
			c.Addrs = append(c.Addrs, netip.AddrPortFrom(a.Addr(), uint16(b.tftpPort)))
		}
	}
	return tftp.New(c), nil
}

// withMedia shows the boot files, if there are any, beside the rest of HTTP.
func withMedia(files *bootmedia.Files, rest http.Handler, log *slog.Logger) http.Handler {
	if files == nil {
		return rest
	}
	mux := http.NewServeMux()
	boot := files.Handler(bootFolder)
	mux.HandleFunc(bootFolder, func(w http.ResponseWriter, r *http.Request) {
		log.Info("boot file", "client", r.RemoteAddr, "method", r.Method, "path", r.URL.Path, "range", r.Header.Get("Range"))
		boot.ServeHTTP(w, r)
	})
	mux.Handle("/", rest)
	return mux
}
