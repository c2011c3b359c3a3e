package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// kernelFile returns the boot medium's kernel, which these tests need.
func kernelFile(t *testing.T) string {
	t.Helper()
	build := os.Getenv("INETBOOT_BUILD")
	if build == "" {
		build = "../build"
	}
	k, err := filepath.Abs(filepath.Join(build, "vmlinuz"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(k); err != nil {
		t.Skipf("no kernel (run `make iso`): %v", err)
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip(err)
	}
	return k
}

// compile builds a package of this folder as a static program.
func compile(t *testing.T, pkg string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "init")
	cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-tags", "nethttpomithttp2", "-gcflags=all=-l", "-o", out}, flags...), pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, b)
	}
	return out
}

// initramfs packs a program as /init.
func initramfs(t *testing.T, program string) []byte {
	t.Helper()
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	w := cpio.Newc.Writer(&buf)
	for _, r := range []cpio.Record{
		cpio.Directory("dev", 0o755), cpio.CharDev("dev/console", 0o600, 5, 1), cpio.StaticFile("init", string(b), 0o755),
	} {
		if err := w.WriteRecord(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := cpio.WriteTrailer(w); err != nil {
		t.Fatal(err)
	}
	return append(buf.Bytes(), make([]byte, -buf.Len()&3)...)
}

// publisher is a store in memory, served by HTTP.
type publisher struct {
	key byte   // the first one that signs
	url string // for the guest

	missing []string          // drivers that the image lacks
	targets map[string][]byte // that the catalog lists, too
	entries []catalog.Entry   // that the menu has, too

	mu    sync.Mutex
	files map[string][]byte
	slow  time.Duration // pause after each 64 kB of a file
	gets  map[string]int
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	p := &publisher{key: firstKey, files: map[string][]byte{}, gets: map[string]int{}}
	srv := httptest.NewServer(p)
	t.Cleanup(srv.Close)
	p.url = strings.Replace(srv.URL, "127.0.0.1", "10.0.2.2", 1)
	return p
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	b, ok := p.files[strings.TrimPrefix(r.URL.Path, "/")]
	p.gets[r.URL.Path]++
	slow := p.slow
	p.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	if slow == 0 || len(b) < 1<<20 {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	for c := range slices.Chunk(b, 64<<10) {
		if _, err := w.Write(c); err != nil {
			return
		}
		time.Sleep(slow)
	}
}

func (p *publisher) put(path string, b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[path] = b
}

// change flips one bit in the middle of a file. The function it returns flips
// it back.
func (p *publisher) change(path string) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.files[path]
	bad := slices.Clone(b)
	bad[len(bad)/2] ^= 1
	p.files[path] = bad
	return func() { p.put(path, b) }
}

// root returns the root that the medium has.
func (p *publisher) root(t *testing.T) []byte {
	t.Helper()
	return catalogtest.New(t, catalogtest.Options{Key: firstKey}).Root()
}

// firstKey is the first of the keys that the medium trusts.
const firstKey = 1

// paths of what publish published.
type paths struct{ kernel, initrd, index, manifest, menu string }

// publish signs a catalog with one image and a menu.
func (p *publisher) publish(t *testing.T, version uint64, expires time.Time, kernel, initrd []byte, timeout int) paths {
	t.Helper()
	index := []byte("the index of meta")
	m := &catalog.Manifest{
		Format: catalog.ManifestFormat, Name: "tiny", Version: "1", Arch: "amd64", Created: time.Unix(1.7e9, 0), // the same image each time
		Kernel: catalog.Kernel{Blob: digest.BlobOf(kernel), Release: "6.1.0-test"}, Initrd: digest.BlobOf(initrd),
		Cmdline: "image.option=1",
		Root:    catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 4096, Index: digest.BlobOf(index)}}},
		Needs:   catalog.Needs{Memory: 64 << 20},

		MissingDrivers: p.missing,
	}
	manifest, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := catalog.ManifestName("tiny", "1", "amd64")
	menu := catalog.NewMenu("Test menu")
	menu.Default, menu.Timeout = "tiny-1", timeout
	menu.Entries = []catalog.Entry{
		{ID: "tiny-1", Title: "Tiny Linux 1", Help: "Tells how it was started.", Image: name, Cmdline: "entry.option=2"},
		{ID: "more", Title: "More systems", Entries: []catalog.Entry{
			{ID: "deep", Title: "Deep inside", Help: "The same from a submenu.", Image: name, Cmdline: "entry.option=deep"},
			{ID: "new", Title: "From the future", Requires: []string{"time-travel"}},
		}},
		{ID: "reboot", Title: "Restart", Action: catalog.ActionReboot},
		{ID: "off", Title: "Power off", Action: catalog.ActionPowerOff},
	}
	menu.Entries = append(menu.Entries, p.entries...)
	menuFile, err := menu.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	repo := catalogtest.New(t, catalogtest.Options{Key: p.key, Now: expires.Add(-time.Hour), Lifetime: time.Hour})
	targets := maps.Clone(p.targets)
	if targets == nil {
		targets = make(map[string][]byte)
	}
	targets[catalog.MenuName], targets[name] = menuFile, manifest
	for repo.Open(t).Version() < version {
		repo.Publish(t, targets)
	}
	for name, data := range p.targets {
		p.put(storepath.Target(name, digest.Of(data)), data)
	}
	where := paths{
		kernel: storepath.File(digest.Of(kernel)), initrd: storepath.File(digest.Of(initrd)), index: storepath.Index(digest.Of(index)),
		manifest: storepath.Target(name, digest.Of(manifest)), menu: storepath.Target(catalog.MenuName, digest.Of(menuFile)),
	}
	p.put(where.kernel, kernel)
	p.put(where.initrd, initrd)
	p.put(where.index, index)
	p.put(where.manifest, manifest)
	p.put(where.menu, menuFile)
	p.put(storepath.RoleMetadata("root", 1), repo.Root())
	for _, f := range repo.Open(t).Trusted().Files()[1:] {
		p.put(f.Path, f.Data)
	}
	return where
}

// bed is everything that a boot in a virtual machine needs.
type bed struct {
	*publisher
	kernelPath string
	kernel     []byte // also the target's
	preboot    []byte // initramfs without a site
	target     []byte // initrd
	paths
}

func newBed(t *testing.T, timeout int) *bed {
	t.Helper()
	b := &bed{publisher: newPublisher(t), kernelPath: kernelFile(t)}
	var err error
	if b.kernel, err = os.ReadFile(b.kernelPath); err != nil {
		t.Fatal(err)
	}
	b.preboot = initramfs(t, compile(t, ".", "-ldflags", "-X main.builtAt=1700000000"))
	b.target = append(initramfs(t, compile(t, "./testdata/target")), 0, 0) // no multiple of four
	b.paths = b.publish(t, 2, time.Now().Add(time.Hour), b.kernel, b.target, timeout)
	return b
}

// start boots preboot. s nil: without a site.
func (b *bed) start(t *testing.T, s *site.Site, c vmtest.Config) *vmtest.VM {
	t.Helper()
	initrd := b.preboot
	if s != nil {
		a, err := site.Archive(s, b.root(t))
		if err != nil {
			t.Fatal(err)
		}
		initrd = append(slices.Clip(initrd), a...)
	}
	c.Initrd = filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(c.Initrd, initrd, 0o644); err != nil {
		t.Fatal(err)
	}
	c.Kernel = b.kernelPath
	if !strings.HasPrefix(c.Append, "console=") {
		c.Append = strings.TrimSpace("console=tty0 console=ttyS0,115200 " + c.Append)
	}
	if c.NICs == nil {
		c.NICs = []vmtest.NIC{{}}
	}
	if c.Memory == 0 {
		c.Memory = 512
	}
	return vmtest.StartT(t, c)
}

func (b *bed) site() *site.Site { return &site.Site{URLs: []string{b.url}} }

// patience is how many seconds a machine gets for its next step. They are
// emulated, and several may share a processor: INETBOOT_TEST_PATIENCE gives them
// more where much else runs.
var patience = func() int {
	if n, err := strconv.Atoi(os.Getenv("INETBOOT_TEST_PATIENCE")); err == nil {
		return n
	}
	return 60
}()

func expectTarget(t *testing.T, vm *vmtest.VM) (cmdline string, h *handoff.Handoff) {
	t.Helper()
	vm.ExpectT(t, patience, `target: started`)
	cmdline = vm.ExpectT(t, patience, `target: cmdline: (.*) <nil>\n`)[1]
	js := vm.ExpectT(t, patience, `target: handoff: (.*) <nil>\n`)[1]
	h, err := handoff.Parse([]byte(js))
	if err != nil {
		t.Fatalf("the handoff %q: %v", js, err)
	}
	vm.ExpectT(t, patience, `target: /inetboot/indexes/[0-9a-f]{64}: the index of meta <nil>`)
	vm.ExpectT(t, patience, `target: end`)
	return cmdline, h
}

func TestBootByTimeout(t *testing.T) {
	b := newBed(t, 3)
	pcap := filepath.Join(t.TempDir(), "net.pcap")
	receiver, logged := logReceiver(t, "tcp")
	place := b.site()
	place.Syslog = receiver
	vm := b.start(t, place, vmtest.Config{Name: "timeout", Append: "some.option BOOT_IMAGE=/x", NICs: []vmtest.NIC{{Capture: pcap}}})
	vm.ExpectT(t, patience, `inetboot: lease 10\.0\.2\.15/24 on eth0 from 10\.0\.2\.2\n`)
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	vm.ExpectT(t, patience, `In [123] s: Tiny Linux 1\. Any key stops the clock\.`)
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	cmdline, h := expectTarget(t, vm)
	want := "image.option=1 entry.option=2 console=tty0 console=ttyS0,115200 some.option inetboot.boot=" + h.BootID
	if cmdline != want {
		t.Errorf("target's command line = %q; want %q", cmdline, want)
	}
	if got := fmt.Sprintln(h.Mirrors, h.Network.Addresses[:1], h.Image.Name, h.Network.Lease.Server, h.Network.Lease.ClientID); got !=
		fmt.Sprintf("[%s] [10.0.2.15/24] tiny 10.0.2.2 01%s\n", b.url, strings.ReplaceAll(h.Network.MAC, ":", "")) {
		t.Errorf("handoff = %+v", h)
	}
	checkLog(t, logged, h)
	var stages []string
	for _, s := range h.Stages {
		stages = append(stages, s.Name)
	}
	for _, s := range []string{"init", "link", "dhcp", "catalog", "menu", "kernel", "initrd", "kexec"} {
		if !slices.Contains(stages, s) {
			t.Errorf("handoff's stages = %v; want %s among them", stages, s)
		}
	}
	messages, err := vmtest.DHCPMessages(pcap)
	if err != nil {
		t.Fatal(err)
	}
	if n, others := vmtest.DHCPExchanges(messages); n != 1 || others != 0 || len(messages) != 4 {
		t.Errorf("DHCP: %d exchanges, %d other requests, messages %v; want one exchange of four messages", n, others, messages)
	}
}

func TestSettingsFromCommandLineAlone(t *testing.T) {
	b := newBed(t, -1)
	receiver, logged := logReceiver(t, "udp")
	vm := b.start(t, nil, vmtest.Config{Name: "cmdline", Append: fmt.Sprintf("inetboot.url=%s inetboot.key=%x inetboot.entry=deep inetboot.syslog=%s", b.url, []byte(catalogtest.Key(b.key).Public()), receiver)})
	vm.ExpectT(t, patience, `inetboot: starting deep\n`)
	cmdline, h := expectTarget(t, vm)
	checkLog(t, logged, h)
	if !strings.Contains(cmdline, "entry.option=deep") || strings.Contains(cmdline, "inetboot.key") || h.Syslog != receiver {
		t.Errorf("target's command line = %q, syslog to %q", cmdline, h.Syslog)
	}
}

// A medium that knows nothing: an image is started by its URL, once nobody has
// said that it is the right one, which is asked for, and once by a URL that
// proves what it is.
func TestNoSettingsAndImageByURL(t *testing.T) {
	b := newBed(t, -1)
	b.put("tiny.json", b.files[b.paths.manifest])
	vm := b.start(t, nil, vmtest.Config{Name: "nothing", Append: "passed.on"})
	vm.ExpectT(t, patience, `inetboot: failed: settings: no store is named: give inetboot\.url=.*imagetool media`)
	vm.ExpectT(t, patience, `6  Switch this machine off`)
	vm.SendT(t, "4\r")
	vm.ExpectT(t, patience, `this machine restarts in 10 s`)
	vm.SendT(t, "\x1b")
	vm.ExpectT(t, patience, `> +1  Type the address of a store`)
	vm.SendT(t, "2\r")
	vm.ExpectT(t, patience, `URL of the manifest`)
	vm.SendT(t, "\x15"+b.url+"/tiny.json\r\r")
	vm.ExpectT(t, patience, `inetboot: UNVERIFIED: http://10\.0\.2\.2:\d+/tiny\.json says that it is tiny 1\. No catalog lists it`)
	vm.ExpectT(t, patience, `> +1  Do not start it`)
	vm.SendT(t, "1\r")
	vm.ExpectT(t, patience, `> +1  Try again`)
	vm.ExpectT(t, patience, `Type another URL`)
	vm.SendT(t, "another url\r")
	vm.ExpectT(t, patience, `URL of the manifest`)
	vm.SendT(t, "\x15"+b.url+"/"+b.paths.manifest+"\r\r")
	vm.ExpectT(t, patience, `inetboot: starting http://10\.0\.2\.2:\d+/catalog/targets/images/tiny/1/`)
	cmdline, h := expectTarget(t, vm)
	if !strings.HasPrefix(cmdline, "image.option=1 ") || !strings.Contains(cmdline, " passed.on ") || strings.Contains(cmdline, "httpfuse") {
		t.Errorf("target's command line = %q", cmdline)
	}
	if h.CatalogVersion != 0 || h.Entry != "" || len(h.Keep) != 0 || !slices.Equal(h.Mirrors, []string{b.url}) || h.Image.Name != "tiny" {
		t.Errorf("handoff = %+v; want the image, from %s, of no catalog", h, b.url)
	}
}

// onScreen waits until the screen shows some text.
func onScreen(t *testing.T, vm *vmtest.VM, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(patience)*time.Second)
	defer cancel()
	var text string
	for ctx.Err() == nil {
		var err error
		if text, err = vm.ScreenText(ctx); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the screen does not show %q:\n%s", want, text)
}

// screenshot keeps a picture of the screen if somebody wants to look at it.
func screenshot(t *testing.T, vm *vmtest.VM, name string) {
	t.Helper()
	if dir := os.Getenv("INETBOOT_SCREENSHOTS"); dir != "" {
		if err := vm.Screenshot(t.Context(), filepath.Join(dir, name+".png")); err != nil {
			t.Error(err)
		}
	}
}

// Both consoles say what is wrong with a network card that the medium does not
// know, show the menu once a USB adapter is plugged in, and take keys.
func TestTwoConsoles(t *testing.T) {
	b := newBed(t, 30)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Duration(patience)*time.Second)
	defer cancel()
	vm := b.start(t, b.site(), vmtest.Config{Name: "consoles", VGA: true, NICs: []vmtest.NIC{{Model: "tulip"}}, Args: []string{"-netdev", "user,id=late"}})
	screen := func(want string) { t.Helper(); onScreen(t, vm, want) }
	vm.ExpectT(t, patience, `no network card that InetBoot's kernel knows; network hardware without a driver: PCI 1011:0019; the large boot medium \(inetboot-full\.iso\) has more drivers\n`)
	vm.ExpectT(t, patience, `> +1  Try again`)
	screen(" >  1  Try again")
	screen("PCI 1011:0019; the large") // where lines are broken
	screen("boot medium (inetboot-full.iso) has more drivers")
	screenshot(t, vm, "no-driver")
	if _, err := vm.Monitor(ctx, "device_add", map[string]any{"driver": "usb-net", "id": "adapter", "bus": "usb.0", "netdev": "late", "mac": "52:54:00:12:34:77"}); err != nil {
		t.Fatal(err)
	}
	vm.SendT(t, "\r")
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	screen(" >  1  Tiny Linux 1")
	screen("Any key stops the clock")
	screenshot(t, vm, "countdown")
	vm.SendT(t, "\x1b[B") // down, by serial line
	screen(" >  2  More systems")
	if text, err := vm.ScreenText(ctx); err != nil || strings.Contains(text, "Any key stops") {
		t.Errorf("the countdown goes on after a key: %v\n%s", err, text)
	}
	if err := vm.SendKeys(ctx, "ret"); err != nil { // by keyboard
		t.Fatal(err)
	}
	vm.ExpectT(t, patience, `Test menu > More systems`)
	screen(" >  1  Deep inside")
	if err := vm.SendKeys(ctx, "down", "ret"); err != nil {
		t.Fatal(err)
	}
	vm.ExpectT(t, patience, `time-travel, which this version of InetBoot does not have`)
	vm.SendT(t, "\x1b")
	screen(" >  2  More systems")
	if err := vm.SendKeys(ctx, "2", "ret", "1", "ret"); err != nil {
		t.Fatal(err)
	}
	vm.ExpectT(t, patience, `inetboot: starting deep\n`)
	if cmdline, _ := expectTarget(t, vm); !strings.Contains(cmdline, "entry.option=deep") {
		t.Errorf("target's command line = %q", cmdline)
	}
}

// A changed bit anywhere is named and not booted, and the menu goes on.
func TestRefusals(t *testing.T) {
	b := newBed(t, -1)
	unchanged := b.files[storepath.Timestamp]
	b.put(storepath.Timestamp, bytes.Replace(unchanged, []byte(`"version":2`), []byte(`"version":9`), 1))
	vm := b.start(t, b.site(), vmtest.Config{Name: "refusals"})
	vm.ExpectT(t, patience, `inetboot: refused: catalog: the catalog.s timestamp has been changed after signing`)
	vm.ExpectT(t, patience, `> +1  Try again`)
	b.put(storepath.Timestamp, unchanged)
	vm.SendT(t, "\r")
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	for _, f := range []struct{ what, path, want string }{
		{"kernel", b.paths.kernel, `inetboot: refused: kernel: it has SHA-256 [0-9a-f]{12} there, but the catalog says [0-9a-f]{12}`},
		{"initrd", b.paths.initrd, `inetboot: refused: initrd: it has SHA-256 [0-9a-f]{12} there`},
		{"index", b.paths.index, `inetboot: refused: index meta: it has SHA-256 [0-9a-f]{12} there`},
		{"manifest", b.paths.manifest, `inetboot: refused: manifest: it has SHA-256 [0-9a-f]{12} there`},
	} {
		undo := b.change(f.path)
		vm.SendT(t, "\r") // starts it; then: tries again
		vm.ExpectT(t, patience, f.want)
		vm.ExpectT(t, patience, `(?s)Tried with: eth0, address 10\.0\.2\.15/24.{0,60}by\s+DHCP\s+from\s+10\.0\.2\.2;\s+mirrors\s+http://10\.0\.2\.2`)
		vm.ExpectT(t, patience, `> +1  Try again`)
		vm.ExpectT(t, patience, `Enter: choose`)
		undo()
	}
	vm.SendT(t, "\x1b") // back to the menu
	vm.ExpectT(t, patience, `> +1  Tiny Linux 1`)
	vm.ExpectT(t, patience, `Enter: start`)
	// A catalog that has expired, read by Control-R, does not replace the good
	// one.
	b.publish(t, 3, time.Now().Add(-time.Hour), b.kernel, b.target, -1)
	vm.SendT(t, "\x12")
	vm.ExpectT(t, patience, `inetboot: refused: catalog: the catalog.s timestamp expired at .* \(this machine's clock says .*\)`)
	vm.ExpectT(t, patience, `> +1  Try again`)
	vm.ExpectT(t, patience, `Enter: choose`)
	vm.SendT(t, "\x1b")
	vm.ExpectT(t, patience, `> +1  Tiny Linux 1`)
	b.put(storepath.Timestamp, unchanged)
	vm.SendT(t, "\r")
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	expectTarget(t, vm)
}

func TestUnknownKey(t *testing.T) {
	b := newBed(t, -1)
	b.key = 9
	b.publish(t, 2, time.Now().Add(time.Hour), b.kernel, b.target, -1)
	vm := b.start(t, b.site(), vmtest.Config{Name: "key"})
	vm.ExpectT(t, patience, `inetboot: refused: catalog: the catalog.s timestamp is not signed by a trusted key: signed by [0-9a-f]{12}, trusted is [0-9a-f]{12}`)
	vm.ExpectT(t, patience, `> +1  Try again`)
	vm.ExpectT(t, patience, `Enter: choose`)
	vm.SendT(t, "switch off\r") // searched for, and found
	ended(t, vm, "guest-shutdown")
}

// ended waits for the end of the machine.
func ended(t *testing.T, vm *vmtest.VM, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(patience)*time.Second)
	defer cancel()
	if why, err := vm.Wait(ctx); err != nil || why != want {
		t.Errorf("the machine ended by %q, %v; want %s", why, err, want)
	}
}

func TestTooLittleMemory(t *testing.T) {
	b := newBed(t, -1)
	// Three times the size is more than there is.
	b.publish(t, 3, time.Now().Add(time.Hour), b.kernel, append(slices.Clip(b.target), make([]byte, 80<<20)...), -1)
	vm := b.start(t, b.site(), vmtest.Config{Name: "memory", Memory: 256, NoReboot: true})
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	vm.ExpectT(t, patience, `> +1  Tiny Linux 1  \(too little memory\) .* MB`) // before anything is downloaded
	vm.SendT(t, "\r")
	vm.ExpectT(t, patience, `inetboot: failed: memory: not enough memory: starting tiny 1 takes \d+ MB .* \d+ MB are missing`)
	vm.ExpectT(t, patience, `> +1  Try again`)
	vm.ExpectT(t, patience, `Enter: choose`)
	vm.SendT(t, "restart\r")
	ended(t, vm, "guest-reset")
}

// Escape during a download leads back to the menu; a link without a carrier
// does not hold up the other one.
func TestCancelAndSecondLink(t *testing.T) {
	b := newBed(t, -1)
	b.slow = 300 * time.Millisecond
	vm := b.start(t, b.site(), vmtest.Config{Name: "cancel", NICs: []vmtest.NIC{{Model: "e1000e"}, {Model: "rtl8139"}}})
	vm.ExpectT(t, patience, `inetboot: lease 10\.0\.2\.15/24 on eth[01] from 10\.0\.2\.2\n`)
	vm.ExpectT(t, patience, `inetboot: menu ready\n`)
	vm.SendT(t, "\r")
	vm.ExpectT(t, patience, `kernel \d+ %, initrd \d+ %: .* MB of .* MB, .*/s, \d+:\d\d left \(Esc: back\)`)
	vm.SendT(t, "\x1b")
	vm.ExpectT(t, patience, `cancelled`)
	vm.ExpectT(t, patience, `> +1  Tiny Linux 1`)
	b.mu.Lock()
	b.slow = 0
	b.mu.Unlock()
	vm.SendT(t, "\r")
	expectTarget(t, vm)
}

// HTTPS with the site's own authority, on a machine whose clock has stopped:
// the medium's build time makes the certificate valid again.
func TestHTTPSAndStoppedClock(t *testing.T) {
	b := newBed(t, -1)
	ca, cert := authority(t)
	srv := httptest.NewUnstartedServer(b)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	url := strings.Replace(srv.URL, "127.0.0.1", "10.0.2.2", 1)

	vm := b.start(t, &site.Site{URLs: []string{url}}, vmtest.Config{Name: "https-unknown"})
	vm.ExpectT(t, patience, `inetboot: failed: catalog: .*certificate signed by unknown authority.*clock says`)
	vm.ExpectT(t, patience, `> +1  Try again`)
	vm.Close()

	vm = b.start(t, &site.Site{URLs: []string{url}, CA: ca, Entry: "tiny-1"}, vmtest.Config{Name: "https", Args: []string{"-rtc", "base=1999-12-31T00:00:00"}})
	vm.ExpectT(t, patience, `inetboot: the clock said 1999-12-31 \d\d:\d\d UTC, before this medium was made; it is set to 2023-11-14 22:13 UTC`)
	vm.ExpectT(t, patience, `inetboot: starting tiny-1\n`)
	if _, h := expectTarget(t, vm); h.CA != ca || h.Mirrors[0] != url {
		t.Errorf("handoff has CA %q, mirrors %v", h.CA, h.Mirrors)
	}
}

// authority makes a certificate for the host as virtual machines see it,
// valid since 2020, and returns what has signed it.
func authority(t *testing.T) (pemCA string, _ tls.Certificate) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Unix(1577836800, 0), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(10, 0, 2, 2)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
