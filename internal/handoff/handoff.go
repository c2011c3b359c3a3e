// Package handoff is what preboot tells the target: the network as it stands,
// where the store is, and which root to mount. It travels as one file in a
// cpio archive behind the target's initramfs, so it has been through no
// hands but preboot's: the target trusts it.
package handoff

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/internal/bootsettings"
	"github.com/inetboot/inetboot/internal/clientsettings"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/netconf"
	"github.com/inetboot/inetboot/internal/newc"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
	"github.com/inetboot/inetboot/internal/syslog"
)

// Format is the value of a Handoff's "format".
const Format = "inetboot-handoff/1"

// Path is where the target finds the file.
const Path = "/inetboot/handoff.json"

// MaxSize bounds the file, in bytes.
const MaxSize = 256 << 10

// ErrInvalid is wrapped by every error about a handoff's contents.
var ErrInvalid = errors.New("invalid handoff")

// Handoff is the file.
type Handoff struct {
	Format  string   `json:"format"`
	BootID  string   `json:"boot_id"` // 32 hexadecimal digits, new for each boot; ties logs of both stages together
	Mirrors []string `json:"mirrors"` // base URLs of the store, best first
	Proxy   string   `json:"proxy,omitempty"`
	CA      string   `json:"ca,omitempty"`     // PEM
	Network Network  `json:"network,omitzero"` // absent exactly if Offline
	Offline bool     `json:"offline,omitempty"`
	Cache   Cache    `json:"cache,omitzero"`
	Syslog  string   `json:"syslog,omitempty"` // where the boot's log goes, as in a site file
	Entry   string   `json:"entry,omitempty"`  // id of the menu's entry
	Image   Image    `json:"image"`
	Root    Root     `json:"root"`
	Stages  []Stage  `json:"stages,omitempty"`

	CatalogVersion uint64      `json:"catalog_version,omitempty"` // of the catalog that the image was started from
	Keep           []StoreFile `json:"keep,omitempty"`

	// Settings are the documents (see package bootsettings) that apply to this
	// boot, the more general ones first. They travel with the handoff, at their
	// StorePaths.
	Settings []StoreFile `json:"settings,omitempty"`
	// Variables are the settings of the machine by names of a shell, for its
	// settings file.
	Variables map[string]string `json:"variables,omitempty"`
}

// StoreFile is a file of the store, beside the root's blocks, that is needed
// to start the image again without a network.
type StoreFile struct {
	Path string `json:"path"` // in the store
	digest.Blob
}

// Stage is a moment of the boot before the target, for the boot's timeline.
type Stage struct {
	Name string `json:"name"` // such as "dhcp", "catalog", "menu", "kernel", "initrd"
	Unix int64  `json:"unix"` // milliseconds since 1970, by the machine's clock
}

// Network is one link's configuration.
type Network struct {
	MAC         string         `json:"mac"`            // of the link that preboot used; names do not survive a kexec
	VLAN        int            `json:"vlan,omitempty"` // IEEE 802.1Q id of the tagged network on that link; 0: untagged
	MTU         int            `json:"mtu,omitempty"`
	Addresses   []netip.Prefix `json:"addresses"`
	Routes      []Route        `json:"routes,omitempty"`
	Nameservers []netip.Addr   `json:"nameservers,omitempty"`
	Search      []string       `json:"search,omitempty"`
	Hostname    string         `json:"hostname,omitempty"`
	Lease       *Lease         `json:"lease,omitempty"`  // DHCPv4; absent for static and SLAAC addresses
	Lease6      *Lease6        `json:"lease6,omitempty"` // DHCPv6; likewise
}

// Route is a route by way of Network's link. A route without a gateway is
// on-link.
type Route struct {
	Destination netip.Prefix `json:"destination"`
	Gateway     netip.Addr   `json:"gateway,omitzero"`
}

// Lease is what is needed to renew a DHCPv4 lease (RFC 2131 section 4.4.5).
type Lease struct {
	Server   netip.Addr `json:"server"`              // option 54
	ClientID string     `json:"client_id,omitempty"` // option 61, hexadecimal; empty if none was sent
	Obtained int64      `json:"obtained"`            // seconds since 1970, by the machine's clock
	Renew    int64      `json:"renew"`               // T1 in seconds after Obtained
	Rebind   int64      `json:"rebind"`              // T2
	Expire   int64      `json:"expire"`              // lease time
}

// Lease6 is what is needed to renew a DHCPv6 lease of one address (RFC 8415
// section 18.2.4).
type Lease6 struct {
	Address  netip.Addr `json:"address"`   // one of Network's
	ServerID string     `json:"server_id"` // option 2, a DUID in hexadecimal
	ClientID string     `json:"client_id"` // option 1, likewise
	IAID     uint32     `json:"iaid"`      // of the IA_NA
	Obtained int64      `json:"obtained"`  // seconds since 1970, by the machine's clock
	Renew    int64      `json:"renew"`     // T1 in seconds after Obtained
	Rebind   int64      `json:"rebind"`    // T2
	Expire   int64      `json:"expire"`    // valid lifetime
}

// Resolvers returns the name servers as they can be asked by way of the link
// that is called link here: one with a link-local address needs its zone.
func (n Network) Resolvers(link string) []netip.Addr {
	out := slices.Clone(n.Nameservers)
	for i, a := range out {
		if a.Is6() && a.IsLinkLocalUnicast() {
			out[i] = a.WithZone(link)
		}
	}
	return out
}

// Image says what boots, for messages and logs.
type Image struct {
	Name     string        `json:"name"`
	Version  string        `json:"version"`
	Arch     string        `json:"arch"`
	Manifest digest.SHA256 `json:"manifest"`
}

// Root is what the target mounts.
type Root struct {
	Type  string     `json:"type"` // "erofs": files meta and data; otherwise the type of the one file
	Files []RootFile `json:"files"`
}

// RootFile is one file that blockfs shows.
type RootFile struct {
	Name  string      `json:"name"`
	Size  int64       `json:"size"` // plain bytes
	Index digest.Blob `json:"index"`
}

// Parse reads and checks a handoff.
func Parse(data []byte) (*Handoff, error) {
	var h Handoff
	if err := strictjson.Unmarshal(data, MaxSize, &h); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := h.Check(); err != nil {
		return nil, err
	}
	return &h, nil
}

// Check returns an error that wraps ErrInvalid if h cannot be acted on.
func (h *Handoff) Check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
	}
	if h.Format != Format {
		return bad("format is %q, want %q", h.Format, Format)
	}
	if len(h.Mirrors) == 0 {
		return bad("mirrors is empty")
	}
	for _, u := range h.Mirrors {
		if err := site.CheckURL(u); err != nil {
			return bad("mirror: %w", err)
		}
	}
	if h.Offline {
		if h.Network.MAC != "" || len(h.Network.Addresses) > 0 {
			return bad("offline, but with a network")
		}
	} else if err := h.Network.check(); err != nil {
		return bad("network: %w", err)
	}
	if h.Syslog != "" {
		if _, err := syslog.ParseURL(h.Syslog); err != nil {
			return bad("%w", err)
		}
	}
	if err := h.Cache.check(); err != nil {
		return bad("cache: %w", err)
	}
	if len(h.Entry) > maxEntry {
		return bad("entry of %d bytes", len(h.Entry))
	}
	if len(h.Keep) > maxKeep {
		return bad("keep has %d files, at most %d are allowed", len(h.Keep), maxKeep)
	}
	for _, f := range h.Keep {
		if _, _, ok := storepath.Parse(f.Path); !ok || f.Size <= 0 || f.SHA256.IsZero() {
			return bad("keep: file %q of %d bytes", f.Path, f.Size)
		}
	}
	if len(h.Settings) > maxSettings {
		return bad("%d documents of settings, at most %d are allowed", len(h.Settings), maxSettings)
	}
	for _, f := range h.Settings {
		if kind, _, ok := storepath.Parse(f.Path); !ok || kind != storepath.KindTarget || f.Size <= 0 || f.Size > bootsettings.MaxSize || f.SHA256.IsZero() {
			return bad("settings: file %q of %d bytes", f.Path, f.Size)
		}
	}
	if err := clientsettings.CheckVariables(h.Variables); err != nil {
		return bad("variables: %w", err)
	}
	if len(h.Root.Files) == 0 || len(h.Root.Files) > 16 {
		return bad("root has %d files, want 1 to 16", len(h.Root.Files))
	}
	seen := map[string]bool{}
	for _, f := range h.Root.Files {
		switch {
		case f.Name == "" || f.Name[0] == '.' || len(f.Name) > 64 || strings.ContainsAny(f.Name, "/\x00") || seen[f.Name]:
			return bad("root: file name %q", f.Name)
		case f.Size <= 0 || f.Index.Size <= 0 || f.Index.SHA256.IsZero():
			return bad("root: file %s has no size or index", f.Name)
		}
		seen[f.Name] = true
	}
	return nil
}

// maxKeep bounds Keep: menu, manifest, kernel, initrd, 16 indexes, and the
// catalog's metadata, which may have as many roots as were published since the
// medium was made.
const maxKeep = 512

// maxSettings bounds Settings: those of the image, of its version, and of the
// menu's entry are what there is today.
const maxSettings = 8

// maxEntry bounds Entry, in bytes.
const maxEntry = 200

func (n *Network) check() error {
	if _, err := net.ParseMAC(n.MAC); err != nil {
		return err
	}
	if len(n.Addresses) == 0 {
		return errors.New("no address")
	}
	if n.MTU != 0 && (n.MTU < 68 || n.MTU > 65535) {
		return fmt.Errorf("MTU %d", n.MTU)
	}
	for _, a := range n.Addresses {
		if !a.IsValid() {
			return errors.New("an address is empty")
		}
	}
	for _, r := range n.Routes {
		if !r.Destination.IsValid() {
			return errors.New("a route has no destination")
		}
	}
	if l := n.Lease; l != nil && (!l.Server.Is4() || l.Renew <= 0 || l.Rebind < l.Renew || l.Expire < l.Rebind) {
		return fmt.Errorf("lease of server %v with times %d, %d, %d", l.Server, l.Renew, l.Rebind, l.Expire)
	}
	if n.VLAN < 0 || n.VLAN > netconf.MaxVLAN {
		return fmt.Errorf("VLAN %d", n.VLAN)
	}
	if n.Lease6 != nil {
		return n.Lease6.check(n.Addresses)
	}
	return nil
}

// maxDUID bounds a DUID, in bytes (RFC 8415 section 11.1).
const maxDUID = 130

func (l *Lease6) check(have []netip.Prefix) error {
	if l.Renew <= 0 || l.Rebind < l.Renew || l.Expire < l.Rebind {
		return fmt.Errorf("DHCPv6 lease with times %d, %d, %d", l.Renew, l.Rebind, l.Expire)
	}
	for _, id := range []string{l.ServerID, l.ClientID} {
		if b, err := hex.DecodeString(id); err != nil || len(b) < 3 || len(b) > maxDUID {
			return fmt.Errorf("DHCPv6 lease with the DUID %q", id)
		}
	}
	if !l.Address.Is6() || !slices.ContainsFunc(have, func(p netip.Prefix) bool { return p.Addr() == l.Address }) {
		return fmt.Errorf("DHCPv6 lease of %v, which is no address of the link", l.Address)
	}
	return nil
}

// StorePath returns where the target finds a file of the store that travelled
// with the handoff: the catalog, the menu and the image's manifest. Preboot
// has verified them.
func StorePath(p string) string { return "/inetboot/store/" + p }

// IndexPath returns where the target finds an index that travelled with the
// handoff. Nobody but preboot could have put it there, and preboot has checked
// its hash.
func IndexPath(d digest.SHA256) string { return "/inetboot/indexes/" + d.String() }

// Archive returns a cpio archive (newc) that holds h at Path, each of indexes
// at its IndexPath, and store's files, by their paths in the store, at their
// StorePaths. It can be appended to an initramfs at a multiple of four bytes,
// and its length is one.
func (h *Handoff) Archive(indexes [][]byte, store map[string][]byte) ([]byte, error) {
	c := *h
	c.Format = Format
	if err := c.Check(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("encode the handoff: %w", err)
	}
	var records []newc.Record
	dirs := map[string]bool{"": true}
	var folder func(dir string)
	folder = func(dir string) {
		dir = strings.TrimSuffix(dir, "/")
		if !dirs[dir] {
			dirs[dir] = true
			up, _ := path.Split(dir)
			folder(up)
			records = append(records, newc.Record{Name: dir, Perm: 0o755, Dir: true})
		}
	}
	add := func(name string, data []byte) {
		name = strings.TrimPrefix(name, "/")
		dir, _ := path.Split(name)
		folder(dir)
		records = append(records, newc.Record{Name: name, Perm: 0o600, Data: data})
	}
	add(Path, data)
	for _, b := range indexes {
		add(IndexPath(digest.Of(b)), b)
	}
	for _, p := range slices.Sorted(maps.Keys(store)) {
		if _, _, ok := storepath.Parse(p); !ok {
			return nil, fmt.Errorf("%w: %q is no file of a store", ErrInvalid, p)
		}
		add(StorePath(p), store[p])
	}
	return newc.Archive(records), nil
}
