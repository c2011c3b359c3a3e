package boottest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/root"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// statusProgram is blockfs on a booted machine.
const statusProgram = "/run/initramfs/inetboot/blockfs"

// status asks the machine's daemon, again and again until it is as wanted.
func status(t *testing.T, sh *shell, seconds int, what string, ok func(root.Status) bool) root.Status {
	t.Helper()
	var s root.Status
	for end := time.Now().Add(time.Duration(seconds) * time.Second); ; {
		out := sh.run(t, 300, statusProgram+" status --json")
		s = root.Status{}
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			t.Fatalf("%s after %d s: %s", what, seconds, out)
		}
		time.Sleep(time.Second)
	}
}

// bootOver waits until the daemon has seen all that a boot reads.
func bootOver(t *testing.T, sh *shell) root.Status {
	t.Helper()
	sh.run(t, 300, "dmesg -n 1") // the kernel's messages would be in between
	s := status(t, sh, 900, "the boot is not over", func(s root.Status) bool { return s.Boot.Over })
	sh.run(t, 300, "dmesg -n 6")
	return s
}

func powerOff(t *testing.T, vm *vmtest.VM) {
	t.Helper()
	vm.SendT(t, "poweroff\n")
	ctx, cancel := context.WithTimeout(t.Context(), 240*time.Second)
	defer cancel()
	if reason, err := vm.Wait(ctx); err != nil || reason != "guest-shutdown" {
		t.Errorf("poweroff = %q, %v; want guest-shutdown", reason, err)
	}
}

// cacheDisk makes a disk of one FAT partition with the cache folder.
func cacheDisk(t *testing.T, megabytes int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(int64(megabytes) << 20); err != nil {
		t.Fatal(err)
	}
	f.Close()
	for _, args := range [][]string{
		{"mkfs.vfat", "-F", "32", "-n", "CACHE", name},
		{"mmd", "-i", name, "::inetboot-cache"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
	}
	return name
}

// TestCacheAndCableOut boots a Debian with an empty cache on a USB disk, from
// two mirrors, of which the first one dies in the middle of the boot. It
// lets the cache be filled, pulls the network's cable, and boots again: from
// the disk alone, to the login prompt. The boots leave reports, of which the
// server makes a boot pack.
func TestCacheAndCableOut(t *testing.T) {
	t.Parallel()
	bed, tarball := newBed(t)
	disk := cacheDisk(t, 700)
	var blocks atomic.Int64
	files := http.FileServer(http.Dir(bed.Store()))
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/blocks/") {
			blocks.Add(1)
		}
		files.ServeHTTP(w, r)
	}))
	defer first.Close()
	// The server itself is the farther one: what measures is answered late.
	to, err := url.Parse(bed.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" {
			time.Sleep(400 * time.Millisecond)
		}
		proxy.ServeHTTP(w, r)
	}))
	defer second.Close()
	firstURL := strings.Replace(first.URL, "127.0.0.1", testbed.GuestHost, 1)
	secondURL := strings.Replace(second.URL, "127.0.0.1", testbed.GuestHost, 1)
	media(t, bed, secondURL, firstURL)
	start := func(cable bool) *vmtest.VM {
		vm := vmtest.StartT(t, vmtest.Config{
			CD: bed.ISO, Memory: 1024, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{}},
			Disks: []vmtest.Disk{{File: disk, Model: "usb-storage"}},
		})
		if !cable {
			if err := vm.SetLink(t.Context(), 0, false); err != nil {
				t.Fatal(err)
			}
		}
		return vm
	}

	vm := start(true)
	vm.ExpectT(t, 600, `inetboot: menu ready`)
	vm.SendT(t, "1\r")
	vm.ExpectT(t, 600, `inetboot: starting /sbin/init`)
	first.CloseClientConnections()
	first.Close()
	sh := login(t, vm, 900)
	s := bootOver(t, sh)
	if blocks.Load() == 0 || len(s.Mirrors) != 2 || s.Mirrors[0].URL != secondURL || s.Mirrors[1].Failures == 0 || s.Mirrors[0].Bytes == 0 {
		t.Errorf("%d blocks came from the first mirror before it died; mirrors %+v; want the second one in its place", blocks.Load(), s.Mirrors)
	}
	if s.Cache == nil || s.Cache.State != "ok" || s.Cache.Blocks == 0 || s.Network.Blocks == 0 {
		t.Fatalf("status of the first boot: cache %+v, %d blocks over the network; want blocks from there in the cache", s.Cache, s.Network.Blocks)
	}
	for _, st := range []string{"dhcp", "catalog", "kernel", "kexec", "target", "network", "files", "root", "handover", "over"} {
		if !slices.ContainsFunc(s.Boot.Stages, func(have handoff.Stage) bool { return have.Name == st }) {
			t.Errorf("the timeline lacks %s: %+v", st, s.Boot.Stages)
		}
	}
	sh.run(t, 300, "dmesg -n 1")
	t.Log("\n" + sh.run(t, 300, statusProgram+" status"))
	if out := sh.run(t, 300, statusProgram+" status --prometheus"); !strings.Contains(out, "inetboot_cache_ok 1") {
		t.Errorf("metrics: %s", out)
	}
	s = status(t, sh, 900, "the cache is not filled", func(s root.Status) bool { return s.Fill.State == "complete" || s.Fill.State == "stopped" })
	if s.Fill.State != "complete" {
		t.Fatalf("fill = %+v; want complete", s.Fill)
	}
	powerOff(t, vm)

	// The server has built a pack of the boot's report.
	packs, err := filepath.Glob(filepath.Join(bed.Store(), filepath.Dir(storepath.Pack(digest.SHA256{})), "*"))
	if err != nil || len(packs) != 1 {
		t.Errorf("%d packs in the store, %v; want one", len(packs), err)
	} else if st, err := os.Stat(packs[0]); err == nil {
		t.Logf("the pack has %.1f MB", float64(st.Size())/1e6)
	}

	// The cable is out.
	requests := served(t, bed)
	vm = start(false)
	vm.ExpectT(t, 600, `inetboot: menu ready.*offline|offline.*menu ready|(?s)offline.*inetboot: menu ready`)
	vm.SendT(t, "1\r")
	sh = login(t, vm, 900)
	s = bootOver(t, sh)
	if s.Origins["disk"].Blocks == 0 || s.Network.Blocks != 0 {
		t.Errorf("offline boot: %d blocks from the disk, %d over the network; want all from the disk", s.Origins["disk"].Blocks, s.Network.Blocks)
	}
	t.Log("\n" + sh.run(t, 300, statusProgram+" status"))
	if got := sh.run(t, 300, "systemctl is-system-running --wait || systemctl --failed --no-pager"); got != "running" {
		t.Logf("is-system-running = %q without a network", got)
	}
	want := tarSums(t, tarball, sha256.New, "usr", "etc")
	got := sh.run(t, 300, "sha256sum /usr/bin/bash /usr/lib/x86_64-linux-gnu/libc.so.6 /usr/bin/perl")
	for line := range strings.Lines(got) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		if want[name] != sum {
			t.Errorf("%s has the hash %s; want %s", name, sum, want[name])
		}
	}
	powerOff(t, vm)
	if after := served(t, bed); after != requests {
		t.Errorf("%v requests during the boot without a cable; want none", after-requests)
	}
}

// served returns how often the server was asked for files of the store.
func served(t *testing.T, bed *testbed.Bed) float64 {
	t.Helper()
	sum := 0.0
	for _, kind := range []string{"catalog", "target", "file", "index", "block", "pack"} {
		n, err := bed.Metric(t.Context(), "inetboot_http_requests_total", `kind="`+kind+`"`)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
