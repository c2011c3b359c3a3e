package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/cachedisk"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// cacheFolder makes a folder with a cache of what is published now, its image
// complete, as a target leaves it. Files in damaged have one bit changed.
func (b *bed) cacheFolder(t *testing.T, damaged ...string) string {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, cachedisk.Names()[0])
	b.mu.Lock()
	defer b.mu.Unlock()
	for path, data := range b.files {
		if slices.Contains(damaged, path) {
			data = slices.Clone(data)
			data[len(data)/3] ^= 4
		}
		name := filepath.Join(dir, "store", path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	manifest := b.files[b.paths.manifest]
	st := cachedisk.State{Complete: []cachedisk.Complete{{Manifest: digest.Of(manifest), Time: time.Now()}}, Entry: "tiny-1"}
	if err := st.Save(dir); err != nil {
		t.Fatal(err)
	}
	return top
}

func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK=1")
	if path, err := exec.LookPath(name); err != nil {
		cmd.Path, cmd.Err = "/usr/sbin/"+name, nil
	} else {
		cmd.Path = path
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

const diskSize = 64 << 20

// fatStick makes a disk with one partition, FAT, with what is in folder top;
// "": empty.
func fatStick(t *testing.T, top, serial string) string {
	t.Helper()
	fat := filepath.Join(t.TempDir(), "fat")
	tool(t, "mkfs.vfat", "-C", "-F", "32", "-s", "1", "-i", serial, fat, fmt.Sprint(diskSize>>10))
	if top != "" {
		tool(t, "mcopy", "-s", "-i", fat, filepath.Join(top, cachedisk.Names()[0]), "::")
	}
	part, err := os.ReadFile(fat)
	if err != nil {
		t.Fatal(err)
	}
	const start = 2048
	disk := make([]byte, start*512, start*512+len(part))
	entry := disk[446:]
	entry[4] = 0x0c // FAT32, LBA
	binary.LittleEndian.PutUint32(entry[8:], start)
	binary.LittleEndian.PutUint32(entry[12:], uint32(len(part)/512))
	disk[510], disk[511] = 0x55, 0xaa
	return image(t, append(disk, part...))
}

// ext4Disk makes a disk without partitions, with what is in folder top.
func ext4Disk(t *testing.T, top string) string {
	t.Helper()
	name := image(t, nil)
	tool(t, "mkfs.ext4", "-q", "-F", "-d", top, "-U", ext4UUID, name, fmt.Sprintf("%dk", diskSize>>10))
	return name
}

const (
	fatSerial = "1234abcd"
	fatUUID   = "1234-ABCD"
	ext4UUID  = "e139ce78-9841-40fe-8823-96a304a09859"
)

func image(t *testing.T, data []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// garbage is a disk that looks like an ext4 filesystem at first sight.
func garbage(t *testing.T) string {
	t.Helper()
	b := make([]byte, 8<<20)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	sb := b[1024:]
	clear(sb[:1024])
	binary.LittleEndian.PutUint32(sb[0:], 512)     // inodes
	binary.LittleEndian.PutUint32(sb[4:], 8<<10)   // blocks
	binary.LittleEndian.PutUint32(sb[20:], 1)      // first block
	binary.LittleEndian.PutUint32(sb[32:], 8192)   // blocks in a group
	binary.LittleEndian.PutUint32(sb[36:], 8192)   // clusters in a group
	binary.LittleEndian.PutUint32(sb[40:], 512)    // inodes in a group
	binary.LittleEndian.PutUint16(sb[56:], 0xef53) // magic
	binary.LittleEndian.PutUint16(sb[58:], 1)      // clean
	return image(t, b)
}

// cable puts the virtual cable in or out.
func cable(t *testing.T, vm *vmtest.VM, in bool) {
	t.Helper()
	if _, err := vm.Monitor(t.Context(), "set_link", map[string]any{"name": "card0", "up": in}); err != nil {
		t.Fatal(err)
	}
}

// A stick with a cache, its kernel damaged, and a cable that is out at first:
// the menu comes from the cache; a catalog from the network that is older than
// the cache's is refused; a newer one is taken, the damaged kernel is fetched,
// and the initrd is not.
func TestCacheOnStick(t *testing.T) {
	b := newBed(t, -1)
	published := func(version uint64) {
		b.paths = b.publish(t, version, time.Now().Add(time.Hour), b.kernel, b.target, -1)
	}
	published(5)
	top := b.cacheFolder(t, b.paths.kernel)
	published(2)
	vm := b.start(t, b.site(), vmtest.Config{Name: "stick", Disks: []vmtest.Disk{
		{File: garbage(t), Model: "virtio-blk-pci"},
		{File: fatStick(t, "", "00000001"), Model: "ide-hd"},
		{File: fatStick(t, top, fatSerial), Model: "usb-storage"},
	}})
	cable(t, vm, false)
	vm.ExpectT(t, patience, `inetboot: cache on sd[ab]1 \(vfat `+fatUUID+`\), images complete in it: 1\n`)
	vm.ExpectT(t, patience, `inetboot: offline: no link has a carrier`)
	vm.ExpectT(t, patience, `inetboot: catalog 5 from the cache on sd[ab]1, valid until`)
	vm.ExpectT(t, patience, `Test menu \(offline\)`)
	vm.ExpectT(t, patience, `> +1  Tiny Linux 1 .* yes`)
	vm.ExpectT(t, patience, `menu ready, offline: no link has a carrier: is the cable in\?`)

	cable(t, vm, true)
	vm.SendT(t, "\x12")
	vm.ExpectT(t, patience, `inetboot: refused: catalog: the catalog.s timestamp is older than one seen before: version 2, but 5 was seen`)
	vm.ExpectT(t, patience, `Test menu \(offline\)`)

	published(6) // found without anybody's doing
	vm.ExpectT(t, patience, `inetboot: menu ready[^,]`)
	vm.SendT(t, "\r")
	vm.ExpectT(t, patience, `inetboot: catalog 6, valid until`)
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	vm.ExpectT(t, patience, `inetboot: files/[0-9a-f]{64} in the cache is not used: .* has SHA-256 [0-9a-f]{12}, but [0-9a-f]{12} is listed`)
	vm.ExpectT(t, patience, `inetboot: downloaded and verified .*MB, .*MB of it from the cache`)
	_, h := expectTarget(t, vm)
	if h.Offline || h.Cache.UUID != fatUUID || h.CatalogVersion != 6 || h.Entry != "tiny-1" {
		t.Errorf("handoff: offline %t, cache %+v, catalog %d, entry %q; want the network, the stick %s, 6, tiny-1", h.Offline, h.Cache, h.CatalogVersion, h.Entry, fatUUID)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if k, i := b.gets["/"+b.paths.kernel], b.gets["/"+b.paths.initrd]; k == 0 || i != 0 {
		t.Errorf("the server was asked %d times for the kernel, which is damaged in the cache, and %d times for the initrd, which is not", k, i)
	}
}

// No network at all, an expired catalog, disks of every kind: the default
// entry boots from the cache by itself, and takes the catalog with it.
func TestCacheWithoutNetwork(t *testing.T) {
	b := newBed(t, 3)
	b.paths = b.publish(t, 3, time.Now().Add(-time.Hour), b.kernel, b.target, 3)
	catalogFile := b.files[storepath.Timestamp]
	top := b.cacheFolder(t)
	vm := b.start(t, b.site(), vmtest.Config{Name: "offline", NICs: []vmtest.NIC{}, Disks: []vmtest.Disk{
		{File: garbage(t), Model: "usb-storage"},
		{File: image(t, bytes.Repeat([]byte{0xff}, 4<<20)), Model: "virtio-blk-pci"},
		{File: fatStick(t, "", "00000002"), Model: "ide-hd"},
		{File: ext4Disk(t, top), Model: "nvme"},
	}})
	vm.ExpectT(t, patience, `inetboot: cache on nvme0n1 \(ext4 `+ext4UUID+`\), images complete in it: 1\n`)
	vm.ExpectT(t, patience, `inetboot: warning: the cache's catalog.* expired at .* \(this machine's clock says .*\) and is used because no store can be asked`)
	vm.ExpectT(t, patience, `menu ready, offline: no link has a carrier`)
	vm.ExpectT(t, patience, `In \d s: Tiny Linux 1\.`)
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	vm.ExpectT(t, patience, `inetboot: read from the cache and verified .*MB in`)
	_, h := expectTarget(t, vm)
	if !h.Offline || h.Network.MAC != "" || h.Cache.UUID != ext4UUID || h.Mirrors[0] != b.url {
		t.Errorf("handoff: offline %t, network %+v, cache %+v, mirrors %v; want no network, the disk %s, and the store all the same", h.Offline, h.Network, h.Cache, h.Mirrors, ext4UUID)
	}
	if want := (handoff.StoreFile{Path: storepath.Timestamp, Blob: digest.BlobOf(catalogFile)}); len(h.Keep) == 0 || h.Keep[len(h.Keep)-1] != want {
		t.Errorf("files to keep = %v; want %v at the end", h.Keep, want)
	}
}

// In a search for a named disk others do not count, and a broken state is no
// state.
func TestNamedCache(t *testing.T) {
	b := newBed(t, -1)
	top := b.cacheFolder(t)
	if err := os.WriteFile(filepath.Join(top, cachedisk.Names()[0], cachedisk.StateName), []byte(`{"format":`), 0o644); err != nil {
		t.Fatal(err)
	}
	ext4 := ext4Disk(t, top)
	disk, err := os.ReadFile(ext4)
	if err != nil {
		t.Fatal(err)
	}
	before := digest.Of(disk)
	// The host cannot write into an exFAT; that the medium's kernel mounts one
	// shows in that nothing is said about it.
	exfat := image(t, make([]byte, diskSize))
	tool(t, "mkfs.exfat", exfat)
	vm := b.start(t, &site.Site{URLs: []string{b.url}, Cache: ext4UUID}, vmtest.Config{Name: "named", Disks: []vmtest.Disk{
		{File: exfat, Model: "nvme"},
		{File: fatStick(t, top, fatSerial), Model: "virtio-blk-pci"},
		{File: ext4, Model: "ide-hd"},
	}})
	cable(t, vm, false) // until the search is over: a menu would hide what it says
	vm.ExpectT(t, patience, `inetboot: the state of the cache on sda is not used: `)
	vm.ExpectT(t, patience, `inetboot: cache on sda \(ext4 `+ext4UUID+`\), images complete in it: 0\n`)
	cable(t, vm, true)
	vm.ExpectT(t, patience, `menu ready[^,]`)
	vm.SendT(t, "\r")
	vm.ExpectT(t, patience, `inetboot: read from the cache and verified`)
	_, h := expectTarget(t, vm)
	if h.Cache.UUID != ext4UUID || h.Cache.Device != "sda" {
		t.Errorf("handoff's cache = %+v; want %s on sda", h.Cache, ext4UUID)
	}
	if text := vm.Text(); strings.Contains(text, "is passed over") {
		t.Errorf("a disk is passed over:\n%s", text)
	}
	if disk, err = os.ReadFile(ext4); err != nil {
		t.Fatal(err)
	}
	if digest.Of(disk) != before {
		t.Error("the disk has been written to")
	}
}
