package command_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

func TestMenu(t *testing.T) {
	c := newTool(t)
	store, program := filepath.Join(t.TempDir(), "store"), testtree.Program(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	src := testtree.New(t, 1)
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "1", "--blockfs", program)
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "2", "--blockfs", program)
	show := func() *catalog.Menu {
		t.Helper()
		out, _ := c.run(command.ExitOK, "menu", "show", "--json")
		m, err := catalog.ParseMenu([]byte(out))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	// order writes ids, submenus in brackets.
	var order func(entries []catalog.Entry) string
	order = func(entries []catalog.Entry) string {
		var ids []string
		for _, e := range entries {
			id := e.ID
			if len(e.Entries) > 0 {
				id += "[" + order(e.Entries) + "]"
			}
			ids = append(ids, id)
		}
		return strings.Join(ids, " ")
	}
	for _, step := range []struct {
		args string
		code int
		want string
	}{
		{"show", command.ExitOK, "test-1 test-2 local-disk reboot poweroff"},
		{"mv test-2 --before test-1", command.ExitOK, "test-2 test-1 local-disk reboot poweroff"},
		{"add tools --title Tools --with reboot,poweroff --after test-1", command.ExitOK, "test-2 test-1 tools[reboot poweroff] local-disk"},
		{"add empty --title Empty", command.ExitUsage, "test-2 test-1 tools[reboot poweroff] local-disk"},
		{"add rescue --title Rescue --image test/1 --cmdline single --parent tools", command.ExitOK, "test-2 test-1 tools[reboot poweroff rescue] local-disk"},
		{"add rescue --title Again --image test/1", command.ExitUsage, "test-2 test-1 tools[reboot poweroff rescue] local-disk"},
		{"add x --title X --image test", command.ExitUsage, "test-2 test-1 tools[reboot poweroff rescue] local-disk"},
		{"add x --title X --image other/1", command.ExitStore, "test-2 test-1 tools[reboot poweroff rescue] local-disk"},
		{"add x --title X --action explode", command.ExitUsage, "test-2 test-1 tools[reboot poweroff rescue] local-disk"},
		{"add x --title X --action reboot --parent test-1", command.ExitUsage, "test-2 test-1 tools[reboot poweroff rescue] local-disk"},
		{"mv tools --parent tools", command.ExitUsage, "test-2 test-1 tools[reboot poweroff rescue] local-disk"},
		{"mv none", command.ExitUsage, "test-2 test-1 tools[reboot poweroff rescue] local-disk"},
		{"add deep --title Deep --with rescue --parent tools", command.ExitOK, "test-2 test-1 tools[reboot poweroff deep[rescue]] local-disk"},
		{"mv deep", command.ExitOK, "test-2 test-1 tools[reboot poweroff] local-disk deep[rescue]"},
		{"rm reboot poweroff", command.ExitOK, "test-2 test-1 local-disk deep[rescue]"},
		{"set --default deep", command.ExitUsage, "test-2 test-1 local-disk deep[rescue]"},
		{"set --default rescue --timeout -1 --title Mine", command.ExitOK, "test-2 test-1 local-disk deep[rescue]"},
		{"set --cmdline x", command.ExitUsage, "test-2 test-1 local-disk deep[rescue]"},
		{"set none --title x", command.ExitUsage, "test-2 test-1 local-disk deep[rescue]"},
		{"set rescue --id single --arch amd64,arm64 --help-text Help", command.ExitOK, "test-2 test-1 local-disk deep[single]"},
		{"set single --title Single", command.ExitOK, "test-2 test-1 local-disk deep[single]"},
	} {
		c.run(step.code, append([]string{"menu"}, strings.Fields(step.args)...)...)
		if got := order(show().Entries); got != step.want {
			t.Errorf("after menu %s: %s; want %s", step.args, got, step.want)
		}
	}
	m := show()
	want := catalog.Entry{
		ID: "single", Title: "Single", Help: "Help", Arch: []string{"amd64", "arm64"}, Image: "images/test/1/amd64.json", Cmdline: "single",
	}
	if diff := cmp.Diff(want, *m.Find("single")); diff != "" {
		t.Errorf("entry, -want +got:\n%s", diff)
	}
	if m.Default != "single" || m.Timeout != -1 || m.Title != "Mine" {
		t.Errorf("default %q, timeout %d, title %q", m.Default, m.Timeout, m.Title)
	}
	if out, _ := c.run(command.ExitOK, "menu", "show"); !strings.Contains(out, "* single: Single [test/1/amd64, only amd64 arm64, with single]") {
		t.Errorf("menu show = %s", out)
	}
	if out, _ := c.run(command.ExitOK, "menu", "set", "single", "--title", "Single"); !strings.Contains(out, "as it was") {
		t.Errorf("a change that changes nothing says %q", out)
	}
}

func TestMenuEdit(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", filepath.Join(dir, "store"))
	editor := func(script string) {
		t.Helper()
		name := filepath.Join(dir, "editor")
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("VISUAL", name+" --wait") // an editor with an argument; the file is the last one
	}
	editor(`sed -i 's/"Restart"/"Start again"/' "$2"`)
	c.run(command.ExitOK, "menu", "edit")
	if out, _ := c.run(command.ExitOK, "menu", "show"); !strings.Contains(out, "reboot: Start again") {
		t.Errorf("after edit: %s", out)
	}
	editor("true")
	if out, _ := c.run(command.ExitOK, "menu", "edit"); !strings.Contains(out, "as it was") {
		t.Errorf("an edit that changes nothing says %q", out)
	}
	// The second time the editor sees the reason, and repairs it.
	count := filepath.Join(dir, "count")
	editor(`if [ -e ` + count + ` ]; then head -n1 "$2" > ` + count + `; sed -i 's/"titel"/"title"/' "$2"; else touch ` + count + `; sed -i '0,/"title"/s//"titel"/' "$2"; fi`)
	c.run(command.ExitOK, "menu", "edit")
	if reason, err := os.ReadFile(count); err != nil || !strings.HasPrefix(string(reason), "// the menu") || !strings.Contains(string(reason), "titel") {
		t.Errorf("the editor sees %q, %v; want the reason", reason, err)
	}
	editor("false")
	c.run(command.ExitOther, "menu", "edit")
	editor(`echo '{' > "$2"`) // broken, and the second time the same
	c.run(command.ExitUsage, "menu", "edit")

	out, _ := c.run(command.ExitOK, "menu", "show", "--json")
	var m map[string]any
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "menu.json")
	for _, step := range []struct {
		name string
		edit func()
		code int
	}{
		{"good", func() { m["timeout"] = 77 }, command.ExitOK},
		{"unknown member", func() { m["colour"] = "red" }, command.ExitUsage},
		{"unknown image", func() {
			delete(m, "colour")
			m["entries"] = []any{map[string]any{"id": "x", "title": "X", "image": "images/x/1/amd64.json"}}
		}, command.ExitUsage},
		{"control characters", func() {
			m["entries"] = []any{map[string]any{"id": "x", "title": "\x1b[2J", "action": "reboot"}}
		}, command.ExitUsage},
	} {
		step.edit()
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		c.run(step.code, "menu", "edit", "--file", file)
	}
	if out, _ := c.run(command.ExitOK, "menu", "show", "--json"); !strings.Contains(out, `"timeout": 77`) {
		t.Errorf("menu = %s", out)
	}
}
