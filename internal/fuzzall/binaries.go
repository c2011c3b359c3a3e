package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// binaries are the tests of one package after the other, built for fuzzing.
type binaries struct {
	dir    string // where they are built
	corpus string // where the go command keeps the inputs that it found
	pkg    string // whose tests are built
}

func newBinaries(ctx context.Context) (*binaries, error) {
	env := exec.CommandContext(ctx, "go", "env", "GOCACHE")
	env.Stderr = os.Stderr
	cache, err := env.Output()
	if err != nil {
		return nil, fmt.Errorf("ask where the go command keeps inputs: %w", err)
	}
	dir, err := os.MkdirTemp("", "inetboot-fuzz-*")
	if err != nil {
		return nil, fmt.Errorf("make a folder for test programs: %w", err)
	}
	return &binaries{dir: dir, corpus: filepath.Join(string(bytes.TrimSpace(cache)), "fuzz")}, nil
}

func (b *binaries) remove() { _ = os.RemoveAll(b.dir) }

// fuzz runs one target as `go test -fuzz` would and returns what was printed.
func (b *binaries) fuzz(ctx context.Context, t target, each time.Duration) ([]byte, error) {
	program := filepath.Join(b.dir, "test")
	if b.pkg != t.pkg {
		b.pkg = ""
		// With -fuzz the compiler counts what is covered.
		if text, err := exec.CommandContext(ctx, "go", "test", "-c", "-fuzz", ".", "-o", program, t.pkg).CombinedOutput(); err != nil {
			return text, err
		}
		b.pkg = t.pkg
	}
	cmd := exec.CommandContext(ctx, program, "-test.paniconexit0", "-test.timeout", "10m", "-test.run", "^$", "-test.fuzz", "^"+t.name+"$",
		"-test.fuzztime", each.String(), "-test.fuzzminimizetime", "20x", "-test.fuzzcachedir", filepath.Join(b.corpus, t.pkg))
	cmd.Dir = t.dir
	// The workers are its children: they end when it closes their pipes.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.CombinedOutput()
}
