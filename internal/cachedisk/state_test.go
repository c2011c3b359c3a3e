package cachedisk

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/inetboot/inetboot/internal/digest"
)

var addrs = cmpopts.EquateComparable(netip.Addr{})

func testState() State {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	return State{
		Format:   StateFormat,
		Mirrors:  []Mirror{{URL: "http://10.0.0.1:8080/", RTT: 0.7, Measured: at}, {URL: "https://boot.example.org/store"}},
		Complete: []Complete{{Manifest: digest.Of([]byte("manifest")), Time: at}},
		Entry:    "debian-12",
		Catalog:  4,

		Nameservers: []netip.Addr{netip.MustParseAddr("10.0.0.53"), netip.MustParseAddr("2001:db8::53")},
	}
}

func TestStateRoundTrip(t *testing.T) {
	dir := t.TempDir()
	if got, err := LoadState(dir); err != nil || !cmp.Equal(got, State{}, addrs) {
		t.Errorf("LoadState of nothing = %+v, %v", got, err)
	}
	for _, want := range []State{testState(), {Format: StateFormat, Entry: "rescue"}} {
		if err := want.Save(dir); err != nil {
			t.Fatal(err)
		}
		got, err := LoadState(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, addrs); d != "" {
			t.Error(d)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder has %v, %v", entries, err)
	}
}

// What grows with use is cut, not refused.
func TestStateIsBounded(t *testing.T) {
	s := testState()
	for i := range 1000 {
		s.Mirrors = append(s.Mirrors, Mirror{URL: fmt.Sprintf("http://m%d/%s", i, strings.Repeat("x", 400)), RTT: 1})
		s.Complete = append(s.Complete, Complete{Manifest: digest.Of([]byte{byte(i)}), Time: time.Now()})
	}
	dir := t.TempDir()
	if err := s.Save(dir); err != nil {
		t.Fatal(err)
	}
	got, err := LoadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Mirrors) != maxMirrors || len(got.Complete) != maxComplete || got.Mirrors[0] != s.Mirrors[0] {
		t.Errorf("%d mirrors, %d images", len(got.Mirrors), len(got.Complete))
	}
}

func TestDamagedState(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, StateName)
	if err := testState().Save(dir); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		"", "{", "null", "{}", string(good[:len(good)/2]), string(good) + "x",
		strings.Replace(string(good), StateFormat, "inetboot-cache-state/2", 1),
		strings.Replace(string(good), "http:", "file:", 1),
		strings.Replace(string(good), "0.7", "-1", 1),
		strings.Replace(string(good), "0.7", "1e99", 1),
		string(good) + strings.Repeat(" ", MaxState),
		string(make([]byte, 5000)),
	} {
		if err := os.WriteFile(name, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadState(dir); !errors.Is(err, ErrState) || !cmp.Equal(got, State{}, addrs) {
			t.Errorf("LoadState of %.60q = %+v, %v; want nothing and ErrState", bad, got, err)
		}
		if err := testState().Save(dir); err != nil { // and it is repaired
			t.Error(err)
		}
	}
	for what, place := range map[string]func() error{
		"link":   func() error { return os.Symlink("/dev/zero", name) },
		"pipe":   func() error { return syscall.Mkfifo(name, 0o600) },
		"folder": func() error { return os.Mkdir(name, 0o700) },
	} {
		if err := errors.Join(os.RemoveAll(name), place()); err != nil {
			t.Fatal(err)
		}
		if got, err := LoadState(dir); err == nil || errors.Is(err, fs.ErrNotExist) || !cmp.Equal(got, State{}, addrs) {
			t.Errorf("LoadState of a %s = %+v, %v", what, got, err)
		}
		if err := testState().Save(dir); (err == nil) == (what == "folder") {
			t.Errorf("Save in place of a %s = %v", what, err)
		}
	}
}

func TestSaveRefuses(t *testing.T) {
	dir := t.TempDir()
	s := testState()
	s.Mirrors[0].URL = "nonsense"
	if err := s.Save(dir); !errors.Is(err, ErrState) {
		t.Errorf("Save of a bad mirror = %v; want ErrState", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("Save left %v", entries)
	}
}

func FuzzState(f *testing.F) {
	dir := f.TempDir()
	if err := testState().Save(dir); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, StateName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"format":"inetboot-cache-state/1","mirrors":[{"url":"http://x"}]}`))
	f.Add(bytes.Repeat([]byte("["), 100))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseState(b)
		if err != nil {
			if !errors.Is(err, ErrState) || !cmp.Equal(s, State{}, addrs) {
				t.Errorf("ParseState = %+v, %v", s, err)
			}
			return
		}
		// What was read can be saved, and is the same.
		dir := t.TempDir()
		if err := s.Save(dir); err != nil {
			t.Fatalf("Save of %q: %v", b, err)
		}
		if back, err := LoadState(dir); err != nil || !cmp.Equal(back, s, addrs, cmpopts.EquateEmpty()) {
			t.Errorf("round trip of %q = %+v, %v", b, back, err)
		}
	})
}
