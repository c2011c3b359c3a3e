package kernel

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, path, data string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBuildTakesFromCache(t *testing.T) {
	dir := t.TempDir()
	tarball := write(t, filepath.Join(dir, "linux.tar.xz"), "a kernel's source")
	key, err := cacheKey(t.Context(), tarball)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "kernel-"+key), "a kernel")

	var log bytes.Buffer
	out := filepath.Join(dir, "vmlinuz")
	if err := Build(t.Context(), Options{Tarball: tarball, Cache: dir, Out: out, Log: &log}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(out); err != nil || string(got) != "a kernel" {
		t.Errorf("Build wrote %q, %v; want the cached kernel", got, err)
	}
	if !strings.Contains(log.String(), "unchanged") {
		t.Errorf("Build said %q; want a line about the cache", log.String())
	}
}

// TestBuildWaitsForAnother holds the lock as a second process would.
func TestBuildWaitsForAnother(t *testing.T) {
	dir := t.TempDir()
	tarball := write(t, filepath.Join(dir, "linux.tar.xz"), "a kernel's source")
	key, err := cacheKey(t.Context(), tarball)
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(t.Context(), Options{Cache: dir, Log: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	said, log := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- Build(t.Context(), Options{Tarball: tarball, Cache: dir, Out: filepath.Join(dir, "vmlinuz"), Log: log})
	}()
	line := make([]byte, 256)
	n, err := said.Read(line)
	if err != nil || !strings.Contains(string(line[:n]), "waiting") {
		t.Fatalf("the second build said %q, %v; want that it waits", line[:n], err)
	}
	go io.Copy(io.Discard, said) //nolint:errcheck // what else it says is not of interest
	// The first one finishes: the second takes its kernel instead of building.
	write(t, filepath.Join(dir, "kernel-"+key), "a kernel")
	unlock()
	if err := <-done; err != nil {
		t.Errorf("the second build: %v", err)
	}
	log.Close()
}

func TestCacheKey(t *testing.T) {
	dir := t.TempDir()
	a := write(t, filepath.Join(dir, "a"), "6.1.1")
	same := write(t, filepath.Join(dir, "same"), "6.1.1")
	other := write(t, filepath.Join(dir, "other"), "6.1.2")
	keys := map[string]string{}
	for _, f := range []string{a, same, other} {
		k, err := cacheKey(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		keys[f] = k
	}
	if keys[a] != keys[same] {
		t.Errorf("cacheKey differs for equal sources: %s, %s", keys[a], keys[same])
	}
	if keys[a] == keys[other] {
		t.Errorf("cacheKey is %s for two different sources", keys[a])
	}
}

func TestBuildFails(t *testing.T) {
	var other bytes.Buffer
	tw := tar.NewWriter(&other)
	if err := errors.Join(tw.WriteHeader(&tar.Header{Name: "linux-9.9/README", Mode: 0o644}), tw.Close()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, tarball, want string }{
		{"no source", "", "KERNEL_TARBALL"},
		{"not a tarball", "this is not an archive", "unpack the kernel's source"},
		{"a source that the patches are not for", other.String(), "iso/kernel/patches/1-xz.patch, which is for Linux 6.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tarball := filepath.Join(dir, "linux.tar.xz")
			if tt.tarball != "" {
				write(t, tarball, tt.tarball)
			}
			out, cache := filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "cache")
			err := Build(t.Context(), Options{Tarball: tarball, Cache: cache, Out: out, Log: new(bytes.Buffer)})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Build = %v; want an error with %q", err, tt.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("Build failed and left an output")
			}
			if left, _ := filepath.Glob(filepath.Join(cache, "kernel-*")); left != nil {
				t.Errorf("Build failed and left %q in the cache", left)
			}
		})
	}
}

func TestProgress(t *testing.T) {
	var out bytes.Buffer
	p := progress{out: &out, every: time.Hour, start: time.Now()}
	for range 100 {
		if n, err := p.Write([]byte("  CC a.o\n  CC b.o\n")); n != 18 || err != nil {
			t.Fatalf("Write = %d, %v; want 18, nil", n, err)
		}
	}
	if got := strings.Count(out.String(), "\n"); got != 1 {
		t.Errorf("200 steps within the interval gave %d lines; want 1", got)
	}
	if p.files != 200 {
		t.Errorf("counted %d steps; want 200", p.files)
	}
	p.last = time.Now().Add(-2 * time.Hour)
	p.Write([]byte("  CC c.o\n"))
	if !strings.Contains(out.String(), " 201 steps") {
		t.Errorf("after the interval it said %q; want 201 steps", out.String())
	}
}

func TestTailBuffer(t *testing.T) {
	var b tailBuffer
	for range 1000 {
		b.Write([]byte("0123456789\n"))
	}
	b.Write([]byte("the error"))
	if len(b.data) > 4<<10 || !bytes.HasSuffix(b.data, []byte("the error")) {
		t.Errorf("kept %d bytes ending in %q; want at most 4096 that end in the error", len(b.data), b.data[len(b.data)-12:])
	}
}
