package faulttest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// outage is how long the server is away.
const outage = 60 * time.Second

// TestBuildOverAnOutage compiles a program with a compiler, a linker and
// sources that lie on a mounted root, whose only server stops in the middle
// for a minute: connections are cut, new ones refused.
func TestBuildOverAnOutage(t *testing.T) {
	prog := program(t)
	where, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	goroot := strings.TrimSpace(string(where))
	store := t.TempDir()
	im := writeImage(t, store, goroot, func(p string) bool {
		switch {
		case strings.HasPrefix(p, "/src"):
			return !strings.HasPrefix(p, "/src/cmd/") && !strings.Contains(p, "testdata") && !strings.HasSuffix(p, "_test.go")
		case strings.HasPrefix(p, "/pkg"):
			return true
		}
		return p == "/bin" || p == "/bin/go" || p == "/go.env" || p == "/VERSION"
	})
	srv := newServer(t, store)
	d := startMount(t, prog, mkdir(t, "mnt"), im, "--store", srv.url(), "--patience", "-1s", "--memory", "8")
	abortAfter(t, d, 10*time.Minute)
	root := mountRoot(t, d)

	source := mkdir(t, "source")
	const text = `package main

import (
	"fmt"
	"net/http"
)

func main() { fmt.Println("built", http.StatusText(http.StatusOK)) }
`
	for name, content := range map[string]string{"main.go": text, "go.mod": "module example.org/built\n"} {
		if err := os.WriteFile(filepath.Join(source, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, filepath.Join(root, "bin/go"), "build", "-o", filepath.Join(source, "built"), ".")
	endGroup(build)
	build.Dir = source
	build.Env = []string{
		"GOROOT=" + root, "GOCACHE=" + filepath.Join(root, "cache"), "GOPATH=" + filepath.Join(root, "gopath"), "HOME=" + source,
		"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local", "GOPROXY=off", "PATH=/usr/bin:/bin",
	}
	var out bytes.Buffer
	build.Stdout, build.Stderr = &out, &out
	if err := build.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- build.Wait() }()

	// In the middle: when the compiler itself has been read.
	before := time.Now()
	for compiled := 0; compiled < 20; {
		select {
		case err := <-done:
			t.Fatalf("the build was over before the server was stopped: %v: %s", err, out.String())
		case <-time.After(50 * time.Millisecond):
		}
		m, err := filepath.Glob(filepath.Join(root, "cache/*/*-d"))
		if err != nil {
			t.Fatal(err)
		}
		compiled = len(m)
	}
	srv.stop()
	t.Logf("the server stops after %.1f s of the build", time.Since(before).Seconds())
	select {
	case err := <-done:
		t.Fatalf("the build ended during the outage, so it needed nothing: %v: %s", err, out.String())
	case <-time.After(outage):
	}
	srv.start(t)
	if err := <-done; err != nil {
		t.Fatalf("build: %v: %s\nblockfs: %s", err, out.String(), d.log())
	}
	t.Logf("built %.1f s after the start", time.Since(before).Seconds())
	if b, err := exec.CommandContext(ctx, filepath.Join(source, "built")).CombinedOutput(); err != nil || string(b) != "built OK\n" {
		t.Errorf("the program that was built = %q, %v; want \"built OK\"", b, err)
	}
	log := d.log()
	if n := strings.Count(log, "the store cannot be reached"); n != 1 {
		t.Errorf("the outage was told %d times; want once: %s", n, log)
	}
	if n := strings.Count(log, "the store is back"); n != 1 {
		t.Errorf("its end was told %d times; want once: %s", n, log)
	}
}

func mkdir(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}
