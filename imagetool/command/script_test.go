package command_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/command"
)

func TestScripts(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	store := filepath.Join(dir, "store")
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", store)
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	good := write("lab.ibs", "#!inetboot\necho hello\nboot debian\n")
	list := func() (out struct {
		Catalog uint64
		Scripts []struct {
			Name string
			Size int
		}
	}) {
		t.Helper()
		js, _ := c.run(command.ExitOK, "script", "--json")
		if err := json.Unmarshal([]byte(js), &out); err != nil {
			t.Fatalf("script --json = %q: %v", js, err)
		}
		return out
	}
	if l := list(); len(l.Scripts) != 0 || l.Catalog != 1 {
		t.Errorf("scripts of a new store = %+v", l)
	}
	c.run(command.ExitOK, "script", "add", good)
	if l := list(); len(l.Scripts) != 1 || l.Scripts[0].Name != "lab.ibs" || l.Scripts[0].Size != 34 || l.Catalog != 2 {
		t.Errorf("scripts = %+v; want lab.ibs in catalog 2", l)
	}
	if out, _ := c.run(command.ExitOK, "script", "add", good); !strings.Contains(out, "Nothing to change") {
		t.Errorf("adding it again says %q", out)
	}
	if _, errs := c.run(command.ExitUsage, "script", "add", write("bad.ibs", "#!inetboot\n\nshell\n")); !strings.Contains(errs, `bad.ibs: line 3: the script is malformed: there is no command "shell"`) {
		t.Errorf("adding a malformed script says %q", errs)
	}
	c.run(command.ExitUsage, "script", "add", good, "--name", "a/b")
	c.run(command.ExitUsage, "script", "remove", "other")
	if out, _ := c.run(command.ExitOK, "script", "remove", "lab.ibs"); !strings.Contains(out, "Catalog version 3") {
		t.Errorf("script remove says %q", out)
	}
	if l := list(); len(l.Scripts) != 0 {
		t.Errorf("scripts after remove = %+v", l)
	}
}
