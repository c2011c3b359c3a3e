package site_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/inetboot/inetboot/internal/netconf"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/strictjson"
)

var byValue = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func full() *site.Site {
	timeout := 0
	return &site.Site{
		Format: site.Format, URLs: []string{"http://10.0.0.1:8080/store", "https://boot.example.org/"},
		Proxy: "http://user:secret@proxy:3128", Nameservers: []string{"10.0.0.2", "fd00::1"}, CA: "-----BEGIN CERTIFICATE-----\n",
		Entry: "debian-12", Timeout: &timeout, Syslog: "udp://log.example",
		Network: netconf.Setup{VLAN: 5, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.7/24")}, Gateways: []netip.Addr{netip.MustParseAddr("10.0.0.1")}},
	}
}

func TestMarshalParse(t *testing.T) {
	for _, want := range []*site.Site{full(), {Format: site.Format, URLs: []string{"http://h"}}} {
		b, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := site.Parse(b)
		if err != nil || !cmp.Equal(got, want, byValue) {
			t.Errorf("Parse(Marshal()) = %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	const head = `{"format":"inetboot-site/1",`
	for name, doc := range map[string]string{
		"no JSON":           `x`,
		"another format":    `{"format":"inetboot-site/2","urls":["http://h/"]}`,
		"no URLs":           head + `"urls":[]}`,
		"FTP":               head + `"urls":["ftp://h/"]}`,
		"no host":           head + `"urls":["http:///x"]}`,
		"query":             head + `"urls":["http://h/?a"]}`,
		"fragment":          head + `"urls":["http://h/#a"]}`,
		"space":             head + `"urls":["http://h/a b"]}`,
		"relative":          head + `"urls":["h/a"]}`,
		"proxy":             head + `"urls":["http://h/"],"proxy":"socks5://h"}`,
		"nameserver":        head + `"urls":["http://h/"],"nameservers":["dns.example"]}`,
		"VLAN":              head + `"urls":["http://h/"],"network":{"vlan":4095}}`,
		"address":           head + `"urls":["http://h/"],"network":{"addresses":["10.0.0.7"]}}`,
		"syslog":            head + `"urls":["http://h/"],"syslog":"log:514"}`,
		"timeout":           head + `"urls":["http://h/"],"timeout":-2}`,
		"long timeout":      head + `"urls":["http://h/"],"timeout":86401}`,
		"twice":             head + `"urls":["http://h/"],"urls":["http://evil/"]}`,
		"twice, other case": head + `"urls":["http://h/"],"URLS":["http://evil/"]}`,
		"data behind it":    head + `"urls":["http://h/"]}{}`,
		"too large":         head + `"urls":["http://h/"],"x":"` + strings.Repeat("x", site.SlotSize) + `"}`,
	} {
		if _, err := site.Parse([]byte(doc)); !errors.Is(err, site.ErrInvalid) {
			t.Errorf("%s: Parse() = %v; want ErrInvalid", name, err)
		}
	}
	var req *strictjson.RequiresError
	if _, err := site.Parse([]byte(head + `"requires":["x"],"urls":["http://h/"]}`)); !errors.As(err, &req) {
		t.Errorf("unknown requirement: Parse() = %v; want a RequiresError", err)
	}
}

// contents reads an archive as the kernel does, up to its trailer.
func contents(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	r := cpio.Newc.Reader(bytes.NewReader(archive))
	out := make(map[string]string)
	for {
		rec, err := r.ReadRecord()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if rec.Mode&cpio.S_IFMT == cpio.S_IFDIR {
			continue
		}
		b, err := io.ReadAll(io.NewSectionReader(rec.ReaderAt, 0, int64(rec.FileSize)))
		if err != nil {
			t.Fatal(err)
		}
		out["/"+rec.Name] = string(b)
	}
}

func TestArchive(t *testing.T) {
	a, err := site.Archive(full(), []byte("trust"))
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != site.SlotSize || len(site.EmptySlot()) != site.SlotSize {
		t.Errorf("archives of %d and %d bytes; want %d", len(a), len(site.EmptySlot()), site.SlotSize)
	}
	conf, err := full().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"/inetboot/slot": site.Marker, site.Path: string(conf), site.RootPath: "trust"}
	if diff := cmp.Diff(want, contents(t, a)); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"/inetboot/slot": site.Marker}, contents(t, site.EmptySlot())); diff != "" {
		t.Errorf("empty archive (-want +got):\n%s", diff)
	}
	s := full()
	s.CA = strings.Repeat("x", site.SlotSize)
	if _, err := site.Archive(s, nil); !errors.Is(err, site.ErrInvalid) {
		t.Errorf("Archive() of too much = %v; want ErrInvalid", err)
	}
	if _, err := site.Archive(&site.Site{}, nil); !errors.Is(err, site.ErrInvalid) {
		t.Errorf("Archive() without URLs = %v; want ErrInvalid", err)
	}
}

func TestFindSlot(t *testing.T) {
	personal, err := site.Archive(full(), []byte("trust"))
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, 3<<20)
	rnd := rand.New(rand.NewPCG(1, 1))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	at := func(off int, slots ...[]byte) []byte {
		b := bytes.Clone(noise)
		for _, s := range slots {
			copy(b[off:], s)
			off += site.SlotSize + 1000
		}
		return b
	}
	const mid = 1 << 20 // where two reads meet
	for _, tc := range []struct {
		name   string
		medium []byte
		want   int64 // -1: none
	}{
		{"at the start", at(0, site.EmptySlot()), 0},
		{"inside", at(12345, site.EmptySlot()), 12345},
		{"personal", at(12345, personal), 12345},
		{"just before a read ends", at(mid-1, site.EmptySlot()), mid - 1},
		{"across two reads", at(mid-100, site.EmptySlot()), mid - 100},
		{"where a read begins", at(mid, site.EmptySlot()), mid},
		{"at the end", at(len(noise)-site.SlotSize, site.EmptySlot()), int64(len(noise) - site.SlotSize)},
		{"cut short", at(len(noise)-site.SlotSize+1, site.EmptySlot()), -1},
		{"none", noise, -1},
		{"the marker alone", at(5000, []byte(site.Marker)), -1},
		{"two", at(5000, site.EmptySlot(), personal), -1},
		{"empty file", nil, -1},
	} {
		got, err := site.FindSlot(bytes.NewReader(tc.medium), int64(len(tc.medium)))
		if tc.want < 0 {
			if !errors.Is(err, site.ErrNoSlot) {
				t.Errorf("%s: FindSlot() = %d, %v; want ErrNoSlot", tc.name, got, err)
			}
		} else if err != nil || got != tc.want {
			t.Errorf("%s: FindSlot() = %d, %v; want %d", tc.name, got, err, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	b, err := full().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":"inetboot-site/1","urls":["http://h"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := site.Parse(data)
		if err != nil {
			return
		}
		b, err := s.Marshal()
		if err != nil {
			t.Fatalf("Marshal() of what Parse accepts: %v", err)
		}
		again, err := site.Parse(b)
		if len(b) <= site.SlotSize && (err != nil || !cmp.Equal(again, s, cmpopts.EquateEmpty(), byValue)) {
			t.Errorf("Parse(Marshal()) = %+v, %v; want %+v", again, err, s)
		}
	})
}

func FuzzFindSlot(f *testing.F) {
	f.Add(site.EmptySlot(), 100)
	f.Add([]byte(site.Marker), 0)
	f.Fuzz(func(t *testing.T, data []byte, before int) {
		medium := append(make([]byte, min(max(before, 0), 5000)), data...)
		if at, err := site.FindSlot(bytes.NewReader(medium), int64(len(medium))); err == nil && (at < 0 || at+site.SlotSize > int64(len(medium))) {
			t.Errorf("FindSlot() = %d in %d bytes", at, len(medium))
		}
	})
}
