package cache

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/faultdisk"
)

// lines collects a log.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// waitState waits until the cache is in a state.
func waitState(t *testing.T, c *Cache, want State) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); c.Stats().State != want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the cache is never %s: %+v", want, c.Stats())
		}
	}
}

// TestFaults: whatever the disk does, Get and Put return in time, and the
// daemon hears of it once.
func TestFaults(t *testing.T) {
	const n = 40
	for _, tt := range []struct {
		name  string
		fault func(d *faultdisk.Disk)
		state State
		limit time.Duration // of each call
		serve bool          // blocks are still served
	}{
		{"writes fail", func(d *faultdisk.Disk) { d.FailWrites(syscall.EIO) }, StateReadOnly, time.Second, true},
		{"write-protected", func(d *faultdisk.Disk) { d.FailWrites(syscall.EROFS) }, StateReadOnly, time.Second, true},
		{"full", func(d *faultdisk.Disk) { d.FailWrites(syscall.ENOSPC) }, StateOK, time.Second, false},
		{"writes hang", func(d *faultdisk.Disk) { d.FailWrites(faultdisk.Hang) }, StateOK, time.Second, true},
		{"reads fail", func(d *faultdisk.Disk) { d.FailReads(syscall.EIO) }, StateFailed, time.Second, false},
		{"reads hang", func(d *faultdisk.Disk) { d.FailReads(faultdisk.Hang) }, StateFailed, 3 * time.Second, false},
		{"gone", func(d *faultdisk.Disk) { d.FailReads(syscall.ENODEV); d.FailWrites(syscall.ENODEV) }, StateFailed, time.Second, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := faultdisk.New(t, t.TempDir())
			var log lines
			c, err := Open(t.Context(), d.Dir, Options{Quota: 32 * mib, SegmentSize: 2 * mib, ReadLimit: 300 * time.Millisecond, SyncEvery: 50 * time.Millisecond, Logger: log.logger()})
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				put(t, c, fixedBlock(i, 100_000), false)
			}
			flush(t, c)
			tt.fault(d)
			for round := range 3 {
				for i := range n {
					begin := time.Now()
					ok := check(t, c, fixedBlock(i, 100_000))
					b := fixedBlock(1000*(round+1)+i, 100_000)
					c.Put(digest.Of(b), b, false)
					if took := time.Since(begin); took > tt.limit {
						t.Fatalf("Get and Put took %v", took)
					}
					if tt.serve && !ok {
						t.Fatalf("block %d is not served any more: %+v", i, c.Stats())
					}
				}
			}
			waitState(t, c, tt.state)
			if got := log.count("WARN"); got > 3 || (tt.state != StateOK && got == 0) {
				t.Errorf("%d warnings: %s", got, log.b.String())
			}
			d.Heal()
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			// The disk is back: what was on it is there.
			c = mustOpen(t, d.Dir, Options{Quota: 32 * mib, SegmentSize: 2 * mib})
			have := 0
			for i := range n {
				if check(t, c, fixedBlock(i, 100_000)) {
					have++
				}
			}
			if have < n && tt.name != "full" {
				t.Errorf("%d of %d blocks are there after the disk came back", have, n)
			}
			mustClose(t, c)
		})
	}
}

// A disk that hangs holds up neither Open beyond its context, nor Close for ever.
func TestHangingOpenAndClose(t *testing.T) {
	folder := t.TempDir()
	build(t, folder, 100)
	d := faultdisk.New(t, folder)
	d.FailReads(faultdisk.Hang)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := Open(ctx, d.Dir, Options{Quota: 64 * mib}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Open = %v; want the context's error", err)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("Open took %v", took)
	}
	d.Heal()

	var c *Cache
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		var err error
		if c, err = Open(t.Context(), d.Dir, Options{Quota: 64 * mib}); err == nil {
			break
		} else if time.Now().After(end) { // the abandoned one has to end first
			t.Fatal(err)
		}
	}
	d.FailWrites(faultdisk.Hang)
	b := fixedBlock(10_000, 1000)
	c.Put(digest.Of(b), b, false)
	begin = time.Now()
	if err := c.Close(); err == nil {
		t.Error("Close on a hanging disk returns no error")
	}
	if took := time.Since(begin); took > closeLimit+30*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// A Get that is not wanted any more does not wait for the disk.
func TestGetHonoursContext(t *testing.T) {
	d := faultdisk.New(t, t.TempDir())
	c := mustOpen(t, d.Dir, Options{ReadLimit: time.Minute})
	b := fixedBlock(1, 1000)
	sum := put(t, c, b, false)
	flush(t, c)
	d.FailReads(faultdisk.Hang)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, ok := c.Get(ctx, sum, nil); ok || time.Since(begin) > 30*time.Second {
		t.Errorf("Get = %v after %v", ok, time.Since(begin))
	}
	if s := c.Stats(); s.State != StateOK || s.ReadTimeouts != 0 {
		t.Errorf("%+v", s)
	}
	d.Heal()
	if !check(t, c, b) {
		t.Error("the block is not there any more")
	}
}

// Reads that are given up at the same time are one failure of the disk.
func TestHangsCountOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Cache{opt: Options{ReadLimit: time.Second}, log: slog.New(slog.DiscardHandler), state: StateOK}
		for round := range maxHangs {
			time.Sleep(time.Second)
			if c.state != StateOK {
				t.Fatalf("out of service after %d rounds", round)
			}
			for range 20 {
				c.readFailed(t.Context(), key{}, location{}, errHangs)
			}
		}
		if c.state != StateFailed {
			t.Errorf("state %s after %d rounds", c.state, maxHangs)
		}
	})
}

// extDisk mounts a new ext4 filesystem.
func extDisk(t *testing.T, size int64) string {
	t.Helper()
	return newDisk(t, size, "/sbin/mkfs.ext4", "-q", "-F", "-m", "0")
}

// newDisk mounts a new filesystem that mkfs makes.
func newDisk(t *testing.T, size int64, mkfs ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a loop device and a mount")
	}
	img, dir := filepath.Join(t.TempDir(), "disk.img"), filepath.Join(t.TempDir(), "disk")
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	if err := errors.Join(os.WriteFile(img, nil, 0o600), os.Truncate(img, size), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	run(mkfs[0], append(mkfs[1:], img)...)
	run("mount", "-o", "loop", img, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			unix.Unmount(dir, unix.MNT_DETACH)
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// A disk of 100 MB is enough. When others fill it, the cache goes on with what
// it has, and does not take the last of the room.
func TestSmallDiskFilledByOthers(t *testing.T) {
	t.Run("ext4", func(t *testing.T) { filledByOthers(t, extDisk(t, 100*mib)) })
	// On btrfs even deleting needs room.
	t.Run("btrfs", func(t *testing.T) { filledByOthers(t, newDisk(t, 160*mib, "/sbin/mkfs.btrfs", "-q", "-f", "-M")) })
}

func filledByOthers(t *testing.T, dir string) {
	folder := filepath.Join(dir, "inetboot-cache")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	var log lines
	c, err := Open(t.Context(), folder, Options{Logger: log.logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if s := c.Stats(); s.State != StateOK || s.Quota < 60*mib {
		t.Fatalf("on a disk of 100 MB: %+v", s)
	}
	for i := range 700 { // some 70 MB
		put(t, c, fixedBlock(i, 100_000), i < 100)
	}
	flush(t, c)
	full := c.Stats()
	if full.Bytes < 55*mib || full.Refused > 0 {
		t.Errorf("%+v", full)
	}

	other, err := os.Create(filepath.Join(dir, "movie"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	chunk := make([]byte, 256<<10)
	for err == nil {
		_, err = other.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk ends with %v", err)
	}
	for i := 1000; i < 1600; i++ {
		if i%50 == 0 {
			c.WaitRoom(t.Context(), 100_000) // whether it takes it or not is its own affair
		}
		b := fixedBlock(i, 100_000)
		c.Put(digest.Of(b), b, false)
		check(t, c, b) // must not fail the test by wrong bytes
	}
	flush(t, c)
	s := c.Stats()
	t.Logf("before: %+v; after others filled the disk: %+v", full, s)
	if s.State != StateOK || s.Bytes > full.Bytes || s.Bytes < full.Bytes/2 || s.Writes == full.Writes {
		t.Errorf("after the disk was filled: %+v", s)
	}
	for i := range 100 {
		if !check(t, c, fixedBlock(i, 100_000)) {
			t.Errorf("boot block %d is gone", i)
		}
	}
	mustClose(t, c)
	if n := log.count("WARN"); n > 1 {
		t.Errorf("%d warnings: %s", n, log.b.String())
	}
	// At the next opening it gives back what it has too much.
	c = mustOpen(t, folder, Options{Quota: 16 * mib})
	put(t, c, fixedBlock(5000, 100_000), false)
	flush(t, c)
	if use := diskUse(t, folder); use > 16*mib {
		t.Errorf("the folder takes %d bytes, quota 16 MiB", use)
	}
	mustClose(t, c)
}

// shutdown cuts a filesystem off from its disk: EXT4_IOC_SHUTDOWN.
func shutdown(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	noLog := uint32(2)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), 0x8004587d, uintptr(unsafe.Pointer(&noLog))); errno != 0 {
		t.Fatalf("shut the filesystem down: %v", errno)
	}
}

// A stick that is pulled out, and one that was mounted read-only.
func TestDiskGone(t *testing.T) {
	for _, tt := range []struct {
		name string
		act  func(t *testing.T, dir string)
	}{
		{"pulled out", shutdown},
		{"read-only", func(t *testing.T, dir string) {
			if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := extDisk(t, 100*mib)
			var log lines
			c, err := Open(t.Context(), dir, Options{SyncEvery: 20 * time.Millisecond, Logger: log.logger()})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				put(t, c, fixedBlock(i, 100_000), false)
			}
			flush(t, c)
			if tt.name == "read-only" { // a mount cannot become read-only under open files
				mustClose(t, c)
			}
			tt.act(t, dir)
			if tt.name == "read-only" {
				if c, err = Open(t.Context(), dir, Options{Logger: log.logger()}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 100 {
				b := fixedBlock(2000+i, 100_000)
				c.Put(digest.Of(b), b, false)
			}
			if tt.name == "read-only" {
				for i := range 100 {
					if !check(t, c, fixedBlock(i, 100_000)) {
						t.Errorf("block %d is not served from a read-only disk", i)
					}
				}
				waitState(t, c, StateReadOnly)
			} else {
				for i := range 100 {
					check(t, c, fixedBlock(i, 100_000))
				}
				for end := time.Now().Add(10 * time.Second); c.Stats().State == StateOK && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
				}
				if s := c.Stats(); s.State == StateOK {
					t.Errorf("%+v", s)
				}
			}
			if n := log.count("WARN"); n < 1 || n > 3 {
				t.Errorf("%d warnings: %s", n, log.b.String())
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
