package settings

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/netconf"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/syslog"
)

func key(b byte) (ed25519.PublicKey, string) {
	k := ed25519.NewKeyFromSeed(slices.Repeat([]byte{b}, 32)).Public().(ed25519.PublicKey)
	return k, hex.EncodeToString(k)
}

func medium(t *testing.T, s *site.Site, root []byte) fstest.MapFS {
	t.Helper()
	fs := fstest.MapFS{}
	if s != nil {
		b, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		fs["inetboot/site.json"] = &fstest.MapFile{Data: b}
	}
	if root != nil {
		fs["inetboot/root.json"] = &fstest.MapFile{Data: root}
	}
	return fs
}

func TestRead(t *testing.T) {
	pub1, hex1 := key(1)
	repo, repo2 := catalogtest.New(t, catalogtest.Options{Key: 10}), catalogtest.New(t, catalogtest.Options{Key: 20})
	ours, keys := repo.Anchor(t), tuf.KeyAnchor(pub1)
	five, zero := 5, 0
	full := &site.Site{URLs: []string{"http://a/store", "http://b"}, Proxy: "http://p:3128", Nameservers: []string{"10.0.0.1"}, CA: "PEM", Entry: "debian", Timeout: &five, Cache: "ram:1G", Syslog: "tcp://log"}
	network := &site.Site{URLs: []string{"http://a"}, Network: netconf.Setup{VLAN: 9, MTU: 1300, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/24")}}}
	for _, tt := range []struct {
		name    string
		cmdline string
		site    *site.Site
		root    []byte
		want    *Settings
		wantErr error
	}{
		{"nothing", "console=ttyS0", nil, nil, &Settings{Pass: []string{"console=ttyS0"}}, ErrNoURL},
		{"settings of the machine", "inetboot.url=http://x inetboot.key=" + hex1 + " inetboot.settings=http://s:8080 inetboot.settings-key=" + hex1, nil, nil, &Settings{URLs: []string{"http://x"}, Anchor: keys, Server: "http://s:8080", ServerKey: pub1}, nil},
		{"settings as on the medium", "", &site.Site{URLs: []string{"http://x"}, Settings: "http://s", SettingsKey: hex1}, repo.Root(), &Settings{URLs: []string{"http://x"}, Anchor: ours, Server: "http://s", ServerKey: pub1}, nil},
		{"no settings", "inetboot.settings=", &site.Site{URLs: []string{"http://x"}, Settings: "http://s", SettingsKey: hex1}, repo.Root(), &Settings{URLs: []string{"http://x"}, Anchor: ours, ServerKey: pub1}, nil},
		{"settings without a key", "inetboot.url=http://x inetboot.key=" + hex1 + " inetboot.settings=http://s", nil, nil, nil, ErrInvalid},
		{"a bad settings key", "inetboot.settings-key=00", nil, nil, nil, ErrInvalid},
		{"a bad URL of settings", "inetboot.settings=s", nil, nil, nil, ErrInvalid},
		{"no key", "inetboot.url=http://x", nil, nil, &Settings{URLs: []string{"http://x"}}, ErrNoTrust},
		{"site alone", "", full, repo.Root(), &Settings{URLs: full.URLs, Anchor: ours, Proxy: full.Proxy, CA: "PEM", Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Entry: "debian", Timeout: &five, Cache: handoff.Cache{Mode: handoff.CacheRAM, Size: 1 << 30}, Syslog: &syslog.Receiver{Network: "tcp", Host: "log", Port: 601}}, nil},
		{"command line alone", "BOOT_IMAGE=/vmlinuz initrd=\\a.xz nr_cpus=1 inetboot.url=http://x,https://y/z inetboot.url=http://w inetboot.key=" + hex1 + " quiet console=tty0 console=ttyS0,115200n8 inetboot.boot=abc rdinit=/init\n", nil, nil,
			&Settings{URLs: []string{"http://x", "https://y/z", "http://w"}, Anchor: keys, Pass: []string{"quiet", "console=tty0", "console=ttyS0,115200n8"}}, nil},
		{"processors of the target", "nr_cpus=1 nr_cpus=4 inetboot.url=http://x inetboot.key=" + hex1, nil, nil, &Settings{URLs: []string{"http://x"}, Anchor: keys, Pass: []string{"nr_cpus=4"}}, nil},
		{"command line beats site", "inetboot.url=http://x inetboot.key=" + hex1 + ` http_proxy= inetboot.cache=1234-ABCD nameserver=1.2.3.4,fd00::1 inetboot.entry=e inetboot.timeout=0 inetboot.syslog=udp://[fd00::5]:1514 dyndbg="file a.c +p"`, full, repo2.Root(),
			&Settings{NoProxy: true, PassAlone: []string{"nameserver=1.2.3.4,fd00::1"}, URLs: []string{"http://x"}, Anchor: keys, CA: "PEM", Nameservers: []netip.Addr{netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("fd00::1")}, Entry: "e", Timeout: &zero, Cache: handoff.Cache{Mode: handoff.CacheAuto, UUID: "1234-ABCD"}, Syslog: &syslog.Receiver{Network: "udp", Host: "fd00::5", Port: 1514}, Pass: []string{`dyndbg="file a.c +p"`}}, nil},
		{"network", "inetboot.url=http://x inetboot.key=" + hex1 + " ip=192.0.2.5::192.0.2.1:24:pc7::off:192.0.2.2 ip=[2001:db8::5] vlan=5:eth1 inetboot.mtu=1400 inetboot.ntp=a.example,192.0.2.3 quiet", network, nil,
			&Settings{URLs: []string{"http://x"}, Anchor: keys, Nameservers: []netip.Addr{netip.MustParseAddr("192.0.2.2")}, Pass: []string{"quiet"},
				PassAlone: []string{"ip=192.0.2.5::192.0.2.1:24:pc7::off:192.0.2.2", "ip=[2001:db8::5]", "vlan=5:eth1"},
				Network: netconf.Setup{
					Link: "eth1", VLAN: 5, MTU: 1400, NoDHCP: true, Hostname: "pc7", NTP: []string{"a.example", "192.0.2.3"}, Gateways: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
					Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.5/24"), netip.MustParsePrefix("2001:db8::5/64")},
				}}, nil},
		{"network of the site", "inetboot.key=" + hex1, network, nil, &Settings{URLs: network.URLs, Anchor: keys, Network: network.Network}, nil},
		{"DHCP beats the site's addresses", "inetboot.key=" + hex1 + " ip=dhcp vlan=", network, nil, &Settings{URLs: network.URLs, Anchor: keys, PassAlone: []string{"ip=dhcp", "vlan="}, Network: netconf.Setup{MTU: 1300}}, nil},
		{"image by URL, without a store", "httpfuse=http://h/files/" + hex1, nil, nil, &Settings{Image: "http://h/files/" + hex1}, nil},
		{"bad URL of an image", "httpfuse=ftp://h/x", nil, nil, nil, ErrInvalid},
		{"no DHCP", "inetboot.url=http://x inetboot.key=" + hex1 + " nodhcp", nil, nil, &Settings{URLs: []string{"http://x"}, Anchor: keys, PassAlone: []string{"nodhcp"}, Network: netconf.Setup{NoDHCP: true}}, nil},
		{"no log", "inetboot.url=http://x inetboot.key=" + hex1 + " inetboot.syslog=", nil, nil, &Settings{URLs: []string{"http://x"}, Anchor: keys, Syslog: &syslog.Receiver{}}, nil},
		{"bad log", "inetboot.syslog=log:514", nil, nil, nil, ErrInvalid},
		{"bad address", "ip=10.0.0.300:::24", nil, nil, nil, ErrInvalid},
		{"bad VLAN", "vlan=4095", nil, nil, nil, ErrInvalid},
		{"bad MTU", "inetboot.mtu=100", nil, nil, nil, ErrInvalid},
		{"bad time server", "inetboot.ntp=a,-b", nil, nil, nil, ErrInvalid},
		{"bad URL", "inetboot.url=ftp://x", nil, nil, nil, ErrInvalid},
		{"bad key", "inetboot.key=00", nil, nil, nil, ErrInvalid},
		{"bad timeout", "inetboot.timeout=soon", nil, nil, nil, ErrInvalid},
		{"timeout too long", "inetboot.timeout=86401", nil, nil, nil, ErrInvalid},
		{"bad cache", "inetboot.cache=tape", nil, nil, nil, ErrInvalid},
		{"bad proxy", "http_proxy=proxy:3128", nil, nil, nil, ErrInvalid},
		{"bad nameserver", "nameserver=dns.example", nil, nil, nil, ErrInvalid},
		{"unknown option of ours", "inetboot.usl=http://x", nil, nil, nil, ErrInvalid},
	} {
		got, err := Read(tt.cmdline, medium(t, tt.site, tt.root))
		if !errors.Is(err, tt.wantErr) {
			t.Errorf("%s: Read(%q) = error %v; want %v", tt.name, tt.cmdline, err, tt.wantErr)
			continue
		}
		if tt.want == nil {
			continue
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty(), cmp.Comparer(sameAnchor)); diff != "" {
			t.Errorf("%s: Read(%q) differs (-want +got):\n%s", tt.name, tt.cmdline, diff)
		}
	}
}

// sameAnchor tells whether a and b are the same root or the same keys.
func sameAnchor(a, b *catalog.Anchor) bool {
	if a == nil || b == nil || a.Root() == nil || b.Root() == nil {
		return reflect.DeepEqual(a, b)
	}
	return bytes.Equal(a.Root().Bytes(), b.Root().Bytes())
}

func TestReadRefusesDamagedFiles(t *testing.T) {
	for _, name := range []string{"inetboot/site.json", "inetboot/root.json"} {
		if _, err := Read("", fstest.MapFS{name: &fstest.MapFile{Data: []byte("{")}}); err == nil || errors.Is(err, ErrNoURL) {
			t.Errorf("Read with a damaged %s = error %v; want one about the file", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	_, hex1 := key(1)
	f.Add("inetboot.url=http://x inetboot.key=" + hex1 + ` a="b c" http_proxy=http://p`)
	f.Add(`inetboot.url="http://a,http://b" nameserver=1.1.1.1,::1 inetboot.timeout=-1`)
	f.Add("ip=192.0.2.5::192.0.2.1:24:pc7::off:192.0.2.2 ip=[2001:db8::5] vlan=5:eth1 inetboot.mtu=1400 inetboot.ntp=a nodhcp")
	f.Add("httpfuse=http://h/x#sha256=" + hex1)
	f.Add("\"\t =\" = inetboot.=")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := Read(line, fstest.MapFS{})
		if err == nil && !s.Store() && s.Image == "" {
			t.Errorf("Read(%q) = %+v without error", line, s)
		}
		for _, p := range s.Pass {
			if strings.HasPrefix(p, "inetboot.") || p == "" {
				t.Errorf("Read(%q) passes %q on", line, p)
			}
		}
		if again := Fields(strings.Join(Fields(line), " ")); !slices.Equal(again, Fields(line)) && !strings.HasSuffix(line, "\n") {
			t.Errorf("Fields(%q) = %q, and joined and split again %q", line, Fields(line), again)
		}
	})
}
