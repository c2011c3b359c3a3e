package initramfs_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/imagetool/testtree"
)

const modulesDir = "usr/lib/modules/" + testtree.Release + "/"

// edit changes one of depmod's files.
func edit(t *testing.T, dir, name string, change func(string) string) {
	t.Helper()
	p := filepath.Join(dir, modulesDir+name)
	data, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(change(string(data))), 0o644); err != nil {
		t.Fatal(err)
	}
}

// compress replaces a file by what a program makes of it.
func compress(t *testing.T, dir, name, suffix string, program ...string) {
	t.Helper()
	if _, err := exec.LookPath(program[0]); err != nil {
		t.Skip(err)
	}
	p := filepath.Join(dir, name)
	in, err := os.ReadFile(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program[0], program[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p+suffix, out, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(p); err != nil {
		t.Fatal(err)
	}
}

// files returns what is in the initramfs of a tree, and its notes.
func files(t *testing.T, dir string) (map[string]string, []string) {
	t.Helper()
	res, err := build(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	return unpack(t, bytes.NewReader(unzstd(t, res.Data))), res.Notes
}

func TestModulesSayWhatTheyWant(t *testing.T) {
	dir := testtree.New(t, 1)
	base := "lib/modules/" + testtree.Release + "/"
	// Neither is in modules.softdep: the module alone knows. The second one
	// is wanted by what the first one brings.
	testtree.Write(t, dir, modulesDir+"kernel/drivers/net/virtio_net.ko", testtree.Module("softdep=pre: late-one post: also"))
	testtree.Write(t, dir, modulesDir+"kernel/misc/late-one.ko", testtree.Module("weakdep=later"))
	testtree.Write(t, dir, modulesDir+"kernel/misc/later.ko", testtree.Module())
	testtree.Write(t, dir, modulesDir+"kernel/misc/also.ko", testtree.Module())
	edit(t, dir, "modules.dep", func(s string) string {
		return s + "kernel/misc/late-one.ko:\nkernel/misc/later.ko:\nkernel/misc/also.ko:\n/opt/outside/x.ko: kernel/misc/also.ko\n"
	})
	got, _ := files(t, dir)
	for _, m := range []string{"late-one", "later", "also"} {
		if _, ok := got[base+"kernel/misc/"+m+".ko"]; !ok {
			t.Errorf("%s.ko is missing", m)
		}
	}
	// What may be asked for later is not loaded before.
	if soft := got[base+"modules.softdep"]; !strings.Contains(soft, "softdep virtio_net pre: late-one also\n") || strings.Contains(soft, "later") {
		t.Errorf("modules.softdep = %q", soft)
	}
}

func TestCompressedModulesAndFirmware(t *testing.T) {
	dir := testtree.New(t, 1)
	base := "lib/modules/" + testtree.Release + "/"
	for name, c := range map[string][]string{
		"kernel/fs/fuse/fuse.ko":           {".xz", "xz", "--check=crc32"},
		"kernel/fs/erofs/erofs.ko":         {".zst", "zstd", "-q"},
		"kernel/lib/libcrc32c.ko":          {".gz", "gzip"},
		"kernel/drivers/net/virtio_net.ko": {".zst", "zstd", "-q"},
	} {
		compress(t, dir, modulesDir+name, c[0], append(c[1:], "-c")...)
		edit(t, dir, "modules.dep", func(s string) string { return strings.ReplaceAll(s, name, name+c[0]) })
	}
	// As Fedora and Ubuntu have them; the kernel looks in updates first.
	testtree.Write(t, dir, "usr/lib/firmware/rtl_nic/missing.fw", []byte("packed"))
	compress(t, dir, "usr/lib/firmware/rtl_nic/missing.fw", ".xz", "xz", "--check=crc32", "-c")
	testtree.Write(t, dir, "usr/lib/firmware/updates/rtl_nic/a.fw", []byte("newer a"))
	testtree.Write(t, dir, modulesDir+"kernel/drivers/net/phy/realtek.ko", testtree.Module("firmware=phy/*.bin"))
	testtree.Write(t, dir, "usr/lib/firmware/phy/one.bin", []byte("one"))
	testtree.Write(t, dir, "usr/lib/firmware/phy/two.bin", []byte("two"))
	compress(t, dir, "usr/lib/firmware/phy/two.bin", ".zst", "zstd", "-q", "-c")
	testtree.Write(t, dir, "usr/lib/firmware/phy/three.txt", []byte("three"))
	// A network driver that is built in, and a driver that is not one.
	edit(t, dir, "modules.builtin", func(s string) string {
		return s + "kernel/drivers/net/ethernet/broadcom/tg3.ko\nkernel/drivers/gpu/drm/card.ko\n"
	})
	testtree.Write(t, dir, modulesDir+"modules.builtin.modinfo", []byte("tg3.license=GPL\x00tg3.firmware=tigon/t.bin\x00card.firmware=gpu.bin\x00"))
	testtree.Write(t, dir, "usr/lib/firmware/tigon/t.bin", []byte("tigon"))
	testtree.Write(t, dir, "usr/lib/firmware/gpu.bin", []byte("gpu"))

	got, _ := files(t, dir)
	for name, want := range map[string]string{
		"rtl_nic/a.fw": "newer a", "rtl_nic/missing.fw": "packed", "phy/one.bin": "one", "phy/two.bin": "two", "tigon/t.bin": "tigon",
	} {
		if got["lib/firmware/"+name] != want {
			t.Errorf("firmware %s = %q; want %q", name, got["lib/firmware/"+name], want)
		}
	}
	for _, name := range []string{"phy/three.txt", "gpu.bin", "rtl_nic/missing.fw.xz"} {
		if _, ok := got["lib/firmware/"+name]; ok {
			t.Errorf("firmware %s is there; want it left out", name)
		}
	}
	for _, m := range []string{"kernel/fs/fuse/fuse.ko", "kernel/fs/erofs/erofs.ko", "kernel/lib/libcrc32c.ko", "kernel/drivers/net/virtio_net.ko"} {
		if !strings.HasPrefix(got[base+m], "\x7fELF") {
			t.Errorf("%s is not unpacked", m)
		}
	}
	if dep := got[base+"modules.dep"]; !strings.Contains(dep, "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n") || strings.Contains(dep, ".zst") {
		t.Errorf("modules.dep = %q", dep)
	}
}

// TestWithoutDepmod wants the same initramfs from a tree that depmod has never
// seen, and of several modules of one name the one that depmod would choose.
func TestWithoutDepmod(t *testing.T) {
	dir := testtree.New(t, 1)
	base := "lib/modules/" + testtree.Release + "/"
	testtree.Write(t, dir, modulesDir+"kernel/drivers/net/ethernet/realtek/r8169.ko", testtree.Module("firmware=rtl_nic/a.fw", "softdep=pre: realtek", "alias=pci:v000010ECd00008168sv*sd*bc*sc*i*"))
	testtree.Write(t, dir, modulesDir+"kernel/drivers/net/virtio_net.ko", testtree.Module("depends=net_failover", "alias=virtio:d00000001v*"))
	withDepmod, _ := files(t, dir)
	for _, n := range []string{"modules.dep", "modules.alias", "modules.softdep"} {
		if err := os.Remove(filepath.Join(dir, modulesDir+n)); err != nil {
			t.Fatal(err)
		}
	}
	without, notes := files(t, dir)
	if len(notes) != 2 || !strings.Contains(notes[0], "modules.dep") {
		t.Errorf("notes = %q; want one about modules.dep", notes)
	}
	lines := func(s string) []string {
		l := strings.Split(strings.TrimSpace(s), "\n")
		slices.Sort(l)
		return l
	}
	for _, n := range []string{"modules.dep", "modules.alias", "modules.softdep"} {
		if diff := cmp.Diff(lines(withDepmod[base+n]), lines(without[base+n])); diff != "" {
			t.Errorf("%s with depmod and without (-with +without):\n%s", n, diff)
		}
		delete(withDepmod, base+n)
		delete(without, base+n)
	}
	if diff := cmp.Diff(withDepmod, without); diff != "" {
		t.Errorf("other files with depmod and without (-with +without):\n%s", diff)
	}

	for _, tc := range []struct{ conf, from string }{
		{"", "updates/dkms/"},                                      // depmod's default: updates, then the rest, whose order is that of names
		{"search extra updates built-in\n", "extra/"},              // preferred by the tree
		{"search built-in weak-updates updates extra\n", "kernel"}, // the kernel's own
		{"search weak-updates built-in updates extra\n", "weak-updates/"},
	} {
		t.Run("search "+tc.from, func(t *testing.T) {
			dir := testtree.New(t, 1)
			if err := os.Remove(filepath.Join(dir, modulesDir+"modules.dep")); err != nil {
				t.Fatal(err)
			}
			testtree.Write(t, dir, modulesDir+"extra/virtio_net.ko.gz", nil)
			testtree.Write(t, dir, modulesDir+"extra/virtio_net.ko", testtree.Module("version=extra"))
			compress(t, dir, modulesDir+"extra/virtio_net.ko", ".gz", "gzip", "-c")
			testtree.Write(t, dir, modulesDir+"updates/dkms/virtio-net.ko", testtree.Module("version=updates"))
			testtree.Write(t, dir, "usr/lib/modules/5.0-other/extra/virtio_net.ko", testtree.Module("version=weak"))
			if err := os.MkdirAll(filepath.Join(dir, modulesDir+"weak-updates"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/lib/modules/5.0-other/extra/virtio_net.ko", filepath.Join(dir, modulesDir+"weak-updates/virtio_net.ko")); err != nil {
				t.Fatal(err)
			}
			if tc.conf != "" {
				testtree.Write(t, dir, "etc/depmod.d/order.conf", []byte("# order\n"+tc.conf))
			}
			got, _ := files(t, dir)
			var found []string
			for name := range got {
				if rest, ok := strings.CutPrefix(name, base); ok && strings.HasSuffix(strings.ReplaceAll(rest, "-", "_"), "/virtio_net.ko") {
					found = append(found, rest)
				}
			}
			if len(found) != 1 || !strings.HasPrefix(found[0], tc.from) {
				t.Errorf("virtio_net is taken from %q; want %s", found, tc.from)
			}
		})
	}
}

// TestSmallerThanListed has an image whose drivers were deleted by hand.
func TestSmallerThanListed(t *testing.T) {
	dir := testtree.New(t, 1)
	if err := os.RemoveAll(filepath.Join(dir, modulesDir+"kernel/drivers/net/ethernet")); err != nil {
		t.Fatal(err)
	}
	res, err := build(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(res.Lacks, "r8169") || !slices.ContainsFunc(res.Notes, func(n string) bool { return strings.Contains(n, "3 of the modules") }) {
		t.Errorf("Lacks = %v, Notes = %q; want r8169, and a note about 3 modules", res.Lacks, res.Notes)
	}
}

// TestSplitUsr has /lib and /usr/lib as two directories, and the modules
// behind a link.
func TestSplitUsr(t *testing.T) {
	dir := testtree.New(t, 1)
	if err := os.Remove(filepath.Join(dir, "lib")); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"lib/modules", "opt"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(dir, modulesDir), filepath.Join(dir, "opt/modules")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/opt/modules", filepath.Join(dir, "lib/modules", testtree.Release)); err != nil {
		t.Fatal(err)
	}
	testtree.Write(t, dir, "lib/firmware/rtl_nic/missing.fw", []byte("in /lib")) // and a.fw in /usr/lib
	got, _ := files(t, dir)
	for name, want := range map[string]string{"rtl_nic/a.fw": "firmware a", "rtl_nic/missing.fw": "in /lib"} {
		if got["lib/firmware/"+name] != want {
			t.Errorf("firmware %s = %q; want %q", name, got["lib/firmware/"+name], want)
		}
	}
	if _, ok := got["lib/modules/"+testtree.Release+"/kernel/fs/fuse/fuse.ko"]; !ok {
		t.Error("fuse.ko is missing")
	}
}
