package target

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/handoff"
)

func TestParseCmdline(t *testing.T) {
	tests := []struct {
		in   string
		want cmdline
		bad  bool
	}{
		{"", cmdline{overlay: "50%"}, false},
		{"root=x init=/bin/sh quiet\n", cmdline{init: "/bin/sh", overlay: "50%", quiet: true}, false},
		{"inetboot.overlay=2G", cmdline{overlay: "2G"}, false},
		{`"init=/a b" x="y z" inetboot.overlay=40%`, cmdline{init: "/a b", overlay: "40%"}, false},
		{"a -- init=/not/this", cmdline{overlay: "50%"}, false},
		{"inetboot.cache=ram:1G", cmdline{overlay: "50%", cache: handoff.Cache{Mode: handoff.CacheRAM, Size: 1 << 30}}, false},
		{"inetboot.fill=0", cmdline{overlay: "50%", noFill: true}, false},
		{"inetboot.fill=1", cmdline{overlay: "50%"}, false},
		{"inetboot.fill=no", cmdline{}, true},
		{"inetboot.cache=tape", cmdline{}, true},
		{"inetboot.overlay=2G,nr_inodes=1", cmdline{}, true},
		{"inetboot.overlay=", cmdline{}, true},
		{"inetboot.overlay=0", cmdline{}, true},
	}
	for _, tt := range tests {
		got, err := parseCmdline(tt.in)
		if (err != nil) != tt.bad || !tt.bad && got != tt.want {
			t.Errorf("parseCmdline(%q) = %+v, %v; want %+v, error: %v", tt.in, got, err, tt.want, tt.bad)
		}
	}
}

func FuzzParseCmdline(f *testing.F) {
	f.Add(`console=ttyS0 "a b" init=/sbin/init -- x`)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := parseCmdline(s)
		if err == nil && strings.ContainsAny(c.overlay, ", ") {
			t.Errorf("parseCmdline(%q).overlay = %q", s, c.overlay)
		}
	})
}

// tree makes files below a temporary folder: content, or "-> target" for
// links, or "dir".
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, ok := strings.CutPrefix(content, "-> "); ok {
			err = os.Symlink(target, p)
		} else {
			err = os.WriteFile(p, []byte(content), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestFindInit(t *testing.T) {
	root := tree(t, map[string]string{
		"sbin":                     "-> usr/sbin",
		"usr/sbin/init":            "-> /lib/systemd/systemd",
		"lib":                      "-> usr/lib",
		"usr/lib/systemd/systemd":  "program",
		"loop":                     "-> /loop",
		"outside":                  "-> ../../../../etc/passwd",
		"not-a-program/readme.txt": "text",
	})
	if err := os.Chmod(filepath.Join(root, "not-a-program/readme.txt"), 0o644); err != nil {
		t.Fatal(err)
	}
	for wanted, want := range map[string]string{
		"":                          "/sbin/init",
		"/usr/lib/systemd/systemd":  "/usr/lib/systemd/systemd",
		"/lib/systemd/systemd":      "/lib/systemd/systemd",
		"/nothing":                  "",
		"/loop":                     "",
		"/outside":                  "",
		"/usr":                      "",
		"/not-a-program/readme.txt": "",
	} {
		got, err := findInit(root, wanted)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("findInit(%q) = %q, %v; want %q", wanted, got, err, want)
		}
	}
	if got, err := findInit(t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "/bin/init") {
		t.Errorf("findInit of an empty root = %q, %v; want an error that lists what was tried", got, err)
	}
}

var testNetwork = handoff.Network{
	MAC:       "52:54:00:12:34:56",
	Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24"), netip.MustParsePrefix("2001:db8::15/64"), netip.MustParsePrefix("fe80::1/64")},
	Routes: []handoff.Route{
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.9.9.1")},
		{Destination: netip.MustParsePrefix("10.9.9.1/32")},
		{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::2")},
	},
	Nameservers: []netip.Addr{netip.MustParseAddr("10.0.2.3"), netip.MustParseAddr("2001:db8::3")},
	Search:      []string{"example.org", "example.com"},
	Hostname:    "client7",
}

// Once the system has forbidden programs on /run, the daemon's still runs where
// people look for it.
func TestOfferProgram(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root mounts")
	}
	run := t.TempDir()
	file, name := filepath.Join(run, "shutdown"), filepath.Join(run, "blockfs")
	if err := unix.Mount("test", run, "tmpfs", 0, ""); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(run, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	script := "#!/bin/sh\necho status\n"
	if err := os.WriteFile(file, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := offerProgram(file, name); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", run, "", unix.MS_REMOUNT|unix.MS_NOEXEC, ""); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(file).CombinedOutput(); !errors.Is(err, os.ErrPermission) {
		t.Errorf("the program on a filesystem without programs runs: %q, %v", out, err)
	}
	if out, err := exec.Command(name).CombinedOutput(); err != nil || string(out) != "status\n" {
		t.Errorf("the program does not run: %q, %v", out, err)
	}
}

func TestRunFiles(t *testing.T) {
	files := runFiles(testNetwork, &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}}, 123)
	for name, want := range map[string][]string{
		"/run/systemd/network/00-inetboot.network":    {"MACAddress=52:54:00:12:34:56\n", "DHCP=no\n", "KeepConfiguration=yes\n", "DNS=10.0.2.3\n", "DNS=2001:db8::3\n", "Domains=example.org example.com\n"},
		"/run/NetworkManager/conf.d/00-inetboot.conf": {"match-device=mac:52:54:00:12:34:56\n", "managed=0\n"},
		"/run/network/ifstate":                        {"lo=lo\neth0=inetboot\n"},
		"/run/network/ifstate.eth0":                   {"inetboot\n"},
		"/run/systemd/network/00-inetboot.link":       {"MACAddress=52:54:00:12:34:56\n", "NamePolicy=keep\n"},
		"/run/sendsigs.omit.d/inetboot":               {"123\n"},
	} {
		for _, w := range want {
			if !strings.Contains(files[name], w) {
				t.Errorf("%s =\n%swant a line %q", name, files[name], w)
			}
		}
		delete(files, name)
	}
	if len(files) != 0 {
		t.Errorf("more files than expected: %v", files)
	}
	// Without a link the image's own programs bring the network up.
	want := map[string]string{"/run/sendsigs.omit.d/inetboot": "123\n"}
	if diff := cmp.Diff(want, runFiles(handoff.Network{}, nil, 123)); diff != "" {
		t.Errorf("runFiles without a link (-want +got):\n%s", diff)
	}
}

func TestCacheChoice(t *testing.T) {
	found := handoff.Cache{UUID: "1234-ABCD", Device: "sda1"}
	none := handoff.Cache{Mode: handoff.CacheNone}
	for name, tt := range map[string]struct{ person, image, want handoff.Cache }{
		"nobody says anything":    {handoff.Cache{}, handoff.Cache{}, handoff.Cache{}},
		"preboot has found one":   {found, handoff.Cache{}, found},
		"the image wants none":    {found, none, none},
		"the image wants any":     {found, handoff.Cache{Mode: handoff.CacheAuto}, handoff.Cache{Mode: handoff.CacheAuto, UUID: "1234-ABCD", Device: "sda1"}},
		"the image names another": {found, handoff.Cache{Mode: handoff.CacheAuto, UUID: "AAAA-0000"}, handoff.Cache{Mode: handoff.CacheAuto, UUID: "AAAA-0000"}},
		"the person has the word": {none, handoff.Cache{Mode: handoff.CacheRAM, Size: 1}, none},
	} {
		b := &booter{h: &handoff.Handoff{Cache: tt.person}, cmd: cmdline{cache: tt.image}}
		if got := b.cacheChoice(); got != tt.want {
			t.Errorf("%s: cacheChoice = %+v; want %+v", name, got, tt.want)
		}
		if got := b.cacheChoice().Mode; got == handoff.CacheNone {
			if dir := b.findCache(t.Context()); dir != "" {
				t.Errorf("%s: findCache = %q; want none", name, dir)
			}
		}
	}
}

func TestResolvConf(t *testing.T) {
	written := "# Written at boot, from the network's settings.\nnameserver 10.0.2.3\nnameserver 2001:db8::3\nsearch example.org example.com\n"
	tests := []struct {
		name  string
		files map[string]string
		want  string // content of /etc/resolv.conf afterwards; "->" if it is still a link
	}{
		{"no /etc", nil, written},
		{"none", map[string]string{"etc/passwd": ""}, written},
		{"empty", map[string]string{"etc/resolv.conf": ""}, written},
		{"comments", map[string]string{"etc/resolv.conf": "# nothing\n"}, written},
		{"own", map[string]string{"etc/resolv.conf": "nameserver 192.0.2.1\n"}, "nameserver 192.0.2.1\n"},
		{"dangling", map[string]string{"etc/resolv.conf": "-> ../run/resolvconf/resolv.conf"}, written},
		{"link to own", map[string]string{"etc/resolv.conf": "-> /etc/real", "etc/real": "nameserver 192.0.2.1\n"}, "->"},
		{"link out of the root", map[string]string{"etc/resolv.conf": "-> ../../../../../../etc/hosts"}, written},
		{"resolved", map[string]string{"etc/resolv.conf": "-> ../run/systemd/resolve/stub-resolv.conf", "usr/lib/systemd/systemd-resolved": "x"}, "->"},
		{"resolved is not installed", map[string]string{"etc/resolv.conf": "-> ../run/systemd/resolve/stub-resolv.conf"}, written},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, tt.files)
			if err := writeResolvConf(root, testNetwork); err != nil {
				t.Fatal(err)
			}
			name := filepath.Join(root, "etc/resolv.conf")
			got := "->"
			if st, err := os.Lstat(name); err != nil {
				t.Fatal(err)
			} else if st.Mode().IsRegular() {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				got = string(b)
			}
			if got != tt.want {
				t.Errorf("/etc/resolv.conf = %q; want %q", got, tt.want)
			}
		})
	}
	root := t.TempDir()
	if err := writeResolvConf(root, handoff.Network{}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(root, "etc")); err == nil {
		t.Error("without nameservers something is written; want nothing")
	}
}

func TestHostname(t *testing.T) {
	tests := []struct {
		files map[string]string
		name  string
		want  string
	}{
		{nil, "client7", "client7"},
		{map[string]string{"etc/hostname": "localhost\n"}, "client7.example.org", "client7.example.org"},
		{map[string]string{"etc/hostname": "# none\n\n"}, "client7", "client7"},
		{map[string]string{"etc/hostname": "debian\n"}, "client7", ""},
		{nil, "", ""},
		{nil, "bad name\n", ""},
		{nil, "-bad", ""},
		{nil, "a..b", ""},
		{nil, strings.Repeat("a", 65), ""},
	}
	for _, tt := range tests {
		root := tree(t, tt.files)
		got, err := writeHostname(root, tt.name)
		if got != tt.want || err != nil {
			t.Errorf("writeHostname(%v, %q) = %q, %v; want %q", tt.files, tt.name, got, err, tt.want)
		}
		if b, _ := os.ReadFile(filepath.Join(root, "etc/hostname")); tt.want != "" && string(b) != tt.want+"\n" {
			t.Errorf("/etc/hostname = %q; want %q", b, tt.want)
		}
	}
}

func TestToUnmount(t *testing.T) {
	const info = `25 31 0:22 / /run rw - tmpfs tmpfs rw
31 1 0:25 / /oldroot rw - overlay inetboot rw
26 31 0:22 / /oldroot/run rw shared:3 - tmpfs tmpfs rw
27 26 0:23 / /oldroot/run/initramfs/inetboot/files ro - fuse.blockfs blockfs ro
28 26 7:0 / /oldroot/run/initramfs/inetboot/lower ro - erofs /dev/loop0 ro
29 31 8:1 / /oldroot/mnt/a\040b rw - ext4 /dev/sda1 rw
30 25 0:23 / /run/initramfs/inetboot/files ro - fuse.blockfs blockfs ro
broken line
`
	want := []mounted{
		{"/run/initramfs/inetboot/files", true},
		{"/oldroot/mnt/a b", false},
		{"/oldroot/run/initramfs/inetboot/lower", false},
		{"/oldroot/run/initramfs/inetboot/files", true},
		{"/oldroot/run", true},
		{"/oldroot", false},
	}
	if diff := cmp.Diff(want, toUnmount(info), cmp.AllowUnexported(mounted{})); diff != "" {
		t.Errorf("toUnmount (-want +got):\n%s", diff)
	}
}

func TestWantedDriver(t *testing.T) {
	for file, want := range map[string]bool{
		"kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko": true,
		"kernel/drivers/virtio/virtio_pci.ko.xz":             true,
		"kernel/drivers/gpu/drm/qxl/qxl.ko":                  false,
		"updates/dkms/r8125.ko":                              true,
		"":                                                   false,
	} {
		if got := wantedDriver(file, networkDirs); got != want {
			t.Errorf("wantedDriver(%q) for networks = %v; want %v", file, got, want)
		}
	}
	for file, want := range map[string]bool{
		"kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko": false,
		"kernel/drivers/ata/ahci.ko":                         true,
		"kernel/drivers/scsi/sd_mod.ko.zst":                  true,
		"kernel/drivers/nvme/host/nvme.ko":                   true,
		"kernel/drivers/block/virtio_blk.ko":                 true,
		"kernel/drivers/usb/storage/uas.ko":                  true,
		"kernel/drivers/mmc/core/mmc_block.ko":               true,
		"kernel/drivers/gpu/drm/qxl/qxl.ko":                  false,
	} {
		if got := wantedDriver(file, storageDirs); got != want {
			t.Errorf("wantedDriver(%q) for storage = %v; want %v", file, got, want)
		}
	}
}

func TestRelease(t *testing.T) {
	for s, want := range map[string][2]int{"6.1.0-13-amd64": {6, 1}, "6.12.5": {6, 12}, "10.0-rc1": {10, 0}} {
		if major, minor, ok := release(s); !ok || major != want[0] || minor != want[1] {
			t.Errorf("release(%q) = %d, %d, %v; want %v", s, major, minor, ok, want)
		}
	}
	if _, _, ok := release("linux"); ok {
		t.Error("release(linux) is understood; want not")
	}
}
