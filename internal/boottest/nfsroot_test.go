package boottest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/imagetool/root"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/vmtest"
	"github.com/inetboot/inetboot/server/lan/images"
	"github.com/inetboot/inetboot/server/lan/lantest"
	"github.com/inetboot/inetboot/server/lan/nfs"
	"github.com/inetboot/inetboot/server/store/storetest"
)

// A machine with Debian's own initramfs, in which nothing knows of InetBoot, has its
// root on the server's NFS, is who it was before, and keeps the root when the
// server is restarted. Where it finds NFS it learns from the port mapper.
func TestNFSRoot(t *testing.T) {
	t.Parallel()
	if os.Getenv("INETBOOT_BUILD") == "" {
		t.Skip("run make boot-test")
	}
	tarball, err := debianroot.SysVinit().Tarball(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	lan, err := vmtest.NewLAN(t.Context(), "192.168.78.1/24")
	if errors.Is(err, vmtest.ErrNotRoot) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lan.Close() })
	// The initramfs sets the link up, and nobody else may while the root is
	// on it.
	kernel, initrd, base, published := publishRoot(t, tarball, "etc/network/interfaces")
	stop := serveRoots(t, lan, published, base)
	vm := vmtest.StartT(t, vmtest.Config{
		Name: "nfs", Memory: 512, CPUs: 1, Kernel: kernel, Initrd: initrd,
		Append: "console=ttyS0 ro root=/dev/nfs nfsroot=192.168.78.1:/debian/12 ip=192.168.78.11:::255.255.255.0::eth0:off net.ifnames=0",
		NICs:   []vmtest.NIC{{LAN: lan, MAC: "52:54:00:78:00:01"}},
	})
	vm.ExpectT(t, 600, `login: `)
	vm.SendT(t, "root\n")
	vm.ExpectT(t, 600, `Password: `)
	vm.SendT(t, debianroot.Password+"\n")
	vm.ExpectT(t, 600, `# `)
	const file = "/usr/lib/x86_64-linux-gnu/libc.so.6"
	sum := func() string {
		t.Helper()
		vm.SendT(t, "echo 3 >/proc/sys/vm/drop_caches; sha256sum "+file+"; echo done=$?\n")
		return vm.ExpectT(t, 600, `([0-9a-f]{64})  \S+\s+done=0`)[1]
	}
	before := sum()
	vm.SendT(t, "grep ' / ' /proc/mounts; stat -c 'mode=%a' /usr/bin/su /tmp; touch /x\n")
	vm.ExpectT(t, 600, `192.168.78.1:/debian/12 / nfs r[ow],\S*vers=3`)
	vm.ExpectT(t, 600, `mode=4755\s+mode=1777`)
	vm.ExpectT(t, 600, `Read-only file system`)

	stop()
	serveRoots(t, lan, published, base)
	if after := sum(); after != before {
		t.Errorf("%s has the hash %s after a restart of the server; want %s", file, after, before)
	}
	vm.SendT(t, "ls -lR /usr/lib >/dev/null; echo all=$?\n")
	vm.ExpectT(t, 600, `all=0`)
}

// publishRoot publishes the system of a tarball as debian 12 in a store below
// base, but for some of its files, and returns its own kernel and initramfs.
func publishRoot(t *testing.T, tarball string, without ...string) (kernel, initrd, base string, published *storetest.Publisher) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	tree, err := opener.Open(t.Context(), tarball, opener.Options{Options: source.Options{TempDir: t.TempDir()}, Exclude: without})
	check(err)
	defer tree.Close()
	kernel, initrd = bootFiles(t, tarball)
	plan, err := root.NewPlan(tree)
	check(err)
	var meta bytes.Buffer
	check(plan.Meta(&meta))
	in := plan.Data(t.Context())
	defer in.Close()
	data, err := io.ReadAll(in)
	check(err)
	base = t.TempDir()
	published = storetest.New(t, base)
	published.AddRoot(t, "debian", "12", "erofs", storetest.RootFile{Name: "meta", Data: meta.Bytes()}, storetest.RootFile{Name: "data", Data: data})
	return kernel, initrd, base, published
}

// bootFiles returns the kernel and the initramfs of a system.
func bootFiles(t *testing.T, tarball string) (kernel, initrd string) {
	t.Helper()
	dir := t.TempDir()
	command(t, "tar", "-xf", tarball, "-C", dir, "--wildcards", "./boot/vmlinuz-*", "./boot/initrd.img-*")
	for pattern, name := range map[string]*string{"vmlinuz-*": &kernel, "initrd.img-*": &initrd} {
		found, err := filepath.Glob(filepath.Join(dir, "boot", pattern))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s has %q in /boot, %v; want one %s", tarball, found, err, pattern)
		}
		*name = found[0]
	}
	return kernel, initrd
}

// serveRoots serves what is published until stop is called.
func serveRoots(t *testing.T, lan *vmtest.LAN, published *storetest.Publisher, base string) (stop func()) {
	t.Helper()
	l := images.New(images.Options{Store: published.Dir, Blocks: read.Dir(filepath.Join(base, "store"))})
	s := &nfs.Service{Host: lan.Host.String(), Port: nfs.DefaultPort, PortmapPort: nfs.PortmapPort, Library: l, Logger: storetest.Silent()}
	t.Cleanup(func() { l.Close() })
	if err := lan.Do(func() error { return s.Open(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	return lantest.RunOpen(t, s)
}
