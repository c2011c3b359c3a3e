package faulttest

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/blockfs/read/readtest"
)

// TestDiskFullAndGone puts the cache on a disk that is then filled up by
// somebody else, and in the end torn away while blocks are written to it.
func TestDiskFullAndGone(t *testing.T) {
	prog := program(t)
	store := t.TempDir()
	contents := [2][]byte{readtest.Mixed(100_000, 1), readtest.Mixed(120<<20, 2)}
	im := image{meta: readtest.Write(t, store, contents[0]), data: readtest.Write(t, store, contents[1])}
	srv := newServer(t, store)

	file := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(128<<20), f.Close()); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", file).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	out, err := exec.Command("losetup", "--show", "-f", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() { _ = exec.Command("losetup", "-d", dev).Run() })
	disk := mkdir(t, "disk")
	if err := unix.Mount(dev, disk, "ext4", unix.MS_NOATIME, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	cache := filepath.Join(disk, "inetboot-cache")
	status := filepath.Join(t.TempDir(), "status")
	d := startMount(t, prog, mkdir(t, "mnt"), im, "--store", srv.url(), "--patience", "20s", "--memory", "8", "--cache", cache, "--status", status)
	abortAfter(t, d, 5*time.Minute)
	readAll := func(when string) {
		t.Helper()
		f, err := os.Open(filepath.Join(d.dir, "data"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		got.Grow(len(contents[1]))
		if _, err := io.Copy(&got, f); err != nil {
			t.Fatalf("%s: read: %v", when, err)
		}
		if !bytes.Equal(got.Bytes(), contents[1]) {
			t.Fatalf("%s: wrong bytes", when)
		}
	}
	readAll("with room")
	if s := ask(t, prog, status); s.Cache == nil || s.Cache.Blocks == 0 {
		t.Fatalf("the cache is %+v; want some blocks", s.Cache)
	}

	// Somebody else fills the disk to the last byte.
	big, err := os.Create(filepath.Join(disk, "big"))
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 1<<20)
	for err = nil; err == nil; {
		_, err = big.Write(chunk)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	readAll("disk full")
	big.Close()
	if err := os.Remove(big.Name()); err != nil {
		t.Fatal(err)
	}
	readAll("room again")

	// The disk is gone: the device answers nothing but errors from now on.
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		t.Fatal(err)
	}
	shutdownExt4(t, disk)
	readAll("disk gone")
	if s := ask(t, prog, status); s.Cache.State == "ok" {
		t.Errorf("the cache is %+v; want it to be out of service", s.Cache)
	}
	t.Logf("at the end the cache is %+v", ask(t, prog, status).Cache)
}

// shutdownExt4 makes a mounted ext4 answer with errors, as after the loss of its device
// (EXT4_IOC_SHUTDOWN, Linux fs/ext4/ext4.h, without flushing anything).
func shutdownExt4(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const (
		ioctlShutdown = 0x8004587d // _IOR('X', 125, __u32)
		noLogFlush    = 2
	)
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ioctlShutdown, noLogFlush); err != nil {
		t.Fatalf("shut the disk down: %v", err)
	}
}
