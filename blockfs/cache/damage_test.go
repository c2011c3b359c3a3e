package cache

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
)

// segments lists the segment files.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "segments", "*.seg"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// build makes a cache of n blocks of some 24 KiB, closed.
func build(t testing.TB, dir string, n int) [][]byte {
	t.Helper()
	c := mustOpen(t, dir, Options{SegmentSize: 2 * mib})
	blocks := make([][]byte, n)
	for i := range blocks {
		blocks[i] = fixedBlock(i, 20_000+i*37%9000)
		put(t, c, blocks[i], i%5 == 0)
	}
	mustClose(t, c)
	return blocks
}

// repair gets all blocks, and stores anew what is bad or not there, as blockfs
// does. It returns how many that were.
func repair(t testing.TB, c *Cache, blocks [][]byte) int {
	t.Helper()
	n := 0
	for _, b := range blocks {
		if !check(t, c, b) {
			n++
			put(t, c, b, false)
		}
	}
	flush(t, c)
	for i, b := range blocks {
		if !check(t, c, b) {
			t.Errorf("block %d is still bad after its repair", i)
		}
	}
	return n
}

// flipByte changes one byte of a file.
func flipByte(t testing.TB, name string, rnd *rand.Rand) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	at := rnd.Int64N(st.Size())
	switch rnd.IntN(4) {
	case 0: // the table
		at = st.Size() - 1 - rnd.Int64N(min(st.Size(), 8000))
	case 1: // a header, probably
		at = at&^(pageSize-1) + rnd.Int64N(headerLen)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= byte(1 + rnd.IntN(255))
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

// A thousand bytes flipped, in turn under an open cache and under one that is
// opened afterwards: no wrong byte is taken for a right one by who verifies,
// and all is repaired for good.
func TestThousandFlips(t *testing.T) {
	dir := t.TempDir()
	blocks := build(t, dir, 250)
	rnd := rand.New(rand.NewPCG(1, 2))
	repaired := 0
	for round := range 20 {
		var c *Cache
		if round%2 == 0 {
			c = mustOpen(t, dir, Options{SegmentSize: 2 * mib})
		}
		for range 50 {
			list := segments(t, dir)
			flipByte(t, list[rnd.IntN(len(list))], rnd)
		}
		if c == nil {
			c = mustOpen(t, dir, Options{SegmentSize: 2 * mib})
		}
		n := repair(t, c, blocks)
		repaired += n
		if n > 150 {
			t.Errorf("round %d: 50 flips cost %d of %d blocks", round, n, len(blocks))
		}
		mustClose(t, c)
		c = mustOpen(t, dir, Options{SegmentSize: 2 * mib})
		for i, b := range blocks {
			if !check(t, c, b) {
				t.Fatalf("round %d: block %d is bad again after opening", round, i)
			}
		}
		if s := c.Stats(); s.Dropped != 0 || s.State != StateOK {
			t.Fatalf("round %d: %+v", round, s)
		}
		mustClose(t, c)
	}
	t.Logf("%d repairs", repaired)
	if repaired < 300 {
		t.Errorf("1000 flips damaged only %d blocks: does the test do anything?", repaired)
	}
}

// Files of any kind and content in place of segments never keep the cache from
// being opened, nor from working.
func TestDamagedFolders(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, dir string, segs []string){
		"nothing": func(*testing.T, string, []string) {},
		"torn tails": func(t *testing.T, _ string, segs []string) {
			for i, s := range segs {
				st, err := os.Stat(s)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(s, st.Size()-int64(i*i*4999)-1); err != nil {
					t.Fatal(err)
				}
			}
		},
		"empty segment": func(t *testing.T, _ string, segs []string) {
			if err := os.Truncate(segs[1], 0); err != nil {
				t.Fatal(err)
			}
		},
		"zeros at the end": func(t *testing.T, _ string, segs []string) {
			if err := os.Truncate(segs[len(segs)-1], 8*mib); err != nil {
				t.Fatal(err)
			}
		},
		"garbage": func(t *testing.T, _ string, segs []string) {
			if err := os.WriteFile(segs[0], fixedBlock(0, 3*mib), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"swapped": func(t *testing.T, dir string, segs []string) {
			for _, r := range [][2]string{{segs[0], segs[0] + "x"}, {segs[1], segs[0]}, {segs[0] + "x", segs[1]}} {
				if err := os.Rename(r[0], r[1]); err != nil {
					t.Fatal(err)
				}
			}
		},
		"missing": func(t *testing.T, _ string, segs []string) {
			if err := os.Remove(segs[1]); err != nil {
				t.Fatal(err)
			}
		},
		"links, pipes, folders, foreign names": func(t *testing.T, dir string, segs []string) {
			next := filepath.Join(dir, "segments", "00000005.seg")
			for _, err := range []error{
				os.Remove(segs[0]),
				os.Symlink("/dev/zero", segs[0]),
				os.Remove(segs[1]),
				syscall.Mkfifo(segs[1], 0o600),
				os.Mkdir(next, 0o700),
				os.WriteFile(filepath.Join(dir, "segments", "99999999.seg"), []byte("x"), 0o600),
				os.WriteFile(filepath.Join(dir, "segments", "README"), []byte("x"), 0o600),
			} {
				if err != nil {
					t.Fatal(err)
				}
			}
		},
		"pipe in place of the lock": func(t *testing.T, dir string, _ []string) {
			if err := os.Remove(filepath.Join(dir, "lock")); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(filepath.Join(dir, "lock"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			blocks := build(t, dir, 250)
			damage(t, dir, segments(t, dir))
			for session := range 3 {
				begin := time.Now()
				c := mustOpen(t, dir, Options{SegmentSize: 2 * mib, Logger: testLog(t)})
				if took := time.Since(begin); took > 30*time.Second {
					t.Errorf("opening took %v", took)
				}
				n := repair(t, c, blocks)
				t.Logf("session %d: %d of %d blocks were lost", session, n, len(blocks))
				if n > 220 || (session > 0 && n > 0) || (name == "nothing" && n > 0) {
					t.Errorf("session %d: %d of %d blocks were lost", session, n, len(blocks))
				}
				if s := c.Stats(); s.State != StateOK {
					t.Errorf("%+v", s)
				}
				mustClose(t, c)
			}
		})
	}
}

// A link in place of a folder leads out of the cache: nothing behind it is
// read or written.
func TestLinkedFolders(t *testing.T) {
	for _, name := range []string{"segments", "store", "lock"} {
		dir, outside := t.TempDir(), t.TempDir()
		target := outside
		if name == "lock" {
			target = filepath.Join(outside, "lock")
		}
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		c, err := Open(t.Context(), dir, Options{Quota: 64 * mib, Logger: testLog(t)})
		if err == nil {
			b := fixedBlock(1, 1000)
			c.Put(digest.Of(b), b, false)
			mustClose(t, c)
		}
		if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
			t.Errorf("%s: outside there is now %v, %v", name, entries, err)
		}
	}
}

// Footers are what makes opening quick: nothing else of 4 GB is read.
func TestOpenLargeCache(t *testing.T) {
	dir := t.TempDir()
	mustClose(t, mustOpen(t, dir, Options{Quota: 8 << 30, SegmentSize: 32 * mib}))
	n := 0
	for id := uint32(1); id <= 128; id++ {
		var entries []entry
		var end int64
		for end < 31*mib {
			e := entry{page: uint32(end / pageSize), header: header{kind: kindBlock, length: 90_000, sum: digest.Of([]byte{byte(n), byte(n >> 8), byte(n >> 16)}), session: 1, segment: id}}
			entries = append(entries, e)
			end += recordLen(e.length)
			n++
		}
		f, err := os.Create(filepath.Join(dir, segmentName(id)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt(appendFooter(nil, id, end, entries), end); err != nil { // a hole before it
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Hour
	for range 5 { // whoever reads more than the footers is slow each time, a busy machine is not
		begin := time.Now()
		c := mustOpen(t, dir, Options{Quota: 8 << 30, SegmentSize: 32 * mib})
		took = min(took, time.Since(begin))
		t.Logf("%d blocks, %d MB: opened in %v", c.Len(), c.Stats().Bytes>>20, took)
		if c.Len() != n {
			t.Errorf("%d blocks; want %d", c.Len(), n)
		}
		if took < 3*time.Second {
			break
		}
		mustClose(t, c)
	}
	if took > 3*time.Second {
		t.Errorf("opened in %v; want far less than a second", took)
	}
}
