package cachedisk

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/faultdisk"
)

const mib = 1 << 20

func mkfs(fstype string) []string {
	switch fstype {
	case Ext2, Ext3, Ext4:
		return []string{"mkfs." + fstype, "-q", "-F"}
	case XFS:
		return []string{"mkfs.xfs", "-q", "-f"}
	default:
		return []string{"mkfs.btrfs", "-q", "-f"}
	}
}

// size is what mkfs accepts at least, about.
func size(fstype string) int64 {
	switch fstype {
	case XFS:
		return 320 * mib
	case Btrfs:
		return 128 * mib
	}
	return 64 * mib
}

func TestFindOnEachFilesystem(t *testing.T) {
	needRoot(t)
	for _, fstype := range []string{Ext2, Ext3, Ext4, XFS, Btrfs} {
		t.Run(fstype, func(t *testing.T) {
			m := newMachine(t)
			img := image(t, size(fstype), mkfs(fstype)...)
			fill(t, img, fstype, func(dir string) {
				if err := os.MkdirAll(filepath.Join(dir, "inetboot-cache", "store"), 0o700); err != nil {
					t.Fatal(err)
				}
			})
			m.attach(t, "sda1", img)
			for _, readOnly := range []bool{true, false} {
				o := Options{Dir: m.dir, ReadOnly: readOnly, SysDir: m.sys, DevDir: m.dev, Log: func(s string) { t.Log(s) }}
				f, err := Find(t.Context(), o)
				if err != nil {
					t.Fatalf("Find(read-only %v) = %v", readOnly, err)
				}
				if f.Type != fstype || f.Writable == readOnly || f.Free < 20*mib || f.UUID == "" {
					t.Errorf("Find(read-only %v) = %+v", readOnly, f)
				}
				lines := m.mounts(t)
				if len(lines) != 1 || !strings.Contains(lines[0], "nosuid,nodev,noexec,noatime") {
					t.Errorf("mounts are %q", lines)
				}
				if err := os.WriteFile(filepath.Join(f.Folder, "x"), []byte("x"), 0o600); (err == nil) == readOnly {
					t.Errorf("writing to the folder mounted read-only %v: %v", readOnly, err)
				}
				if err := f.Unmount(); err != nil {
					t.Error(err)
				}
			}
			if lines := m.mounts(t); len(lines) != 0 {
				t.Errorf("left mounted: %q", lines)
			}
		})
	}
}

// withFolder makes an ext4 disk that has the folder.
func withFolder(t *testing.T, size int64, name string) string {
	t.Helper()
	img := image(t, size, mkfs(Ext4)...)
	fill(t, img, Ext4, func(dir string) {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	})
	return img
}

func TestFindChooses(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	small, large, other := withFolder(t, 48*mib, "inetboot-cache"), withFolder(t, 64*mib, "knxblock"), image(t, 80*mib, mkfs(Ext4)...)
	m.attach(t, "sda1", other)
	m.attach(t, "sdb1", small)
	m.attach(t, "sdc1", large)
	before := map[string]string{}
	for _, img := range []string{small, other} {
		before[img] = tool(t, "sha256sum", img)
	}
	o := Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev, Log: func(s string) { t.Log(s) }}

	f, err := Find(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if f.Name != "sdc1" || filepath.Base(f.Folder) != "knxblock" || len(m.mounts(t)) != 1 {
		t.Errorf("Find = %+v, mounts %q; want the one with the most room alone", f, m.mounts(t))
	}
	if err := f.Unmount(); err != nil {
		t.Fatal(err)
	}
	for img, sum := range before {
		if tool(t, "sha256sum", img) != sum {
			t.Errorf("a disk that was only looked at was written to")
		}
	}

	file, err := os.Open(small)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	sb, err := Probe(file, 48*mib)
	if err != nil {
		t.Fatal(err)
	}
	o.UUID = sb.UUID
	if f, err = Find(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if f.Name != "sdb1" || len(m.mounts(t)) != 1 {
		t.Errorf("Find with the UUID = %+v, mounts %q; want that disk alone", f, m.mounts(t))
	}
	if err := f.Unmount(); err != nil {
		t.Fatal(err)
	}
}

func TestFindNothing(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	m.attach(t, "sda1", image(t, 64*mib, mkfs(Ext4)...))
	m.attach(t, "sdb", image(t, 8*mib))
	link := image(t, 64*mib, mkfs(Ext4)...)
	fill(t, link, Ext4, func(dir string) {
		if err := os.Symlink("/etc", filepath.Join(dir, "inetboot-cache")); err != nil {
			t.Fatal(err)
		}
	})
	m.attach(t, "sdc1", link)
	m.list(t, "sdd", 64*mib) // without a node in /dev
	if _, err := Find(t.Context(), Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev}); !errors.Is(err, ErrNone) {
		t.Errorf("Find = %v; want ErrNone", err)
	}
	if lines := m.mounts(t); len(lines) != 0 {
		t.Errorf("left mounted: %q", lines)
	}
}

// dirty makes a disk as a machine leaves it that loses its power: with a journal to
// replay.
func dirty(t *testing.T, fstype string) string {
	t.Helper()
	img := image(t, size(fstype), mkfs(fstype)...)
	crashed := img + ".crashed"
	fill(t, img, fstype, func(dir string) {
		if err := os.Mkdir(filepath.Join(dir, "inetboot-cache"), 0o700); err != nil {
			t.Fatal(err)
		}
	})
	fill(t, img, fstype, func(dir string) {
		if err := os.WriteFile(filepath.Join(dir, "inetboot-cache", "x"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		tool(t, "sync", filepath.Join(dir, "inetboot-cache", "x"))
		tool(t, "cp", "--sparse=always", img, crashed)
	})
	return crashed
}

// A journal is replayed on the disk that is chosen for writing, and on no other.
func TestFindDirty(t *testing.T) {
	needRoot(t)
	for _, fstype := range []string{Ext3, Ext4, XFS, Btrfs} {
		t.Run(fstype, func(t *testing.T) {
			m := newMachine(t)
			img := dirty(t, fstype)
			if sb, err := probeFile(t, img); err != nil || sb.Dirty != (fstype == Ext3 || fstype == Ext4) {
				t.Fatalf("Probe = %+v, %v", sb, err)
			}
			before := tool(t, "sha256sum", img)
			m.attach(t, "sda1", img)
			o := Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev, ReadOnly: true, Log: func(s string) { t.Log(s) }}
			f, err := Find(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Unmount(); err != nil {
				t.Fatal(err)
			}
			if tool(t, "sha256sum", img) != before {
				t.Error("looking at a disk has changed it")
			}
			o.ReadOnly = false
			if f, err = Find(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			defer f.Unmount()
			if b, err := os.ReadFile(filepath.Join(f.Folder, "x")); err != nil || string(b) != "x" || !f.Writable {
				t.Errorf("the file that was synced before the crash: %q, %v; writable %v", b, err, f.Writable)
			}
		})
	}
}

// A filesystem that cannot be mounted is passed over; one that cannot be
// written to is there for reading.
func TestFindBroken(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	bad := withFolder(t, 64*mib, "inetboot-cache")
	patch(t, bad, 2048, make([]byte, 4096)) // the group descriptors
	m.attach(t, "sda1", bad)
	m.attach(t, "sdb1", withFolder(t, 64*mib, "inetboot-cache"), "--read-only")
	var logged, loaded []string
	var mu sync.Mutex
	f, err := Find(t.Context(), Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev,
		Log: func(s string) { logged = append(logged, s) },
		Load: func(fstype string) error {
			mu.Lock()
			defer mu.Unlock()
			loaded = append(loaded, fstype)
			return errors.New("no such module")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Unmount()
	if f.Name != "sdb1" || f.Writable {
		t.Errorf("Find = %+v; want the write-protected disk, for reading", f)
	}
	all := strings.Join(logged, "\n")
	if !strings.Contains(all, "sda1") || !strings.Contains(all, "can only be read") {
		t.Errorf("logged %q; want words about both", all)
	}
	if len(loaded) < 2 || loaded[0] != Ext4 {
		t.Errorf("modules asked for: %v", loaded)
	}
}

func TestFindNoRoom(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	m.attach(t, "sda1", withFolder(t, 24*mib, "inetboot-cache"))
	if _, err := Find(t.Context(), Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev}); !errors.Is(err, ErrNoRoom) {
		t.Errorf("Find = %v; want ErrNoRoom", err)
	}
	if lines := m.mounts(t); len(lines) != 0 {
		t.Errorf("left mounted: %q", lines)
	}
	// What is there already can be read all the same.
	f, err := Find(t.Context(), Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev, ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Unmount(); err != nil {
		t.Error(err)
	}
}

func TestFindWaits(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	img := withFolder(t, 64*mib, "inetboot-cache")
	m.list(t, "sda", 64*mib) // the kernel lists it before its node is there
	done := make(chan error, 1)
	go func() {
		f, err := Find(t.Context(), Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev, Wait: 20 * time.Second})
		if err == nil {
			err = f.Unmount()
		}
		done <- err
	}()
	time.Sleep(300 * time.Millisecond)
	m.attach(t, "sdb1", img)
	if err := <-done; err != nil {
		t.Errorf("Find = %v; want the disk that came late", err)
	}
}

// hanging lists a disk that never answers a read, as broken hardware does.
func (m machine) hanging(t *testing.T, name string) {
	t.Helper()
	back := t.TempDir()
	if err := os.WriteFile(filepath.Join(back, "node"), make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	d := faultdisk.New(t, back)
	d.FailReads(faultdisk.Hang)
	m.list(t, name, 64*mib)
	if err := os.Symlink(filepath.Join(d.Dir, "node"), filepath.Join(m.dev, name)); err != nil {
		t.Fatal(err)
	}
}

func TestFindPassesOverHangingDisk(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	m.hanging(t, "sda1")
	m.attach(t, "sdb1", withFolder(t, 64*mib, "inetboot-cache"))
	var logged []string
	start := time.Now()
	f, err := Find(t.Context(), Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev, Limit: time.Second, Log: func(s string) { logged = append(logged, s) }})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Unmount()
	if took := time.Since(start); took > 60*time.Second {
		t.Errorf("Find took %v", took)
	}
	if all := strings.Join(logged, "\n"); !strings.Contains(all, "sda1") || !strings.Contains(all, "does not answer") {
		t.Errorf("logged %q; want a word about sda1", all)
	}
}

func TestFindHonoursContext(t *testing.T) {
	needRoot(t)
	m := newMachine(t)
	m.hanging(t, "sda1")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := Find(ctx, Options{Dir: m.dir, SysDir: m.sys, DevDir: m.dev}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Find = %v; want the context's error", err)
	}
	if took := time.Since(start); took > 8*time.Second { // it looks for 10 s else
		t.Errorf("Find took %v", took)
	}
}
