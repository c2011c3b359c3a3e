package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
)

const mib = 1 << 20

// noise is what blocks are made of.
var noise = sync.OnceValue(func() []byte {
	b := make([]byte, 3*mib)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return b
})

// testBlock returns the bytes of block i: what the tests store, and hash, as
// the cache cares for neither codec nor content.
func testBlock(i int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(i), 7))
	n := 1 + rnd.IntN(180<<10)
	if i%13 == 0 {
		n = 1 + rnd.IntN(maxPayload)
	}
	return fixedBlock(i, n)
}

// fixedBlock is a block of n bytes.
func fixedBlock(i, n int) []byte {
	from := i * 7919 % mib
	b := make([]byte, 0, n+8)
	for len(b) < n {
		b = append(b, noise()[from:min(from+n-len(b), 3*mib)]...)
	}
	copy(b, binary.LittleEndian.AppendUint64(nil, uint64(i)))
	return b
}

// testLog shows the cache's messages in the test's output.
func testLog(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, nil))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", bytes.TrimSpace(b))
	return len(b), nil
}

func mustOpen(t testing.TB, dir string, o Options) *Cache {
	t.Helper()
	if o.Quota == 0 {
		o.Quota = 256 * mib
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	c, err := Open(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func mustClose(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

// put stores a block however long it takes.
func put(t testing.TB, c *Cache, b []byte, boot bool) digest.SHA256 {
	t.Helper()
	if err := c.WaitRoom(t.Context(), len(b)); err != nil {
		t.Fatal(err)
	}
	sum := digest.Of(b)
	if !c.Put(sum, b, boot) {
		t.Fatalf("Put refuses although there is room: %+v", c.Stats())
	}
	return sum
}

func flush(t testing.TB, c *Cache) {
	t.Helper()
	if err := c.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// check gets a block as blockfs does. It returns whether the cache had it.
func check(t testing.TB, c *Cache, b []byte) bool {
	t.Helper()
	sum := digest.Of(b)
	got, ok := c.Get(t.Context(), sum, nil)
	if ok && !bytes.Equal(got, b) {
		c.Drop(sum)
		return false
	}
	return ok
}

// diskUse adds up what the folder takes.
func diskUse(t testing.TB, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if st, err := e.Info(); err == nil && st.Mode().IsRegular() {
			sum += roundUp(st.Size())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestPutGetReopen(t *testing.T) {
	dir := t.TempDir()
	const n = 100
	for session := range 3 {
		c := mustOpen(t, dir, Options{SegmentSize: 4 * mib, Logger: testLog(t)})
		if session > 0 {
			if c.Len() != n*session/2+n/2 {
				t.Errorf("session %d opens %d blocks", session, c.Len())
			}
			for i := range n * (session + 1) / 2 {
				if !check(t, c, testBlock(i)) {
					t.Fatalf("session %d: block %d is not there", session, i)
				}
			}
		}
		for i := n * session / 2; i < n*(session+2)/2; i++ {
			put(t, c, testBlock(i), i%10 == 0)
			if !check(t, c, testBlock(i)) {
				t.Fatalf("block %d, just put, is not there", i)
			}
		}
		flush(t, c)
		for i := range n * (session + 2) / 2 {
			if !check(t, c, testBlock(i)) || !c.Has(digest.Of(testBlock(i))) {
				t.Fatalf("block %d is not there", i)
			}
		}
		if _, ok := c.Get(t.Context(), digest.Of([]byte("never stored")), nil); ok {
			t.Error("a block that was never stored is there")
		}
		if s := c.Stats(); s.State != StateOK || s.Bytes != diskUse(t, filepath.Join(dir, "segments")) || s.Refused != 0 || s.Misses != 1 {
			t.Errorf("stats %+v; the folder has %d bytes", s, diskUse(t, dir))
		}
		mustClose(t, c)
	}
}

func TestOpenRefuses(t *testing.T) {
	if _, err := Open(t.Context(), filepath.Join(t.TempDir(), "missing"), Options{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a missing folder = %v", err)
	}
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	if _, err := Open(t.Context(), dir, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("Open of a cache in use = %v; want ErrInUse", err)
	}
	mustClose(t, c)
	mustOpen(t, dir, Options{})
}

func TestQueueIsBounded(t *testing.T) {
	c := mustOpen(t, t.TempDir(), Options{Queue: mib})
	c.writing <- struct{}{} // the writer stands still
	var taken, bytes int
	for i := range 100 {
		if b := fixedBlock(i, 100<<10); c.Put(digest.Of(b), b, false) {
			taken++
			bytes += len(b)
		}
	}
	if s := c.Stats(); taken == 0 || bytes > mib || s.Refused != int64(100-taken) || s.Queued > mib {
		t.Errorf("%d blocks of %d bytes were taken, stats %+v", taken, bytes, s)
	}
	for i := range taken {
		if !check(t, c, fixedBlock(i, 100<<10)) {
			t.Errorf("block %d, in the queue, is not served", i)
		}
	}
	<-c.writing
	flush(t, c)
	if c.Len() != taken {
		t.Errorf("%d blocks were taken, %d are there", taken, c.Len())
	}
}

// Whatever is put in, the folder never takes more than the quota, and boots'
// blocks stay.
func TestQuotaAndBootBlocks(t *testing.T) {
	for _, quota := range []int64{16 * mib, 100 * mib} {
		t.Run(fmt.Sprint(quota>>20), func(t *testing.T) {
			dir := t.TempDir()
			o := Options{Quota: quota, Logger: testLog(t)}
			c := mustOpen(t, dir, o)
			var boot []int
			var bootBytes int64
			for i := range int(quota / (80 << 10)) { // some 1.6 times the quota
				b := testBlock(i)
				isBoot := bootBytes+recordLen(len(b)) < quota*2/5 && i%3 == 0
				if isBoot {
					boot = append(boot, i)
					bootBytes += recordLen(len(b))
				}
				put(t, c, b, isBoot)
				if i%20 == 0 {
					if use := diskUse(t, dir); use > quota {
						t.Fatalf("after %d blocks the folder takes %d bytes, quota %d", i, use, quota)
					}
				}
			}
			flush(t, c)
			s := c.Stats()
			if s.Evicted == 0 || s.Copied == 0 || s.Refused != 0 || s.Bytes > quota || s.Bytes < quota*2/3 {
				t.Errorf("stats %+v", s)
			}
			for range 2 {
				for _, i := range boot {
					if !check(t, c, testBlock(i)) {
						t.Errorf("boot block %d is gone", i)
					}
				}
				mustClose(t, c)
				if use := diskUse(t, dir); use > quota {
					t.Errorf("after closing the folder takes %d bytes, quota %d", use, quota)
				}
				c = mustOpen(t, dir, o)
			}
		})
	}
}

// Blocks that an old boot read make room for those of newer boots.
func TestOldBootsGoFirst(t *testing.T) {
	dir := t.TempDir()
	const quota, size = 32 * mib, 60 << 10
	perBoot := int(quota * 45 / 100 / recordLen(size))
	for session := range 3 {
		c := mustOpen(t, dir, Options{Quota: quota})
		for i := range perBoot {
			put(t, c, fixedBlock(session*10_000+i, size), true)
		}
		flush(t, c)
		if s := c.Stats(); s.Bytes > quota || s.Refused != 0 {
			t.Errorf("session %d: %+v", session, s)
		}
		have := 0
		for i := range perBoot {
			if check(t, c, fixedBlock(session*10_000+i, size)) {
				have++
			}
		}
		if have != perBoot {
			t.Errorf("session %d has %d of its %d boot blocks", session, have, perBoot)
		}
		mustClose(t, c)
	}
}

// MarkBoot saves blocks that were stored without the flag, after a restart too.
func TestMarkBoot(t *testing.T) {
	dir := t.TempDir()
	const quota, size = 32 * mib, 60 << 10
	c := mustOpen(t, dir, Options{Quota: quota})
	var marked []digest.SHA256
	for i := range 200 {
		sum := put(t, c, fixedBlock(i, size), false)
		if i%4 == 0 {
			marked = append(marked, sum)
		}
	}
	c.MarkBoot(marked...)
	mustClose(t, c)
	for session := range 4 {
		c = mustOpen(t, dir, Options{Quota: quota})
		for i := range 800 {
			put(t, c, fixedBlock(100_000*(session+1)+i, size), false)
		}
		flush(t, c)
		for i := 0; i < 200; i += 4 {
			if !check(t, c, fixedBlock(i, size)) {
				t.Errorf("session %d: marked block %d is gone", session, i)
			}
		}
		mustClose(t, c)
	}
}

func TestIndexIsBounded(t *testing.T) {
	dir := t.TempDir()
	o := Options{Quota: 64 * mib, MaxBlocks: 500, SegmentSize: 2 * mib}
	c := mustOpen(t, dir, o)
	for i := range 3000 {
		put(t, c, fixedBlock(i, 1000), i%2 == 0)
		if n := c.Len(); n > 500 {
			t.Fatalf("%d blocks in the index", n)
		}
	}
	flush(t, c)
	if c.Len() < 100 || c.Stats().Refused != 0 {
		t.Errorf("%+v", c.Stats())
	}
	mustClose(t, c)
	o.MaxBlocks = 50
	if c = mustOpen(t, dir, o); c.Len() > 50 {
		t.Errorf("%d blocks after opening with a smaller limit", c.Len())
	}
	put(t, c, fixedBlock(9000, 1000), false)
	flush(t, c)
	if !check(t, c, fixedBlock(9000, 1000)) || c.Len() > 50 {
		t.Errorf("the new block is not there, or the limit is not kept: %+v", c.Stats())
	}
}

// An idle cache does nothing.
func TestTimesOfUse(t *testing.T) {
	dir := t.TempDir()
	c := mustOpen(t, dir, Options{})
	put(t, c, fixedBlock(1, 1000), false)
	mustClose(t, c)
	name := filepath.Join(dir, "segments", "00000001.seg")
	old := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, dir, Options{}))
	if st, err := os.Stat(name); err != nil || !st.ModTime().Equal(old) {
		t.Errorf("a segment that was not used has the time %v, %v; want %v", st.ModTime(), err, old)
	}
	c = mustOpen(t, dir, Options{})
	if !check(t, c, fixedBlock(1, 1000)) {
		t.Error("block is gone")
	}
	mustClose(t, c)
	if st, err := os.Stat(name); err != nil || !st.ModTime().After(old) {
		t.Errorf("a segment that was used has the time %v, %v", st.ModTime(), err)
	}
}
