package initramfs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/mkuimage/cpio"
)

// program compiles a small static program for arch.
func program(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "preboot")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() { println(\"hello\") }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	if msg, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, msg)
	}
	return out
}

func TestBuild(t *testing.T) {
	preboot := program(t, "amd64")
	out := filepath.Join(t.TempDir(), "initramfs.xz")
	if err := Build(t.Context(), preboot, out); err != nil {
		t.Fatal(err)
	}
	packed, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(packed)%4 != 0 {
		t.Errorf("the archive has %d bytes; want a multiple of 4, the next archive comes behind it", len(packed))
	}
	plain, err := exec.Command("xz", "-dc", out).Output()
	if err != nil {
		t.Fatalf("xz -dc: %v", err)
	}
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(plain)))
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Mode         uint64
		Major, Minor uint64
	}
	got := map[string]entry{}
	for _, r := range records {
		got[r.Name] = entry{r.Mode, r.Rmajor, r.Rminor}
		if r.MTime != 0 || r.UID != 0 || r.GID != 0 {
			t.Errorf("%s has time %d, owner %d:%d; want zeros", r.Name, r.MTime, r.UID, r.GID)
		}
	}
	want := map[string]entry{
		"dev": {0o040755, 0, 0}, "proc": {0o040755, 0, 0}, "sys": {0o040755, 0, 0}, "run": {0o040755, 0, 0},
		"tmp": {0o041777, 0, 0}, "inetboot": {0o040755, 0, 0},
		"dev/console": {0o020600, 5, 1}, "init": {0o100755, 0, 0},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("files of the initramfs (-want +got):\n%s", d)
	}
	if data, _ := os.ReadFile(preboot); !bytes.Contains(plain, data) {
		t.Error("/init is not preboot, byte for byte")
	}
}

// TestBuildReproducible moves and touches the program between two builds.
func TestBuildReproducible(t *testing.T) {
	preboot := program(t, "amd64")
	data, err := os.ReadFile(preboot)
	if err != nil {
		t.Fatal(err)
	}
	moved := filepath.Join(t.TempDir(), "other-name")
	if err := os.WriteFile(moved, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(moved, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	var archives [][]byte
	for _, p := range []string{preboot, moved} {
		out := filepath.Join(t.TempDir(), "initramfs.xz")
		if err := Build(t.Context(), p, out); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, b)
	}
	if !bytes.Equal(archives[0], archives[1]) {
		t.Error("the same program gave two different archives")
	}
}

func TestBuildRefuses(t *testing.T) {
	text := filepath.Join(t.TempDir(), "preboot")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, program string
		want          error
	}{
		{"missing", filepath.Join(t.TempDir(), "preboot"), os.ErrNotExist},
		{"script", text, ErrNotStatic},
		{"other processor", program(t, "arm64"), ErrNotStatic},
		{"dynamic", "/bin/sh", ErrNotStatic},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "initramfs.xz")
			if err := Build(t.Context(), tt.program, out); !errors.Is(err, tt.want) {
				t.Errorf("Build(%s) = %v; want %v", tt.program, err, tt.want)
			}
			if _, err := os.Stat(out); err == nil {
				t.Errorf("Build(%s) failed and left an output", tt.program)
			}
		})
	}
}
