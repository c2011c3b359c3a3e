// Package handoff is what preboot tells the target: the network as it stands,
// where the store is, and which root to mount. It travels as one file in a
// cpio archive behind the target's initramfs, so it has been through no
// hands but preboot's: the target trusts it.
package handoff

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/newc"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/strictjson"
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
	CA      string   `json:"ca,omitempty"` // PEM
	Network Network  `json:"network"`
	Image   Image    `json:"image"`
	Root    Root     `json:"root"`
	Stages  []Stage  `json:"stages,omitempty"`
}

// Stage is a moment of the boot before the target, for the boot's timeline.
type Stage struct {
	Name string `json:"name"` // such as "dhcp", "catalog", "menu", "kernel", "initrd"
	Unix int64  `json:"unix"` // milliseconds since 1970, by the machine's clock
}

// Network is one link's configuration.
type Network struct {
	MAC         string         `json:"mac"` // of the link that preboot used; names do not survive a kexec
	MTU         int            `json:"mtu,omitempty"`
	Addresses   []netip.Prefix `json:"addresses"`
	Routes      []Route        `json:"routes,omitempty"`
	Nameservers []netip.Addr   `json:"nameservers,omitempty"`
	Search      []string       `json:"search,omitempty"`
	Hostname    string         `json:"hostname,omitempty"`
	Lease       *Lease         `json:"lease,omitempty"` // absent for static and SLAAC addresses
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
	if _, err := net.ParseMAC(h.Network.MAC); err != nil {
		return bad("network: %w", err)
	}
	if len(h.Network.Addresses) == 0 {
		return bad("network has no address")
	}
	if m := h.Network.MTU; m != 0 && (m < 68 || m > 65535) {
		return bad("network: MTU %d", m)
	}
	for _, a := range h.Network.Addresses {
		if !a.IsValid() {
			return bad("network: an address is empty")
		}
	}
	for _, r := range h.Network.Routes {
		if !r.Destination.IsValid() {
			return bad("network: a route has no destination")
		}
	}
	if l := h.Network.Lease; l != nil && (!l.Server.Is4() || l.Renew <= 0 || l.Rebind < l.Renew || l.Expire < l.Rebind) {
		return bad("network: lease of server %v with times %d, %d, %d", l.Server, l.Renew, l.Rebind, l.Expire)
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

// IndexPath returns where the target finds an index that travelled with the
// handoff. Nobody but preboot could have put it there, and preboot has checked
// its hash.
func IndexPath(d digest.SHA256) string { return "/inetboot/indexes/" + d.String() }

// Archive returns a cpio archive (newc) that holds h at Path and each of
// indexes at its IndexPath. It can be appended to an initramfs at a multiple
// of four bytes, and its length is one.
func (h *Handoff) Archive(indexes ...[]byte) ([]byte, error) {
	c := *h
	c.Format = Format
	if err := c.Check(); err != nil {
		return nil, err
	}
	data, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("encode the handoff: %w", err)
	}
	records := []newc.Record{
		{Name: "inetboot", Perm: 0o755, Dir: true},
		{Name: strings.TrimPrefix(Path, "/"), Perm: 0o600, Data: data},
	}
	if len(indexes) > 0 {
		records = append(records, newc.Record{Name: "inetboot/indexes", Perm: 0o755, Dir: true})
	}
	for _, b := range indexes {
		records = append(records, newc.Record{Name: strings.TrimPrefix(IndexPath(digest.Of(b)), "/"), Perm: 0o600, Data: b})
	}
	return newc.Archive(records), nil
}
