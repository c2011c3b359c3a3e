package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

func arm64Image() []byte {
	b := make([]byte, 4096)
	copy(b[56:], "ARM\x64")
	return b
}

func tree(t *testing.T, files map[string][]byte, links map[string]string) *source.Tree {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	tr, err := opener.Open(context.Background(), dir, opener.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestFind(t *testing.T) {
	const old, newer = "6.1.0-9-amd64", "6.1.0-10-amd64"
	both := map[string][]byte{
		"boot/vmlinuz-" + old:                            testtree.BzImage(old),
		"boot/vmlinuz-" + newer:                          testtree.BzImage(newer),
		"usr/lib/modules/" + old + "/modules.dep":        nil,
		"usr/lib/modules/" + newer + "/modules.dep":      nil,
		"usr/lib/modules/9.9-no-modules/modules.softdep": nil,
		"boot/config-" + newer:                           []byte("CONFIG_RD_ZSTD=y\nCONFIG_FUSE_FS=m\n# CONFIG_RD_XZ is not set\n"),
	}
	for _, tc := range []struct {
		name          string
		files         map[string][]byte
		links         map[string]string
		release, arch string
		want, image   string
		wantArch      string
		err           error
		says          string
	}{
		{name: "newest", files: both, links: map[string]string{"lib": "usr/lib"}, want: newer, image: "boot/vmlinuz-" + newer, wantArch: "amd64"},
		{name: "chosen", files: both, release: old, want: old, image: "boot/vmlinuz-" + old, wantArch: "amd64"},
		{name: "chosen is missing", files: both, release: "7", err: ErrNoKernel, says: newer},
		{name: "wrong architecture", files: both, arch: "arm64", err: ErrArch, says: "amd64"},
		{name: "beside modules", files: map[string][]byte{"usr/lib/modules/6.8/modules.dep": nil, "usr/lib/modules/6.8/vmlinuz": testtree.BzImage("6.8")}, want: "6.8", image: "usr/lib/modules/6.8/vmlinuz", wantArch: "amd64"},
		{name: "link in the root", files: map[string][]byte{"lib/modules/6.8/modules.dep": nil, "boot/k": testtree.BzImage("6.8")}, links: map[string]string{"vmlinuz": "/boot/k"}, want: "6.8", image: "boot/k", wantArch: "amd64"},
		{name: "link to another release", files: map[string][]byte{"lib/modules/6.8/modules.dep": nil, "boot/k": testtree.BzImage("6.9")}, links: map[string]string{"vmlinuz": "boot/k"}, err: ErrNoKernel, says: "/boot/vmlinuz-6.8"},
		{name: "newest has no kernel", files: map[string][]byte{"lib/modules/6.8/modules.dep": nil, "lib/modules/6.9/modules.dep": nil, "boot/vmlinuz-6.8": testtree.BzImage("6.8")}, want: "6.8", image: "boot/vmlinuz-6.8", wantArch: "amd64"},
		{name: "arm64", files: map[string][]byte{"lib/modules/6.8/modules.dep": nil, "boot/vmlinuz-6.8": arm64Image()}, want: "6.8", image: "boot/vmlinuz-6.8", wantArch: "arm64"},
		{name: "unknown kind", files: map[string][]byte{"lib/modules/6.8/modules.dep": nil, "boot/vmlinuz-6.8": []byte("?")}, err: ErrArch, says: "--arch"},
		{name: "unknown kind, told", files: map[string][]byte{"lib/modules/6.8/modules.dep": nil, "boot/vmlinuz-6.8": []byte("?")}, arch: "riscv64", want: "6.8", image: "boot/vmlinuz-6.8", wantArch: "riscv64"},
		{name: "no modules", files: map[string][]byte{"boot/vmlinuz-6.8": testtree.BzImage("6.8")}, err: ErrNoKernel, says: "/lib/modules"},
		{name: "two places", files: map[string][]byte{"lib/modules/6.8/modules.dep": nil, "usr/lib/modules/6.9/modules.dep": nil, "boot/vmlinuz-6.9": testtree.BzImage("6.9"), "boot/vmlinuz-6.8": testtree.BzImage("6.8")}, want: "6.9", image: "boot/vmlinuz-6.9", wantArch: "amd64"},
		{name: "the other place", files: map[string][]byte{"lib/modules/6.8/modules.dep": nil, "usr/lib/modules/6.9/modules.dep": nil, "boot/vmlinuz-6.9": testtree.BzImage("6.9"), "boot/vmlinuz-6.8": testtree.BzImage("6.8")}, release: "6.8", want: "6.8", image: "boot/vmlinuz-6.8", wantArch: "amd64"},
		{name: "a link", files: map[string][]byte{"opt/m/modules.dep": nil, "opt/m/vmlinuz": testtree.BzImage("6.8"), "lib/modules/x": nil}, links: map[string]string{"lib/modules/6.8": "/opt/m"}, want: "6.8", image: "opt/m/vmlinuz", wantArch: "amd64"},
		{name: "without depmod", files: map[string][]byte{"lib/modules/6.8/modules.builtin": nil, "lib/modules/6.8/kernel/a.ko": nil, "boot/vmlinuz-6.8": testtree.BzImage("6.8")}, want: "6.8", image: "boot/vmlinuz-6.8", wantArch: "amd64"},
		{name: "flavour", files: map[string][]byte{"lib/modules/6.8-0-lts/modules.dep": nil, "boot/vmlinuz-lts": testtree.BzImage("6.8-0-lts")}, want: "6.8-0-lts", image: "boot/vmlinuz-lts", wantArch: "amd64"},
		{name: "no modules.dep", files: map[string][]byte{"lib/modules/6.8/x": nil}, err: ErrNoKernel, says: "kernel package"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			k, err := Find(tree(t, tc.files, tc.links), tc.release, tc.arch)
			if tc.err != nil {
				if !errors.Is(err, tc.err) || !strings.Contains(err.Error(), tc.says) {
					t.Fatalf("Find() = %v; want %v that says %q", err, tc.err, tc.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if k.Release != tc.want || k.Image.Path != tc.image || k.Arch != tc.wantArch {
				t.Errorf("Find() = %s at %s for %s; want %s at %s for %s", k.Release, k.Image.Path, k.Arch, tc.want, tc.image, tc.wantArch)
			}
		})
	}
}

func TestOption(t *testing.T) {
	k := &Kernel{Config: []byte("CONFIG_RD_ZSTD=y\nCONFIG_FUSE_FS=m\n# CONFIG_RD_XZ is not set\nCONFIG_X=yes\n")}
	for name, want := range map[string]byte{"RD_ZSTD": 'y', "FUSE_FS": 'm', "RD_XZ": 0, "RD": 0, "X": 0} {
		if got, known := k.Option(name); got != want || !known {
			t.Errorf("Option(%q) = %q, %v; want %q, true", name, got, known, want)
		}
	}
	if _, known := (&Kernel{}).Option("RD_ZSTD"); known {
		t.Error("Option() without configuration says that it knows")
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"5.10.0-30-amd64", "6.1.0~rc1", "6.1.0", "6.1.0-9-amd64", "6.1.0-10-amd64", "6.1.0-10-cloud-amd64", "6.10.3", "10.0"}
	got := slices.Clone(sorted)
	slices.Reverse(got)
	slices.SortFunc(got, compareVersions)
	if !slices.Equal(got, sorted) {
		t.Errorf("sorted by compareVersions: %v; want %v", got, sorted)
	}
}

func FuzzParseImage(f *testing.F) {
	f.Add(testtree.BzImage("6.1"))
	f.Add(arm64Image())
	f.Add([]byte("MZ"))
	f.Fuzz(func(t *testing.T, b []byte) {
		im := parseImage(b)
		if len(im.release) > 128 {
			t.Errorf("release of %d bytes", len(im.release))
		}
	})
}

func FuzzCompareVersions(f *testing.F) {
	f.Add("1.2", "1.10")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, y := compareVersions(a, b), compareVersions(b, a)
		if (x < 0) != (y > 0) || (x == 0) != (y == 0) {
			t.Errorf("compareVersions(%q, %q) = %d, the other way round %d", a, b, x, y)
		}
	})
}
