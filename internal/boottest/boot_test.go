package boottest

import (
	"context"
	"crypto/md5"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/root"
	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// changedByBooting are the files below /usr and /etc that a boot writes, which
// may be new or other than in the source.
func changedByBooting() []string {
	return []string{
		"/etc/machine-id",  // systemd, because the image has an empty one
		"/etc/resolv.conf", // blockfs init: the network's resolvers
	}
}

func TestBoot(t *testing.T) {
	t.Parallel()
	bed, tarball := newBed(t)
	want := tarSums(t, tarball, md5.New, "usr", "etc")
	if len(want) < 10000 {
		t.Fatalf("the source has only %d files below /usr and /etc", len(want))
	}
	tests := []struct {
		name     string
		firmware vmtest.Firmware
		usb      bool
		nic      string
	}{
		{"BIOS CD virtio", vmtest.BIOS, false, "virtio-net-pci"},
		{"BIOS USB e1000e", vmtest.BIOS, true, "e1000e"},
		{"UEFI CD rtl8139", vmtest.UEFI, false, "rtl8139"},
		{"UEFI USB virtio", vmtest.UEFI, true, "virtio-net-pci"},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pcap := filepath.Join(t.TempDir(), "pcap")
			c := vmtest.Config{
				Firmware: tt.firmware, Memory: 1024, VGA: true, NoReboot: true,
				NICs: []vmtest.NIC{{Model: tt.nic, Capture: pcap}},
			}
			if tt.usb {
				c.USB = bed.ISO
			} else {
				c.CD = bed.ISO
			}
			vm := vmtest.StartT(t, c)
			vm.ExpectT(t, 600, `inetboot: menu ready`)
			menu := vm.Uptime()
			if strings.Contains(vm.Text(), "unpacking failed") {
				t.Errorf("the initramfs was not read whole:\n%s", vm.Text())
			}
			vm.SendT(t, "1\r")
			vm.ExpectT(t, 600, `inetboot: starting debian-12`)
			sh := login(t, vm, 900)
			t.Logf("menu after %.1f s, login prompt after %.1f s", menu.Seconds(), vm.Uptime().Seconds())

			checkMounts(t, sh)
			checkPack(t, bootOver(t, sh), i > 0)
			if got := sh.run(t, 300, "systemctl is-system-running --wait || systemctl --failed --no-pager"); got != "running" {
				t.Errorf("is-system-running = %q; want running", got)
			}
			checkFiles(t, sh, want, i, len(tests)) // all of them in the end
			checkDHCP(t, pcap)

			vm.SendT(t, "poweroff\n")
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), 85*time.Second) // systemd waits 90 s for what hangs
			defer cancel()
			reason, err := vm.Wait(ctx)
			if err != nil || reason != "guest-shutdown" {
				t.Errorf("poweroff = %q, %v after %.0f s; want guest-shutdown, and nothing that hangs", reason, err, time.Since(start).Seconds())
			}
			if m := regexp.MustCompile(`(?i)failed (to )?unmount.*|could not unmount.*|hung task.*`).FindString(vm.Text()); m != "" {
				t.Errorf("at shutdown: %s", m)
			}
		})
	}
}

// checkPack checks that a boot got most of what it read from the boot pack
// that the server has made of the reports of boots before it.
func checkPack(t *testing.T, s root.Status, want bool) {
	t.Helper()
	pack, demand := s.Origins["pack"].Blocks, s.Origins["demand"].Blocks
	t.Logf("pack %+v; %d blocks from it, %d on demand; readers waited %.1f s", s.Pack, pack, demand, s.Waits.Seconds)
	if !want {
		return
	}
	if s.Pack.State != "done" || pack < int64(s.Pack.Records)*3/4 || pack < demand || s.Reads.PackRefused > 0 {
		t.Errorf("pack = %+v: %d blocks from it, %d on demand, %d refused; want a whole pack, and most of it used", s.Pack, pack, demand, s.Reads.PackRefused)
	}
}

// checkMounts checks that / is an overlay on EROFS on blockfs.
func checkMounts(t *testing.T, sh *shell) {
	t.Helper()
	mounts := sh.run(t, 300, "cat /proc/self/mountinfo")
	byPoint := map[string][]string{} // mount point: type, source, options
	for line := range strings.Lines(mounts) {
		left, right, ok := strings.Cut(line, " - ")
		f, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 5 || len(r) < 3 {
			continue
		}
		byPoint[f[4]] = r
	}
	root := byPoint["/"]
	if len(root) == 0 || root[0] != "overlay" {
		t.Fatalf("/ is %v; want an overlay\n%s", root, mounts)
	}
	if !strings.Contains(root[2], "lowerdir=") {
		t.Errorf("/ has no lower folder: %v", root)
	}
	var erofs, fuse string
	for point, r := range byPoint {
		switch {
		case r[0] == "erofs":
			erofs = point
			// The data device is a loop device on a file of blockfs, or
			// the file itself where the kernel can.
			backing := sh.run(t, 300, "cat /sys/block/loop*/loop/backing_file 2>/dev/null; true")
			if !strings.Contains(backing+r[1]+r[2], "data") {
				t.Errorf("EROFS at %s is on %v, loop devices on %q; want blockfs's data file", point, r, backing)
			}
		case strings.HasPrefix(r[0], "fuse") && strings.Contains(r[1], "blockfs"):
			fuse = point
		}
	}
	if erofs == "" || fuse == "" {
		t.Errorf("EROFS at %q, blockfs at %q; want both\n%s", erofs, fuse, mounts)
	}
}

// checkFiles compares the hash of every file of one part of several with the
// source's, of those below /usr and /etc: reading them all takes an emulated
// machine minutes, and SHA-256 eight times as long as MD5. Names are compared of
// all.
func checkFiles(t *testing.T, sh *shell, want map[string]string, part, parts int) {
	t.Helper()
	names := map[string]bool{}
	for name := range strings.SplitSeq(upload(t, sh, 600, "", "find /usr /etc -xdev -type f -print0"), "\x00") {
		if name != "" {
			names[name] = true
		}
	}
	var mine []string
	for i, name := range slices.Sorted(maps.Keys(want)) {
		if i%parts == part && !slices.Contains(changedByBooting(), name) {
			mine = append(mine, name)
		}
	}
	got := map[string]string{}
	for entry := range strings.SplitSeq(upload(t, sh, 900, strings.Join(mine, "\x00"), "xargs -0 md5sum -z"), "\x00") {
		if sum, name, ok := strings.Cut(entry, "  "); ok {
			got[name] = sum
		}
	}
	var wrong []string
	for _, name := range mine {
		if names[name] && got[name] != want[name] {
			wrong = append(wrong, name+" differs")
		}
	}
	for name := range want {
		if !names[name] && !slices.Contains(changedByBooting(), name) {
			wrong = append(wrong, name+" is missing")
		}
	}
	for name := range names {
		if _, ok := want[name]; !ok && !slices.Contains(changedByBooting(), name) {
			wrong = append(wrong, name+" is new")
		}
	}
	if wrong != nil {
		slices.Sort(wrong)
		t.Errorf("%d of %d files: %s", len(wrong), len(want), strings.Join(wrong[:min(len(wrong), 40)], ", "))
	}
	t.Logf("%d of %d files compared", len(got), len(want))
}

// upload returns what a command prints for an input. Both go over the network,
// byte for byte.
func upload(t *testing.T, sh *shell, seconds int, input, command string) string {
	t.Helper()
	body := make(chan []byte, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if _, err := io.WriteString(w, input); err != nil {
				t.Errorf("send the input: %v", err)
			}
			return
		}
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("upload: %v", err)
		}
		body <- b
	}))
	defer srv.Close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + testbed.GuestHost + ":" + port + "/"
	sh.run(t, seconds, "curl -sS "+url+" | ("+command+") | curl -sS -T - "+url)
	select {
	case b := <-body:
		return string(b)
	case <-time.After(time.Minute):
		t.Fatal("nothing was uploaded")
		return ""
	}
}

// checkDHCP checks that preboot asked once, and the target never.
func checkDHCP(t *testing.T, pcap string) {
	t.Helper()
	messages, err := vmtest.DHCPMessages(pcap)
	if err != nil {
		t.Fatal(err)
	}
	if discovers, requests := vmtest.DHCPExchanges(messages); discovers != 1 || requests != 0 {
		t.Errorf("%d DHCP exchanges and %d other requests; want 1 and 0: %v", discovers, requests, messages)
	}
}
