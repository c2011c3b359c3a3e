package settings

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/site"
)

func key(b byte) (ed25519.PublicKey, string) {
	k := ed25519.NewKeyFromSeed(slices.Repeat([]byte{b}, 32)).Public().(ed25519.PublicKey)
	return k, hex.EncodeToString(k)
}

func medium(t *testing.T, s *site.Site, trust *catalog.Trust) fstest.MapFS {
	t.Helper()
	fs := fstest.MapFS{}
	if s != nil {
		b, err := s.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		fs["inetboot/site.json"] = &fstest.MapFile{Data: b}
	}
	if trust != nil {
		b, err := json.Marshal(trust)
		if err != nil {
			t.Fatal(err)
		}
		fs["inetboot/trust.json"] = &fstest.MapFile{Data: b}
	}
	return fs
}

func TestRead(t *testing.T) {
	pub1, hex1 := key(1)
	pub2, _ := key(2)
	ours, other := catalog.NewTrust(1, catalog.NewKey(pub1)), catalog.NewTrust(1, catalog.NewKey(pub2))
	five, zero := 5, 0
	full := &site.Site{URLs: []string{"http://a/store", "http://b"}, Proxy: "http://p:3128", Nameservers: []string{"10.0.0.1"}, CA: "PEM", Entry: "debian", Timeout: &five, Cache: "ram:1G"}
	for _, tt := range []struct {
		name    string
		cmdline string
		site    *site.Site
		trust   *catalog.Trust
		want    *Settings
		wantErr error
	}{
		{"nothing", "console=ttyS0", nil, nil, &Settings{Pass: []string{"console=ttyS0"}}, ErrNoURL},
		{"no key", "inetboot.url=http://x", nil, nil, &Settings{URLs: []string{"http://x"}}, ErrNoTrust},
		{"site alone", "", full, ours, &Settings{URLs: full.URLs, Trust: ours, Proxy: full.Proxy, CA: "PEM", Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Entry: "debian", Timeout: &five, Cache: handoff.Cache{Mode: handoff.CacheRAM, Size: 1 << 30}}, nil},
		{"command line alone", "BOOT_IMAGE=/vmlinuz initrd=\\a.xz inetboot.url=http://x,https://y/z inetboot.url=http://w inetboot.key=" + hex1 + " quiet console=tty0 console=ttyS0,115200n8 inetboot.boot=abc rdinit=/init\n", nil, nil,
			&Settings{URLs: []string{"http://x", "https://y/z", "http://w"}, Trust: ours, Pass: []string{"quiet", "console=tty0", "console=ttyS0,115200n8"}}, nil},
		{"command line beats site", "inetboot.url=http://x inetboot.key=" + hex1 + ` http_proxy= inetboot.cache=1234-ABCD nameserver=1.2.3.4,fd00::1 inetboot.entry=e inetboot.timeout=0 dyndbg="file a.c +p"`, full, other,
			&Settings{URLs: []string{"http://x"}, Trust: ours, CA: "PEM", Nameservers: []netip.Addr{netip.MustParseAddr("1.2.3.4"), netip.MustParseAddr("fd00::1")}, Entry: "e", Timeout: &zero, Cache: handoff.Cache{Mode: handoff.CacheAuto, UUID: "1234-ABCD"}, Pass: []string{`dyndbg="file a.c +p"`}}, nil},
		{"bad URL", "inetboot.url=ftp://x", nil, nil, nil, ErrInvalid},
		{"bad key", "inetboot.key=00", nil, nil, nil, ErrInvalid},
		{"bad timeout", "inetboot.timeout=soon", nil, nil, nil, ErrInvalid},
		{"timeout too long", "inetboot.timeout=86401", nil, nil, nil, ErrInvalid},
		{"bad cache", "inetboot.cache=tape", nil, nil, nil, ErrInvalid},
		{"bad proxy", "http_proxy=proxy:3128", nil, nil, nil, ErrInvalid},
		{"bad nameserver", "nameserver=dns.example", nil, nil, nil, ErrInvalid},
		{"unknown option of ours", "inetboot.usl=http://x", nil, nil, nil, ErrInvalid},
	} {
		got, err := Read(tt.cmdline, medium(t, tt.site, tt.trust))
		if !errors.Is(err, tt.wantErr) {
			t.Errorf("%s: Read(%q) = error %v; want %v", tt.name, tt.cmdline, err, tt.wantErr)
			continue
		}
		if tt.want == nil {
			continue
		}
		if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: Read(%q) differs (-want +got):\n%s", tt.name, tt.cmdline, diff)
		}
	}
}

func TestReadRefusesDamagedFiles(t *testing.T) {
	for _, name := range []string{"inetboot/site.json", "inetboot/trust.json"} {
		if _, err := Read("", fstest.MapFS{name: &fstest.MapFile{Data: []byte("{")}}); err == nil || errors.Is(err, ErrNoURL) {
			t.Errorf("Read with a damaged %s = error %v; want one about the file", name, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	_, hex1 := key(1)
	f.Add("inetboot.url=http://x inetboot.key=" + hex1 + ` a="b c" http_proxy=http://p`)
	f.Add(`inetboot.url="http://a,http://b" nameserver=1.1.1.1,::1 inetboot.timeout=-1`)
	f.Add("\"\t =\" = inetboot.=")
	f.Fuzz(func(t *testing.T, line string) {
		s, err := Read(line, fstest.MapFS{})
		if err == nil && (len(s.URLs) == 0 || s.Trust == nil) {
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
