package module

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Lines as depmod writes them for Debian's Linux 6.1.
const (
	dep = `kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko
kernel/lib/libcrc32c.ko:
kernel/fs/fuse/fuse.ko:
kernel/arch/x86/crypto/crc32c-intel.ko:
kernel/crypto/crc32c_generic.ko:
kernel/drivers/net/ethernet/realtek/r8169.ko: kernel/drivers/net/phy/libphy.ko kernel/drivers/net/mii.ko
kernel/drivers/net/phy/libphy.ko:
kernel/drivers/net/mii.ko:
kernel/drivers/net/phy/realtek.ko: kernel/drivers/net/phy/libphy.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/drivers/net/virtio_net.ko.xz: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/loop-a.ko: kernel/loop-b.ko
kernel/loop-b.ko: kernel/loop-a.ko
`
	aliasFile = `# Aliases extracted from modules themselves.
alias fs-erofs erofs
alias crypto-crc32c crc32c_intel
alias crypto-crc32c crc32c_generic
alias crc32c crc32c_generic
alias virtio:d00000001v* virtio_net
alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169
`
	softdep = `# Soft dependencies extracted from modules themselves.
softdep erofs pre: crc32c
softdep libcrc32c pre: crc32c
softdep r8169 pre: realtek
softdep fuse post: not-there
`
	builtin = "kernel/net/packet/af_packet.ko\nkernel/fs/overlayfs/overlay.ko\n"
)

func tree(t testing.TB) *Tree {
	t.Helper()
	tr, err := Open(fstest.MapFS{
		"modules.dep":     {Data: []byte(dep)},
		"modules.alias":   {Data: []byte(aliasFile)},
		"modules.softdep": {Data: []byte(softdep)},
		"modules.builtin": {Data: []byte(builtin)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func TestOrder(t *testing.T) {
	tr := tree(t)
	tests := []struct {
		name string
		want []string
	}{
		{"fuse", []string{"fuse"}},
		{"erofs", []string{"crc32c_generic", "libcrc32c", "erofs"}},
		{"fs-erofs", []string{"crc32c_generic", "libcrc32c", "erofs"}},
		{"crypto-crc32c", []string{"crc32c_intel", "crc32c_generic"}},
		{"r8169", []string{"libphy", "realtek", "mii", "r8169"}},
		{"virtio_net", []string{"failover", "net_failover", "virtio_net"}},
		{"virtio-net", []string{"failover", "net_failover", "virtio_net"}},
		{"overlay", nil},
		{"af_packet", nil},
		{"loop_a", []string{"loop_b", "loop_a"}},
	}
	for _, tt := range tests {
		got, err := tr.Order(tt.name)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("Order(%s): %v (-want +got):\n%s", tt.name, err, diff)
		}
	}
	if got, err := tr.Order("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Order(nothing) = %v, %v; want ErrNotFound", got, err)
	}
}

func TestMatch(t *testing.T) {
	tr := tree(t)
	for modalias, want := range map[string][]string{
		"virtio:d00000001v00001AF4\n":                           {"virtio_net"},
		"pci:v000010ECd00008168sv00001849sd00008168bc02sc00i00": {"r8169"},
		"pci:v00008086d00008168sv00001849sd00008168bc02sc00i00": nil,
		"virtio:d00000002v00001AF4":                             nil,
		"[":                                                     nil,
		"":                                                      nil,
	} {
		if diff := cmp.Diff(want, tr.Match(modalias)); diff != "" {
			t.Errorf("Match(%q) (-want +got):\n%s", modalias, diff)
		}
	}
}

func TestFile(t *testing.T) {
	tr := tree(t)
	for name, want := range map[string]string{"virtio-net": "kernel/drivers/net/virtio_net.ko.xz", "overlay": ""} {
		if got, err := tr.File(name); err != nil || got != want {
			t.Errorf("File(%s) = %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestPathsStayInside(t *testing.T) {
	tr, err := Open(fstest.MapFS{"modules.dep": {Data: []byte("../../evil.ko:\nkernel/../../e2.ko:\n")}})
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.files) != 0 {
		t.Errorf("files = %v; want none outside of the folder", tr.files)
	}
}

func TestUnpack(t *testing.T) {
	want := bytes.Repeat([]byte("module "), 10_000)
	pack := map[string]func(io.Writer) (io.WriteCloser, error){
		"a.ko.gz":  func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		"a.ko.xz":  func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		"a.ko.zst": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
	}
	for name, p := range pack {
		var b bytes.Buffer
		w, err := p(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(want); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if got, err := Unpack(name, bytes.NewReader(b.Bytes())); err != nil || !bytes.Equal(got, want) {
			t.Errorf("Unpack(%s) = %d bytes, %v; want the content", name, len(got), err)
		}
		if got, err := Unpack(name, bytes.NewReader(b.Bytes()[:b.Len()/2])); err == nil {
			t.Errorf("Unpack(%s) of half the file = %d bytes; want an error", name, len(got))
		}
	}
	if got, err := Unpack("a.ko", bytes.NewReader(want)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Unpack(a.ko) = %d bytes, %v; want the content", len(got), err)
	}
	if _, err := Unpack("a.ko.lzma", bytes.NewReader(want)); err == nil {
		t.Error("Unpack(a.ko.lzma) = nil; want an error")
	}
}

func FuzzTree(f *testing.F) {
	f.Add([]byte(dep), []byte(aliasFile), []byte(softdep), []byte(builtin), "erofs")
	f.Fuzz(func(t *testing.T, dep, alias, soft, builtin []byte, name string) {
		tr, err := Open(fstest.MapFS{
			"modules.dep":     {Data: dep},
			"modules.alias":   {Data: alias},
			"modules.softdep": {Data: soft},
			"modules.builtin": {Data: builtin},
		})
		if err != nil {
			t.Fatal(err)
		}
		order, err := tr.Order(name)
		seen := map[string]bool{}
		for _, n := range order {
			if seen[n] || tr.files[n] == "" || err != nil {
				t.Fatalf("Order(%q) = %q, %v", name, order, err)
			}
			seen[n] = true
		}
		tr.Match(name)
	})
}
