package command

import (
	"io"

	"github.com/spf13/cobra"
)

// Root returns the root command, for tests that look at all commands.
func Root() *cobra.Command { return (&app{out: io.Discard, err: io.Discard}).root() }
