// Command fuzzall runs every fuzz test of the module for a while, one after
// another, because `go test -fuzz` takes a single one.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

type target struct{ pkg, name string }

func run(ctx context.Context, args []string, out io.Writer) error {
	fs := flag.NewFlagSet("fuzzall", flag.ContinueOnError)
	each := fs.Duration("time", 3*time.Second, "how long to fuzz each target")
	if err := fs.Parse(args); err != nil {
		return err
	}
	targets, err := list(ctx)
	if err != nil {
		return err
	}
	if len(targets) == 0 {
		return errors.New("no fuzz test found")
	}
	var failed []string
	for i, t := range targets {
		fmt.Fprintf(out, "fuzz: %d/%d %s %s for %v\n", i+1, len(targets), t.pkg, t.name, *each)
		text, err := fuzz(ctx, t, *each)
		if err != nil && endOfTime(text) {
			text, err = fuzz(ctx, t, *each)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !endOfTime(text) {
			fmt.Fprintf(out, "%s\n", text)
			failed = append(failed, t.pkg+"."+t.name)
		}
	}
	if failed != nil {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	fmt.Fprintf(out, "fuzz: %d targets, no failure\n", len(targets))
	return nil
}

// fuzz runs one target and returns what it printed.
func fuzz(ctx context.Context, t target, each time.Duration) ([]byte, error) {
	return exec.CommandContext(ctx, "go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String(), "-fuzzminimizetime", "20x", t.pkg).CombinedOutput()
}

// endOfTime tells whether a target failed only because its time was over while
// a worker was busy, which go test reports like a failure.
// What has really failed names the input that did it.
func endOfTime(text []byte) bool {
	return bytes.Contains(text, []byte("context deadline exceeded")) && !bytes.Contains(text, []byte("Failing input"))
}

// list asks the packages that have tests for the names of their fuzz tests.
func list(ctx context.Context) ([]target, error) {
	grep := exec.CommandContext(ctx, "go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}} {{join .TestGoFiles \" \"}} {{join .XTestGoFiles \" \"}}{{end}}", "./...")
	grep.Stderr = os.Stderr
	lines, err := grep.Output()
	if err != nil {
		return nil, fmt.Errorf("list packages: %w", err)
	}
	var targets []target
	for line := range strings.Lines(string(lines)) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		for _, name := range f[2:] {
			src, err := os.ReadFile(f[1] + "/" + name)
			if err != nil {
				return nil, fmt.Errorf("look for fuzz tests: %w", err)
			}
			for l := range strings.Lines(string(src)) {
				if rest, ok := strings.CutPrefix(l, "func Fuzz"); ok {
					if fn, _, ok := strings.Cut(rest, "("); ok {
						targets = append(targets, target{f[0], "Fuzz" + fn})
					}
				}
			}
		}
	}
	return targets, nil
}
