package bootsettings

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/strictjson"
)

func full() *Settings {
	return &Settings{
		Format: Format, Hostname: "pc-{mac6}.example.org", Timezone: "America/Argentina/Buenos_Aires", Locale: "ca_ES.UTF-8@valencia",
		Keyboard:    &Keyboard{Layout: "de", Variant: "nodeadkeys", Model: "pc105", Options: "ctrl:nocaps,compose:menu", Keymap: "de-latin1"},
		SSHKeys:     map[string][]string{"root": {"ssh-ed25519 AAAA operator@example"}},
		Files:       []File{{Path: "/etc/motd", Text: "{{hello}} from {entry}\n", Expand: true, Mode: "0640", Owner: "root", Group: "adm"}, {Path: "/etc/x", Base64: "AAE="}, {Path: "/etc/issue", Remove: true}},
		Cmdline:     "quiet x=1",
		Environment: map[string]string{"HTTP_PROXY": "http://10.0.0.1:3128"},
		Script:      &Script{Text: "#!/bin/sh\nexit 0\n", Timeout: 10, OnFailure: Stop},
	}
}

func TestParse(t *testing.T) {
	data, err := full().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full(), got); diff != "" {
		t.Errorf("Parse() (-want +got):\n%s", diff)
	}
}

func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*Settings){
		"format":              func(s *Settings) { s.Format = "inetboot-settings/2" },
		"host name":           func(s *Settings) { s.Hostname = "a b" },
		"unknown fact":        func(s *Settings) { s.Hostname = "{colour}" },
		"single brace":        func(s *Settings) { s.Hostname = "a}" },
		"open brace":          func(s *Settings) { s.Hostname = "{mac" },
		"time zone":           func(s *Settings) { s.Timezone = "../../etc/shadow" },
		"absolute time zone":  func(s *Settings) { s.Timezone = "/etc/shadow" },
		"locale":              func(s *Settings) { s.Locale = "C\nx" },
		"no layout":           func(s *Settings) { s.Keyboard.Layout = "" },
		"layout":              func(s *Settings) { s.Keyboard.Layout = `de"` },
		"command line":        func(s *Settings) { s.Cmdline = "a\nb" },
		"long command line":   func(s *Settings) { s.Cmdline = strings.Repeat("x", 1001) },
		"user":                func(s *Settings) { s.SSHKeys["../x"] = nil },
		"option as user":      func(s *Settings) { s.SSHKeys["-x"] = nil },
		"two lines in a key":  func(s *Settings) { s.SSHKeys["root"] = []string{"a\nb"} },
		"empty key":           func(s *Settings) { s.SSHKeys["root"] = []string{" "} },
		"too many keys":       func(s *Settings) { s.SSHKeys["root"] = slices.Repeat([]string{"k"}, 65) },
		"variable":            func(s *Settings) { s.Environment["1A"] = "" },
		"variable with sign":  func(s *Settings) { s.Environment["A=B"] = "" },
		"value of two lines":  func(s *Settings) { s.Environment["A"] = "x\ny" },
		"relative path":       func(s *Settings) { s.Files[0].Path = "etc/motd" },
		"path with dots":      func(s *Settings) { s.Files[0].Path = "/etc/../motd" },
		"the root":            func(s *Settings) { s.Files[0].Path = "/" },
		"path twice":          func(s *Settings) { s.Files[1].Path = s.Files[0].Path },
		"mode":                func(s *Settings) { s.Files[0].Mode = "0888" },
		"long mode":           func(s *Settings) { s.Files[0].Mode = "17777" },
		"owner":               func(s *Settings) { s.Files[0].Owner = "a:b" },
		"text and base64":     func(s *Settings) { s.Files[1].Text = "x" },
		"base64":              func(s *Settings) { s.Files[1].Base64 = "%" },
		"removed and written": func(s *Settings) { s.Files[2].Text = "x" },
		"fact in a file":      func(s *Settings) { s.Files[0].Text = "{x}" },
		"too many files":      func(s *Settings) { s.Files = make([]File, 257) },
		"empty script":        func(s *Settings) { s.Script.Text = "" },
		"zero in the script":  func(s *Settings) { s.Script.Text = "a\x00" },
		"timeout":             func(s *Settings) { s.Script.Timeout = -1 },
		"long timeout":        func(s *Settings) { s.Script.Timeout = 3601 },
		"on_failure":          func(s *Settings) { s.Script.OnFailure = "explode" },
	} {
		s := full()
		change(s)
		if _, err := s.Marshal(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: Marshal() = %v; want ErrInvalid", name, err)
		}
	}
	s := full()
	s.Files[0].Text = strings.Repeat("x", MaxSize)
	if _, err := s.Marshal(); !errors.Is(err, ErrInvalid) {
		t.Errorf("too large: Marshal() = %v; want ErrInvalid", err)
	}
	s = full()
	s.Requires = []string{"telepathy"}
	var r *strictjson.RequiresError
	if err := s.Check(); !errors.As(err, &r) {
		t.Errorf("Check() with a requirement = %v; want a RequiresError", err)
	}
	for _, doc := range []string{"", "[]", `{"format":"inetboot-settings/1","Format":"x"}`, `{"format":"inetboot-settings/1"} x`} {
		if _, err := Parse([]byte(doc)); !errors.Is(err, ErrInvalid) {
			t.Errorf("Parse(%q) = %v; want ErrInvalid", doc, err)
		}
	}
}

func TestExpand(t *testing.T) {
	f := Facts{MAC: "52:54:00:12:34:56", IP: "10.0.0.7", Hostname: "h", UUID: "u-1", Serial: "S1", Image: "debian", Version: "12", Entry: "site-a"}
	for pattern, want := range map[string]string{
		"": "", "plain": "plain", "pc-{mac6}": "pc-123456", "{mac}": "525400123456", "{ip}": "10.0.0.7", "n{ip-}.example": "n10-0-0-7.example",
		"{hostname}{uuid}{serial}": "hu-1S1", "{image}-{version}-{entry}": "debian-12-site-a", "{{x}}": "{x}", "{{{mac6}}}": "{123456}",
	} {
		if got := f.Expand(pattern); got != want {
			t.Errorf("Expand(%q) = %q; want %q", pattern, got, want)
		}
	}
	if got := (Facts{MAC: "1"}).Expand("{mac6}"); got != "1" {
		t.Errorf("Expand with a short address = %q; want 1", got)
	}
}

func TestMerge(t *testing.T) {
	general := &Settings{
		Format: Format, Hostname: "a", Timezone: "UTC", Cmdline: "x=1",
		SSHKeys: map[string][]string{"root": {"k1"}}, Environment: map[string]string{"A": "1", "B": "1"},
		Files: []File{{Path: "/a", Text: "1"}, {Path: "/b", Text: "1"}}, Script: &Script{Text: "general"},
	}
	special := &Settings{
		Format: Format, Hostname: "b", Locale: "C", Cmdline: "x=2", Keyboard: &Keyboard{Layout: "us"},
		SSHKeys: map[string][]string{"root": {"k2", "k1"}, "u": {"k3"}}, Environment: map[string]string{"B": "2"},
		Files: []File{{Path: "/b", Remove: true}, {Path: "/c", Text: "2"}},
	}
	want := &Settings{
		Format: Format, Hostname: "b", Timezone: "UTC", Locale: "C", Cmdline: "x=1 x=2", Keyboard: &Keyboard{Layout: "us"},
		SSHKeys: map[string][]string{"root": {"k1", "k2"}, "u": {"k3"}}, Environment: map[string]string{"A": "1", "B": "2"},
		Files: []File{{Path: "/a", Text: "1"}, {Path: "/b", Remove: true}, {Path: "/c", Text: "2"}}, Script: &Script{Text: "general"},
	}
	if diff := cmp.Diff(want, Merge(general, nil, special)); diff != "" {
		t.Errorf("Merge() (-want +got):\n%s", diff)
	}
	if general.Environment["B"] != "1" || len(general.SSHKeys["root"]) != 1 || general.Files[1].Text != "1" {
		t.Errorf("Merge() has changed what it merged: %+v", general)
	}
	// Whoever adds a member thinks of what it means for several documents.
	if n := reflect.TypeFor[Settings]().NumField(); n != 11 {
		t.Errorf("Settings has %d members; Merge knows 11", n)
	}
}

func TestNames(t *testing.T) {
	for _, n := range Names("debian", "12", "site-a") {
		s, ok := ParseName(n)
		if !ok || s.Name() != n || !storepath.ValidTarget(n) {
			t.Errorf("ParseName(%q) = %+v, %v, whose name is %q", n, s, ok, s.Name())
		}
	}
	for _, n := range []string{"menu.json", "images/debian/12/amd64.json", "settings/x.json", "settings/images/a/b/c.json", "settings/entries/a"} {
		if s, ok := ParseName(n); ok {
			t.Errorf("ParseName(%q) = %+v; want none", n, s)
		}
	}
	if got := (&Script{}).Limit(); got != DefaultTimeout*time.Second {
		t.Errorf("Limit() = %v without a timeout", got)
	}
}

func FuzzParse(f *testing.F) {
	data, err := full().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":"inetboot-settings/1"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		for i := range s.Files {
			if c, err := s.Files[i].Content(); err != nil || len(c) > MaxSize || s.Files[i].Path[0] != '/' {
				t.Errorf("file %+v: %v", s.Files[i], err)
			}
		}
		if strings.ContainsAny(s.Cmdline, "\n\x00") {
			t.Errorf("command line %q", s.Cmdline)
		}
		if err := Merge(s, s).Check(); err != nil && len(s.Cmdline) < maxCmdline/2 {
			t.Errorf("Check() of what was merged: %v", err)
		}
	})
}
