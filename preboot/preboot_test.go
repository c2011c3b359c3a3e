package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/strictjson"
	"github.com/inetboot/inetboot/internal/syslog"
	"github.com/inetboot/inetboot/preboot/console"
	"github.com/inetboot/inetboot/preboot/download"
	"github.com/inetboot/inetboot/preboot/form"
	"github.com/inetboot/inetboot/preboot/menu"
	"github.com/inetboot/inetboot/preboot/network"
	"github.com/inetboot/inetboot/preboot/settings"
)

func TestExplain(t *testing.T) {
	a, b := digest.Of([]byte("a")), digest.Of([]byte("b"))
	mismatch := fmt.Errorf("%w: %w", mirror.ErrRejected, &digest.MismatchError{What: "files/x", Want: a, Got: b})
	at := func(errs ...error) error {
		e := &mirror.Error{Path: "files/" + a.String()}
		for i, err := range errs {
			e.Failures = append(e.Failures, mirror.Failure{URL: fmt.Sprint("http://", i), Err: err})
		}
		return e
	}
	expired := &catalog.ExpiredError{Expires: time.Unix(1e9, 0), Now: time.Unix(2e9, 0)}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"kernel", part("download", &download.Error{What: "kernel", Err: at(mismatch)}),
			"refused: kernel: it has SHA-256 " + b.Short() + " there, but the catalog says " + a.Short() + " (http://0)"},
		{"several mirrors", part("download", &download.Error{What: "initrd", Err: at(fmt.Errorf("%w: %w", mirror.ErrUnavailable, errors.New("connection refused")), fmt.Errorf("%w (404 Not Found)", mirror.ErrNotFound))}),
			"failed: initrd: unavailable: connection refused (http://0); not found (404 Not Found) (http://1)"},
		{"expired", part("catalog", at(fmt.Errorf("%w: %w", mirror.ErrRejected, expired))), "refused: catalog: " + expired.Error() + " (http://0)"},
		{"signature", part("catalog", at(fmt.Errorf("%w: %w", mirror.ErrRejected, fmt.Errorf("the catalog has been changed: %w", catalog.ErrSignature)))),
			"refused: catalog: the catalog has been changed: signature is wrong (http://0)"},
		{"requirement", part("menu", strictjson.Requires("the menu", []string{"x"}, nil)), "refused: menu: the menu needs x, which this version of InetBoot does not have: use a newer boot medium or program"},
		{"memory", part("memory", fmt.Errorf("%w: 5 MB are missing", download.ErrMemory)), "failed: memory: not enough memory: 5 MB are missing"},
		{"a server that wants to paint", part("catalog", at(errors.New("\x1b[2Jha\nha"))), "failed: catalog: [2Jha ha (http://0)"},
	} {
		if got := explain(tt.err); got != tt.want {
			t.Errorf("%s: explain = %q; want %q", tt.name, got, tt.want)
		}
	}
	joined := errors.Join(fmt.Errorf("%w on eth0", network.ErrNoCarrier), part("catalog", at(errors.New("x"))), part("catalog", at(errors.New("x"))))
	if got, want := explainAll(joined), "failed: no carrier on eth0; failed: catalog: x (http://0)"; got != want {
		t.Errorf("explainAll = %q; want %q", got, want)
	}
}

func TestExplainTheClock(t *testing.T) {
	err := part("catalog", &mirror.Error{Failures: []mirror.Failure{{URL: "https://x", Err: fmt.Errorf("%w: %w", mirror.ErrUnavailable,
		&url.Error{Op: "Get", URL: "https://x/y", Err: &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Cert: &x509.Certificate{}, Reason: x509.Expired}}})}}})
	got := explain(err)
	if !strings.HasPrefix(got, "failed: catalog: tls: failed to verify certificate: x509: certificate has expired or is not yet valid") || !strings.Contains(got, "(this machine's clock says 20") {
		t.Errorf("explain of a certificate's time = %q; want what the clock says", got)
	}
}

func TestItems(t *testing.T) {
	entries := []catalog.Entry{
		{ID: "a", Title: "A", Help: "help", Image: "images/a/1/amd64.json"},
		{ID: "arm", Title: "ARM", Image: "images/a/1/arm64.json", Arch: []string{"arm64"}},
		{ID: "both", Title: "Both", Entries: []catalog.Entry{{ID: "c", Title: "C", Action: catalog.ActionReboot, Arch: []string{"arm64", "amd64"}}}},
		{ID: "new", Title: "New", Action: "teleport"},
		{ID: "erin", Title: "Erin's", Requires: []string{catalog.FeatureInclude}, Include: "erin-", Broken: errors.New("there is no such menu")},
	}
	none := func(string) *facts { return nil }
	got := items(entries, known{arch: "amd64", facts: none})
	want := []menu.Item{
		{ID: "a", Title: "A", Help: "help"},
		{ID: "both", Title: "Both", Items: []menu.Item{{ID: "c", Title: "C"}}},
		{ID: "new", Title: "New", Blocked: "this entry needs the action teleport, which this version of InetBoot does not have: use a newer boot medium or program"},
		{ID: "erin", Title: "Erin's", Blocked: "there is no such menu"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items (-want +got):\n%s", diff)
	}
	got = items(entries[2:], known{arch: "amd64", offline: true, facts: none})
	want = want[1:]
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items without images, offline (-want +got):\n%s", diff)
	}
	entries[2].Entries = append(entries[2].Entries, catalog.Entry{ID: "d", Title: "D", Image: "images/d/1/amd64.json"})
	got = items(entries[:3], known{arch: "amd64", complete: map[string]bool{"images/d/1/amd64.json": true}, offline: true, facts: none})
	want = []menu.Item{
		{ID: "a", Title: "A", Help: "help", Blocked: notOffline},
		{ID: "both", Title: "Both", Items: []menu.Item{{ID: "c", Title: "C"}, {ID: "d", Title: "D", Facts: []string{"", "", "", "yes"}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items, offline (-want +got):\n%s", diff)
	}
	small := facts{version: "1.2", load: 48_100_000, later: 400_000_000, memory: 512 << 20, short: "not enough memory: 256 MB are missing"}
	got = items(entries[:1], known{arch: "amd64", facts: func(string) *facts { return &small }})
	want = []menu.Item{{ID: "a", Title: "A", Note: "too little memory", Facts: []string{"1.2", "48.1 MB", "512 MB", ""},
		Help: "(not enough memory: 256 MB are missing)\nhelp\n48.1 MB are loaded before it starts, 400.0 MB more at most while it runs."}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("items with facts (-want +got):\n%s", diff)
	}
}

// The manifests of a menu are read, each once; those that are wrong, missing or
// too large are passed over.
func TestGather(t *testing.T) {
	repo := catalogtest.New(t, catalogtest.Options{})
	blob := digest.BlobOf([]byte("x"))
	files := map[string][]byte{}
	var names []string
	for i := range 30 {
		m := &catalog.Manifest{
			Format: catalog.ManifestFormat, Name: "a", Version: fmt.Sprint(i), Arch: "amd64", Kernel: catalog.Kernel{Blob: blob}, Initrd: blob,
			Root:  catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 4096, Stored: 1000, Index: blob}}},
			Needs: catalog.Needs{Memory: 64 << 20},
		}
		if i == 7 {
			m.Needs.Memory = 1 << 50
		}
		b, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		n := catalog.ManifestName("a", m.Version, "amd64")
		if i == 8 {
			b = []byte("{}")
		}
		if i == 9 {
			b = append(b, bytes.Repeat([]byte(" "), maxFactsFile)...)
		}
		files[n], names = b, append(names, n, n)
	}
	repo.Publish(t, files)
	g := gather(t.Context(), repo.Open(t), append(names, "images/not/there/amd64.json"))
	select {
	case <-g.done:
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	select {
	case <-g.wake():
	default:
		t.Error("there is no news")
	}
	if n := g.count(); n != 28 {
		t.Errorf("%d images are known; want 28", n)
	}
	for i, want := range map[int]bool{3: true, 8: false, 9: false} {
		if f := g.get(names[2*i]); (f != nil) != want {
			t.Errorf("image %d: %+v; want known: %t", i, f, want)
		}
	}
	f := g.get(names[6])
	if f.version != "3" || f.load != 3 || f.later != 1000 || f.memory != 64<<20 || f.short != "" {
		t.Errorf("facts = %+v", f)
	}
	if f := g.get(names[14]); !strings.Contains(f.short, "not enough memory") {
		t.Errorf("an image that needs 2^50 bytes: %+v", f)
	}
	var nobody *gatherer
	if nobody.stop(); nobody.get("x") != nil || nobody.wake() != nil {
		t.Error("a gatherer that is not there knows something")
	}
}

// The form's result is read by the settings as any command line, and fills in
// the next form.
func TestNetworkForm(t *testing.T) {
	base := "console=tty0 ip=dhcp nameserver=9.9.9.9 inetboot.url=http://h inetboot.key=" + strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name   string
		values map[string]string
		line   string // what replaces ip= and nameserver=
	}{
		{"automatic", map[string]string{modeField: modeAuto}, "ip=dhcp vlan="},
		{"one adapter", map[string]string{modeField: modeAuto, linkField: "eth1", vlanField: "5", proxyField: "none"}, "ip=:::::eth1:dhcp vlan=5 http_proxy="},
		{"static", map[string]string{modeField: modeStatic, addressField: "192.0.2.7/24", gatewayField: "192.0.2.1", dnsField: "192.0.2.2, 192.0.2.3", proxyField: "http://u:p@proxy:3128"},
			"ip=192.0.2.7::192.0.2.1:24:::off vlan= nameserver=192.0.2.2,192.0.2.3 http_proxy=http://u:p@proxy:3128"},
		{"IPv6, both, with a link", map[string]string{modeField: modeStatic, linkField: "eth0", addressField: "192.0.2.7/24 2001:db8::7/64", gatewayField: "fe80::1,192.0.2.1"},
			"ip=192.0.2.7::192.0.2.1:24::eth0:off ip=[2001:db8::7]::[fe80::1]:64::eth0:off vlan="},
		{"no gateway", map[string]string{modeField: modeStatic, addressField: "10.0.0.1/8"}, "ip=10.0.0.1:::8:::off vlan="},
	} {
		options, field, err := networkOptions(func(id string) string { return tt.values[id] })
		if err != nil {
			t.Errorf("%s: %s: %v", tt.name, field, err)
			continue
		}
		line := settings.Override(base, networkNames(), options)
		if want := "console=tty0 inetboot.url=http://h inetboot.key=" + strings.Repeat("ab", 32) + " " + tt.line; line != want {
			t.Errorf("%s: %q; want %q", tt.name, line, want)
		}
		set, err := settings.Read(line, fstest.MapFS{})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		f := form.New(networkForm(set, []string{"eth0", "eth1"}))
		again, _, err := networkOptions(f.Value)
		if diff := cmp.Diff(options, again); diff != "" || err != nil {
			t.Errorf("%s: the form filled in again, %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
	for _, tt := range []struct {
		field  string
		values map[string]string
	}{
		{addressField, map[string]string{modeField: modeStatic}},
		{addressField, map[string]string{modeField: modeStatic, addressField: "192.0.2.7"}},
		{gatewayField, map[string]string{modeField: modeStatic, addressField: "192.0.2.7/24", gatewayField: "x"}},
		{gatewayField, map[string]string{modeField: modeStatic, addressField: "192.0.2.7/24", gatewayField: "192.0.2.1,192.0.2.2"}},
		{gatewayField, map[string]string{modeField: modeStatic, addressField: "192.0.2.7/24", gatewayField: "fe80::1"}},
		{vlanField, map[string]string{modeField: modeAuto, vlanField: "4095"}},
		{dnsField, map[string]string{modeField: modeAuto, dnsField: "one.one"}},
		{proxyField, map[string]string{modeField: modeAuto, proxyField: "proxy:3128"}},
	} {
		if options, field, err := networkOptions(func(id string) string { return tt.values[id] }); err == nil || field != tt.field {
			t.Errorf("%v: %v, %q, %v; want an error about %s", tt.values, options, field, err, tt.field)
		}
	}
}

func TestProgressLine(t *testing.T) {
	s := download.Sizes{Kernel: 4_000_000, KernelTotal: 8_000_000, Initrd: 10_000_000, InitrdTotal: 40_000_000, Index: 1000, IndexTotal: 1000}
	want := "kernel 50 %, initrd 25 %: 14.0 MB of 48.0 MB, 2.0 MB/s, 0:18 left (Esc: back)"
	if got := progressLine(s, 2e6); got != want {
		t.Errorf("progressLine = %q; want %q", got, want)
	}
	huge := download.Sizes{Kernel: 1 << 31, KernelTotal: 1 << 32, Initrd: 1 << 31, InitrdTotal: 1 << 32}
	for _, r := range []float64{0, 1, 123456, 999e9} {
		if got := progressLine(huge, r); console.Width(got) > console.Columns+20 {
			t.Errorf("progressLine = %q has %d columns", got, console.Width(got))
		}
	}
}

func TestRate(t *testing.T) {
	var r rate
	var got float64
	for i := range 20 {
		got = r.at(int64(i)*1000, time.Duration(i)*time.Second)
	}
	if got != 1000 {
		t.Errorf("rate = %v; want 1000", got)
	}
	for i := range 6 { // it stalls
		got = r.at(19000, time.Duration(20+i)*time.Second)
	}
	if got != 0 {
		t.Errorf("rate of a download that stalls = %v; want 0", got)
	}
	if got = r.at(500, 30*time.Second); got < 0 {
		t.Errorf("rate after a new beginning = %v", got)
	}
}

func TestTimeline(t *testing.T) {
	l := newTimeline()
	for _, s := range []string{"init", "menu", "kernel", "menu"} {
		l.mark(s)
		time.Sleep(2 * time.Millisecond)
	}
	var names []string
	for _, s := range l.stages() {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"init", "kernel", "menu"}, names); diff != "" {
		t.Errorf("stages (-want +got):\n%s", diff)
	}
}

func TestTimelineText(t *testing.T) {
	l := newTimeline()
	begin := time.Unix(1000, 0)
	l.at = map[string]time.Time{"init": begin, "menu": begin.Add(3 * time.Second), "dhcp": begin.Add(1234567 * time.Microsecond)}
	if got, want := l.text(), "timeline: init=0.000 dhcp=1.234 menu=3.000"; got != want {
		t.Errorf("text = %q; want %q", got, want)
	}
	if got := newTimeline().text(); got != "timeline:" {
		t.Errorf("text of nothing = %q", got)
	}
}

func TestSeverity(t *testing.T) {
	for line, want := range map[string]int{"menu ready": syslog.Info, "failed: network: x": syslog.Error, "refused: kernel: x": syslog.Error, "": syslog.Info} {
		if got := severity(line); got != want {
			t.Errorf("severity(%q) = %d; want %d", line, got, want)
		}
	}
}

func TestRunElsewhere(t *testing.T) {
	if err := run(t.Context(), nil, 4711); err == nil || !strings.Contains(err.Error(), "make iso") {
		t.Errorf("run outside of a boot medium = %v; want an explanation", err)
	}
}
