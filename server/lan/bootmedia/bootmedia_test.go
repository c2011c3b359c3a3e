package bootmedia

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/server/lan/bootfile"
)

// folder makes media; the program has its slot at 5000.
func folder(t *testing.T) (dir string, program []byte) {
	t.Helper()
	dir = t.TempDir()
	program = append(bytes.Repeat([]byte("p"), 5000), site.EmptySlot()...)
	program = append(program, bytes.Repeat([]byte("q"), 3000)...)
	for name, data := range map[string][]byte{Program: program, Kernel: []byte("kernel"), Initramfs: []byte("initramfs"), BIOS: []byte("bios"), Module: []byte("module"), "secret": []byte("secret")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, program
}

func open(t *testing.T, root *[]byte) (*Files, []byte) {
	t.Helper()
	dir, program := folder(t)
	f, err := Open(Options{Dir: dir, Site: site.Site{URLs: []string{"http://10.0.0.1:8080"}, Syslog: "udp://10.0.0.1:514"}, Root: func() ([]byte, error) {
		if *root == nil {
			return nil, fs.ErrNotExist
		}
		return *root, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, program
}

// The names are those that DHCP tells machines.
func TestNames(t *testing.T) {
	if BIOS != bootfile.BIOS || Program != bootfile.UEFI || Script != bootfile.Script {
		t.Errorf("%s, %s, %s; DHCP says %s, %s, %s", BIOS, Program, Script, bootfile.BIOS, bootfile.UEFI, bootfile.Script)
	}
	var root []byte
	f, _ := open(t, &root)
	for _, name := range []string{"secret", "pxelinux.cfg", ".", "", "/vmlinuz", "../secret", "lpxelinux.0", "sub/vmlinuz"} {
		if file, err := f.Open(name); err == nil {
			file.Close()
			t.Errorf("%q can be opened", name)
		}
	}
	for name, want := range map[string]string{Kernel: "kernel", Initramfs: "initramfs", BIOS: "bios", Module: "module"} {
		if got, err := fs.ReadFile(f, name); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", name, got, err, want)
		}
	}
	// Without a catalog nothing could be trusted.
	for _, name := range []string{Program, SiteCPIO} {
		if _, err := f.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s without a catalog: %v; want ErrNotExist", name, err)
		}
	}
	if !f.HasBIOS() {
		t.Error("HasBIOS() = false; want true")
	}
	if err := os.Remove(filepath.Join(f.o.Dir, Module)); err != nil {
		t.Fatal(err)
	}
	if f.HasBIOS() {
		t.Errorf("HasBIOS() = true without %s", Module)
	}
	if _, err := Open(Options{Dir: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "--media") {
		t.Errorf("an empty folder: %v; want what to do", err)
	}
}

func TestSite(t *testing.T) {
	root := []byte("the first root")
	f, program := open(t, &root)
	for _, r := range []string{"the first root", "another one"} {
		root = []byte(r)
		want, err := site.Archive(&f.o.Site, root)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fs.ReadFile(f, SiteCPIO); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v; want the archive with %q", SiteCPIO, len(got), err, r)
		}
		whole := bytes.Clone(program)
		copy(whole[5000:], want)
		got, err := fs.ReadFile(f, Program)
		if err != nil || !bytes.Equal(got, whole) {
			t.Errorf("%s: %d bytes, %v; want the program with the archive of %q in it", Program, len(got), err, r)
		}
		// In pieces of any length.
		file, err := f.Open(Program)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range []int64{0, 4990, 4999, 5000, 5001, 5000 + site.SlotSize - 1, 5000 + site.SlotSize, int64(len(whole)) - 1} {
			for _, n := range []int64{1, 2, 1428, 20_000} {
				n = min(n, int64(len(whole))-at)
				b := make([]byte, n)
				if _, err := file.(io.ReaderAt).ReadAt(b, at); err != nil || !bytes.Equal(b, whole[at:at+n]) {
					t.Errorf("%d bytes at %d differ: %v", n, at, err)
				}
			}
		}
		file.Close()
	}
	// A new medium has its slot elsewhere.
	next := append(bytes.Repeat([]byte("n"), 777), site.EmptySlot()...)
	if err := os.WriteFile(filepath.Join(f.o.Dir, Program), next, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := fs.ReadFile(f, Program)
	want, _ := fs.ReadFile(f, SiteCPIO)
	if err != nil || len(got) != len(next) || !bytes.Equal(got[777:], want) {
		t.Errorf("a new medium: %d bytes, %v", len(got), err)
	}
	if err := os.WriteFile(filepath.Join(f.o.Dir, Program), []byte("no slot"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Open(Program); !errors.Is(err, site.ErrNoSlot) {
		t.Errorf("a medium without a slot: %v; want ErrNoSlot", err)
	}
}

func TestHTTP(t *testing.T) {
	root := []byte("root")
	f, program := open(t, &root)
	s := httptest.NewServer(f.Handler("/boot/"))
	defer s.Close()
	get := func(method, path, span string) (*http.Response, []byte) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if span != "" {
			req.Header.Set("Range", span)
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r, b
	}
	if r, b := get("GET", "/boot/inetboot.efi", ""); r.StatusCode != 200 || len(b) != len(program) || r.Header.Get("Content-Type") != "application/efi" || bytes.Equal(b, program) {
		t.Errorf("inetboot.efi: %s, %d bytes, %v", r.Status, len(b), r.Header)
	}
	if r, b := get("HEAD", "/boot/inetboot.efi", ""); r.StatusCode != 200 || len(b) != 0 || r.ContentLength != int64(len(program)) {
		t.Errorf("HEAD: %s, length %d; firmware needs it", r.Status, r.ContentLength)
	}
	if r, b := get("GET", "/boot/inetboot.efi", "bytes=4998-5001"); r.StatusCode != 206 || !strings.HasPrefix(string(b), "pp07") {
		t.Errorf("a range: %s, %q", r.Status, b)
	}
	if r, b := get("GET", "/boot/boot.ipxe", ""); r.StatusCode != 200 || !strings.HasPrefix(string(b), "#!ipxe\n") {
		t.Errorf("boot.ipxe: %s, %q", r.Status, b)
	}
	for _, p := range []string{"/boot/", "/boot/secret", "/boot/pxelinux.cfg/", "/boot/..%2fsecret", "/boot/lpxelinux.0"} {
		if r, _ := get("GET", p, ""); r.StatusCode != 404 {
			t.Errorf("%s: %s; want 404", p, r.Status)
		}
	}
	if r, _ := get("PUT", "/boot/vmlinuz", ""); r.StatusCode != 405 {
		t.Errorf("PUT: %s; want 405", r.Status)
	}
}

// What TFTP announces and reads.
func TestSizes(t *testing.T) {
	root := []byte("root")
	f, _ := open(t, &root)
	for _, name := range []string{Program, Kernel, Initramfs, SiteCPIO, BIOS, Script, Pxelinux} {
		file, err := f.Open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		data, rerr := io.ReadAll(file)
		fi, err := file.Stat()
		if err != nil || rerr != nil || !fi.Mode().IsRegular() || fi.Size() != int64(len(data)) || len(data) == 0 {
			t.Errorf("%s: %v, %v, %d bytes, %v", name, fi, err, len(data), rerr)
		}
		file.Close()
	}
}
