package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/internal/testbed"
	"github.com/inetboot/inetboot/internal/vmtest"
)

// bootLimit is how long one boot may take.
const bootLimit = 5 * time.Minute

// bootMemory is what every machine has, in MiB: a downloaded squashfs needs it.
const bootMemory = 2048

// where is a line that machines boot over.
type where struct {
	name string
	rtt  time.Duration
	rate int64 // bytes per second; 0: no limit
}

func loopback() where { return where{name: "loopback"} }
func far(ms int) where {
	return where{fmt.Sprintf("%d ms 100 Mbit/s", ms), time.Duration(ms) * time.Millisecond, lineRate}
}

// booted is what one boot of ours took.
type booted struct {
	menu, chosen, login time.Duration // from QEMU's start
	bytes               int64         // that came over the line
}

// run is the time from the choice in the menu to the login prompt.
func (t booted) run() time.Duration { return t.login - t.chosen }

// how is what our machine has to help it.
type how int

const (
	bare how = iota
	withPack
	withCache
)

func (h how) String() string { return [...]string{"without pack", "with pack", "warm disk cache"}[h] }

// roots boots the published Debian to its login prompt over lines of several
// lengths, beside the same Debian on other kinds of root. What counts most
// comes first.
func (b *bench) roots(ctx context.Context) error {
	r, err := b.newRoots(ctx)
	if err != nil {
		return err
	}
	// The first boot is reported to the server, which makes the pack.
	base, err := r.ours(ctx, loopback(), bare)
	if err != nil {
		return err
	}
	hasPack := exists(r.pack)
	packBytes := int64(0)
	if hasPack {
		info, err := os.Stat(r.pack)
		if err != nil {
			return err
		}
		packBytes = info.Size()
		if base, err = r.ours(ctx, loopback(), withPack); err != nil {
			return err
		}
	} else {
		b.say("no pack at %s: boots with a pack are left out", r.pack)
	}
	kinds := []how{bare}
	if hasPack {
		kinds = []how{withPack, bare}
	}
	times := map[string]booted{}
	for i, ms := range []int{50, 10, 20, 200} {
		for _, h := range kinds {
			t, err := r.ours(ctx, far(ms), h)
			if err != nil {
				return err
			}
			times[far(ms).name] = bestOf(times[far(ms).name], t)
			if h == withPack && ms == 50 {
				most := 1.25 * (base.login.Seconds() + float64(packBytes)/lineRate)
				b.report(figure("boot to login prompt with pack, 50 ms 100 Mbit/s", "s", t.login.Seconds()).wantMost(most).
					noted("from power-on; 1.25 × (%.1f s on loopback + %.1f MB of pack ÷ line)", base.login.Seconds(), float64(packBytes)/1e6))
			}
		}
		if i == 0 {
			if err := r.fillCache(ctx); err != nil {
				return err
			}
			if r.cached > 0 {
				kinds = append(kinds, withCache)
				t, err := r.ours(ctx, far(ms), withCache)
				if err != nil {
					return err
				}
				times[far(ms).name] = bestOf(times[far(ms).name], t)
			}
		}
	}
	if err := r.beside(ctx, far(50), times[far(50).name]); err != nil {
		return err
	}
	if err := r.beside(ctx, loopback(), base); err != nil {
		return err
	}
	for _, ms := range []int{10, 20, 200} {
		if err := r.beside(ctx, far(ms), times[far(ms).name]); err != nil {
			return err
		}
	}
	return nil
}

func bestOf(a, b booted) booted {
	if a.login == 0 || b.run() < a.run() {
		return b
	}
	return a
}

// bootRoots is what the boots share.
type bootRoots struct {
	b       *bench
	pack    string // where the server puts the image's pack
	disk    string // with a cache folder
	cached  int64  // bytes in it
	machine *peerMachine
}

func (b *bench) newRoots(ctx context.Context) (*bootRoots, error) {
	man, path, err := b.bed.Manifest(ctx, "debian", debianroot.Version)
	if err != nil {
		return nil, err
	}
	sum, err := manifestDigest(path)
	if err != nil {
		return nil, err
	}
	b.say("boots of %s %s by emulation (%s), %d MiB of memory each", man.Name, man.Version, vmtest.Accel(), bootMemory)
	return &bootRoots{b: b, pack: filepath.Join(b.bed.Store(), storepath.Pack(sum))}, nil
}

// ours boots from a personal ISO whose URL is the near end of the line, and
// chooses the entry as soon as the menu is there.
func (r *bootRoots) ours(ctx context.Context, w where, h how) (t booted, err error) {
	b := r.b
	b.say("boot over %s: ours, %s", w.name, h)
	if h == bare && exists(r.pack) {
		aside := filepath.Join(b.dir, "pack")
		if err := os.Rename(r.pack, aside); err != nil {
			return t, err
		}
		defer func() { err = errors.Join(err, os.Rename(aside, r.pack)) }()
	}
	s, err := slowTo(ctx, w.rtt, w.rate, strings.TrimPrefix(b.bed.URL, "http://"))
	if err != nil {
		return t, err
	}
	defer s.end()
	iso := filepath.Join(b.dir, "boot.iso")
	defer os.Remove(iso)
	if err := b.bed.Media(ctx, iso, "http://"+guest(s.addr)); err != nil {
		return t, err
	}
	c := vmtest.Config{CD: iso, Memory: bootMemory, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{}}}
	if h == withCache {
		c.Disks = []vmtest.Disk{{File: r.disk, Model: "virtio-blk-pci"}}
	}
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	vm, err := vmtest.Start(ctx, c)
	if err != nil {
		return t, err
	}
	defer vm.Close()
	if t, err = steps(ctx, vm); err != nil {
		return t, fmt.Errorf("boot over %s: %w\n%s", w.name, err, vm.Command)
	}
	t.bytes = s.Down()
	b.report(figure(fmt.Sprintf("boot over %s, %s", w.name, h), "s", t.login.Seconds()).
		noted("menu %.1f s, choice to login %.1f s, %.1f MB", t.menu.Seconds(), t.run().Seconds(), float64(t.bytes)/1e6))
	if w.rate == 0 && h == bare && !exists(r.pack) {
		// The target reports its boot when nothing new has been read for 8 s,
		// and the server builds the pack some seconds later.
		b.say("waiting for the boot's report and the pack that the server makes of it, 2 minutes at most")
		if err := waitWithin(ctx, 2*time.Minute, "the pack", nil, func() bool { return exists(r.pack) }); err != nil {
			b.say("%v", err)
		}
	}
	return t, nil
}

func steps(ctx context.Context, vm *vmtest.VM) (t booted, err error) {
	for _, s := range []struct {
		expect, send string
		at           *time.Duration
	}{
		{`inetboot: menu ready`, "1\r", &t.menu},
		{`inetboot: starting `, "", &t.chosen},
		{`login: `, "", &t.login},
	} {
		if _, err := vm.Expect(ctx, s.expect); err != nil {
			return t, err
		}
		*s.at = vm.Uptime()
		if s.send != "" {
			if err := vm.Send(s.send); err != nil {
				return t, err
			}
		}
	}
	t.chosen = t.menu // the download of kernel and initrd belongs to the run
	return t, nil
}

// guest returns how a machine with user networking reaches an address of this
// machine's loopback interface.
func guest(addr string) string { return strings.Replace(addr, "127.0.0.1", testbed.GuestHost, 1) }

// fillCache boots once over loopback with a disk that has an empty cache
// folder, and shuts down.
func (r *bootRoots) fillCache(ctx context.Context) error {
	b := r.b
	tree := filepath.Join(b.dir, "cache-disk")
	if err := os.MkdirAll(filepath.Join(tree, "inetboot-cache"), 0o755); err != nil {
		return err
	}
	r.disk = tree + ".img"
	if err := errors.Join(os.WriteFile(r.disk, nil, 0o600), os.Truncate(r.disk, 4<<30)); err != nil {
		return err
	}
	if err := b.command(ctx, "mkfs.ext4", "-q", "-F", "-d", tree, r.disk); err != nil {
		return err
	}
	b.say("boot over loopback with an empty cache on a disk, and shutdown")
	if err := r.fill(ctx); err != nil {
		return fmt.Errorf("fill the cache: %w", err)
	}
	dir := filepath.Join(b.dir, "cache-disk-mounted")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := b.command(ctx, "mount", "-o", "loop,ro,noload", r.disk, dir); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "du", "-s", "-B1", filepath.Join(dir, "inetboot-cache")).Output()
	if err := errors.Join(err, b.command(context.WithoutCancel(ctx), "umount", dir)); err != nil {
		return err
	}
	if _, err := fmt.Sscan(string(out), &r.cached); err != nil {
		return fmt.Errorf("size of the cache: %w", err)
	}
	const used = 1 << 20 // less than this is folders
	if r.cached < used {
		r.cached = 0
		b.say("nothing was cached on the disk: boots with a warm cache are left out")
		return nil
	}
	b.say("%.1f MB are cached on the disk", float64(r.cached)/1e6)
	return nil
}

func (r *bootRoots) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	vm, err := vmtest.Start(ctx, vmtest.Config{
		CD: r.b.bed.ISO, Memory: bootMemory, VGA: true, NoReboot: true, NICs: []vmtest.NIC{{}},
		Disks: []vmtest.Disk{{File: r.disk, Model: "virtio-blk-pci"}},
	})
	if err != nil {
		return err
	}
	defer vm.Close()
	if _, err := steps(ctx, vm); err != nil {
		return fmt.Errorf("%w\n%s", err, vm.Command)
	}
	for _, s := range [][2]string{{"root\n", `Password:`}, {debianroot.Password + "\n", `# `}} {
		if err := vm.Send(s[0]); err != nil {
			return err
		}
		if _, err := vm.Expect(ctx, s[1]); err != nil {
			return err
		}
	}
	if err := vm.Send("poweroff\n"); err != nil {
		return err
	}
	_, err = vm.Wait(ctx)
	return err
}
