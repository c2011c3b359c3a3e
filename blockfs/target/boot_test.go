package target_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/erofs/go-erofs"

	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/handoff"
	"github.com/inetboot/inetboot/internal/module"
	"github.com/inetboot/inetboot/internal/newc"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// rig is a tiny image in a store, and a machine's initramfs for it.
type rig struct {
	kernel string
	initrd []byte // without the handoff
	store  string
	port   int
	down   atomic.Bool
	root   handoff.Root

	syslog string // receiver of the log; "": none

	capture string // of what the machine started last sends
}

// newRig needs INETBOOT_TEST_LINUX: a folder with boot/vmlinuz-* and
// lib/modules/*, such as Debian's linux-image package unpacked.
func newRig(t *testing.T) *rig { return newRigWith(t, mixedFiles) }

// newRigWith makes a rig whose image has the given files.
func newRigWith(t *testing.T, files func(put func(name string, data []byte))) *rig {
	t.Helper()
	linux := os.Getenv("INETBOOT_TEST_LINUX")
	if linux == "" {
		t.Skip("set INETBOOT_TEST_LINUX to a folder with an unpacked Linux package")
	}
	for _, p := range []string{"qemu-system-x86_64", "depmod"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip(err)
		}
	}
	r := &rig{store: t.TempDir()}
	kernels, err := filepath.Glob(filepath.Join(linux, "boot/vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		t.Fatalf("%d kernels in %s; want one", len(kernels), linux)
	}
	r.kernel = kernels[0]
	release := strings.TrimPrefix(filepath.Base(r.kernel), "vmlinuz-")

	tmp := t.TempDir()
	for name, pkg := range map[string]string{"init": "../", "guest": "./testdata/guest"} {
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(tmp, name), pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v: %s", pkg, err, out)
		}
	}
	r.initrd = initramfs(t, filepath.Join(tmp, "init"), linux, release)
	r.writeImage(t, tmp, files)

	store := http.FileServer(http.Dir(r.store))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if r.down.Load() {
			panic(http.ErrAbortHandler)
		}
		store.ServeHTTP(w, q)
	}))
	t.Cleanup(srv.Close)
	r.port = srv.Listener.Addr().(*net.TCPAddr).Port
	return r
}

// initramfs returns an archive with init and the modules that it may need.
func initramfs(t *testing.T, init, linux, release string) []byte {
	t.Helper()
	dir := filepath.Join(linux, "lib/modules", release)
	if out, err := exec.Command("depmod", "-b", linux, release).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v: %s", err, out)
	}
	tree, err := module.Open(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	prog, err := os.ReadFile(init)
	if err != nil {
		t.Fatal(err)
	}
	records := []newc.Record{{Name: "init", Perm: 0o755, Data: prog}}
	seen := map[string]bool{}
	add := func(file string) {
		name := "lib/modules/" + release + "/" + file
		for i, c := range name {
			if c == '/' && !seen[name[:i]] {
				seen[name[:i]] = true
				records = append(records, newc.Record{Name: name[:i], Perm: 0o755, Dir: true})
			}
		}
		if seen[name] {
			return
		}
		seen[name] = true
		data, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		records = append(records, newc.Record{Name: name, Perm: 0o644, Data: data})
	}
	for _, f := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin"} {
		add(f)
	}
	for _, m := range []string{"fuse", "loop", "erofs", "overlay", "crc32c_generic", "crypto-crc32c", "virtio_net", "virtio_pci", "e1000", "8021q"} {
		order, err := tree.Order(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range order {
			f, err := tree.File(n)
			if err != nil {
				t.Fatal(err)
			}
			add(f)
		}
	}
	return newc.Archive(records)
}

// mixedFiles is 60 files of some bytes to 0.9 MB, and a list of their hashes.
func mixedFiles(put func(name string, data []byte)) {
	var sums bytes.Buffer
	for i := range 60 {
		b := readtest.Mixed(1+i*i*250, uint64(i))
		name := fmt.Sprintf("/files/%d", i)
		put(name, b)
		fmt.Fprintf(&sums, "%x %s\n", sha256.Sum256(b), name)
	}
	put("/sums", sums.Bytes())
}

// writeImage puts a root with the guest and some files into the store.
func (r *rig) writeImage(t *testing.T, tmp string, files func(put func(name string, data []byte))) {
	t.Helper()
	mf, err := os.Create(filepath.Join(tmp, "meta"))
	if err != nil {
		t.Fatal(err)
	}
	defer mf.Close()
	df, err := os.Create(filepath.Join(tmp, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer df.Close()
	w := erofs.Create(mf, erofs.WithDataFile(df), erofs.WithTempDir(tmp), erofs.WithBuildTime(1, 0))
	for _, d := range []string{"/sbin", "/etc", "/proc", "/files"} {
		if err := w.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name string, data []byte, mode fs.FileMode) {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if err := w.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	guest, err := os.ReadFile(filepath.Join(tmp, "guest"))
	if err != nil {
		t.Fatal(err)
	}
	put("/sbin/init", guest, 0o755)
	made := map[string]bool{"/files": true}
	files(func(name string, data []byte) {
		for i, c := range name {
			if d := name[:i]; c == '/' && d != "" && !made[d] {
				made[d] = true
				if err := w.Mkdir(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		put(name, data, 0o644)
	})
	if err := w.Symlink("../run/nowhere/resolv.conf", "/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.root.Type = "erofs"
	for _, name := range []string{"meta", "data"} {
		b, err := os.ReadFile(filepath.Join(tmp, name))
		if err != nil {
			t.Fatal(err)
		}
		r.root.Files = append(r.root.Files, handoff.RootFile{Name: name, Size: int64(len(b)), Index: readtest.Write(t, r.store, b)})
	}
}

// start starts a machine with the handoff that preboot would write.
func (r *rig) start(t *testing.T, nic string) *vmtest.VM {
	t.Helper()
	return r.startWith(t, nic, 768, 2, "loglevel=6 guestword -- last")
}

// startWith says how much memory in MiB the machine has, after how many
// seconds its lease is due, and the end of its command line.
func (r *rig) startWith(t *testing.T, nic string, memory int, renew int64, command string) *vmtest.VM {
	t.Helper()
	r.capture = filepath.Join(t.TempDir(), "pcap")
	return r.boot(t, r.handoff(renew), vmtest.Config{
		Memory: memory, Append: command, NICs: []vmtest.NIC{{Model: nic, MAC: mac, Capture: r.capture}},
	})
}

const mac = "52:54:00:12:34:56"

// patience is how many seconds a machine gets for its next step: it is emulated,
// and ten times as slow where much else runs.
const patience = 300

// handoff is what preboot would write for QEMU's network.
func (r *rig) handoff(renew int64) *handoff.Handoff {
	return &handoff.Handoff{
		BootID:  strings.Repeat("0", 32),
		Mirrors: []string{fmt.Sprintf("http://10.0.2.2:%d", r.port)},
		Network: handoff.Network{
			MAC: mac, MTU: 1400,
			Addresses:   []netip.Prefix{netip.MustParsePrefix("10.0.2.15/24")},
			Routes:      []handoff.Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("10.0.2.2")}},
			Nameservers: []netip.Addr{netip.MustParseAddr("10.0.2.3")},
			Search:      []string{"example.org"},
			Hostname:    "client7",
			Lease:       &handoff.Lease{Server: netip.MustParseAddr("10.0.2.2"), ClientID: "01525400123456", Obtained: time.Now().Unix(), Renew: renew, Rebind: 1000, Expire: 1200},
		},
		Image:  handoff.Image{Name: "tiny", Version: "1", Arch: "amd64"},
		Root:   r.root,
		Syslog: r.syslog,
	}
}

// boot starts a machine with a handoff.
func (r *rig) boot(t *testing.T, h *handoff.Handoff, c vmtest.Config) *vmtest.VM {
	t.Helper()
	archive, err := h.Archive(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	initrd := append(bytes.Clone(r.initrd), make([]byte, (4-len(r.initrd)%4)%4)...)
	name := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(name, append(initrd, archive...), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Name, c.Kernel, c.Initrd, c.NoReboot = "target", r.kernel, name, true
	// Where much else runs, few of the timer's interrupts come in time: without
	// the check they are not counted, as under KVM.
	c.Append = "console=ttyS0 panic=-1 no_timer_check inetboot.overlay=40% " + c.Append
	return vmtest.StartT(t, c)
}

func end(t *testing.T, vm *vmtest.VM) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience*time.Second)
	defer cancel()
	if how, err := vm.Wait(ctx); err != nil || how != "guest-shutdown" {
		t.Errorf("the machine ended by %q, %v; want guest-shutdown", how, err)
	}
}

// logReceiver is a syslog receiver on this machine. It returns its URL for a
// guest, and what returns all that was received once the machine is gone.
func logReceiver(t *testing.T, network string) (url string, received func() string) {
	t.Helper()
	all := make(chan string, 1)
	if network == "udp" {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		const last = "the machine is gone" // and what it has sent lies before this
		go func() {
			var log strings.Builder
			for buf := make([]byte, 64<<10); ; {
				n, _, err := conn.ReadFrom(buf)
				if err != nil || string(buf[:n]) == last {
					all <- log.String()
					return
				}
				log.Write(append(buf[:n:n], '\n'))
			}
		}()
		return fmt.Sprintf("udp://10.0.2.2:%d", conn.LocalAddr().(*net.UDPAddr).Port), func() string {
			if _, err := conn.WriteTo([]byte(last), conn.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			return <-all
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c) // the machine goes without saying so
		all <- string(b)
	}()
	return fmt.Sprintf("tcp://10.0.2.2:%d", l.Addr().(*net.TCPAddr).Port), func() string { return <-all }
}

func TestBoot(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct{ nic, syslog string }{{"virtio-net-pci", "tcp"}, {"e1000", "udp"}} {
		t.Run(tt.nic, func(t *testing.T) {
			url, received := logReceiver(t, tt.syslog)
			r.syslog = url
			vm := r.start(t, tt.nic)
			for _, want := range []string{
				`inetboot: tiny 1 \(amd64\), started by InetBoot`,
				`inetboot: network \w+ up 10\.0\.2\.15/24 \(lease kept\)`,
				`inetboot: root mounted in [0-9.]+ s`,
				`inetboot: starting /sbin/init`,
				`GUEST args \["/sbin/init" "guestword" "last"\]`,
				`fuse.blockfs blockfs ro`,
				`inetboot/lower ro,[^\n]* erofs `,
				` / / rw,[^\n]* overlay `,
				`/etc/resolv.conf "[^"]*nameserver 10\.0\.2\.3\\nsearch example\.org`,
				`/etc/hostname "client7`,
				`kernel/hostname "client7`,
				`52:54:00:12:34:56 1400 \[10\.0\.2\.15/24`,
				`60 files are right`,
				`cmdline "@blockfs\\x00daemon`,
				`oom_score_adj "-1000`,
				`stats.json "\{`,
				`GUEST goes down`,
				`inetboot: root unmounted: poweroff`,
			} {
				vm.ExpectT(t, patience, want)
			}
			end(t, vm)
			messages, err := vmtest.DHCPMessages(r.capture)
			if err != nil {
				t.Fatal(err)
			}
			if discovers, requests := vmtest.DHCPExchanges(messages); discovers != 0 || requests == 0 {
				t.Errorf("%d DISCOVER, %d REQUEST; want a renewal and nothing else", discovers, requests)
			}
			// All that the kernel, init and the daemon have said, from the kernel's first line on.
			log, at := received(), 0
			for _, want := range []string{
				`<5>1 \S+Z client7 kernel - - \[meta sequenceId="1"\]\[inetboot@32473 boot="0{32}"\] Linux version `,
				` client7 inetboot - - \S+ \S+ \S+ tiny 1 \(amd64\), started by InetBoot`,
				` client7 inetboot - - \S+ \S+ \S+ network \w+ up 10\.0\.2\.15/24`,
				` client7 inetboot - - \S+ \S+ \S+ root mounted in [0-9.]+ s`,
				` client7 inetboot - - \S+ \S+ \S+ starting /sbin/init`,
			} {
				m := regexp.MustCompile(want).FindStringIndex(log[at:])
				if m == nil {
					t.Fatalf("nothing like %s was sent, behind what comes before it:\n%.20000s", want, log)
				}
				at += m[1]
			}
		})
	}
}

// A tagged network is set up again, with an address of each family and a lease
// of DHCPv6 that nobody renews.
func TestVLAN(t *testing.T) {
	r := newRig(t)
	trunk, err := vmtest.NewTrunk(5)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trunk.Close)
	h := r.handoff(600)
	six := netip.MustParseAddr("fec0::15")
	h.Network.VLAN, h.Network.Lease = 5, nil
	h.Network.Addresses = append(h.Network.Addresses, netip.PrefixFrom(six, 64))
	h.Network.Routes = append(h.Network.Routes, handoff.Route{Destination: netip.MustParsePrefix("::/0"), Gateway: netip.MustParseAddr("fe80::2")})
	h.Network.Lease6 = &handoff.Lease6{Address: six, ServerID: "00030001020000000001", ClientID: "00030001525400123456", IAID: 1, Obtained: time.Now().Unix(), Renew: 600, Rebind: 1000, Expire: 1200}
	vm := r.boot(t, h, vmtest.Config{Memory: 768, Append: "loglevel=6 guestword -- last", NICs: []vmtest.NIC{}, Args: trunk.Args(mac)})
	for _, want := range []string{
		`inetboot: network \w+\.5 up 10\.0\.2\.15/24 \(lease kept\)`,
		`52:54:00:12:34:56 1400 \[10\.0\.2\.15/24 fec0::15/64`,
		`60 files are right`,
	} {
		vm.ExpectT(t, patience, want)
	}
	end(t, vm)
}

func TestOutageBeforeTheRoot(t *testing.T) {
	r := newRig(t)
	r.down.Store(true)
	vm := r.start(t, "")
	vm.ExpectT(t, patience, `the store cannot be reached: waiting for it`)
	r.down.Store(false)
	vm.ExpectT(t, patience, `60 files are right`)
	end(t, vm)
}

// TestRefused changes what is in the store and wants to read which part is
// wrong, and nothing to be started.
func TestRefused(t *testing.T) {
	r := newRig(t)
	change := func(t *testing.T, name string) {
		t.Helper()
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		good := bytes.Clone(b)
		t.Cleanup(func() {
			if err := os.WriteFile(name, good, 0o644); err != nil {
				t.Error(err)
			}
		})
		b[len(b)-1] ^= 1
		if err := os.WriteFile(name, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	nothing := func(t *testing.T, vm *vmtest.VM) {
		t.Helper()
		vm.ExpectT(t, patience, `what to do: nothing was started from it`)
		vm.ExpectT(t, patience, `restarting in 60 s`)
		if strings.Contains(vm.Console.Text(), "GUEST") {
			t.Error("the image was started all the same")
		}
	}
	t.Run("index", func(t *testing.T) {
		sum := r.root.Files[0].Index.SHA256
		change(t, filepath.Join(r.store, "indexes", sum.String()))
		vm := r.start(t, "")
		vm.ExpectT(t, patience, `cannot start this image: read the image: .*index of meta has SHA-256 \w+, but `+sum.Short()+` is listed`)
		nothing(t, vm)
	})
	t.Run("block", func(t *testing.T) {
		var blocks []string
		err := filepath.WalkDir(filepath.Join(r.store, "blocks"), func(p string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				blocks = append(blocks, p)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range blocks {
			change(t, p)
		}
		vm := r.start(t, "")
		found := vm.ExpectT(t, patience, `cannot start this image: read the image: block (\w+): `)
		ok := false
		for _, p := range blocks {
			sum, err := digest.Parse(filepath.Base(p))
			ok = ok || err == nil && sum.Short() == found[1]
		}
		if !ok {
			t.Errorf("block %s is named; want one of the store", found[1])
		}
		nothing(t, vm)
	})
}
