package read_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/digest"
)

// stored returns the blocks of a fake source as a store has them.
func stored(t *testing.T, s *fakeSource) map[digest.SHA256][]byte {
	t.Helper()
	enc, err := block.NewEncoder(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[digest.SHA256][]byte)
	for sum, plain := range s.blocks {
		out[sum] = enc.Encode(nil, plain)
		// Here, because the decoder has channels: bubbles could not share it.
		if _, err := block.Decode(nil, out[sum], len(plain), sum); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// mapCache is a Cache in memory that can be made to lie or hang.
type mapCache struct {
	mu      sync.Mutex
	blocks  map[digest.SHA256][]byte
	dropped int
	hang    time.Duration
}

func (c *mapCache) Has(sum digest.SHA256) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blocks[sum] != nil
}

func (c *mapCache) Get(ctx context.Context, sum digest.SHA256, buf []byte) ([]byte, bool) {
	c.mu.Lock()
	b, hang := c.blocks[sum], c.hang
	c.mu.Unlock()
	if hang > 0 {
		select {
		case <-time.After(hang):
		case <-ctx.Done():
		}
		return nil, false
	}
	return append(buf[:0], b...), b != nil
}

func (c *mapCache) Drop(sum digest.SHA256) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.blocks, sum)
	c.dropped++
}

func readAll(t *testing.T, f *read.File, want []byte) {
	t.Helper()
	p := make([]byte, len(want))
	if _, err := f.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, want) {
		t.Fatalf("ReadAt = %v; want the data", err)
	}
}

func TestCacheComesFirstAndIsNotTrusted(t *testing.T) {
	s, x, data := fake(t, 8)
	blocks := stored(t, s)
	synctest.Test(t, func(t *testing.T) {
		c := &mapCache{blocks: blocks}
		c.blocks[x.Entry(3).SHA256] = bytes.Repeat([]byte("lie"), 100)
		c.blocks[x.Entry(4).SHA256] = c.blocks[x.Entry(5).SHA256]
		b := read.New(s, read.Options{Cache: c, Ahead: -1})
		defer b.Close()
		readAll(t, b.Open(x), data)
		if n := s.calls.Load(); n != 2 {
			t.Errorf("%d fetches; want 2, of the blocks that the cache has wrong", n)
		}
		st := b.Stats()
		if st.By[read.FromDisk].Blocks != 6 || st.By[read.FromDemand].Blocks != 2 || st.CacheRefused != 2 || c.dropped != 2 {
			t.Errorf("%d from disk, %d by demand, %d refused, %d dropped; want 6, 2, 2, 2", st.By[read.FromDisk].Blocks, st.By[read.FromDemand].Blocks, st.CacheRefused, c.dropped)
		}
	})
}

// A store that is away does not keep anybody from what the cache has, however
// many others wait.
func TestCacheServesWhileTheStoreIsAway(t *testing.T) {
	s, x, data := fake(t, 64)
	blocks := stored(t, s)
	synctest.Test(t, func(t *testing.T) {
		c := &mapCache{blocks: map[digest.SHA256][]byte{}}
		for i := 32; i < 64; i++ {
			c.blocks[x.Entry(i).SHA256] = blocks[x.Entry(i).SHA256]
		}
		s.delay = time.Hour
		b := read.New(s, read.Options{Cache: c, Parallel: 4, Ahead: -1})
		f := b.Open(x)
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				if _, err := f.ReadAt(t.Context(), make([]byte, 1), int64(i)<<16); !errors.Is(err, read.ErrClosed) {
					t.Errorf("ReadAt of block %d = %v; want ErrClosed in the end", i, err)
				}
			})
		}
		time.Sleep(time.Second)
		start := time.Now()
		p := make([]byte, 32<<16)
		if _, err := f.ReadAt(t.Context(), p, 32<<16); err != nil || !bytes.Equal(p, data[32<<16:]) {
			t.Errorf("ReadAt of what the cache has = %v; want the data", err)
		}
		if d := time.Since(start); d > 0 {
			t.Errorf("it took %v; want no waiting", d)
		}
		b.Close()
		wg.Wait()
	})
}

func TestPackServesReaders(t *testing.T) {
	s, x, data := fake(t, 32)
	blocks := stored(t, s)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Ahead: -1})
		defer b.Close()
		f := b.Open(x)
		// A reader waits for block 0 on a line that takes an hour.
		s.delay = time.Hour
		done := make(chan error)
		go func() { _, err := f.ReadAt(t.Context(), make([]byte, 1), 0); done <- err }()
		synctest.Wait()
		for i := range 32 {
			if err := b.Offer(t.Context(), x.Entry(i), blocks[x.Entry(i).SHA256]); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Errorf("ReadAt of a block that came in the pack = %v; want nil", err)
		}
		readAll(t, f, data)
		st := b.Stats()
		if n := s.calls.Load(); n != 1 || st.By[read.FromPack].Blocks != 32 || st.FetchedBlocks != 32 {
			t.Errorf("%d fetches, %d blocks from the pack, %d over the network; want 1, 32, 32", n, st.By[read.FromPack].Blocks, st.FetchedBlocks)
		}
	})
}

func TestHostilePackCostsNothing(t *testing.T) {
	s, x, data := fake(t, 16)
	blocks := stored(t, s)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Ahead: -1})
		defer b.Close()
		f := b.Open(x)
		for i := range 16 {
			var bad []byte
			switch i % 4 {
			case 0:
				bad = blocks[x.Entry((i+1)%16).SHA256] // another block
			case 1:
				bad = bytes.Repeat([]byte{0x28, 0xb5, 0x2f, 0xfd}, 100) // hardly a frame
			case 2:
				bad = blocks[x.Entry(i).SHA256][:100] // half a block
			case 3:
				bad = make([]byte, 4<<20) // too much
			}
			if err := b.Offer(t.Context(), x.Entry(i), bad); err != nil {
				t.Fatal(err)
			}
		}
		readAll(t, f, data)
		if st := b.Stats(); st.PackRefused != 16 || st.By[read.FromDemand].Blocks != 16 {
			t.Errorf("%d blocks of the pack refused, %d fetched; want 16, 16", st.PackRefused, st.By[read.FromDemand].Blocks)
		}
	})
}

func TestPackIsHeldBackAndBounded(t *testing.T) {
	s, x, _ := fake(t, 64)
	blocks := stored(t, s)
	synctest.Test(t, func(t *testing.T) {
		const held = 4<<16 + 4096
		b := read.New(s, read.Options{Held: held, Ahead: -1})
		defer b.Close()
		start := time.Now()
		for i := range 64 {
			if err := b.Offer(t.Context(), x.Entry(i), blocks[x.Entry(i).SHA256]); err != nil {
				t.Fatal(err)
			}
			if n := b.Stats().HeldBytes; n > held {
				t.Fatalf("%d bytes are held; want at most %d", n, held)
			}
		}
		// Nobody wants any of it: each of the last 60 has waited for its place.
		if d := time.Since(start); d < 25*time.Second || d > 35*time.Second {
			t.Errorf("a useless pack was held back for %v; want about 30s", d)
		}
		if n := b.Stats().PackUnused; n != 60 {
			t.Errorf("PackUnused = %d; want 60", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := b.Offer(ctx, x.Entry(0), blocks[x.Entry(0).SHA256]); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Offer whose time is over = %v; want DeadlineExceeded", err)
		}
		b.Release()
		if n := b.Stats().HeldBytes; n != 0 {
			t.Errorf("HeldBytes after Release = %d; want 0", n)
		}
	})
}

func TestFillWaitsForReaders(t *testing.T) {
	s, x, data := fake(t, 40)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Ahead: -1})
		defer b.Close()
		f := b.Open(x)
		if _, err := f.ReadAt(t.Context(), make([]byte, 1), 0); err != nil {
			t.Fatal(err)
		}
		var filled []time.Time
		start := time.Now()
		done := make(chan error)
		go func() {
			var err error
			for i := 20; i < 40 && err == nil; i++ {
				err = b.Fill(t.Context(), x.Entry(i))
				filled = append(filled, time.Now())
			}
			done <- err
		}()
		// A reader that needs the line all the time, for two seconds.
		for i := range 20 {
			time.Sleep(50 * time.Millisecond)
			if _, err := f.ReadAt(t.Context(), make([]byte, 1), int64(i)<<16); err != nil {
				t.Fatal(err)
			}
		}
		if err := <-done; err != nil {
			t.Fatalf("Fill = %v; want nil", err)
		}
		if first := filled[0].Sub(start); first < 2*time.Second {
			t.Errorf("the first block was filled in after %v; want none while a reader waits", first)
		}
		if n := b.Stats().HeldBytes; n > 20*(1<<16+8192) {
			t.Errorf("HeldBytes = %d; want only what was read to stay", n)
		}
		if st := b.Stats(); st.By[read.FromFill].Blocks != 20 {
			t.Errorf("%d blocks filled in; want 20", st.By[read.FromFill].Blocks)
		}
		readAll(t, f, data)
	})
}

func TestFillReportsFailure(t *testing.T) {
	s, x, _ := fake(t, 2)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Patience: -1})
		defer b.Close()
		s.fail = func(index.Entry) error { return fmt.Errorf("%w: cable", read.ErrUnavailable) }
		if err := b.Fill(t.Context(), x.Entry(0)); !errors.Is(err, read.ErrUnavailable) {
			t.Errorf("Fill without a network = %v; want ErrUnavailable", err)
		}
		s.fail = nil
		if err := b.Fill(t.Context(), x.Entry(0)); err != nil {
			t.Errorf("Fill with a network again = %v; want nil", err)
		}
	})
}

func TestPinStays(t *testing.T) {
	s, x, data := fake(t, 16)
	var build index.Builder
	for i := range 200 {
		p := bytes.Repeat(fmt.Appendf(nil, "%8d", i), 8<<10)
		s.blocks[digest.Of(p)] = p
		build.Add(len(p), len(p), digest.Of(p))
	}
	raw, err := build.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x2, err := index.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Memory: 4 << 20, Ahead: -1})
		defer b.Close()
		meta, rest := b.Open(x), b.Open(x2)
		if !meta.Pin() {
			t.Fatal("Pin of a small file = false; want true")
		}
		if rest.Pin() {
			t.Error("Pin of a large file = true; want false")
		}
		time.Sleep(time.Second)
		for i := range 200 {
			if _, err := rest.ReadAt(t.Context(), make([]byte, 1), int64(i)<<16); err != nil {
				t.Fatal(err)
			}
		}
		before := s.calls.Load()
		readAll(t, meta, data)
		if n := s.calls.Load() - before; n != 0 {
			t.Errorf("a pinned file took %d fetches after much else was read; want 0", n)
		}
	})
}

// Many readers of much are served in turn, within the bound.
func TestInFlightIsBounded(t *testing.T) {
	s, x, data := fake(t, 256)
	synctest.Test(t, func(t *testing.T) {
		const flight = 1 << 20
		b := read.New(s, read.Options{Memory: 1, InFlight: flight, Ahead: -1, Parallel: 64})
		defer b.Close()
		f := b.Open(x)
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				off := int64(i) << 18
				sp, err := f.Spans(t.Context(), off, 1<<18)
				if err != nil {
					t.Error(err)
					return
				}
				got := bytes.Join(sp.Slices(), nil)
				if !bytes.Equal(got, data[off:off+1<<18]) {
					t.Errorf("Spans at %d are not the data", off)
				}
				if n := b.Stats().HeldBytes; n > flight*5/4 {
					t.Errorf("%d bytes are held; want at most %d", n, flight)
				}
				sp.Release()
			})
		}
		wg.Wait()
		if m := s.most.Load(); m > flight>>16 {
			t.Errorf("%d fetches at once; want at most %d", m, flight>>16)
		}
		// One read that is larger than the bound still goes.
		readAll(t, f, data[:4<<20])
	})
}

// With somebody who keeps blocks a pack is never held up, and what it brings
// is checked before it is passed on.
func TestPackIsKept(t *testing.T) {
	s, x, data := fake(t, 64)
	blocks := stored(t, s)
	synctest.Test(t, func(t *testing.T) {
		c := &mapCache{blocks: map[digest.SHA256][]byte{}}
		b := read.New(s, read.Options{Held: 4 << 16, Ahead: -1, Cache: c, Keep: func(e index.Entry, stored []byte) bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.blocks[e.SHA256] = bytes.Clone(stored)
			return true
		}})
		defer b.Close()
		start := time.Now()
		for i := range 64 {
			bad := bytes.Clone(blocks[x.Entry(i).SHA256])
			if i%8 == 0 {
				bad[len(bad)/2] ^= 1
			}
			if err := b.Offer(t.Context(), x.Entry(i), bad); err != nil {
				t.Fatal(err)
			}
		}
		b.Release()
		if d := time.Since(start); d > 8*500*time.Millisecond {
			t.Errorf("the pack was held back for %v; want only a moment for wrong blocks", d)
		}
		if len(c.blocks) != 56 || b.Stats().PackRefused != 8 {
			t.Errorf("%d blocks were kept, %d refused; want 56, 8", len(c.blocks), b.Stats().PackRefused)
		}
		readAll(t, b.Open(x), data)
		if n := s.calls.Load(); n != 8 {
			t.Errorf("%d fetches; want 8, of the blocks that were wrong in the pack", n)
		}
	})
}

// What has left memory is decompressed again, not fetched, as long as there is
// room for it as stored; a pack takes the room.
func TestRetainedIsNotFetchedAgain(t *testing.T) {
	s, x, data := fake(t, 32)
	blocks := stored(t, s)
	size := 0
	for i := range 16 {
		size += len(blocks[x.Entry(i).SHA256]) + 16<<10 // as much may be lost for each
	}
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Memory: 1, Held: size, Ahead: -1})
		defer b.Close()
		f := b.Open(x)
		read1 := func(i int) {
			t.Helper()
			p := make([]byte, x.Entry(i).PlainLen)
			if _, err := f.ReadAt(t.Context(), p, x.Offset(i)); err != nil || !bytes.Equal(p, data[x.Offset(i):][:len(p)]) {
				t.Fatalf("block %d: %v, or other bytes", i, err)
			}
		}
		for i := range 16 {
			read1(i)
			b.Retain(x.Entry(i), blocks[x.Entry(i).SHA256])
		}
		fetched := s.calls.Load()
		for i := range 16 {
			read1(i)
		}
		if n := s.calls.Load(); n != fetched {
			t.Errorf("%d blocks were fetched again", n-fetched)
		}
		if n := b.Stats().HeldBytes; n > int64(size)+1<<20 {
			t.Errorf("%d bytes are held; want about %d", n, size)
		}
		for i := 16; i < 32; i++ {
			if err := b.Offer(t.Context(), x.Entry(i), blocks[x.Entry(i).SHA256]); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 32 {
			read1(i)
		}
		if n := s.calls.Load() - fetched; n == 0 || n > 16 {
			t.Errorf("%d blocks were fetched beside the pack; want some of those that gave way to it, 16 at most", n)
		}
		if st := b.Stats(); st.By[read.FromPack].Blocks == 0 || st.PackRefused != 0 {
			t.Errorf("%d blocks from the pack, %d refused; want some, none", st.By[read.FromPack].Blocks, st.PackRefused)
		}
	})
}
