package handoff_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
)

var addresses = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func full() *handoff.Handoff {
	blob := digest.BlobOf([]byte("index"))
	return &handoff.Handoff{
		Format: handoff.Format, BootID: strings.Repeat("0f", 16), Mirrors: []string{"http://10.0.0.1/", "https://m.example/x"},
		Proxy: "http://p:1", CA: "pem",
		Network: handoff.Network{
			MAC: "52:54:00:12:34:56", MTU: 1400,
			Addresses:   []netip.Prefix{netip.MustParsePrefix("10.0.0.7/24"), netip.MustParsePrefix("fd00::7/64")},
			Routes:      []handoff.Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.0.1")}, {Destination: netip.MustParsePrefix("10.9.0.0/16")}},
			Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Search: []string{"example.org"}, Hostname: "client",
			Lease: &handoff.Lease{Server: netip.MustParseAddr("10.0.0.1"), ClientID: "01525400123456", Obtained: 1_700_000_000, Renew: 1800, Rebind: 3150, Expire: 3600},
			VLAN:  5,
			Lease6: &handoff.Lease6{
				Address: netip.MustParseAddr("fd00::7"), ServerID: "0003000152540000ff01", ClientID: "00030001525400123456", IAID: 0x123456,
				Obtained: 1_700_000_000, Renew: 1800, Rebind: 2880, Expire: 3600,
			},
		},
		Image:  handoff.Image{Name: "debian", Version: "12", Arch: "amd64", Manifest: digest.Of([]byte("m"))},
		Entry:  "debian-12",
		Syslog: "tcp://10.0.0.4:1601",
		Cache:  handoff.Cache{Mode: handoff.CacheAuto, UUID: "1234-ABCD", Device: "sda1"},
		Root:   handoff.Root{Type: "erofs", Files: []handoff.RootFile{{Name: "meta", Size: 1, Index: blob}, {Name: "data", Size: 2, Index: blob}}},
		Stages: []handoff.Stage{{Name: "dhcp", Unix: 1}},

		CatalogVersion: 7,
		Settings:       []handoff.StoreFile{{Path: storepath.Target("settings/entries/debian-12.json", blob.SHA256), Blob: blob}},
		Keep:           []handoff.StoreFile{{Path: storepath.Timestamp, Blob: blob}, {Path: storepath.File(blob.SHA256), Blob: blob}},
	}
}

func TestParse(t *testing.T) {
	b, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	got, err := handoff.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), got, addresses); diff != "" {
		t.Errorf("Parse() (-want +got):\n%s", diff)
	}
}

func TestCheckRefuses(t *testing.T) {
	for name, change := range map[string]func(*handoff.Handoff){
		"another format":              func(h *handoff.Handoff) { h.Format = "inetboot-handoff/9" },
		"no mirrors":                  func(h *handoff.Handoff) { h.Mirrors = nil },
		"bad mirror":                  func(h *handoff.Handoff) { h.Mirrors[1] = "file:///etc" },
		"no MAC":                      func(h *handoff.Handoff) { h.Network.MAC = "" },
		"MTU too small":               func(h *handoff.Handoff) { h.Network.MTU = 67 },
		"MTU too large":               func(h *handoff.Handoff) { h.Network.MTU = 65536 },
		"no address":                  func(h *handoff.Handoff) { h.Network.Addresses = nil },
		"empty address":               func(h *handoff.Handoff) { h.Network.Addresses[0] = netip.Prefix{} },
		"route to nowhere":            func(h *handoff.Handoff) { h.Network.Routes[0].Destination = netip.Prefix{} },
		"lease of no server":          func(h *handoff.Handoff) { h.Network.Lease.Server = netip.Addr{} },
		"lease of an IPv6 server":     func(h *handoff.Handoff) { h.Network.Lease.Server = netip.MustParseAddr("fd00::1") },
		"lease without T1":            func(h *handoff.Handoff) { h.Network.Lease.Renew = 0 },
		"T2 before T1":                func(h *handoff.Handoff) { h.Network.Lease.Rebind = 1 },
		"expiry before T2":            func(h *handoff.Handoff) { h.Network.Lease.Expire = 2000 },
		"syslog receiver":             func(h *handoff.Handoff) { h.Syslog = "http://log" },
		"VLAN":                        func(h *handoff.Handoff) { h.Network.VLAN = 4095 },
		"DHCPv6 lease without T1":     func(h *handoff.Handoff) { h.Network.Lease6.Renew = 0 },
		"DHCPv6 lease of no server":   func(h *handoff.Handoff) { h.Network.Lease6.ServerID = "" },
		"DHCPv6 lease of a long DUID": func(h *handoff.Handoff) { h.Network.Lease6.ClientID = strings.Repeat("00", 131) },
		"DHCPv6 lease elsewhere":      func(h *handoff.Handoff) { h.Network.Lease6.Address = netip.MustParseAddr("fd00::8") },
		"offline with a network":      func(h *handoff.Handoff) { h.Offline = true },
		"neither network nor offline": func(h *handoff.Handoff) { h.Network = handoff.Network{} },
		"cache mode":                  func(h *handoff.Handoff) { h.Cache.Mode = "tape" },
		"cache UUID":                  func(h *handoff.Handoff) { h.Cache.UUID = "../../sda" },
		"cache device":                func(h *handoff.Handoff) { h.Cache.Device = "../sda" },
		"cache size":                  func(h *handoff.Handoff) { h.Cache.Size = -1 },
		"long entry":                  func(h *handoff.Handoff) { h.Entry = strings.Repeat("x", 201) },
		"file kept elsewhere":         func(h *handoff.Handoff) { h.Keep[0].Path = "files/../../etc/passwd" },
		"file kept without size":      func(h *handoff.Handoff) { h.Keep[0].Size = 0 },
		"file kept without hash":      func(h *handoff.Handoff) { h.Keep[1].SHA256 = digest.SHA256{} },
		"too many files kept":         func(h *handoff.Handoff) { h.Keep = slices.Repeat(h.Keep, 300) },
		"settings elsewhere":          func(h *handoff.Handoff) { h.Settings[0].Path = storepath.Timestamp },
		"settings without hash":       func(h *handoff.Handoff) { h.Settings[0].SHA256 = digest.SHA256{} },
		"settings too large":          func(h *handoff.Handoff) { h.Settings[0].Size = 1 << 20 },
		"too many settings":           func(h *handoff.Handoff) { h.Settings = slices.Repeat(h.Settings, 9) },
		"no root files":               func(h *handoff.Handoff) { h.Root.Files = nil },
		"too many root files":         func(h *handoff.Handoff) { h.Root.Files = make([]handoff.RootFile, 17) },
		"file name with a slash":      func(h *handoff.Handoff) { h.Root.Files[0].Name = "a/b" },
		"hidden file":                 func(h *handoff.Handoff) { h.Root.Files[0].Name = ".." },
		"no file name":                func(h *handoff.Handoff) { h.Root.Files[0].Name = "" },
		"file name twice":             func(h *handoff.Handoff) { h.Root.Files[1].Name = "meta" },
		"file of size 0":              func(h *handoff.Handoff) { h.Root.Files[0].Size = 0 },
		"index without hash":          func(h *handoff.Handoff) { h.Root.Files[0].Index.SHA256 = digest.SHA256{} },
		"index of size 0":             func(h *handoff.Handoff) { h.Root.Files[0].Index.Size = 0 },
	} {
		h := full()
		change(h)
		if err := h.Check(); !errors.Is(err, handoff.ErrInvalid) {
			t.Errorf("%s: Check() = %v; want ErrInvalid", name, err)
		}
		b, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := handoff.Parse(b); !errors.Is(err, handoff.ErrInvalid) {
			t.Errorf("%s: Parse() = %v; want ErrInvalid", name, err)
		}
	}
	for name, doc := range map[string]string{
		"no JSON": "x", "empty": "", "twice": `{"format":"inetboot-handoff/1","Format":"x"}`,
		"too large": `{"x":"` + strings.Repeat("x", handoff.MaxSize) + `"}`,
	} {
		if _, err := handoff.Parse([]byte(doc)); !errors.Is(err, handoff.ErrInvalid) {
			t.Errorf("%s: Parse() = %v; want ErrInvalid", name, err)
		}
	}
}

func TestArchive(t *testing.T) {
	h := full()
	h.Format = "" // filled in
	target := storepath.Target("images/debian/12/amd64.json", digest.Of([]byte("manifest")))
	a, err := h.Archive([][]byte{[]byte("index"), []byte("other")}, map[string][]byte{storepath.Timestamp: []byte("catalog"), target: []byte("manifest")})
	if err != nil {
		t.Fatal(err)
	}
	if len(a)%4 != 0 {
		t.Errorf("archive of %d bytes; want a multiple of 4", len(a))
	}
	got := make(map[string]string)
	r := cpio.Newc.Reader(bytes.NewReader(a))
	dirs := map[string]bool{}
	for {
		rec, err := r.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if rec.Mode&cpio.S_IFMT == cpio.S_IFDIR {
			dirs[rec.Name] = true
			continue
		}
		if dir := rec.Name[:strings.LastIndexByte(rec.Name, '/')]; !dirs[dir] {
			t.Errorf("%s comes before its folder", rec.Name)
		}
		if rec.Mode&0o077 != 0 {
			t.Errorf("%s has mode %o; the proxy's password is nobody's business", rec.Name, rec.Mode)
		}
		b, err := io.ReadAll(io.NewSectionReader(rec.ReaderAt, 0, int64(rec.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		got["/"+rec.Name] = string(b)
	}
	parsed, err := handoff.Parse([]byte(got[handoff.Path]))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), parsed, addresses); diff != "" {
		t.Errorf("handoff in the archive (-want +got):\n%s", diff)
	}
	for _, idx := range []string{"index", "other"} {
		if p := handoff.IndexPath(digest.Of([]byte(idx))); got[p] != idx {
			t.Errorf("%s = %q; want %q", p, got[p], idx)
		}
	}
	for p, want := range map[string]string{storepath.Timestamp: "catalog", target: "manifest"} {
		if got[handoff.StorePath(p)] != want {
			t.Errorf("%s = %q; want %q", handoff.StorePath(p), got[handoff.StorePath(p)], want)
		}
	}
	if _, err := h.Archive(nil, map[string][]byte{"../init": nil}); !errors.Is(err, handoff.ErrInvalid) {
		t.Errorf("Archive() of a file outside of the store = %v; want ErrInvalid", err)
	}
	h.Mirrors = nil
	if _, err := h.Archive(nil, nil); !errors.Is(err, handoff.ErrInvalid) {
		t.Errorf("Archive() without mirrors = %v; want ErrInvalid", err)
	}
}

// Offline there is no network to hand over, and nothing says so but Offline.
func TestOffline(t *testing.T) {
	h := full()
	h.Offline, h.Network, h.Cache = true, handoff.Network{}, handoff.Cache{Mode: handoff.CacheRAM, Size: 1 << 30}
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), `"network"`) {
		t.Errorf("an offline handoff has a network: %s", b)
	}
	got, err := handoff.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(h, got, addresses); diff != "" {
		t.Errorf("Parse() (-want +got):\n%s", diff)
	}
}

func TestResolvers(t *testing.T) {
	n := handoff.Network{Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fe80::2")}}
	want := []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("fe80::2%eth1")}
	if got := n.Resolvers("eth1"); !slices.Equal(got, want) || n.Nameservers[2].Zone() != "" {
		t.Errorf("Resolvers(eth1) = %v; want %v", got, want)
	}
}

func FuzzParse(f *testing.F) {
	b, err := json.Marshal(full())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":"inetboot-handoff/1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := handoff.Parse(data)
		if err != nil {
			return
		}
		if len(h.Mirrors) == 0 || len(h.Root.Files) == 0 || (len(h.Network.Addresses) == 0) != h.Offline {
			t.Errorf("Parse() accepts %+v", h)
		}
		if _, err := h.Archive(nil, nil); err != nil {
			t.Errorf("Archive() of what Parse accepts: %v", err)
		}
	})
}
