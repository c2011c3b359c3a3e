// Command fuzzall runs every fuzz test of the module for a while, one after
// another, because `go test -fuzz` takes a single one. It builds each package's
// tests once, however many fuzz tests there are in it.
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
	"path/filepath"
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

// target is a fuzz test: its package, the folder of that, and its name.
type target struct{ pkg, dir, name string }

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
	b, err := newBinaries(ctx)
	if err != nil {
		return err
	}
	defer b.remove()
	var failed []string
	for i, t := range targets {
		fmt.Fprintf(out, "fuzz: %d/%d %s %s for %v\n", i+1, len(targets), t.pkg, t.name, *each)
		text, err := b.fuzz(ctx, t, *each)
		if err != nil && endOfTime(text) {
			text, err = b.fuzz(ctx, t, *each)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !endOfTime(text) {
			fmt.Fprintf(out, "%s%v\n", text, err)
			failed = append(failed, t.pkg+"."+t.name)
		}
	}
	if failed != nil {
		return fmt.Errorf("failed: %s", strings.Join(failed, ", "))
	}
	fmt.Fprintf(out, "fuzz: %d targets, no failure\n", len(targets))
	return nil
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
			src, err := os.ReadFile(filepath.Join(f[1], name))
			if err != nil {
				return nil, fmt.Errorf("look for fuzz tests: %w", err)
			}
			for l := range strings.Lines(string(src)) {
				if rest, ok := strings.CutPrefix(l, "func Fuzz"); ok {
					if fn, _, ok := strings.Cut(rest, "("); ok {
						targets = append(targets, target{f[0], f[1], "Fuzz" + fn})
					}
				}
			}
		}
	}
	return targets, nil
}
