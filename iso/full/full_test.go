package full

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/module"
	"github.com/inetboot/inetboot/internal/newc"
	"github.com/inetboot/inetboot/iso/uki"
)

func TestDepends(t *testing.T) {
	for _, tt := range []struct{ name, description, want string }{
		{"meta package", "Package: linux-image-amd64\nDepends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)\nSize: 1\n", "linux-image-6.1.0-56-amd64"},
		{"several", "Depends: kmod, linux-image-7.0.0-1-amd64\n", "linux-image-7.0.0-1-amd64"},
		{"other package", "Depends: libc6 (>= 2.36)\n", ""},
		{"nothing", "", ""},
	} {
		if got, ok := depends(tt.description); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%s: depends = %q, %v; want %q", tt.name, got, ok, tt.want)
		}
	}
}

// TestChosen checks that modules outside of the folders come along only if one
// that is inside needs them.
func TestChosen(t *testing.T) {
	tree, err := module.Open(fstest.MapFS{
		"modules.dep": {Data: []byte(`kernel/drivers/net/ethernet/x/nic.ko: kernel/lib/crc.ko kernel/drivers/mdio.ko
kernel/lib/crc.ko:
kernel/drivers/mdio.ko: kernel/lib/base.ko
kernel/lib/base.ko:
kernel/lib/other.ko:
kernel/drivers/net/wireless/radio.ko: kernel/lib/other.ko
kernel/drivers/net/ethernetlike/no.ko:
kernel/fs/ext4/ext4.ko:
`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	files := []string{
		"kernel", "kernel/drivers/net/ethernet", "kernel/drivers/net/ethernet/x/nic.ko", "kernel/lib/crc.ko", "kernel/drivers/mdio.ko", "kernel/lib/base.ko",
		"kernel/lib/other.ko", "kernel/drivers/net/wireless/radio.ko", "kernel/drivers/net/ethernetlike/no.ko", "kernel/fs/ext4/ext4.ko",
	}
	got, err := chosen(tree, files)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"kernel/drivers/mdio.ko", "kernel/drivers/net/ethernet/x/nic.ko", "kernel/fs/ext4/ext4.ko", "kernel/lib/base.ko", "kernel/lib/crc.ko"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("chosen (-want +got):\n%s", d)
	}
}

func TestArchive(t *testing.T) {
	dir := t.TempDir()
	a := archive{dirs: map[string]bool{}}
	for _, name := range []string{"lib/modules/6.1/kernel/a.ko", "lib/modules/6.1/kernel/b.ko", "lib/firmware/c.bin"} {
		file := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := a.add(file, name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []newc.Record{
		{Name: "lib", Perm: 0o755, Dir: true}, {Name: "lib/modules", Perm: 0o755, Dir: true},
		{Name: "lib/modules/6.1", Perm: 0o755, Dir: true}, {Name: "lib/modules/6.1/kernel", Perm: 0o755, Dir: true},
		{Name: "lib/modules/6.1/kernel/a.ko", Perm: 0o644, Data: []byte("lib/modules/6.1/kernel/a.ko")},
		{Name: "lib/modules/6.1/kernel/b.ko", Perm: 0o644, Data: []byte("lib/modules/6.1/kernel/b.ko")},
		{Name: "lib/firmware", Perm: 0o755, Dir: true},
		{Name: "lib/firmware/c.bin", Perm: 0o644, Data: []byte("lib/firmware/c.bin")},
	}
	if d := cmp.Diff(want, a.records); d != "" {
		t.Errorf("records (-want +got):\n%s", d)
	}
}

func TestJoin(t *testing.T) {
	dir := t.TempDir()
	first, second, out := filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "out")
	for name, text := range map[string]string{first: "one", second: strings.Repeat("x", uki.Align+1)} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := join(out, first, second); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil || len(got) != 3*uki.Align || string(got[:3]) != "one" || got[3] != 0 || got[uki.Align] != 'x' {
		t.Errorf("join wrote %d bytes (%v); want both files at multiples of %d", len(got), err, uki.Align)
	}
}

// TestCacheKey checks that other firmware or another kernel is another key.
func TestCacheKey(t *testing.T) {
	dir := t.TempDir()
	firmware, pkg := filepath.Join(dir, "firmware"), filepath.Join(dir, "x.deb")
	if err := os.Mkdir(firmware, 0o755); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, step := range []struct{ name, file, text string }{
		{"the kernel", pkg, "6.1"}, {"another kernel", pkg, "6.2"},
		{"firmware", filepath.Join(firmware, "a.bin"), "a"}, {"longer firmware", filepath.Join(firmware, "a.bin"), "ab"},
	} {
		if err := os.WriteFile(step.file, []byte(step.text), 0o644); err != nil {
			t.Fatal(err)
		}
		key, err := cacheKey(Options{Package: pkg, Firmware: firmware})
		if err != nil {
			t.Fatal(err)
		}
		if old, ok := seen[key]; ok {
			t.Errorf("%s has the key of %s", step.name, old)
		}
		seen[key] = step.name
	}
}
