package command_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
	"github.com/inetboot/inetboot/internal/bootsettings"
)

// show returns settings as the command prints them.
func (c *tool) show(args ...string) *bootsettings.Settings {
	c.t.Helper()
	out, _ := c.run(command.ExitOK, append([]string{"settings", "show"}, args...)...)
	s, err := bootsettings.Parse([]byte(out))
	if err != nil {
		c.t.Fatalf("settings show %v = %q: %v", args, out, err)
	}
	return s
}

func TestSettings(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	store, src, program := filepath.Join(dir, "store"), testtree.New(t, 1), testtree.Program(t)
	file := func(name, content string) string {
		testtree.Write(t, dir, name, []byte(content))
		return filepath.Join(dir, name)
	}
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "1", "--blockfs", program)
	manifests, err := filepath.Glob(filepath.Join(store, "catalog/targets/images/test/1/*"))
	if err != nil || len(manifests) != 1 {
		t.Fatalf("manifests: %q, %v; want one", manifests, err)
	}

	keys := file("keys.pub", "# mine\nssh-ed25519 AAAA a@b\n\nssh-rsa BBBB c@d\n")
	script := file("setup.sh", "#!/bin/sh\necho hello\n")
	c.run(command.ExitOK, "settings", "set", "--image", "test", "--timezone", "Europe/Vienna", "--keyboard", "de:nodeadkeys", "--cmdline", "a=1", "--env", "A=x=y",
		"--ssh-key", "root="+keys, "--file", "/etc/a="+file("a", "text")+",mode=0600,append", "--file", "/bin/b="+file("b", "\x00\x01"))
	out, _ := c.run(command.ExitOK, "settings", "set", "--entry", "test-1", "--hostname", "e-{mac6}", "--cmdline", "a=2", "--script", script, "--script-timeout", "9", "--script-failure", "stop", "--remove-file", "/etc/a")
	if !strings.Contains(out, "Catalog version 4 has settings of entry test-1: hostname e-{mac6}, 1 file, cmdline \"a=2\", script") {
		t.Errorf("settings set says %q", out)
	}
	image := &bootsettings.Settings{
		Format: bootsettings.Format, Timezone: "Europe/Vienna", Keyboard: &bootsettings.Keyboard{Layout: "de", Variant: "nodeadkeys"}, Cmdline: "a=1",
		SSHKeys: map[string][]string{"root": {"ssh-ed25519 AAAA a@b", "ssh-rsa BBBB c@d"}}, Environment: map[string]string{"A": "x=y"},
		Files: []bootsettings.File{{Path: "/etc/a", Text: "text", Mode: "0600", Append: true}, {Path: "/bin/b", Base64: "AAE="}},
	}
	if diff := cmp.Diff(image, c.show("--image", "test")); diff != "" {
		t.Errorf("settings of the image (-want +got):\n%s", diff)
	}
	all := bootsettings.Merge(image, c.show("--entry", "test-1"))
	if all.Cmdline != "a=1 a=2" || all.Script.Timeout != 9 || all.Script.OnFailure != "stop" || all.Script.Text != "#!/bin/sh\necho hello\n" || !all.Files[0].Remove {
		t.Errorf("settings of the entry over those of the image = %+v", all)
	}
	if diff := cmp.Diff(all, c.show("--entry", "test-1", "--all")); diff != "" {
		t.Errorf("all settings of a boot (-want +got):\n%s", diff)
	}

	// What is not named stays; the same again is no new catalog.
	c.run(command.ExitOK, "settings", "set", "--entry", "test-1", "--hostname", "", "--script-timeout", "10")
	if s := c.show("--entry", "test-1"); s.Hostname != "" || s.Cmdline != "a=2" || s.Script.Timeout != 10 || s.Script.OnFailure != "stop" {
		t.Errorf("settings after a change = %+v", s)
	}
	if out, _ := c.run(command.ExitOK, "settings", "set", "--entry", "test-1", "--script-timeout", "10"); !strings.Contains(out, "Nothing to change") {
		t.Errorf("the same again says %q", out)
	}
	c.run(command.ExitOK, "settings", "set", "--image", "test", "--clear", "file,env", "--env", "B=1")
	if s := c.show("--image", "test"); s.Files != nil || !cmp.Equal(s.Environment, map[string]string{"B": "1"}) || len(s.SSHKeys["root"]) != 2 {
		t.Errorf("settings after --clear = %+v", s)
	}

	// With an editor, which first makes a mistake.
	editor := file("editor", `#!/bin/sh
if [ -e "$1.again" ]; then sed -i 's/Nowhere ?/UTC/' "$1"; rm "$1.again"; else sed -i 's/"format"/"timezone": "Nowhere ?", "format"/' "$1"; : > "$1.again"; fi
`)
	t.Setenv("VISUAL", "sh "+editor)
	c.run(command.ExitOK, "settings", "edit", "--image", "test/1")
	if s := c.show("--image", "test/1"); s.Timezone != "UTC" {
		t.Errorf("settings after editing = %+v", s)
	}
	t.Setenv("VISUAL", "false")
	c.run(command.ExitOther, "settings", "edit", "--image", "test/1")

	c.run(command.ExitOK, "settings", "set", "--image", "test/1", "--from", file("whole.json", `{"format": "inetboot-settings/1", "locale": "C"}`), "--timezone", "UTC")
	if s := c.show("--image", "test/1"); s.Locale != "C" || s.Timezone != "UTC" {
		t.Errorf("settings from a file = %+v", s)
	}
	out, _ = c.run(command.ExitOK, "settings", "--json")
	var list struct {
		Settings []struct{ Image, Version, Entry string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Settings) != 3 || list.Settings[0].Entry != "test-1" || list.Settings[2].Version != "1" {
		t.Errorf("settings --json = %s, %v; want three", out, err)
	}
	c.run(command.ExitOK, "settings", "rm", "--image", "test/1")
	c.run(command.ExitStore, "settings", "rm", "--image", "test/1")
	c.run(command.ExitStore, "settings", "show", "--image", "test/1")
	if out, _ := c.run(command.ExitOK, "settings"); !strings.Contains(out, "2 settings in catalog version") || !strings.Contains(out, "image test ") {
		t.Errorf("settings = %q", out)
	}
	// The image has stayed as it was, and the other commands see no more images.
	if after, _ := filepath.Glob(filepath.Join(store, "catalog/targets/images/test/1/*")); !cmp.Equal(after, manifests) {
		t.Errorf("manifests = %q; want %q", after, manifests)
	}
	if out, _ := c.run(command.ExitOK, "ls"); !strings.Contains(out, "1 image ") {
		t.Errorf("ls = %q", out)
	}

	// A second site for the image, beside the first one.
	c.run(command.ExitOK, "settings", "set", "--entry", "site-b", "--add-entry", "test", "--title", "Site B", "--locale", "C")
	c.run(command.ExitOK, "settings", "set", "--entry", "site-b", "--add-entry", "test/1", "--timezone", "UTC")
	if s := c.show("--entry", "site-b", "--all"); s.Locale != "C" || s.Timezone != "UTC" || len(s.SSHKeys["root"]) != 2 || s.Script != nil {
		t.Errorf("settings of the second site = %+v", s)
	}
	c.run(command.ExitStore, "settings", "set", "--entry", "site-c", "--add-entry", "other", "--locale", "C")
	c.run(command.ExitUsage, "settings", "set", "--image", "test", "--add-entry", "test", "--locale", "C")

	private := file("private", "-----BEGIN OPENSSH PRIVATE KEY-----\n")
	for _, bad := range [][]string{
		{}, {"--image", "test"}, {"--image", "test", "--entry", "x", "--locale", "C"}, {"--image", "a b", "--locale", "C"}, {"--image", "test/", "--locale", "C"},
		{"--image", "test", "--hostname", "{colour}"}, {"--image", "test", "--file", "/etc/a"}, {"--image", "test", "--file", "etc/a=" + keys}, {"--image", "test", "--file", "/etc/a=" + keys + ",setuid"},
		{"--image", "test", "--ssh-key", keys}, {"--image", "test", "--ssh-key", "root=" + private}, {"--image", "test", "--env", "A"}, {"--image", "test", "--clear", "all"},
		{"--image", "test", "--script-timeout", "5"}, {"--image", "test", "--script", filepath.Join(dir, "none")}, {"--image", "test", "--script", script, "--script-failure", "explode"},
		{"--image", "test", "--from", keys}, {"--image", "test", "--file", "/big=" + file("big", strings.Repeat("x", 300<<10))},
	} {
		c.run(command.ExitUsage, append([]string{"settings", "set"}, bad...)...)
	}
	c.run(command.ExitUsage, "settings", "show", "--image", "test", "--all")
	c.run(command.ExitStore, "settings", "set", "--image", "other", "--locale", "C")
	c.run(command.ExitStore, "settings", "set", "--entry", "other", "--locale", "C")
	if err := os.WriteFile(keys, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.run(command.ExitUsage, "settings", "set", "--image", "test", "--ssh-key", "root="+keys)
}
