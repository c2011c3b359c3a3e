package cache

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/inetboot/inetboot/internal/digest"
)

// Everything at once, while segments come and go.
func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	const quota = 12 * mib
	c := mustOpen(t, dir, Options{Quota: quota, Queue: mib, SyncEvery: 10 * time.Millisecond})
	var wg sync.WaitGroup
	for g := range 6 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(g), 1))
			buf := make([]byte, 64<<10)
			for range 500 {
				i := rnd.IntN(1500)
				b := fixedBlock(i, 1+i*37%40_000)
				sum := digest.Of(b)
				switch got, ok := c.Get(t.Context(), sum, buf); {
				case ok && !bytes.Equal(got, b):
					t.Errorf("block %d is wrong", i)
				case !ok:
					if err := c.WaitRoom(t.Context(), len(b)); err != nil {
						t.Error(err)
					}
					c.Put(sum, b, i%10 == 0)
				case i%100 == 7:
					c.Drop(sum)
				case i%50 == 3:
					c.MarkBoot(sum)
				}
				c.Has(sum)
				c.Stats()
			}
		})
	}
	wg.Go(func() {
		for i := range 20 {
			content := fixedBlock(i, mib)
			p := putFile(t, c, content)
			if f, _, err := c.OpenFile(p); err == nil {
				if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, content) {
					t.Errorf("file %d is wrong, %v", i, err)
				}
				f.Close()
			} else if !errors.Is(err, ErrNotCached) { // it may have made room already
				t.Error(err)
			}
			if i%3 == 0 {
				c.Keep(p)
			}
			if i%4 == 0 {
				if err := c.RemoveFile(t.Context(), p); err != nil {
					t.Error(err)
				}
			}
			flush(t, c)
			if use := diskUse(t, dir); use > quota {
				t.Errorf("the folder takes %d bytes, quota %d", use, quota)
			}
		}
	})
	wg.Wait()
	s := c.Stats()
	t.Logf("%+v", s)
	if s.State != StateOK || s.Evicted == 0 || s.Hits == 0 {
		t.Errorf("%+v", s)
	}
	mustClose(t, c)
	c = mustOpen(t, dir, Options{Quota: quota})
	if again := c.Stats(); again.Blocks < s.Blocks || again.FileSize != s.FileSize {
		t.Errorf("before closing %+v; after opening %+v", s, again)
	}
}

// A folder in memory is a folder like any other.
func TestInMemory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a tmpfs mount")
	}
	dir := filepath.Join(t.TempDir(), "ram")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("inetboot", dir, "tmpfs", 0, "size=100m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !c.disk.memory || c.Stats().Quota < 80*mib || c.Stats().Quota > 100*mib {
		t.Errorf("memory %v, %+v", c.disk.memory, c.Stats())
	}
	for i := range 1500 {
		put(t, c, fixedBlock(i, 100_000), i < 50)
	}
	flush(t, c)
	if s := c.Stats(); s.Refused != 0 || s.State != StateOK || s.Bytes < 60*mib {
		t.Errorf("%+v", s)
	}
	for i := range 50 {
		if !check(t, c, fixedBlock(i, 100_000)) {
			t.Errorf("boot block %d is gone", i)
		}
	}
	mustClose(t, c)
}

// The disk as it is at a moment in the middle of writing, as after a loss of
// power: what was flushed is there, what is damaged is found out.
func TestPowerLoss(t *testing.T) {
	dir := extDisk(t, 64*mib)
	out, err := exec.CommandContext(t.Context(), "findmnt", "-no", "SOURCE", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	device := string(bytes.TrimSpace(out))
	c := mustOpen(t, dir, Options{Quota: 40 * mib, SegmentSize: 4 * mib})
	next := 0
	for round := range 4 {
		flushed := next
		for range 60 {
			put(t, c, fixedBlock(next, 50_000), false)
			next++
			if next%25 == 0 {
				flush(t, c)
				flushed = next
			}
		}
		img, mnt := filepath.Join(t.TempDir(), "copy.img"), filepath.Join(t.TempDir(), "copy")
		if err := os.Mkdir(mnt, 0o700); err != nil {
			t.Fatal(err)
		}
		c.writing <- struct{}{} // so that the copy is of one moment
		for _, cmd := range [][]string{{"dd", "if=" + device, "of=" + img, "bs=1M", "iflag=direct", "status=none"}, {"mount", "-o", "loop", img, mnt}} {
			if out, err := exec.CommandContext(t.Context(), cmd[0], cmd[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", cmd, err, out)
			}
		}
		<-c.writing
		func() {
			defer func() {
				if err := unix.Unmount(mnt, 0); err != nil {
					unix.Unmount(mnt, unix.MNT_DETACH)
					t.Error(err)
				}
			}()
			after, err := Open(t.Context(), mnt, Options{Quota: 40 * mib, SegmentSize: 4 * mib, Logger: testLog(t)})
			if err != nil {
				t.Fatal(err)
			}
			bad := 0
			for i := range next {
				if !check(t, after, fixedBlock(i, 50_000)) {
					if bad++; i < flushed {
						t.Errorf("round %d: block %d was flushed and is gone", round, i)
					}
				}
			}
			t.Logf("round %d: %d blocks written, %d flushed, %d lost", round, next, flushed, bad)
			if s := after.Stats(); s.State != StateOK {
				t.Errorf("%+v", s)
			}
			for i := range next { // and goes on
				if !after.Has(digest.Of(fixedBlock(i, 50_000))) {
					put(t, after, fixedBlock(i, 50_000), false)
				}
			}
			if err := errors.Join(after.Flush(t.Context()), after.Close()); err != nil {
				t.Error(err)
			}
		}()
	}
	mustClose(t, c)
}

// The index has to be small: the daemon that has it locks its memory.
func TestIndexMemory(t *testing.T) {
	c := mustOpen(t, t.TempDir(), Options{})
	heap := func() int64 {
		for range 3 { // what is in pools is freed by the second
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	c.mu.Lock()
	c.segs[1] = &segment{id: 1, sealed: true}
	before := heap()
	const n = defaultMaxBlocks
	var most int64
	for i := range n {
		c.insert(keyOf(digest.Of(fmt.Append(nil, i))), location{seg: 1, page: uint32(i), length: 90_000})
		if i%(n/8) == n/8-1 {
			most = max(most, heap()-before)
		}
	}
	per := float64(heap()-before) / n
	c.segs = map[uint32]*segment{}
	c.index = map[key]location{}
	c.mu.Unlock()
	t.Logf("%d blocks: %.1f bytes each; at most %d kB on the way", n, per, most>>10)
	if per > 64 || most > 12*mib {
		t.Errorf("%.1f bytes for each block, at most %d kB", per, most>>10)
	}
}
