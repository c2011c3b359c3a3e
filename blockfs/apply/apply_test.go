package apply

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/bootsettings"
)

// system makes a tree; contents that begin with "-> " are symbolic links, those
// that are "/" folders.
func system(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch to, link := strings.CutPrefix(content, "-> "); {
		case link:
			err = os.Symlink(to, p)
		case content == "/":
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// state returns what is in a tree, in the same form.
func state(t *testing.T, root string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, p)
		switch {
		case d.IsDir():
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			out[name] = "-> " + to
			return err
		case d.Type().IsRegular():
			b, err := os.ReadFile(p)
			out[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("changing owners needs root")
	}
}

const passwd = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n"

func TestApply(t *testing.T) {
	needRoot(t)
	root := system(t, map[string]string{
		"etc/passwd": passwd, "etc/group": "root:x:0:\nadm:x:4:alice\n", "etc/debian_version": "12.8\n", "etc/default": "/", "etc/X11": "/",
		"etc/hosts": "127.0.0.1 localhost\n127.0.1.1 old\n", "etc/localtime": "-> /usr/share/zoneinfo/UTC", "usr/share/zoneinfo/Europe/Vienna": "TZ",
		"etc/environment": "PATH=/bin\nA=0", "etc/default/keyboard": "# KEYBOARD\nXKBLAYOUT=\"us\"\nBACKSPACE=\"guess\"\n",
		"data/alice/.ssh/authorized_keys": "ssh-rsa OLD", "home": "-> /data", "etc/motd": "hello", "etc/issue": "Debian\n", "etc/link": "-> ../../../data/outside",
	})
	s := &bootsettings.Settings{
		Format: bootsettings.Format, Hostname: "pc-{mac6}.example.org", Timezone: "Europe/Vienna", Locale: "de_AT.UTF-8",
		Keyboard:    &bootsettings.Keyboard{Layout: "de,us", Variant: "nodeadkeys"},
		SSHKeys:     map[string][]string{"root": {"ssh-ed25519 A a"}, "alice": {"ssh-rsa OLD", "ssh-ed25519 B b"}},
		Environment: map[string]string{"A": "one two", "B": "2"},
		Files: []bootsettings.File{
			{Path: "/etc/motd", Text: "site {entry}\n", Expand: true, Append: true, Mode: "0600", Group: "adm"},
			{Path: "/opt/tool", Base64: "AAEC", Mode: "4755", Owner: "alice"},
			{Path: "/etc/issue", Remove: true},
			{Path: "/etc/link", Text: "through the link\n"},
		},
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	facts := bootsettings.Facts{MAC: "52:54:00:12:34:56", Entry: "a"}
	for range 2 { // a second time changes nothing
		name, err := Apply(root, s, facts)
		if err != nil || name != "pc-123456.example.org" {
			t.Fatalf("Apply() = %q, %v", name, err)
		}
	}
	want := map[string]string{
		"etc/passwd": passwd, "etc/group": "root:x:0:\nadm:x:4:alice\n", "etc/debian_version": "12.8\n",
		"etc/hostname":  "pc-123456.example.org\n",
		"etc/hosts":     "127.0.0.1 localhost\n127.0.1.1\tpc-123456.example.org pc-123456\n",
		"etc/localtime": "-> ../usr/share/zoneinfo/Europe/Vienna", "usr/share/zoneinfo/Europe/Vienna": "TZ", "etc/timezone": "Europe/Vienna\n",
		"etc/locale.conf": "LANG=de_AT.UTF-8\n", "etc/default/locale": "LANG=de_AT.UTF-8\n",
		"etc/vconsole.conf":                    "KEYMAP=de\nXKBLAYOUT=de,us\nXKBMODEL=pc105\nXKBOPTIONS=\nXKBVARIANT=nodeadkeys\n",
		"etc/default/keyboard":                 "# KEYBOARD\nBACKSPACE=\"guess\"\nXKBLAYOUT=\"de,us\"\nXKBMODEL=\"pc105\"\nXKBOPTIONS=\"\"\nXKBVARIANT=\"nodeadkeys\"\n",
		"etc/X11/xorg.conf.d/00-keyboard.conf": "Section \"InputClass\"\n\tIdentifier \"system-keyboard\"\n\tMatchIsKeyboard \"on\"\n\tOption \"XkbLayout\" \"de,us\"\n\tOption \"XkbModel\" \"pc105\"\n\tOption \"XkbVariant\" \"nodeadkeys\"\nEndSection\n",
		"etc/environment":                      "PATH=/bin\nA=\"one two\"\nB=2\n",
		"root/.ssh/authorized_keys":            "ssh-ed25519 A a\n", "data/alice/.ssh/authorized_keys": "ssh-rsa OLD\nssh-ed25519 B b\n", "home": "-> /data",
		"etc/motd": "hello\nsite a\n", "opt/tool": "\x00\x01\x02", "etc/link": "-> ../../../data/outside", "data/outside": "through the link\n",
	}
	if diff := cmp.Diff(want, state(t, root)); diff != "" {
		t.Errorf("the system afterwards (-want +got):\n%s", diff)
	}
	for name, want := range map[string]attributes{
		"etc/motd": {0o600, 0, 4}, "opt/tool": {0o4755, 1000, 0}, "root/.ssh": {0o700, 0, 0}, "root/.ssh/authorized_keys": {0o600, 0, 0},
		"data/alice/.ssh/authorized_keys": {0o600, 1000, 1001}, "etc/hosts": {0o644, 0, 0},
	} {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(root, name), &st); err != nil {
			t.Fatal(err)
		}
		if got := (attributes{st.Mode & 0o7777, int(st.Uid), int(st.Gid)}); got != want {
			t.Errorf("%s has %o %d:%d; want %o %d:%d", name, got.mode, got.uid, got.gid, want.mode, want.uid, want.gid)
		}
	}
}

// TestNothingButWhatIsThere has a system that knows nothing of all that.
func TestNothingButWhatIsThere(t *testing.T) {
	needRoot(t)
	root := system(t, map[string]string{"etc/passwd": passwd, "etc/fifo/x": ""})
	if err := unix.Mkfifo(filepath.Join(root, "etc/environment"), 0o600); err != nil {
		t.Fatal(err)
	}
	name, err := Apply(root, &bootsettings.Settings{
		Hostname: "{hostname}", Timezone: "Europe/Vienna", SSHKeys: map[string][]string{"bob": {"k"}, "nobody": {"k"}},
		Environment: map[string]string{"A": "1"}, Locale: "C.UTF-8",
		Files: []bootsettings.File{{Path: "/etc/fifo", Text: "x"}, {Path: "/etc/fifo", Remove: true}, {Path: "/etc/f", Text: "x", Owner: "bob"}},
	}, bootsettings.Facts{})
	if name != "" || err == nil {
		t.Fatalf("Apply() = %q, %v; want errors", name, err)
	}
	for _, want := range []string{"host name: \"\" is none", "time zone: the image has no", "keys of bob: the image has no user bob", "keys of nobody: the user has no home", "environment: ", "/etc/fifo: ", "folder", "/etc/f: the image has no user bob"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Apply() = %v; want %q in it", err, want)
		}
	}
	if got := state(t, root)["etc/locale.conf"]; got != "LANG=C.UTF-8\n" {
		t.Errorf("locale.conf = %q; what can be done has to be done", got)
	}
}

func TestHostname(t *testing.T) {
	for name, want := range map[string]bool{
		"pc": true, "pc-1.example.org": true, "": false, "-a": false, "a-": false, "a..b": false, "a_b": false, strings.Repeat("a", 64): false, strings.Repeat("a", 63): true,
	} {
		if got := ValidHostname(name); got != want {
			t.Errorf("ValidHostname(%q) = %v; want %v", name, got, want)
		}
	}
}
