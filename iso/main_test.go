package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/iso/initramfs"
	"github.com/inetboot/inetboot/iso/media"
)

func TestRunMedia(t *testing.T) {
	dir := t.TempDir()
	kernel, archive, out := filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "initramfs.xz"), filepath.Join(dir, "out.iso")
	for _, f := range []string{kernel, archive} {
		if err := os.WriteFile(f, make([]byte, 4096), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var stdout bytes.Buffer
	if err := run(t.Context(), []string{"media", "--kernel", kernel, "--initramfs", archive, "-o", out}, &stdout); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > media.MaxSize {
		t.Errorf("the medium has %d bytes; want at most %d", info.Size(), media.MaxSize)
	}
	for _, want := range []string{"4096  kernel\n", "4096  initramfs\n", "16384  site slot\n", "below the limit\n"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("run printed\n%swant %q in it", stdout.String(), want)
		}
	}
}

func TestRunErrors(t *testing.T) {
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, media.MaxSize); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		args []string
		want error
	}{
		{"too large", []string{"media", "--kernel", large, "--initramfs", large, "-o", filepath.Join(t.TempDir(), "x.iso")}, media.ErrTooLarge},
		{"not a program", []string{"initramfs", "--preboot", large}, initramfs.ErrNotStatic},
		{"no kernel source", []string{"kernel", "--tarball", large + ".missing", "--cache", t.TempDir()}, os.ErrNotExist},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := run(t.Context(), tt.args, new(bytes.Buffer)); !errors.Is(err, tt.want) {
				t.Errorf("run(%q) = %v; want %v", tt.args, err, tt.want)
			}
		})
	}
}
