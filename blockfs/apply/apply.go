// Package apply writes settings (see package bootsettings) into the root of a
// system that is about to start. It knows the files that systemd and the
// distributions without it read, and writes those of them that the system
// has a use for.
package apply

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/inetboot/inetboot/blockfs/inroot"
	"github.com/inetboot/inetboot/internal/bootsettings"
)

// Apply writes everything of s but the script and the command line into the
// system in the folder root. What cannot be done is left out: the error joins
// what went wrong. It returns the name that the machine should have, "" if the
// settings have none.
func Apply(root string, s *bootsettings.Settings, f bootsettings.Facts) (hostname string, err error) {
	t := tree{root}
	var errs []error
	try := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if s.Hostname != "" {
		name := f.Expand(s.Hostname)
		if ValidHostname(name) {
			hostname = name
			try("host name", t.hostname(name))
		} else {
			try("host name", fmt.Errorf("%q is none: pattern %q", name, s.Hostname))
		}
	}
	if s.Timezone != "" {
		try("time zone", t.timezone(s.Timezone))
	}
	if s.Locale != "" {
		try("locale", t.locale(s.Locale))
	}
	if s.Keyboard != nil {
		try("keyboard", t.keyboard(s.Keyboard))
	}
	if len(s.Environment) > 0 {
		try("environment", t.setVariables("/etc/environment", s.Environment, plain))
	}
	for _, user := range slices.Sorted(maps.Keys(s.SSHKeys)) {
		try("keys of "+user, t.sshKeys(user, s.SSHKeys[user]))
	}
	for i := range s.Files {
		try(s.Files[i].Path, t.file(&s.Files[i], f))
	}
	return hostname, errors.Join(errs...)
}

// ValidHostname tells whether a name is one (RFC 1123 section 2.1) that Linux
// takes.
func ValidHostname(s string) bool {
	if len(s) > 64 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}

// hostname writes /etc/hostname, and the name into /etc/hosts: without it
// there, programs such as sudo wait for a resolver.
func (t tree) hostname(name string) error {
	if err := t.write("/etc/hostname", []byte(name+"\n")); err != nil {
		return err
	}
	short, _, _ := strings.Cut(name, ".")
	entry := "127.0.1.1\t" + name
	if short != name {
		entry += " " + short
	}
	old, err := t.read("/etc/hosts")
	if errors.Is(err, os.ErrNotExist) {
		old = "127.0.0.1\tlocalhost\n::1\tlocalhost\n"
	} else if err != nil {
		return err
	}
	var out strings.Builder
	for line := range strings.Lines(old) {
		if f := strings.Fields(line); len(f) == 0 || f[0] != "127.0.1.1" {
			out.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	return t.write("/etc/hosts", []byte(out.String()+entry+"\n"))
}

const zoneinfo = "/usr/share/zoneinfo/"

func (t tree) timezone(zone string) error {
	if _, err := inroot.Resolve(t.root, zoneinfo+zone); err != nil {
		return fmt.Errorf("the image has no %s%s: install its zone data (tzdata)", zoneinfo, zone)
	}
	if err := t.symlink("../usr/share/zoneinfo/"+zone, "/etc/localtime"); err != nil {
		return err
	}
	// Debian and those who come from it keep the name in a file of its own.
	if t.has("/etc/timezone") || t.has("/etc/debian_version") {
		return t.write("/etc/timezone", []byte(zone+"\n"))
	}
	return nil
}

func (t tree) locale(locale string) error {
	v := map[string]string{"LANG": locale}
	err := t.setVariables("/etc/locale.conf", v, plain)
	if t.has("/etc/default") {
		err = errors.Join(err, t.setVariables("/etc/default/locale", v, plain))
	}
	return err
}

func (t tree) keyboard(k *bootsettings.Keyboard) error {
	xkb := map[string]string{"XKBLAYOUT": k.Layout, "XKBVARIANT": k.Variant, "XKBMODEL": k.Model, "XKBOPTIONS": k.Options}
	if k.Model == "" {
		xkb["XKBMODEL"] = "pc105"
	}
	console := maps.Clone(xkb)
	if console["KEYMAP"] = k.Keymap; k.Keymap == "" {
		console["KEYMAP"], _, _ = strings.Cut(k.Layout, ",")
	}
	err := t.setVariables("/etc/vconsole.conf", console, plain)
	if t.has("/etc/default") { // console-setup
		err = errors.Join(err, t.setVariables("/etc/default/keyboard", xkb, quoted))
	}
	if t.has("/etc/X11") {
		var b strings.Builder
		b.WriteString("Section \"InputClass\"\n\tIdentifier \"system-keyboard\"\n\tMatchIsKeyboard \"on\"\n")
		for _, o := range []struct{ name, value string }{{"XkbLayout", k.Layout}, {"XkbModel", xkb["XKBMODEL"]}, {"XkbVariant", k.Variant}, {"XkbOptions", k.Options}} {
			if o.value != "" {
				fmt.Fprintf(&b, "\tOption \"%s\" \"%s\"\n", o.name, o.value)
			}
		}
		b.WriteString("EndSection\n")
		err = errors.Join(err, t.write("/etc/X11/xorg.conf.d/00-keyboard.conf", []byte(b.String())))
	}
	return err
}

// sshKeys adds to a user's ~/.ssh/authorized_keys what is not in it.
func (t tree) sshKeys(user string, keys []string) error {
	u, err := t.user(user)
	if err != nil {
		return err
	}
	if !filepath.IsAbs(u.home) || u.home == "/nonexistent" {
		return fmt.Errorf("the user has no home directory: %q", u.home)
	}
	if err := t.mkdir(u.home, 0o700, u.uid, u.gid); err != nil {
		return err
	}
	dir := filepath.Join(u.home, ".ssh")
	if err := t.mkdir(dir, 0o700, u.uid, u.gid); err != nil {
		return err
	}
	file := filepath.Join(dir, "authorized_keys")
	old, err := t.read(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	have := strings.Split(old, "\n")
	if old != "" && !strings.HasSuffix(old, "\n") {
		old += "\n"
	}
	for _, k := range keys {
		if !slices.Contains(have, k) {
			old += k + "\n"
		}
	}
	return t.writeAs(file, []byte(old), attributes{mode: 0o600, uid: u.uid, gid: u.gid})
}

func (t tree) file(f *bootsettings.File, facts bootsettings.Facts) error {
	if f.Remove {
		return t.remove(f.Path)
	}
	data, err := f.Content()
	if err != nil {
		return err
	}
	if f.Expand {
		data = []byte(facts.Expand(f.Text))
	}
	a, err := t.attributesOf(f.Path)
	if err != nil {
		return err
	}
	if perm, ok := f.Perm(); ok {
		a.mode = perm
	}
	if f.Owner != "" {
		u, err := t.user(f.Owner)
		if err != nil {
			return err
		}
		a.uid = u.uid
	}
	if f.Group != "" {
		if a.gid, err = t.group(f.Group); err != nil {
			return err
		}
	}
	if f.Append {
		old, err := t.read(f.Path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if strings.Contains(old, string(data)) {
			data = nil
		} else if old != "" && !strings.HasSuffix(old, "\n") {
			old += "\n"
		}
		data = append([]byte(old), data...)
	}
	return t.writeAs(f.Path, data, a)
}
