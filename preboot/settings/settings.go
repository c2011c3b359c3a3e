// Package settings puts together what a boot is told: by the kernel command
// line and by the medium's site file. The command line wins.
package settings

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/netconf"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/syslog"
	"github.com/inetboot/inetboot/preboot/imageurl"
)

// Settings is what a boot is told.
type Settings struct {
	URLs        []string // base URLs of the store, in order of preference
	Anchor      *catalog.Anchor
	Proxy       string // HTTP proxy URL; "": the network's, if it names one
	NoProxy     bool   // nor the network's
	CA          string // PEM
	Nameservers []netip.Addr
	Network     netconf.Setup // links, VLAN, static addresses; the zero value: everything as the network says
	Entry       string        // id of the menu entry to boot unattended; "": the menu's own default
	Timeout     *int          // seconds until the default entry boots; nil: as the menu says
	Cache       handoff.Cache
	Syslog      *syslog.Receiver  // where the log goes; the zero Receiver: nowhere; nil: as the network says
	Image       string            // URL of the image to start, see package imageurl; "": one of the menu's
	Server      string            // base URL of who says what holds for this machine; "": nobody
	ServerKey   ed25519.PublicKey // whose signature counts for that; never nil with Server
	Script      *Script           // to run before the menu is shown; nil: none
	Pass        []string          // options for the target's kernel, in order
	PassAlone   []string          // options about the network, for targets that get no handoff
}

// The reasons for which a medium alone cannot boot anything.
var (
	ErrNoURL   = errors.New("no store is named")
	ErrNoTrust = errors.New("no key is trusted")
	ErrInvalid = errors.New("invalid option")
)

// Read reads the settings from a kernel command line and the site file and the
// root of the catalog below root, which may be absent. With an error that wraps ErrNoURL or
// ErrNoTrust everything else is filled in.
func Read(cmdline string, root fs.FS) (*Settings, error) {
	s := &Settings{}
	if err := s.readSite(root); err != nil {
		return s, err
	}
	if err := s.readCommandLine(cmdline); err != nil {
		return s, err
	}
	if s.Server != "" && s.ServerKey == nil {
		return s, fmt.Errorf("kernel command line: %w inetboot.settings: give inetboot.settings-key=..., too, as `server settings-key` prints it", ErrInvalid)
	}
	switch {
	case s.Image != "":
		// It needs no store.
	case len(s.URLs) == 0:
		return s, fmt.Errorf("%w: give inetboot.url=http://... on the kernel's command line, or write a personal medium with `imagetool media`", ErrNoURL)
	case s.Anchor == nil:
		return s, fmt.Errorf("%w: give inetboot.key=... (the public key of the catalog's root, 64 hexadecimal digits) on the kernel's command line, or write a personal medium with `imagetool media`", ErrNoTrust)
	}
	return s, nil
}

// Store tells whether a store is named and somebody's signatures count in it.
func (s *Settings) Store() bool { return len(s.URLs) > 0 && s.Anchor != nil }

func (s *Settings) readSite(root fs.FS) error {
	data, err := fs.ReadFile(root, strings.TrimPrefix(site.Path, "/"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the site file: %w", err)
	default:
		f, err := site.Parse(data)
		if err != nil {
			return err
		}
		s.URLs, s.Proxy, s.CA, s.Entry, s.Timeout, s.Network = f.URLs, f.Proxy, f.CA, f.Entry, f.Timeout, f.Network
		if f.Syslog != "" {
			r, err := syslog.ParseURL(f.Syslog)
			if err != nil {
				return fmt.Errorf("the site file: %w", err)
			}
			s.Syslog = &r
		}
		if s.Cache, err = handoff.ParseCache(f.Cache); err != nil {
			return fmt.Errorf("the site file: %w", err)
		}
		if s.Server = f.Settings; s.Server != "" {
			if s.ServerKey, err = site.ParseKey(f.SettingsKey); err != nil {
				return fmt.Errorf("the site file: %w", err)
			}
		}
		for _, n := range f.Nameservers {
			a, err := netip.ParseAddr(n)
			if err != nil {
				return fmt.Errorf("the site file: nameserver: %w", err)
			}
			s.Nameservers = append(s.Nameservers, a)
		}
	}
	data, err = fs.ReadFile(root, strings.TrimPrefix(site.RootPath, "/"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read the root of the catalog: %w", err)
	}
	if s.Anchor, err = tuf.NewAnchor(data); err != nil {
		return err
	}
	return nil
}

func (s *Settings) readCommandLine(cmdline string) error {
	var urls []string
	var keys []ed25519.PublicKey
	var servers []netip.Addr
	var ours bool // an option about addresses has been seen: those of the site do not count
	own := func() {
		if !ours {
			ours = true
			s.Network.Addresses, s.Network.Gateways, s.Network.Family, s.Network.NoDHCP = nil, nil, "", false
		}
	}
	for _, o := range Fields(cmdline) {
		name, value, _ := strings.Cut(o, "=")
		value = unquote(value)
		var err error
		switch name {
		case "inetboot.url":
			for u := range strings.SplitSeq(value, ",") {
				if err = site.CheckURL(u); err != nil {
					break
				}
				urls = append(urls, u)
			}
		case "inetboot.key":
			for k := range strings.SplitSeq(value, ",") {
				var b ed25519.PublicKey
				if b, err = site.ParseKey(k); err != nil {
					break
				}
				keys = append(keys, b)
			}
		case "inetboot.entry":
			s.Entry = value
		case "inetboot.timeout":
			var n int
			if n, err = strconv.Atoi(value); err == nil && (n < -1 || n > 86400) {
				err = errors.New("not between -1 and 86400 seconds")
			}
			s.Timeout = &n
		case "http_proxy":
			if value != "" { // an empty one switches the site's off
				err = site.CheckURL(value)
			}
			s.Proxy, s.NoProxy = value, value == ""
		case "nameserver":
			for a := range strings.SplitSeq(value, ",") {
				var addr netip.Addr
				if addr, err = netip.ParseAddr(a); err != nil {
					break
				}
				servers = append(servers, addr)
			}
		case "ip":
			own()
			var found []netip.Addr
			found, err = s.Network.AddIP(value)
			servers = append(servers, found...)
		case "nodhcp":
			own()
			s.Network.NoDHCP = true
		case "vlan":
			err = s.Network.SetVLAN(value)
		case "inetboot.mtu":
			if s.Network.MTU, err = strconv.Atoi(value); err == nil {
				err = s.Network.Check()
			}
		case "inetboot.ntp":
			s.Network.NTP = nil
			if value != "" {
				s.Network.NTP = strings.Split(value, ",")
			}
			err = s.Network.Check()
		case "inetboot.settings":
			if value != "" { // an empty one switches the site's off
				err = site.CheckURL(value)
			}
			s.Server = value
		case "inetboot.settings-key":
			s.ServerKey, err = site.ParseKey(value)
		case "inetboot.syslog":
			var r syslog.Receiver
			if value != "" { // an empty one switches the site's and the network's off
				r, err = syslog.ParseURL(value)
			}
			s.Syslog = &r
		case imageurl.Option:
			if s.Image = value; value != "" {
				_, err = imageurl.Parse(value)
			}
		case "iscript":
			s.Script, err = parseScript(value)
		case handoff.CacheOption:
			s.Cache, err = handoff.ParseCache(value)
		case "inetboot.fill", "inetboot.overlay":
			s.Pass = append(s.Pass, o) // for the target's init
		case "BOOT_IMAGE", "initrd", "rdinit":
			// These are about preboot's own start.
		case "nr_cpus":
			// So is one processor, which the medium says. Who says something else
			// means the target.
			if value != "1" {
				s.Pass = append(s.Pass, o)
			}
		default:
			if rest, ours := strings.CutPrefix(name, "inetboot."); ours {
				// inetboot.boot is the marker of a boot that led here. What
				// else is not known is for newer versions, and not for targets.
				if rest != "boot" {
					err = errors.New("there is no such option")
				}
				break
			}
			s.Pass = append(s.Pass, o)
		}
		if err != nil {
			return fmt.Errorf("kernel command line: %w %s: %w", ErrInvalid, name, err)
		}
		switch name {
		case "ip", "nodhcp", "vlan", "nameserver":
			s.PassAlone = append(s.PassAlone, o)
		}
	}
	if urls != nil {
		s.URLs = urls
	}
	if keys != nil {
		s.Anchor = tuf.KeyAnchor(keys...)
	}
	if servers != nil {
		s.Nameservers = servers
	}
	return nil
}

// Fields splits a kernel command line as the kernel does: at white space
// outside of double quotes (Linux, lib/cmdline.c, next_arg). Quotes stay.
func Fields(line string) []string {
	var out []string
	start, quoted := -1, false
	for i := range len(line) {
		switch c := line[i]; {
		case (c == ' ' || c == '\t' || c == '\n') && !quoted:
			if start >= 0 {
				out = append(out, line[start:i])
				start = -1
			}
			continue
		case c == '"':
			quoted = !quoted
		}
		if start < 0 {
			start = i
		}
	}
	if start >= 0 {
		out = append(out, strings.TrimRight(line[start:], "\n"))
	}
	return out
}

func unquote(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
