package command_test

import (
	"context"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/inetboot/inetboot/blockfs/command"
)

// Each command that people run says in a line what it does, and has an example.
func TestHelp(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" || c.Hidden {
			return
		}
		// init is for the first process of a machine.
		if c.Short == "" || c.Name() != "init" && !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s --help: %q, example %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(command.New(strings.NewReader(""), io.Discard, io.Discard))
}

func TestCompletion(t *testing.T) {
	out, _, err := execute(context.Background(), "__complete", "m")
	if err != nil || !strings.Contains(out, "mount") {
		t.Errorf("blockfs m<Tab> offers %q, %v; want mount", out, err)
	}
	script, _, err := execute(context.Background(), "completion", "bash")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("bash", "-c", "source /dev/stdin && complete -p blockfs")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "__start_blockfs") {
		t.Errorf("bash does not take the script: %v\n%s", err, out)
	}
}
