package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNewDevice(t *testing.T) {
	for _, tt := range []struct{ name, message, want string }{
		{"added", "add@/devices/pci0000:00/0000:00:03.0\x00ACTION=add\x00MODALIAS=pci:v00008086d000010D3\x00SEQNUM=7\x00", "pci:v00008086d000010D3"},
		{"removed", "remove@/devices/x\x00MODALIAS=pci:v1\x00", ""},
		{"without modalias", "add@/devices/x\x00ACTION=add\x00", ""},
		{"of udev", "libudev\x00\xfe\xed\xca\xfe", ""},
		{"empty", "", ""},
	} {
		if got := newDevice([]byte(tt.message)); got != tt.want {
			t.Errorf("%s: newDevice = %q; want %q", tt.name, got, tt.want)
		}
	}
}

func TestModaliases(t *testing.T) {
	dir := t.TempDir()
	for path, text := range map[string]string{
		"pci0000:00/0000:00:03.0/modalias": "pci:v00008086d000010D3\n",
		"pci0000:00/0000:00:04.0/modalias": "pci:v00008086d000010D3\n",
		"platform/serial8250/modalias":     "platform:serial8250\n",
		"platform/empty/modalias":          "\n",
		"platform/empty/uevent":            "MODALIAS=other\n",
	} {
		file := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got := modaliases(dir)
	slices.Sort(got)
	if d := cmp.Diff([]string{"pci:v00008086d000010D3", "platform:serial8250"}, got); d != "" {
		t.Errorf("modaliases (-want +got):\n%s", d)
	}
}

func TestRunRefuses(t *testing.T) {
	if err := run(t.Context(), []string{"coldplug"}, 2); err == nil || !strings.Contains(err.Error(), "make iso-full") {
		t.Errorf("run = %v; want what to do", err)
	}
}
