package command_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/imagetool/command"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// Each command says in a line what it does, and has an example that begins
// with its name.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" || c.Hidden {
			return
		}
		if c.Short == "" {
			t.Errorf("%s --help does not say what it does", c.CommandPath())
		}
		if !strings.Contains(c.Example, "imagetool") || !c.HasSubCommands() && !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s --help has no example: %q", c.CommandPath(), c.Example)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(command.Root())
}

// With --json there is one JSON value on standard output, and nothing else.
func TestJSON(t *testing.T) {
	c := newTool(t)
	dir := t.TempDir()
	src, program := testtree.New(t, 1), testtree.Program(t)
	pub, iso := filepath.Join(dir, "erin.pub"), filepath.Join(dir, "site.cpio")
	_, erinPub := c.person("erin")
	for _, args := range [][]string{
		{"init", "--no-passphrase", "--to", filepath.Join(dir, "store")},
		{"push", src, "--name", "test", "--version", "1", "--blockfs", program},
		{"push", src, "--name", "test", "--version", "1", "--blockfs", program}, // already there
		{"ls"},
		{"mirrors", "add", "https://m.example.org/"},
		{"mirrors"},
		{"mirrors", "remove", "https://m.example.org/"},
		{"refresh"},
		{"refresh", "--all"},
		{"media", "--cpio", iso, "--url", "http://boot.example.org/"},
		{"key", "new", "more", "--no-passphrase"},
		{"key", "list"},
		{"key", "export", "more"},
		{"key", "export", "more", "-o", pub},
		{"key", "export", "--root", "-o", filepath.Join(dir, "root.json")},
		{"key", "passphrase", "more", "--no-passphrase"},
		{"key", "rotate", "targets", "--no-passphrase"},
		{"key", "rotate", "root", "--add", erinPub, "--threshold", "2"},
		{"key", "pending"},
		{"key", "sign"},
		{"key", "pending", "--drop"},
		{"publisher", "list"},
		{"publisher", "add", "erin", "--prefix", "erin-", "--key", erinPub},
		{"publisher", "list"},
		{"key", "threshold", "erin", "1"},
		{"publisher", "rm", "erin"},
	} {
		out, _ := c.run(command.ExitOK, append(args, "--json")...)
		dec := json.NewDecoder(strings.NewReader(out))
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Errorf("imagetool %s --json: %v: %q", strings.Join(args, " "), err, out)
			continue
		}
		if dec.More() {
			t.Errorf("imagetool %s --json writes more than one value: %q", strings.Join(args, " "), out)
		}
	}
	if _, err := os.Stat(pub); err != nil {
		t.Error(err)
	}
}
