// Package testtree makes small trees that look like operating systems, for
// tests of the publisher's parts.
package testtree

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Release is the kernel that trees have.
const Release = "6.1.0-99-amd64"

// New makes a tree with a kernel, modules, an os-release and some files.
// Trees with the same seed have the same contents.
func New(t testing.TB, seed uint64) string {
	t.Helper()
	dir := t.TempDir()
	Fill(t, dir, seed)
	return dir
}

// Fill makes the tree in dir.
func Fill(t testing.TB, dir string, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, 1))
	Write(t, dir, "boot/vmlinuz-"+Release, BzImage(Release))
	Write(t, dir, "boot/config-"+Release, []byte("CONFIG_RD_ZSTD=y\nCONFIG_RD_GZIP=y\n"))
	Write(t, dir, "etc/os-release", []byte("ID=test\nPRETTY_NAME=\"Test GNU/Linux 12 (testing)\"\n"))
	Write(t, dir, "usr/bin/constant", bytes.Repeat([]byte("the same in all trees\n"), 30000))
	for i := range 6 {
		b := make([]byte, 200_000+rnd.IntN(400_000))
		for j := range b {
			b[j] = byte(rnd.IntN(20)) // compresses somewhat
		}
		Write(t, dir, fmt.Sprintf("usr/lib/file%d", i), b)
	}
	Modules(t, dir)
}

// Modules writes modules of kernel Release into dir.
func Modules(t testing.TB, dir string) {
	t.Helper()
	base := "usr/lib/modules/" + Release + "/"
	for name, info := range map[string][]string{
		"kernel/fs/fuse/fuse.ko":                           nil,
		"kernel/drivers/block/loop.ko":                     nil,
		"kernel/fs/erofs/erofs.ko":                         {"depends=libcrc32c"},
		"kernel/fs/overlayfs/overlay.ko":                   nil,
		"kernel/fs/ext4/ext4.ko":                           nil,
		"kernel/fs/squashfs/squashfs.ko":                   nil,
		"kernel/lib/libcrc32c.ko":                          {"softdep=pre: crc32c"},
		"kernel/arch/x86/crypto/crc32c-intel.ko":           {"alias=crc32c"},
		"kernel/drivers/net/virtio_net.ko":                 {"depends=net_failover"},
		"kernel/drivers/net/net_failover.ko":               nil,
		"kernel/drivers/net/ethernet/realtek/r8169.ko":     {"firmware=rtl_nic/a.fw", "firmware=rtl_nic/missing.fw"},
		"kernel/drivers/net/phy/realtek.ko":                nil,
		"kernel/drivers/net/ethernet/mellanox/mlx9.ko":     nil,
		"kernel/drivers/net/wireless/wifi.ko":              nil,
		"kernel/sound/snd.ko":                              nil,
		"kernel/drivers/net/ethernet/intel/e1000/e1000.ko": nil,
	} {
		Write(t, dir, base+name, Module(info...))
	}
	Write(t, dir, base+"modules.dep", []byte(`kernel/fs/fuse/fuse.ko:
kernel/drivers/block/loop.ko:
kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko
kernel/fs/overlayfs/overlay.ko:
kernel/fs/ext4/ext4.ko:
kernel/fs/squashfs/squashfs.ko:
kernel/lib/libcrc32c.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko
kernel/drivers/net/net_failover.ko:
kernel/drivers/net/ethernet/realtek/r8169.ko:
kernel/drivers/net/phy/realtek.ko:
kernel/drivers/net/ethernet/mellanox/mlx9.ko:
kernel/drivers/net/wireless/wifi.ko:
kernel/sound/snd.ko:
kernel/drivers/net/ethernet/intel/e1000/e1000.ko:
`))
	Write(t, dir, base+"modules.softdep", []byte("# comment\nsoftdep r8169 pre: realtek\nsoftdep libcrc32c pre: crc32c\nsoftdep snd pre: x\n"))
	Write(t, dir, base+"modules.alias", []byte(`# Aliases extracted from modules themselves.
alias crc32c crc32c_intel
alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169
alias virtio:d00000001v* virtio_net
alias pci:v* snd
`))
	Write(t, dir, base+"modules.builtin", []byte("kernel/drivers/virtio/virtio_pci.ko\nkernel/net/packet/af_packet.ko\n"))
	Write(t, dir, "usr/lib/firmware/rtl_nic/a.fw", []byte("firmware a"))
	if err := os.Symlink("usr/lib", filepath.Join(dir, "lib")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
}

// Write writes a file and its folders below dir.
func Write(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// BzImage returns the beginning of an x86-64 kernel that says it is release
// (Documentation/arch/x86/boot.rst).
func BzImage(release string) []byte {
	b := make([]byte, 4096)
	copy(b, "MZ")
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(b[0x236:], 1)
	binary.LittleEndian.PutUint16(b[0x20e:], 0x400)
	copy(b[0x600:], release+" (builder@host) #1 SMP\x00")
	return b
}

// Module returns an ELF object with the given lines in its .modinfo section.
func Module(info ...string) []byte {
	var data []byte
	for _, l := range append([]string{"license=GPL"}, info...) {
		data = append(append(data, l...), 0)
	}
	names := []byte("\x00.modinfo\x00.shstrtab\x00")
	le := binary.LittleEndian
	const head, section = 64, 64
	b := make([]byte, head)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 1)  // relocatable
	le.PutUint16(b[18:], 62) // x86-64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[40:], uint64(head+len(data)+len(names))) // section headers
	le.PutUint16(b[52:], head)
	le.PutUint16(b[58:], section)
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 2)
	b = append(append(b, data...), names...)
	header := func(name, typ uint32, off, size int) {
		h := make([]byte, section)
		le.PutUint32(h, name)
		le.PutUint32(h[4:], typ)
		le.PutUint64(h[24:], uint64(off))
		le.PutUint64(h[32:], uint64(size))
		b = append(b, h...)
	}
	header(0, 0, 0, 0)
	header(1, 1, head, len(data))
	header(10, 3, head+len(data), len(names))
	return b
}

// Program builds a small static program for amd64 that can stand for blockfs,
// and returns its path.
func Program(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "blockfs")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}
