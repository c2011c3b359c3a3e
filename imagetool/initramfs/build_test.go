package initramfs_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"

	"github.com/inetboot/inetboot/imagetool/initramfs"
	"github.com/inetboot/inetboot/imagetool/kernel"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

func build(t *testing.T, dir string) (*initramfs.Result, error) {
	t.Helper()
	tree, err := opener.Open(context.Background(), dir, opener.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	k, err := kernel.Find(tree, "", "")
	if err != nil {
		t.Fatal(err)
	}
	return initramfs.Build(context.Background(), tree, k, []byte("\x7fELF program"), "erofs")
}

// unpack returns the files of an archive.
func unpack(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	rd := cpio.Newc.Reader(bytes.NewReader(data))
	out := make(map[string]string)
	dirs := map[string]bool{".": true}
	for {
		rec, err := rd.ReadRecord()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if !dirs[filepath.Dir(rec.Name)] {
			t.Errorf("%s comes before its folder", rec.Name)
		}
		switch rec.Mode & cpio.S_IFMT {
		case cpio.S_IFDIR:
			dirs[rec.Name] = true
			out[rec.Name+"/"] = ""
		case cpio.S_IFCHR:
			out[rec.Name] = "device"
		default:
			b, err := io.ReadAll(io.NewSectionReader(rec.ReaderAt, 0, int64(rec.FileSize)))
			if err != nil {
				t.Fatal(err)
			}
			out[rec.Name] = string(b)
		}
	}
}

// unzstd decompresses one frame with up to three zero bytes behind it.
func unzstd(t *testing.T, data []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for pad := range 4 {
		if out, derr := z.DecodeAll(data[:len(data)-pad], nil); derr == nil {
			return out
		} else if err == nil {
			err = derr
		}
		if data[len(data)-1-pad] != 0 {
			break
		}
	}
	t.Fatal(err)
	return nil
}

func TestBuild(t *testing.T) {
	dir := testtree.New(t, 1)
	res, err := build(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, bytes.NewReader(unzstd(t, res.Data)))

	base := "lib/modules/" + testtree.Release + "/"
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	want := []string{
		"dev/", "dev/console", "inetboot/", "init", "lib/", "lib/firmware/", "lib/firmware/rtl_nic/", "lib/firmware/rtl_nic/a.fw",
		"lib/modules/", base,
		base + "kernel/", base + "kernel/arch/", base + "kernel/arch/x86/", base + "kernel/arch/x86/crypto/", base + "kernel/arch/x86/crypto/crc32c-intel.ko",
		base + "kernel/drivers/", base + "kernel/drivers/block/", base + "kernel/drivers/block/loop.ko",
		base + "kernel/drivers/net/", base + "kernel/drivers/net/ethernet/",
		base + "kernel/drivers/net/ethernet/intel/", base + "kernel/drivers/net/ethernet/intel/e1000/", base + "kernel/drivers/net/ethernet/intel/e1000/e1000.ko",
		base + "kernel/drivers/net/ethernet/realtek/", base + "kernel/drivers/net/ethernet/realtek/r8169.ko",
		base + "kernel/drivers/net/net_failover.ko", base + "kernel/drivers/net/phy/", base + "kernel/drivers/net/phy/realtek.ko",
		base + "kernel/drivers/net/virtio_net.ko",
		base + "kernel/fs/", base + "kernel/fs/ext4/", base + "kernel/fs/ext4/ext4.ko", base + "kernel/fs/squashfs/", base + "kernel/fs/squashfs/squashfs.ko", base + "kernel/fs/erofs/", base + "kernel/fs/erofs/erofs.ko", base + "kernel/fs/fuse/", base + "kernel/fs/fuse/fuse.ko",
		base + "kernel/fs/overlayfs/", base + "kernel/fs/overlayfs/overlay.ko", base + "kernel/lib/", base + "kernel/lib/libcrc32c.ko",
		base + "modules.alias", base + "modules.builtin", base + "modules.dep", base + "modules.softdep",
		"proc/", "run/", "sys/", "tmp/",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("files of the initramfs (-want +got):\n%s", diff)
	}
	if got, want := files[base+"modules.alias"], "alias crc32c crc32c_intel\nalias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169\nalias virtio:d00000001v* virtio_net\n"; got != want {
		t.Errorf("modules.alias = %q; want %q", got, want)
	}
	if got, want := files[base+"modules.softdep"], "softdep libcrc32c pre: crc32c\nsoftdep r8169 pre: realtek\n"; got != want {
		t.Errorf("modules.softdep = %q; want %q", got, want)
	}
	if dep := files[base+"modules.dep"]; !strings.Contains(dep, "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n") || strings.Contains(dep, "snd") || strings.Contains(dep, "mlx9") {
		t.Errorf("modules.dep = %q", dep)
	}
	if len(res.Data)%4 != 0 {
		t.Errorf("length %d is no multiple of 4", len(res.Data))
	}
	if res.Modules != 13 || res.Firmware != 1 {
		t.Errorf("Modules, Firmware = %d, %d; want 13, 1", res.Modules, res.Firmware)
	}
	if slices.Contains(res.Lacks, "r8169") || !slices.Contains(res.Lacks, "tg3") {
		t.Errorf("Lacks = %v; want tg3 and not r8169 among them", res.Lacks)
	}
	if len(res.Notes) != 1 || !strings.Contains(res.Notes[0], "tg3") || strings.Contains(res.Notes[0], "r8169") {
		t.Errorf("Notes = %q; want one that names tg3 and not r8169", res.Notes)
	}
	again, err := build(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(res.Data, again.Data) {
		t.Error("two builds of one tree differ")
	}
}

func TestCompressionFollowsTheKernel(t *testing.T) {
	for _, tc := range []struct{ name, config, magic string }{
		{"zstd", "CONFIG_RD_ZSTD=y\nCONFIG_RD_GZIP=y\n", "\x28\xb5\x2f\xfd"},
		{"gzip", "CONFIG_RD_XZ=y\nCONFIG_RD_GZIP=y\n", "\x1f\x8b"},
		{"xz", "CONFIG_RD_XZ=y\n", "\xfd7zXZ\x00"},
		{"unknown", "", "\x1f\x8b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := testtree.New(t, 1)
			config := filepath.Join(dir, "boot/config-"+testtree.Release)
			if tc.config == "" {
				if err := os.Remove(config); err != nil {
					t.Fatal(err)
				}
			} else if err := os.WriteFile(config, []byte(tc.config), 0o644); err != nil {
				t.Fatal(err)
			}
			res, err := build(t, dir)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(string(res.Data), tc.magic) {
				t.Fatalf("begins with % x; want % x", res.Data[:6], tc.magic)
			}
			data := bytes.TrimRight(res.Data, "\x00") // the padding behind it
			var r io.Reader
			switch tc.name {
			case "zstd":
				r = bytes.NewReader(unzstd(t, res.Data))
			case "xz":
				r, err = xz.ReaderConfig{SingleStream: true}.NewReader(bytes.NewReader(data))
			default:
				var g *gzip.Reader
				if g, err = gzip.NewReader(bytes.NewReader(res.Data)); err == nil {
					g.Multistream(false)
				}
				r = g
			}
			if err != nil {
				t.Fatal(err)
			}
			if files := unpack(t, r); files["init"] != "\x7fELF program" {
				t.Errorf("init = %q", files["init"])
			}
		})
	}
}

func TestNoWayToUnpack(t *testing.T) {
	dir := testtree.New(t, 1)
	testtree.Write(t, dir, "boot/config-"+testtree.Release, []byte("CONFIG_RD_LZ4=y\n"))
	if _, err := build(t, dir); !errors.Is(err, initramfs.ErrKernel) {
		t.Errorf("Build() = %v; want ErrKernel", err)
	}
}

func TestKernelWithoutEROFS(t *testing.T) {
	dir := testtree.New(t, 1)
	dep := filepath.Join(dir, "usr/lib/modules", testtree.Release, "modules.dep")
	data, err := os.ReadFile(dep)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.Replace(data, []byte("kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n"), nil, 1)
	if err := os.WriteFile(dep, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := build(t, dir); !errors.Is(err, initramfs.ErrKernel) || !strings.Contains(err.Error(), "erofs") {
		t.Errorf("Build() = %v; want ErrKernel that names erofs", err)
	}
}

func TestUnpackModules(t *testing.T) {
	mod := testtree.Module("firmware=x.bin", "firmware=y.bin", "firmwareless=z")
	for _, tool := range [][]string{nil, {"gzip"}, {"xz", "--check=crc32", "--lzma2=dict=1MiB"}, {"zstd", "-q"}} {
		name := "plain"
		data := mod
		if tool != nil {
			name = tool[0]
		}
		t.Run(name, func(t *testing.T) {
			if tool != nil {
				if _, err := exec.LookPath(tool[0]); err != nil {
					t.Skip(err)
				}
				cmd := exec.Command(tool[0], append(tool[1:], "-c")...)
				cmd.Stdin = bytes.NewReader(mod)
				var err error
				if data, err = cmd.Output(); err != nil {
					t.Fatal(err)
				}
			}
			got, err := initramfs.Unpack(data)
			if err != nil || !bytes.Equal(got, mod) {
				t.Fatalf("Unpack() = %d bytes, %v; want the module", len(got), err)
			}
			info, err := initramfs.ModInfo(got)
			if diff := cmp.Diff([]string{"x.bin", "y.bin"}, info["firmware"]); err != nil || diff != "" {
				t.Errorf("ModInfo() = %v, %v; want x.bin, y.bin", info, err)
			}
		})
	}
	for _, bad := range [][]byte{nil, []byte("text"), {0x1f, 0x8b, 1}, append([]byte{0x28, 0xb5, 0x2f, 0xfd}, 0xff)} {
		if _, err := initramfs.Unpack(bad); !errors.Is(err, initramfs.ErrModule) {
			t.Errorf("Unpack(% x) = %v; want ErrModule", bad, err)
		}
	}
}

func TestReadProgram(t *testing.T) {
	static := testtree.Program(t)
	if _, err := initramfs.ReadProgram(static, "amd64"); err != nil {
		t.Errorf("ReadProgram(static) = %v", err)
	}
	if _, err := initramfs.ReadProgram(static, "arm64"); !errors.Is(err, initramfs.ErrProgram) || !strings.Contains(err.Error(), "GOARCH=arm64") {
		t.Errorf("ReadProgram for another architecture = %v; want ErrProgram with advice", err)
	}
	if _, err := initramfs.ReadProgram("/bin/sh", "amd64"); !errors.Is(err, initramfs.ErrProgram) || !strings.Contains(err.Error(), "dynamic") {
		t.Errorf("ReadProgram(/bin/sh) = %v; want ErrProgram about dynamic linking", err)
	}
	script := filepath.Join(t.TempDir(), "blockfs")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{script, script + ".missing"} {
		if _, err := initramfs.ReadProgram(name, "amd64"); !errors.Is(err, initramfs.ErrProgram) {
			t.Errorf("ReadProgram(%s) = %v; want ErrProgram", filepath.Base(name), err)
		}
	}
}

func FuzzModInfo(f *testing.F) {
	f.Add(testtree.Module("firmware=x"))
	f.Add([]byte("\x7fELF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := initramfs.ModInfo(b)
		if err != nil && !errors.Is(err, initramfs.ErrModule) {
			t.Errorf("ModInfo() = %v; want ErrModule", err)
		}
		n := 0
		for _, values := range info {
			for _, s := range values {
				n += len(s)
			}
		}
		if n > len(b) {
			t.Errorf("%d bytes of values out of %d", n, len(b))
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add(testtree.Module())
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x00, 0x01, 0x00, 0x00})
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if out, err := initramfs.Unpack(b); err == nil && !bytes.HasPrefix(out, []byte("\x7fELF")) {
			t.Errorf("Unpack() = %d bytes that are no module", len(out))
		}
	})
}

func FuzzParseDep(f *testing.F) {
	f.Add([]byte("kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n"), []byte("softdep a pre: b post: c\n"), []byte("alias x a\n"))
	f.Add([]byte("a.ko: a.ko\n"), []byte(""), []byte("alias a a"))
	f.Fuzz(func(t *testing.T, dep, soft, alias []byte) {
		m, err := initramfs.ParseDep(dep)
		if err != nil {
			if !errors.Is(err, initramfs.ErrIndex) {
				t.Errorf("ParseDep() = %v; want ErrIndex", err)
			}
			return
		}
		m.AddSoftDep(soft)
		m.AddWeakDep(soft)
		m.AddAlias(alias)
		m.AddBuiltin(soft)
		for _, p := range m.Closure("a", "x") {
			if !m.Has(p) || strings.HasPrefix(p, "/") || slices.Contains(strings.Split(p, "/"), "..") {
				t.Errorf("Closure() has %q", p)
			}
		}
	})
}
