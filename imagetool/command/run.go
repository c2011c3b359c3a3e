// Package command is the command line of imagetool.
package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// app is what the commands share.
type app struct {
	out, err io.Writer
	config   string // --config
	json     bool   // --json

	atEnd []func() // forgets secrets
}

// Run executes imagetool with args and returns its exit code. What was asked
// for goes to stdout, everything else to stderr.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{out: stdout, err: stderr}
	defer func() {
		for _, f := range a.atEnd {
			f()
		}
	}()
	root := a.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(stderr, "imagetool: interrupted; the store is as it was for its readers, the same command goes on from here")
		return ExitInterrupted
	}
	fmt.Fprintln(stderr, "imagetool:", err)
	return exitCode(err)
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:   "imagetool",
		Short: "Publish operating systems for InetBoot",
		Long: `Imagetool publishes operating systems, so that machines boot them over HTTP:
it turns a directory or a tarball into files in a store and keeps the signed
catalog with the menu that people see.

` + exitHelp,
		Example: `  imagetool init --to /srv/inetboot
  imagetool push ./debian-root --name debian --version 12 --cmdline "console=ttyS0"
  imagetool ls
  imagetool media --iso build/inetboot.iso --url http://boot.example.org/ -o my.iso`,
		Args:          args(cobra.NoArgs), // else an unknown command would be an argument
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	c.PersistentFlags().StringVar(&a.config, "config", "", "configuration file (default $XDG_CONFIG_HOME/inetboot/imagetool.json)")
	c.PersistentFlags().BoolVar(&a.json, "json", false, "write results as JSON to standard output")
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	c.AddCommand(a.initCommand(), a.pushCommand(), a.lsCommand(), a.menuCommand(), a.showCommand(), a.pullCommand(), a.diffCommand(), a.mountCommand(), a.rmCommand(), a.gcCommand(), a.verifyCommand(), a.mirrorCommand(), a.refreshCommand(), a.keyCommand(), a.publisherCommand(), a.signCommand(), a.mirrorsCommand(), a.mediaCommand(), a.traceCommand())
	c.AddCommand(a.settingsCommand(), a.scriptCommand())
	a.complete(c)
	return c
}

// args makes errors about arguments usage errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, a []string) error {
		if err := check(c, a); err != nil {
			return &usageError{fmt.Errorf("%w (see %s --help)", err, c.CommandPath())}
		}
		return nil
	}
}

// say writes a line for people. With --json there is none on stdout.
func (a *app) say(format string, v ...any) {
	w := a.out
	if a.json {
		w = a.err
	}
	fmt.Fprintf(w, format+"\n", v...)
}

// note writes a remark for people to stderr.
func (a *app) note(format string, v ...any) {
	fmt.Fprintf(a.err, "note: "+format+"\n", v...)
}

// writeJSON writes v to stdout.
func (a *app) writeJSON(v any) error {
	enc := json.NewEncoder(a.out)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// terminal tells whether w is one.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && isTerminal(f)
}
