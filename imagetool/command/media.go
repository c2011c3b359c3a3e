package command

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/media"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/site"
)

type mediaOptions struct {
	iso, out, cpio, root, keys, ca, cache string
	cacheBytes                            int64
	site                                  site.Site
	timeout                               int
	ip                                    []string // as the kernel's option
	vlan                                  string   // likewise
}

func (a *app) mediaCommand() *cobra.Command {
	var o mediaOptions
	c := &cobra.Command{
		Use:   "media --iso FILE --url URL… -o FILE",
		Short: "Make a boot medium for your store",
		Long: `Media copies a boot medium and writes the URLs of your store, and the root
from which machines verify its catalog, into it. The copy boots as CD and as USB stick. --cpio writes the same as a
small archive, to be loaded behind vmlinuz and initramfs.xz by GRUB, pxelinux,
iPXE or QEMU.`,
		Example: `  imagetool media --iso build/inetboot.iso --url http://boot.example.org/ -o my.iso
  imagetool media --iso build/inetboot.iso --url http://10.0.0.1/ --url https://boot.example.org/ \
      --entry debian-12 --timeout 0 -o unattended.iso
  imagetool media --iso build/inetboot.iso --url http://10.0.0.1/ --cache rest -o /dev/sdX
  imagetool media --iso build/inetboot.iso --url http://10.0.0.1/ --cache 2G -o stick.img
  imagetool media --iso build/inetboot.efi --url http://10.0.0.1/ -o my.efi
  imagetool media --url http://10.0.0.1/ --cpio site.cpio
  imagetool media --iso build/inetboot.iso --url http://10.0.0.1:8080 --settings http://10.0.0.1:8080 --settings-key HEX -o my.iso`,
		Args: args(cobra.NoArgs),
	}
	f := c.Flags()
	f.StringVar(&o.iso, "iso", "", "medium to copy")
	f.StringVarP(&o.out, "output", "o", "", "file, or device, to write the copy to")
	f.StringVar(&o.cache, "cache", "", "for USB sticks: size of a partition for the cache behind the medium, such as 4G; on a device also: rest")
	f.StringVar(&o.cpio, "cpio", "", "file to write the bare archive to")
	f.StringArrayVar(&o.site.URLs, "url", nil, "base URL of the store, best first (default: the store that init remembered, if it is a server)")
	f.StringVar(&o.site.Entry, "entry", "", "id of the menu entry to boot unattended")
	f.IntVar(&o.timeout, "timeout", 0, "seconds until the default entry boots: 0 at once, -1 never (default: the menu's)")
	f.StringVar(&o.site.Proxy, "proxy", "", "HTTP proxy, as http://[user:password@]host:port")
	f.StringArrayVar(&o.site.Nameservers, "nameserver", nil, "IP address of a name server (default: the network's own)")
	f.StringArrayVar(&o.ip, "ip", nil, "addresses by hand, as the kernel's option ip=: ADDRESS::GATEWAY:NETMASK, dhcp6, off and so on; may be given for IPv4 and IPv6")
	f.StringVar(&o.vlan, "vlan", "", "tagged network, as ID or ID:LINK")
	f.IntVar(&o.site.Network.MTU, "mtu", 0, "MTU in bytes (default: as the network says)")
	f.StringArrayVar(&o.site.Network.NTP, "ntp", nil, "name or address of a time server, asked if the clock seems to be wrong (default: the network's own)")
	f.StringVar(&o.site.Syslog, "syslog", "", "where the log of boots goes: udp://HOST[:514] or tcp://HOST[:601] (default: as the network says)")
	f.StringVar(&o.site.Settings, "settings", "", "base URL of the server that says what holds for each machine, as `server settings-key` prints it")
	f.StringVar(&o.site.SettingsKey, "settings-key", "", "that server's public key for settings, 64 hexadecimal digits")
	f.StringVar(&o.ca, "ca", "", "PEM file of certificates that sign the servers' certificates")
	f.StringVar(&o.root, "root", "", "root.json to begin trust with (default: the one in the key folder)")
	f.StringVar(&o.keys, "keys", "", "folder of the signing key (default: as init remembered)")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if f.Changed("timeout") {
			o.site.Timeout = &o.timeout
		}
		return a.runMedia(c.Context(), &o)
	}
	return c
}

// network puts what ip and vlan say into the site file.
func (o *mediaOptions) network() error {
	for _, v := range o.ip {
		servers, err := o.site.Network.AddIP(v)
		if err != nil {
			return &usageError{fmt.Errorf("--ip %s: %w", v, err)}
		}
		for _, s := range servers {
			o.site.Nameservers = append(o.site.Nameservers, s.String())
		}
	}
	if err := o.site.Network.SetVLAN(o.vlan); err != nil {
		return &usageError{fmt.Errorf("--vlan %s: %w", o.vlan, err)}
	}
	return nil
}

func (a *app) runMedia(ctx context.Context, o *mediaOptions) error {
	if err := o.network(); err != nil {
		return err
	}
	switch {
	case o.cpio == "" && o.iso == "":
		return &usageError{errors.New("name a medium with --iso and a file with -o, or a file with --cpio")}
	case (o.iso == "") != (o.out == ""):
		return &usageError{errors.New("--iso and -o belong together")}
	case o.cache != "" && o.iso == "":
		return &usageError{errors.New("--cache is for a medium: name one with --iso")}
	case o.cache == "rest":
		o.cacheBytes = media.Rest
	case o.cache != "":
		n, err := humanize.ParseBytes(o.cache)
		if err != nil || n == 0 || n > math.MaxInt64 {
			return &usageError{fmt.Errorf("--cache %q: want a size such as 512M or 4G, or rest", o.cache)}
		}
		o.cacheBytes = int64(n)
	}
	c, err := a.loadConfig()
	if err != nil {
		return err
	}
	if len(o.site.URLs) == 0 {
		if !store.IsURL(c.To) {
			return &usageError{errors.New("which URLs do machines find the store at? Name them with --url")}
		}
		o.site.URLs = []string{c.To}
	}
	if o.keys == "" {
		o.keys = c.Keys
	}
	if o.keys == "" {
		if o.keys, err = a.defaultKeys(); err != nil {
			return err
		}
	}
	if o.root == "" {
		o.root = rootFile(o.keys)
	}
	anchor, root, err := keys.LoadRoot(o.root)
	if err != nil {
		return err
	}
	if o.ca != "" {
		pem, err := os.ReadFile(o.ca)
		if err != nil {
			return fmt.Errorf("read the certificates: %w", err)
		}
		o.site.CA = string(pem)
	}
	archive, err := site.Archive(&o.site, root)
	if err != nil {
		if errors.Is(err, site.ErrInvalid) {
			return &usageError{err}
		}
		return err
	}
	var files []string
	if o.cpio != "" {
		if err := media.WriteArchive(o.cpio, archive); err != nil {
			return err
		}
		files = append(files, filepath.Clean(o.cpio))
	}
	if o.iso != "" {
		if err := media.Personalise(ctx, o.iso, o.out, archive, o.cacheBytes); err != nil {
			return err
		}
		files = append(files, filepath.Clean(o.out))
	}
	if a.json {
		return a.writeJSON(map[string]any{"files": files, "urls": o.site.URLs, "root": anchor.Root().Version(), "keys": rootKeys(anchor)})
	}
	for _, f := range files {
		a.say("%s boots from %s", f, o.site.URLs[0])
	}
	return nil
}

func rootKeys(a *catalog.Anchor) []string {
	ids, _ := a.Root().Keys(tuf.RoleRoot)
	return ids
}
