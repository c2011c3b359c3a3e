package boottest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/vmtest"
)

const (
	rootsServer = "192.168.80.1"
	// The machine with the reservation, and the one that may swap.
	rootsNFS, rootsNBD = "52:54:00:80:00:02", "52:54:00:80:00:03"
)

// TestRoots has one server give three machines roots of three kinds at once: a
// squashfs over HTTP, by preboot; a tree over NFS and a disk over NBD, both by
// Debian's own initramfs and with systemd. One of them has less memory than it
// uses, and swaps to the server; another one may not. Then the server is
// started anew under them.
func TestRoots(t *testing.T) {
	bed := emptyBed(t)
	small, err := debianroot.BusyBox().Tarball(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	big, err := debianroot.Diskless().Tarball(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	squash := filepath.Join(t.TempDir(), "busybox.squashfs")
	command(t, "sh", "-c", `sqfstar -quiet -no-progress -comp lz4 "$1" <"$2"`, "sh", squash, small)
	for _, args := range [][]string{
		{squash, "--as-is", "--name", "busybox", "--version", "1"},
		{big, "--name", "diskless", "--version", "1"},
		{big, "--name", "diskless", "--version", "2", "--exclude", "usr/share/doc"},
	} {
		if err := bed.Imagetool(t.Context(), append([]string{"push", "--level", "1"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	// Where this machine is busy, emulation is too slow for a kernel's check of
	// its timer, here and below, and for systemd's wait for serial lines.
	if err := bed.Imagetool(t.Context(), "settings", "set", "--image", "busybox", "--cmdline", "no_timer_check"); err != nil {
		t.Fatal(err)
	}
	media(t, bed, "http://"+rootsServer+":8080")
	conf := fmt.Sprintf("[%s]\nname = pc2\naddress = 192.168.80.22\n\n[%s]\nswap = 256M\n", rootsNFS, rootsNBD)
	if err := os.WriteFile(filepath.Join(bed.Data, "clients.conf"), []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	lanBed(t, bed)
	lan, err := vmtest.NewLAN(t.Context(), rootsServer+"/24")
	if errors.Is(err, vmtest.ErrNotRoot) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lan.Close() })
	services := newManager(t, bed.Data)
	args := serverArgs(t, bed, "--nfs", "--nbd", "--swap", "--dhcp", "full", "--dhcp-range", "192.168.80.100-192.168.80.150")
	server := services.run(t, lan, serving, args...)

	kernel, initrd := bootFiles(t, big)
	direct := func(name, mac, root string, memory int) *vmtest.VM {
		return vmtest.StartT(t, vmtest.Config{
			Name: name, Memory: memory, CPUs: 1, Kernel: kernel, Initrd: initrd, NICs: []vmtest.NIC{{LAN: lan, MAC: mac}},
			Append: "console=ttyS0 no_timer_check systemd.mask=serial-getty@ttyS0.service systemd.wants=console-getty.service quiet ro net.ifnames=0 ip=dhcp " + root,
		})
	}
	viaNFS := direct("nfs", rootsNFS, "root=/dev/nfs nfsroot="+rootsServer+":/diskless/1", 512)
	viaNBD := direct("nbd", rootsNBD, "root=/dev/nbd0 rootfstype=erofs nbdroot="+rootsServer+",diskless/2,nbd0", 256)
	viaHTTP := vmtest.StartT(t, vmtest.Config{Name: "http", Memory: 512, CPUs: 1, CD: bed.ISO, NICs: []vmtest.NIC{{LAN: lan, MAC: "52:54:00:80:00:01"}}})
	viaHTTP.ExpectT(t, 600, `inetboot: menu ready`)
	viaHTTP.SendT(t, "1\r")

	const quiet = "stty -echo; export PS1="
	hosts := []*rootHost{
		{shell: loginWith(t, viaHTTP, 900, quiet), kind: "squashfs", sums: tarSums(t, small, sha256.New, "bin", "boot"), before: "/bin", after: "/boot", tool: "busybox "},
		{shell: login(t, viaNFS, 900), kind: "nfs", sums: tarSums(t, big, sha256.New, "usr/sbin", "usr/bin"), before: "/usr/sbin", after: "/usr/bin"},
		{shell: login(t, viaNBD, 900), kind: "erofs", sums: tarSums(t, big, sha256.New, "usr/sbin", "usr/bin"), before: "/usr/sbin", after: "/usr/bin"},
	}
	for _, h := range hosts {
		t.Logf("%s: login prompt after %.0f s", h.kind, h.vm.Uptime().Seconds())
	}
	for _, h := range hosts {
		if got := h.run(t, 300, "cat /proc/mounts"); !strings.Contains(got, " "+h.kind+" ") {
			t.Errorf("mounts = %s; want %s", got, h.kind)
		}
		h.check(t, h.before)
	}
	nfs, nbd := hosts[1], hosts[2]
	for _, h := range hosts[1:] {
		if got := h.run(t, 600, "systemctl is-system-running --wait || systemctl --failed --no-pager"); got != "running" {
			t.Errorf("%s: is-system-running = %q; want running", h.kind, got)
		}
		if got := h.run(t, 300, "touch /usr/x 2>&1 || true"); !strings.Contains(got, "Read-only file system") {
			t.Errorf("%s: writing to the root: %q", h.kind, got)
		}
	}
	if got := nfs.run(t, 300, "ip -4 address show dev eth0"); !strings.Contains(got, "192.168.80.22/24") {
		t.Errorf("the machine with a reservation has %s; want 192.168.80.22", got)
	}
	t.Log(nfs.run(t, 300, "ip -4 address show dev eth0; networkctl --no-pager status eth0; journalctl --no-pager -u systemd-networkd | tail -20; true"))

	// Swap, for whom it is, and for whom not.
	const use = "nbd-client " + rootsServer + " -N swap /dev/nbd1 -swap"
	if got := nfs.run(t, 300, "modprobe nbd; if "+use+" 2>&1; then false; fi"); !strings.Contains(got, "E") {
		t.Errorf("swap that is refused: %q", got)
	}
	if !strings.Contains(server.said(), "its settings do not allow "+rootsNFS+" to swap") {
		t.Error("the server does not say who may not swap")
	}
	nbd.run(t, 300, use+" && mkswap /dev/nbd1 && swapon /dev/nbd1 && mkfifo /tmp/go")
	const megabytes = 200
	nbd.run(t, 300, fmt.Sprintf(`perl -e '$|=1; for(1..%[1]d){push @a, chr(65+$_%%26)x(1<<20)} print "full\n"; open F,"</tmp/go"; <F>; `+
		`for(1..%[1]d){$n++ if $a[$_-1] eq chr(65+$_%%26)x(1<<20)} print "kept=$n\n"' >/tmp/out 2>&1 & perl=$!`, megabytes))
	out := nbd.run(t, 600, "until grep -q full /tmp/out; do sleep 1; done; cat /proc/swaps; grep MemTotal /proc/meminfo; grep pswpout /proc/vmstat")
	t.Log(out)
	if m := regexp.MustCompile(`pswpout (\d+)`).FindStringSubmatch(out); m == nil || len(m[1]) < 4 {
		t.Errorf("a machine that uses more memory than it has has not swapped:\n%s", out)
	}

	// What is read meanwhile has to wait.
	server.stop()
	var ends []func(int) string
	for _, h := range hosts {
		ends = append(ends, h.start(t, "echo 3 >/proc/sys/vm/drop_caches; "+h.hash(h.after)))
	}
	services.run(t, lan, serving, args...)
	for i, h := range hosts {
		h.compare(t, h.after, ends[i](600))
	}
	nbd.run(t, 300, "echo >/tmp/go")
	if got, want := nbd.run(t, 600, "wait $perl; cat /tmp/out"), fmt.Sprintf("kept=%d", megabytes); !strings.Contains(got, want) {
		t.Errorf("of what was in the swap: %q; want %s", got, want)
	}
	for _, h := range hosts {
		if m := regexp.MustCompile(`(?i)I/O error.*|bus error.*|kernel panic.*`).FindString(h.vm.Text()); m != "" {
			t.Errorf("%s: %s", h.kind, m)
		}
	}
}

// rootHost is a machine that has its root over the network.
type rootHost struct {
	*shell
	kind          string            // of its root, as a filesystem
	sums          map[string]string // what is in the root
	before, after string            // folders to read before and after the restart
	tool          string            // before the names of programs
}

// hash is a command that hashes all files below a folder, and their names.
func (h *rootHost) hash(dir string) string {
	return strings.ReplaceAll("@find "+dir+" -xdev -type f | LC_ALL=C @sort | @xargs @sha256sum | @sha256sum", "@", h.tool)
}

// check reads all files below a folder and compares them with the source's.
func (h *rootHost) check(t *testing.T, dir string) {
	t.Helper()
	h.compare(t, dir, h.run(t, 600, h.hash(dir)))
}

func (h *rootHost) compare(t *testing.T, dir, got string) {
	t.Helper()
	var lines []string
	for name, sum := range h.sums {
		if strings.HasPrefix(name, dir+"/") {
			lines = append(lines, sum+"  "+name+"\n")
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[64:], b[64:]) })
	all := sha256.Sum256([]byte(strings.Join(lines, "")))
	if want := hex.EncodeToString(all[:]); !strings.Contains(got, want) || len(lines) == 0 {
		t.Errorf("%s: %d files below %s have the hash %s; want %s", h.kind, len(lines), dir, got, want)
	}
}
