package command_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// Once the menu has a place for a publisher's menu, each push of the publisher
// is an entry on every machine, without anybody else's key.
func TestPublisherMenu(t *testing.T) {
	c := newTool(t)
	url, tokenFile, _ := testtree.Server(t)
	src, program := testtree.New(t, 1), testtree.Program(t)
	c.run(command.ExitOK, "init", "--no-passphrase", "--to", url, "--token-file", tokenFile)
	c.run(command.ExitOK, "push", src, "--name", "test", "--version", "1", "--blockfs", program)
	erin, erinPub := c.person("erin")
	c.run(command.ExitOK, "publisher", "add", "erin", "--prefix", "erin-", "--key", erinPub)
	c.run(command.ExitOK, "menu", "add", "erin", "--include", "erin-", "--title", "Erin's systems")
	if out, _ := c.run(command.ExitOK, "menu", "show"); !strings.Contains(out, "erin: Erin's systems [menu of erin-*]") {
		t.Errorf("menu show = %q", out)
	}
	root := filepath.Join(t.TempDir(), "root.json")
	c.run(command.ExitOK, "key", "export", "--root", "-o", root)
	copyFile(t, root, filepath.Join(filepath.Dir(erin.config), "keys", "root.json"))

	// whole is the menu that a machine shows of the store at a place.
	whole := func(place string) *catalog.Menu {
		t.Helper()
		st, err := store.Open(place, "", false)
		if err != nil {
			t.Fatal(err)
		}
		anchor, _, err := keys.LoadRoot(root)
		if err != nil {
			t.Fatal(err)
		}
		cat, err := catalog.Open(context.Background(), st, anchor, catalog.Options{Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		m, err := cat.WholeMenu(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if m.Find("test-1") == nil || m.Default != "test-1" {
			t.Errorf("the menu has lost the entry test-1: %+v", m)
		}
		return m
	}
	if e := whole(url).Find("erin"); !errors.Is(e.Usable("amd64"), catalog.ErrNotFound) {
		t.Errorf("before Erin has published anything her entry is %+v, %v; want ErrNotFound", e, e.Usable("amd64"))
	}
	push := func(version string) string {
		t.Helper()
		out, _ := erin.run(command.ExitOK, "push", src, "--name", "erin-desk", "--version", version, "--title", "Desk "+version, "--blockfs", program,
			"--to", url, "--token-file", tokenFile)
		return out
	}
	if out := push("1"); !strings.Contains(out, "menu entry erin.erin-desk-1") {
		t.Errorf("Erin's push says %q", out)
	}
	if out := push("1"); !strings.Contains(out, "already there") {
		t.Errorf("Erin's second push says %q", out)
	}
	push("2")
	m := whole(url)
	for _, version := range []string{"1", "2"} {
		e := m.Find("erin.erin-desk-" + version)
		if e == nil || e.Title != "Desk "+version || e.Image != "images/erin-desk/"+version+"/amd64.json" || e.Usable("amd64") != nil {
			t.Errorf("the entry of version %s is %+v", version, e)
		}
	}
	if out, _ := c.run(command.ExitOK, "show", "erin-desk/2"); !strings.Contains(out, "menu entry erin.erin-desk-2") {
		t.Errorf("show says %q", out)
	}
	// Everything that looks after stores knows the menu.
	if out, _ := erin.run(command.ExitOK, "rm", "erin-desk/1", "--to", url, "--token-file", tokenFile); !strings.Contains(out, "menu entry erin-desk-1 removed") {
		t.Errorf("rm says %q", out)
	}
	c.run(command.ExitOK, "gc", "--grace", "0s")
	c.run(command.ExitOK, "verify")
	copied := filepath.Join(t.TempDir(), "copy")
	c.run(command.ExitOK, "mirror", url, copied)
	for _, place := range []string{url, copied} {
		if m := whole(place); m.Find("erin.erin-desk-1") != nil || m.Find("erin.erin-desk-2") == nil {
			t.Errorf("the menu of %s after Erin has removed version 1: %+v", place, m.Find("erin"))
		}
	}
	erin.run(command.ExitOK, "rm", "erin-desk", "--to", url, "--token-file", tokenFile)
	if e := whole(url).Find("erin"); !errors.Is(e.Usable("amd64"), catalog.ErrNotFound) {
		t.Errorf("after Erin has removed everything her entry is %+v", e)
	}
	push("3")
	c.run(command.ExitOK, "publisher", "rm", "erin")
	if e := whole(url).Find("erin"); len(e.Entries) > 0 || e.Usable("amd64") == nil {
		t.Errorf("after Erin may publish nothing her entry is %+v", e)
	}
}
