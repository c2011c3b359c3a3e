package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/lantest"
	"github.com/inetboot/inetboot/server/store"
)

// The media that the options name are served by TFTP and by HTTP, and say
// where this server is.
func TestBootFiles(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip(err)
	}
	media, data := t.TempDir(), t.TempDir()
	for name, b := range map[string][]byte{"inetboot.efi": site.EmptySlot(), "vmlinuz": []byte("kernel"), "initramfs.xz": []byte("initramfs"), "pxelinux.0": []byte("bios"), "ldlinux.c32": []byte("module")} {
		if err := os.WriteFile(filepath.Join(media, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := store.Open(filepath.Join(data, "store"), filepath.Join(data, "tmp"), store.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	parts := &lanParts{
		iface: &lan.Interface{Name: "lo", IPv4: netip.MustParsePrefix("127.0.0.1/8"), All: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}},
		data:  data, store: dir, http: &net.TCPAddr{IP: net.IPv4zero, Port: 8080}, scheme: "http", log: slog.New(slog.DiscardHandler),
		settingsKey: bytes.Repeat([]byte{0xab}, 32),
	}
	if _, err := openMedia(parsedOptions(t, "--media "+data), parts); err == nil || !strings.Contains(err.Error(), "--media") {
		t.Errorf("a folder without media: %v; want what to do", err)
	}
	if s, err := newTFTP(t.Context(), parsedOptions(t, ""), parts); s != nil || err != nil {
		t.Errorf("without media: %v, %v; want no service", s, err)
	}
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(probe.LocalAddr().String())
	probe.Close()
	o := parsedOptions(t, "--media "+media+" --tftp-port "+port)
	if parts.media, err = openMedia(o, parts); err != nil {
		t.Fatal(err)
	}
	defer parts.media.Close()
	for _, args := range []string{"--tftp-port 0", "--tftp-port 65536"} {
		if _, err := newTFTP(t.Context(), parsedOptions(t, args), parts); err == nil {
			t.Errorf("%s is taken", args)
		}
	}
	if s, err := newTFTP(t.Context(), parsedOptions(t, "--no-tftp"), parts); s != nil || err != nil {
		t.Errorf("--no-tftp: %v, %v; want no service", s, err)
	}
	s, err := newTFTP(t.Context(), o, parts)
	if err != nil {
		t.Fatal(err)
	}
	lantest.Run(t, s)
	rest := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "the store") })
	web := httptest.NewServer(withMedia(parts.media, rest, parts.log))
	defer web.Close()
	get := func(url string) ([]byte, error) {
		return exec.CommandContext(t.Context(), curl, "-sf", "--max-time", "30", url).Output()
	}
	if got, err := get(web.URL + "/catalog/timestamp.json"); err != nil || string(got) != "the store" {
		t.Errorf("the store's files: %q, %v", got, err)
	}
	for _, base := range []string{"tftp://127.0.0.1:" + port + "/", web.URL + bootFolder} {
		if got, err := get(base + "vmlinuz"); err != nil || string(got) != "kernel" {
			t.Errorf("%svmlinuz = %q, %v", base, got, err)
		}
		if got, err := get(base + "missing"); err == nil {
			t.Errorf("%smissing = %q; want an error", base, got)
		}
	}
	// Before there is a catalog, and after.
	if got, err := get(web.URL + bootFolder + "site.cpio"); err == nil {
		t.Errorf("a site file of %d bytes without a catalog", len(got))
	}
	if err := os.MkdirAll(filepath.Join(data, "store", "catalog"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "store", "catalog", "1.root.json"), []byte("ROOT METADATA"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{web.URL + bootFolder + "site.cpio", "tftp://127.0.0.1:" + port + "/site.cpio", web.URL + bootFolder + "inetboot.efi"} {
		got, err := get(url)
		if err != nil || len(got) != site.SlotSize {
			t.Errorf("%s: %d bytes, %v", url, len(got), err)
		}
		for _, want := range []string{`"http://127.0.0.1:8080"`, `"udp://127.0.0.1:514"`, `"settings": "http://127.0.0.1:8080"`, `"settings_key": "` + strings.Repeat("ab", 32) + `"`, "ROOT METADATA"} {
			if !bytes.Contains(got, []byte(want)) {
				t.Errorf("%s does not have %s", url, want)
			}
		}
	}
}
