// Package site reads and writes the site file: what a boot medium knows about
// the place where it is used. It lies in a small cpio archive of its own beside
// the initramfs, so that personal media need no compiler.
//
// The archive holds
//
//	inetboot/slot        the marker that personalising tools look for
//	inetboot/site.json   a Site
//	inetboot/root.json   where trust in the catalog begins (TUF root metadata)
//
// and is padded with zero bytes to SlotSize, which the kernel's unpacker skips
// (Documentation/driver-api/early-userspace/buffer-format.rst).
package site

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/inetboot/inetboot/internal/netconf"
	"github.com/inetboot/inetboot/internal/strictjson"
	"github.com/inetboot/inetboot/internal/syslog"
)

// Format is the value of a Site's "format".
const Format = "inetboot-site/1"

// Where the files of the archive are found in a booted initramfs.
const (
	Path     = "/inetboot/site.json"
	RootPath = "/inetboot/root.json"
)

// ErrInvalid is wrapped by every error about the contents of a site file.
var ErrInvalid = errors.New("invalid site file")

// Site is the site file. Every member but URLs is optional; the zero value
// means "ask the network, or the person".
type Site struct {
	Format      string   `json:"format"`
	Requires    []string `json:"requires,omitempty"`
	URLs        []string `json:"urls"`                  // base URLs of the store, in order of preference
	Proxy       string   `json:"proxy,omitempty"`       // HTTP proxy, as http://[user:password@]host:port
	Nameservers []string `json:"nameservers,omitempty"` // IP addresses; the network's own are used where there are none
	CA          string   `json:"ca,omitempty"`          // PEM certificates that sign the servers' certificates
	Entry       string   `json:"entry,omitempty"`       // id of the menu entry to boot unattended
	Cache       string   `json:"cache,omitempty"`       // as the option inetboot.cache=: auto, none, ram, ram:SIZE, or a filesystem's UUID
	Syslog      string   `json:"syslog,omitempty"`      // where the boot's log goes: udp://host[:514] or tcp://host[:601]
	Timeout     *int     `json:"timeout,omitempty"`     // seconds until the default entry boots; 0 at once, -1 never

	// Who says what holds for the single machine, and whose signature counts for
	// that; both or none.
	Settings    string `json:"settings,omitempty"`     // base URL of a server
	SettingsKey string `json:"settings_key,omitempty"` // its public ed25519 key, 64 hexadecimal digits

	Network netconf.Setup `json:"network,omitzero"` // what the network is not asked for
}

// Parse reads and checks a site file.
func Parse(data []byte) (*Site, error) {
	var s Site
	if err := strictjson.Unmarshal(data, SlotSize, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	return &s, nil
}

// Check returns an error that wraps ErrInvalid if s says something impossible.
func (s *Site) Check() error {
	if s.Format != Format {
		return fmt.Errorf("%w: format is %q, want %q", ErrInvalid, s.Format, Format)
	}
	if err := strictjson.Requires("the site file", s.Requires, nil); err != nil {
		return err
	}
	if len(s.URLs) == 0 {
		return fmt.Errorf("%w: urls is empty: name at least one base URL of a store", ErrInvalid)
	}
	for _, u := range s.URLs {
		if err := CheckURL(u); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if s.Proxy != "" {
		if err := CheckURL(s.Proxy); err != nil {
			return fmt.Errorf("%w: proxy: %w", ErrInvalid, err)
		}
	}
	for _, n := range s.Nameservers {
		if _, err := netip.ParseAddr(n); err != nil {
			return fmt.Errorf("%w: nameserver %q is not an IP address", ErrInvalid, n)
		}
	}
	if s.Syslog != "" {
		if _, err := syslog.ParseURL(s.Syslog); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if (s.Settings == "") != (s.SettingsKey == "") {
		return fmt.Errorf("%w: settings and settings_key belong together", ErrInvalid)
	}
	if s.Settings != "" {
		if err := CheckURL(s.Settings); err != nil {
			return fmt.Errorf("%w: settings: %w", ErrInvalid, err)
		}
		if _, err := ParseKey(s.SettingsKey); err != nil {
			return fmt.Errorf("%w: settings_key: %w", ErrInvalid, err)
		}
	}
	if err := s.Network.Check(); err != nil {
		return fmt.Errorf("%w: network: %w", ErrInvalid, err)
	}
	if s.Timeout != nil && (*s.Timeout < -1 || *s.Timeout > 86400) {
		return fmt.Errorf("%w: timeout %d is not between -1 and 86400 seconds", ErrInvalid, *s.Timeout)
	}
	return nil
}

// Marshal returns s as a site file.
func (s *Site) Marshal() ([]byte, error) {
	c := *s
	c.Format = Format
	if err := c.Check(); err != nil {
		return nil, err
	}
	return json.MarshalIndent(&c, "", " ")
}

// ParseKey reads a public ed25519 key of 64 hexadecimal digits.
func ParseKey(s string) (ed25519.PublicKey, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is not %d hexadecimal digits", s, 2*ed25519.PublicKeySize)
	}
	return b, nil
}

// CheckURL tells whether u is an absolute http or https URL with a host and
// without query or fragment, so that a store's paths can be appended to it.
func CheckURL(u string) error {
	p, err := url.Parse(u)
	switch {
	case err != nil:
		return fmt.Errorf("URL %q: %w", u, err)
	case p.Scheme != "http" && p.Scheme != "https":
		return fmt.Errorf("URL %q: want http:// or https://", u)
	case p.Hostname() == "":
		return fmt.Errorf("URL %q has no host", u)
	case p.RawQuery != "" || p.Fragment != "" || strings.ContainsAny(u, " \t\r\n"):
		return fmt.Errorf("URL %q: a base URL has no query, fragment or spaces", u)
	}
	return nil
}
