package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/imagestest"
	"github.com/inetboot/inetboot/internal/site"
	"github.com/inetboot/inetboot/server/clients"
	"github.com/inetboot/inetboot/server/lan"
	"github.com/inetboot/inetboot/server/lan/lantest"
	"github.com/inetboot/inetboot/server/store/storetest"
)

const rootsConf = `[default]
argument = quiet
[52:54:00:00:00:01]
boot = nfs
module.e1000e = IntMode=1
[52:54:00:00:00:02]
boot = nbd
image = debian/12
timeout = 0
[52:54:00:00:00:03]
boot = nfs
image = hidden
timeout = 5
[52:54:00:00:00:04]
boot = preboot
[52:54:00:00:00:05]
boot = nfs
entry = live
[4c4c4544-0043-5210-8053-b4c04f4e3132]
boot = nfs
argument = uuid=1
[52:54:00:00:00:06]
image = hidden
[52:54:00:00:00:07]
boot = nfs
[00000000-0000-0000-0000-00000000000?]
boot = preboot
[*]
argument = all=1
`

// Machines whose settings say boot = nfs or nbd get menus of the catalog's
// entries, with the images' own kernels, over TFTP and HTTP.
func TestMachineMenus(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip(err)
	}
	media, base := t.TempDir(), t.TempDir()
	for _, name := range []string{"vmlinuz", "initramfs.xz", "pxelinux.0", "ldlinux.c32", "menu.c32", "libutil.c32", "ipxe.efi", "boot-arm64.ipxe"} {
		if err := os.WriteFile(filepath.Join(media, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(media, "inetboot.efi"), site.EmptySlot(), 0o644); err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	kernel, initrd := bytes.Repeat([]byte("kernel "), 1000), bytes.Repeat([]byte("initramfs "), 50_000)
	for name, data := range map[string][]byte{"boot/vmlinuz-6": kernel, "boot/initrd.img-6": initrd, "etc/motd": []byte("hello")} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := storetest.New(t, base)
	files := imagestest.FromFolder(t, tree).Files()
	debian := p.AddRoot(t, "debian", "12", "erofs", files...)
	hidden := p.AddRoot(t, "hidden", "1", "erofs", files...)
	live := p.AddRoot(t, "live", "1", "squashfs", storetest.RootFile{Name: "root", Data: []byte("squashfs")})
	m := catalog.NewMenu("Room 12")
	m.Default, m.Timeout = "debian-12", 7
	m.Entries = []catalog.Entry{
		{ID: "debian-12", Title: "Debian 12", Image: debian.Name, Cmdline: "entry=1"},
		{ID: "more", Title: "More", Entries: []catalog.Entry{{ID: "live", Title: "Live", Image: live.Name}}},
		{ID: "arm", Title: "For others", Image: debian.Name, Arch: []string{"arm64"}},
		{ID: "disk", Title: "Local disk", Action: catalog.ActionLocalDisk},
	}
	p.Menu(t, m)
	conf := filepath.Join(base, "clients.conf")
	if err := os.WriteFile(conf, []byte(rootsConf), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	known, err := clients.Open(t.Context(), clients.Options{File: conf, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	probe, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(probe.LocalAddr().String())
	probe.Close()
	lo := netip.MustParsePrefix("127.0.0.1/8")
	parts := &lanParts{
		iface: &lan.Interface{Name: "lo", IPv4: lo, All: []netip.Prefix{lo}},
		data:  base, store: p.Dir, http: &net.TCPAddr{IP: net.IPv4zero, Port: 8080}, scheme: "http", clients: known, log: log,
	}
	arm64 := armProgram()
	program := filepath.Join(base, "grub.efi")
	if err := os.WriteFile(program, arm64, 0o644); err != nil {
		t.Fatal(err)
	}
	o := parsedOptions(t, "--arm64 "+program+" --nfs --nbd --media "+media+" --tftp-port "+port)
	if parts.media, err = openMedia(o, parts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { parts.media.Close(); parts.images.Close() })
	s, err := newTFTP(t.Context(), o, parts)
	if err != nil {
		t.Fatal(err)
	}
	lantest.Run(t, s)
	web := httptest.NewServer(withMedia(parts.media, http.NotFoundHandler(), log))
	t.Cleanup(web.Close)
	tftp := "tftp://127.0.0.1:" + port + "/"
	read := func(url string) (string, error) {
		out, err := exec.CommandContext(t.Context(), curl, "-sf", "--max-time", "60", url).Output()
		return string(out), err
	}
	nfsArgs := "entry=1 root=/dev/nfs nfsroot=127.0.0.1:/debian/12/amd64 ip=dhcp ro quiet all=1 e1000e.IntMode=1"
	nbdArgs := "entry=1 nbdroot=127.0.0.1,debian/12/amd64,nbd0 root=/dev/nbd0 rootfstype=erofs ip=dhcp ro quiet all=1"
	own := "images/" + debian.Manifest.String()
	for mac, want := range map[string][]string{
		"01": {"DEFAULT debian-12\n", "UI menu.c32\n", "TIMEOUT 70\n", "KERNEL " + own + "/vmlinuz\n", "INITRD " + own + "/initrd\n", "APPEND " + nfsArgs + "\n",
			"the root of live/1/amd64 is squashfs: over NFS there are only", "MENU BEGIN more\n", "LABEL inetboot\n", "LOCALBOOT 0\n"},
		"02": {"DEFAULT debian-12\nPROMPT 0\n", "APPEND " + nbdArgs + "\n", "MENU LABEL Live\n  MENU DISABLE\n"},
		"03": {"DEFAULT image\n", "TIMEOUT 50\n", "MENU LABEL hidden\n", "KERNEL images/" + hidden.Manifest.String() + "/vmlinuz\n", "nfsroot=127.0.0.1:/hidden/1/amd64 "},
		"05": {"DEFAULT debian-12\nUI"}, // the entry that it should start cannot, so nothing starts by itself
	} {
		got, err := read(tftp + "pxelinux.cfg/01-52-54-00-00-00-" + mac)
		if err != nil {
			t.Errorf("pxelinux's menu of %s: %v", mac, err)
		}
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("pxelinux's menu of %s lacks %q:\n%s", mac, w, got)
			}
		}
		if strings.Contains(got, "For others") || mac == "05" && strings.Contains(got, "TIMEOUT") {
			t.Errorf("pxelinux's menu of %s:\n%s", mac, got)
		}
	}
	// By UUID, for which pxelinux asks first, in the order of bytes that firmware has.
	text, raw := "4c4c4544-0043-5210-8053-b4c04f4e3132", "44454c4c-4300-1052-8053-b4c04f4e3132"
	for _, name := range []string{text, raw, strings.ToUpper(raw)} {
		got, err := read(tftp + "pxelinux.cfg/" + name)
		if err != nil || !strings.Contains(got, "DEFAULT debian-12\n") || !strings.Contains(got, " ip=dhcp ro quiet all=1 uuid=1\n") {
			t.Errorf("pxelinux's menu of %s: %v:\n%s", name, err, got)
		}
	}
	// Where DHCP has seen who it is, with what holds for its MAC address, unless
	// several say so.
	known.Met(clients.Identity{MAC: "52:54:00:00:00:06", UUID: text})
	if got, err := read(tftp + "pxelinux.cfg/" + raw); err != nil || !strings.Contains(got, "nfsroot=127.0.0.1:/hidden/1/amd64 ") || !strings.Contains(got, "uuid=1") {
		t.Errorf("pxelinux's menu by UUID and MAC address: %v:\n%s", err, got)
	}
	known.Met(clients.Identity{MAC: "52:54:00:00:00:01", UUID: text})
	if got, err := read(tftp + "pxelinux.cfg/" + raw); err != nil || strings.Contains(got, "hidden") || !strings.Contains(got, "uuid=1") {
		t.Errorf("pxelinux's menu by a UUID that two machines have: %v:\n%s", err, got)
	}
	if got, err := read(tftp + "pxelinux.cfg/00000000-0000-0000-0000-000000000007"); err != nil || !strings.Contains(got, "KERNEL vmlinuz\n") {
		t.Errorf("a UUID of preboot's: %v:\n%s", err, got)
	}
	if got, err := read(tftp + "pxelinux.cfg/11111111-0000-0000-0000-000000000007"); err == nil {
		t.Errorf("a UUID that is not listed has a menu of its own:\n%s", got)
	}
	// Others boot by preboot.
	for _, mac := range []string{"52-54-00-00-00-04", "52-54-00-00-00-77", "nonsense", ""} {
		if got, err := read(tftp + "pxelinux.cfg/01-" + mac); err == nil {
			t.Errorf("there is a menu of %q:\n%s", mac, got)
		}
	}
	for query, want := range map[string]string{
		"":                             "iseq ${buildarch} arm64 && goto arm64 ||\nchain --replace --autofree boot.ipxe?mac=${netX/mac:hexhyp}&uuid=${uuid} ||\nkernel vmlinuz ",
		"?mac=52-54-00-00-00-04&uuid=": "#!ipxe\nkernel vmlinuz initrd=initramfs.xz ",
		"?mac=nonsense&uuid=":          "#!ipxe\nkernel vmlinuz initrd=initramfs.xz ",
		"?mac=52-54-00-00-00-01&uuid=": "kernel " + own + "/vmlinuz initrd=initrd " + nfsArgs + " BOOTIF=01-",
		"?mac=52-54-00-00-00-02":       "set menu-timeout 0\ngoto e1\n",
		"?mac=52:54:00:00:00:99&uuid=4c4c4544-0043-5210-8053-b4c04f4e3132": "menu Room 12\n",
	} {
		got, err := read(web.URL + bootFolder + "boot.ipxe" + query)
		if err != nil || !strings.Contains(got, want) || !strings.HasPrefix(got, "#!ipxe\n") {
			t.Errorf("boot.ipxe%s = %v; want %q in it:\n%s", query, err, want, got)
		}
	}
	for _, base := range []string{tftp, web.URL + bootFolder} {
		for name, want := range map[string][]byte{own + "/vmlinuz": kernel, own + "/initrd": initrd, "menu.c32": []byte("menu.c32"), "ipxe.efi": []byte("ipxe.efi"), "boot-arm64.ipxe": []byte("boot-arm64.ipxe"), "inetboot-arm64.efi": arm64} {
			if got, err := read(base + name); err != nil || got != string(want) {
				t.Errorf("%s%s: %d bytes, %v; want %d", base, name, len(got), err, len(want))
			}
		}
		for _, name := range []string{own + "/motd", own, own + "/", "images/" + live.Manifest.String() + "/vmlinuz", "images/" + strings.Repeat("00", 32) + "/vmlinuz", "images/x/vmlinuz", "images/"} {
			if got, err := read(base + name); err == nil {
				t.Errorf("%s%s has %d bytes; want an error", base, name, len(got))
			}
		}
	}
	// A range, as HTTP boot asks for.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+bootFolder+own+"/initrd", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Range", "bytes=10-29")
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, err := io.ReadAll(r.Body); err != nil || r.StatusCode != 206 || string(b) != "initramfs initramfs " {
		t.Errorf("a range: %s, %q, %v", r.Status, b, err)
	}
	// A server that exports nothing says so.
	parts.images.Close()
	parts.images = nil
	mm, err := newMenus(parsedOptions(t, "--nbd --nbd-port 5000"), parts)
	if err != nil {
		t.Fatal(err)
	}
	for mac, want := range map[string]string{"52:54:00:00:00:01": "without --nfs", "52:54:00:00:00:02": "at port 5000"} {
		if got, err := mm.Pxelinux(t.Context(), mac, "", nil, true); err != nil || !strings.Contains(string(got), want) || strings.Contains(string(got), own) {
			t.Errorf("the menu of %s: %v; want %q in it:\n%s", mac, err, want, got)
		}
	}
}
