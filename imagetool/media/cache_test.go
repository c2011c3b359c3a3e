package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/inetboot/inetboot/internal/cachedisk"
)

// hybrid is the beginning of a medium: a partition table with two entries.
func hybrid(t *testing.T, length int64) string {
	t.Helper()
	b := make([]byte, length)
	le := binary.LittleEndian
	for i, p := range []struct {
		typ         byte
		start, size uint32
	}{{0x83, 0, uint32(length/512) - 100}, {0xef, uint32(length/512) - 100, 100}} {
		e := b[mbrTable+i*mbrEntry:]
		e[4] = p.typ
		le.PutUint32(e[8:], p.start)
		le.PutUint32(e[12:], p.size)
	}
	b[510], b[511] = 0x55, 0xaa
	name := filepath.Join(t.TempDir(), "stick.img")
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// checkFAT has dosfstools, mtools and our own prober look at a file system.
func checkFAT(t *testing.T, part string, size int64) {
	t.Helper()
	if out, err := exec.Command("fsck.fat", "-n", "-v", part).CombinedOutput(); err != nil {
		t.Errorf("fsck.fat of %d bytes: %v\n%s", size, err, out)
	}
	out, err := exec.Command("mdir", "-i", part, "-b", "::").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "::/"+CacheFolder+"/") {
		t.Errorf("mdir: %v\n%s", err, out)
	}
	p, err := os.Open(part)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s, err := cachedisk.Probe(p, size)
	if err != nil || s.Type != cachedisk.FAT || s.Label != "INETBOOT" {
		t.Errorf("Probe() = %+v, %v", s, err)
	}
}

func TestFormatFAT(t *testing.T) {
	for _, size := range []int64{64 << 20, 300 << 20, 5 << 30, 40 << 30, 300 << 30} {
		part := filepath.Join(t.TempDir(), "part")
		f, err := os.Create(part)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(size), formatFAT(f, 0, size, 2048, false), f.Close()); err != nil {
			t.Fatal(err)
		}
		checkFAT(t, part, size)
	}
}

func TestCachePartition(t *testing.T) {
	const length, size = 5<<20 - 300<<10, 64 << 20
	name := hybrid(t, length)
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := addCache(f, length, size, false); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 512)
	if _, err := f.ReadAt(head, 0); err != nil {
		t.Fatal(err)
	}
	e := head[mbrTable+2*mbrEntry:]
	start, sectors := int64(binary.LittleEndian.Uint32(e[8:])), int64(binary.LittleEndian.Uint32(e[12:]))
	if e[4] != typeFAT32 || start*512 != 5<<20 || sectors*512 != size {
		t.Errorf("partition of type %#x from sector %d with %d", e[4], start, sectors)
	}
	if fi, err := f.Stat(); err != nil || fi.Size() != start*512+size {
		t.Errorf("file: %v, %v", fi, err)
	}
	part := filepath.Join(t.TempDir(), "part")
	data := make([]byte, size)
	if _, err := f.ReadAt(data, start*512); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(part, data, 0o644); err != nil {
		t.Fatal(err)
	}
	checkFAT(t, part, size)
}

func TestCachePartitionRefuses(t *testing.T) {
	const length = 5 << 20
	open := func(change func(b []byte)) *os.File {
		t.Helper()
		name := hybrid(t, length)
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		b := make([]byte, 512)
		if _, err := f.ReadAt(b, 0); err != nil {
			t.Fatal(err)
		}
		change(b)
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, tc := range []struct {
		name   string
		change func(b []byte)
		size   int64
		device bool
		want   error
	}{
		{"no table", func(b []byte) { b[510] = 0 }, 100 << 20, false, ErrNoTable},
		{"GPT", func(b []byte) { b[mbrTable+4] = 0xee }, 100 << 20, false, ErrNoTable},
		{"full table", func(b []byte) { b[mbrTable+2*mbrEntry+4], b[mbrTable+3*mbrEntry+4] = 1, 1 }, 100 << 20, false, ErrNoTable},
		{"too small", func([]byte) {}, 1 << 20, false, ErrCacheSize},
		{"rest of a file", func([]byte) {}, Rest, false, ErrCacheSize},
		{"larger than the device", func([]byte) {}, 100 << 20, true, ErrCacheSize},
	} {
		if err := addCache(open(tc.change), length, tc.size, tc.device); !errors.Is(err, tc.want) {
			t.Errorf("%s: addCache() = %v; want %v", tc.name, err, tc.want)
		}
	}
	// The rest of a device; what was on it before is wiped.
	f := open(func([]byte) {})
	if err := f.Truncate(200 << 20); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 3<<20), 5<<20+4096); err != nil {
		t.Fatal(err)
	}
	if err := addCache(f, length, Rest, true); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `dd if="$1" of="$1.part" bs=1M skip=5 2>&1 && fsck.fat -n "$1.part"`, "sh", f.Name()).CombinedOutput()
	if err != nil {
		t.Errorf("fsck.fat: %v\n%s", err, out)
	}
}
