package read_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"io"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/blockfs/read/readtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/mirror"
)

func openMirror(t testing.TB, dir string) read.Store {
	srv := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(srv.Close)
	c, err := mirror.New([]string{srv.URL}, mirror.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return read.Mirror(c)
}

func TestMirrorStore(t *testing.T) {
	readtest.Store(t, func(t *testing.T, dir string) read.Store { return openMirror(t, dir) })
}

func TestDirStore(t *testing.T) {
	readtest.Store(t, func(t *testing.T, dir string) read.Store { return read.Dir(dir) })
}

func openFile(t testing.TB, s read.Store, b *read.Blocks, blob digest.Blob) *read.File {
	t.Helper()
	x, err := s.Index(t.Context(), "index", blob)
	if err != nil {
		t.Fatal(err)
	}
	return b.Open(x)
}

func TestEveryByte(t *testing.T) {
	dir := t.TempDir()
	data := readtest.Mixed(9<<20+77, 1)
	blob := readtest.Write(t, dir, data)
	for name, s := range map[string]read.Store{"http": openMirror(t, dir), "dir": read.Dir(dir)} {
		for _, o := range []read.Options{{}, {Memory: 1, Parallel: 1, Ahead: -1}, {Memory: 3 << 20, Ahead: 32}} {
			t.Run(fmt.Sprint(name, o.Memory), func(t *testing.T) {
				b := read.New(s, o)
				defer b.Close()
				f := openFile(t, s, b, blob)
				if err := iotest.TestReader(io.NewSectionReader(f.ReaderAt(t.Context()), 5<<20-100, 200), data[5<<20-100:5<<20+100]); err != nil {
					t.Error(err)
				}
				got, err := io.ReadAll(io.NewSectionReader(f.ReaderAt(t.Context()), 0, f.Size()+10))
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("sequential read = %d bytes, %v; want the data", len(got), err)
				}
				var wg sync.WaitGroup
				for i := range 8 {
					rnd := rand.New(rand.NewPCG(uint64(i), 1))
					wg.Go(func() {
						p := make([]byte, 2<<20)
						for range 20 {
							off := rnd.Int64N(f.Size())
							q := p[:rnd.IntN(len(p))]
							n, err := f.ReadAt(t.Context(), q, off)
							if want := data[off:min(off+int64(len(q)), int64(len(data)))]; !bytes.Equal(q[:n], want) || (n < len(q)) != errors.Is(err, io.EOF) {
								t.Errorf("ReadAt(%d, %d) = %d, %v; want the data there", len(q), off, n, err)
							}
						}
					})
				}
				wg.Wait()
				if n := b.Stats().HeldBytes; n > int64(max(o.Memory, 1)) && o.Memory > 0 {
					t.Errorf("HeldBytes at rest = %d; want at most %d", n, o.Memory)
				}
			})
		}
	}
}

// fakeSource makes blocks out of nothing but their number, slowly, and fails
// as told.
type fakeSource struct {
	delay  time.Duration
	fail   func(e index.Entry) error
	calls  atomic.Int64
	now    atomic.Int64
	most   atomic.Int64
	blocks map[digest.SHA256][]byte
	mu     sync.Mutex
	order  []digest.SHA256
}

func (s *fakeSource) Block(ctx context.Context, e index.Entry, dst []byte) ([]byte, error) {
	s.calls.Add(1)
	n := s.now.Add(1)
	defer s.now.Add(-1)
	for m := s.most.Load(); n > m && !s.most.CompareAndSwap(m, n); m = s.most.Load() {
	}
	s.mu.Lock()
	s.order = append(s.order, e.SHA256)
	s.mu.Unlock()
	select {
	case <-time.After(s.delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.fail != nil {
		if err := s.fail(e); err != nil {
			return nil, err
		}
	}
	return append(dst[:0], s.blocks[e.SHA256]...), nil
}

// fake returns a source and a file of n blocks of 64 KiB.
func fake(t testing.TB, n int) (*fakeSource, *index.Index, []byte) {
	t.Helper()
	s := &fakeSource{delay: 50 * time.Millisecond, blocks: map[digest.SHA256][]byte{}}
	var b index.Builder
	data := readtest.Noise(n<<16, 9)
	for i := range n {
		p := data[i<<16 : (i+1)<<16]
		s.blocks[digest.Of(p)] = p
		b.Add(len(p), len(p), digest.Of(p))
	}
	raw, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	x, err := index.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s, x, data
}

func TestOneFetchForManyReaders(t *testing.T) {
	s, x, data := fake(t, 1)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{})
		defer b.Close()
		f := b.Open(x)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				p := make([]byte, len(data))
				if _, err := f.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data) {
					t.Errorf("ReadAt = %v; want the data", err)
				}
			})
		}
		wg.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("100 readers made %d fetches; want 1", n)
		}
	})
}

func TestReadIsParallelAndBounded(t *testing.T) {
	s, x, data := fake(t, 64)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Parallel: 16, Ahead: -1})
		defer b.Close()
		start := time.Now()
		p := make([]byte, 16<<16)
		if _, err := b.Open(x).ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, data[:len(p)]) {
			t.Fatalf("ReadAt = %v; want the data", err)
		}
		if d := time.Since(start); d != 50*time.Millisecond {
			t.Errorf("16 blocks took %v; want the time of one, 50ms", d)
		}
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() { b.Open(x).ReadAt(t.Context(), make([]byte, 1), int64(i)<<16) })
		}
		wg.Wait()
		if m := s.most.Load(); m != 16 {
			t.Errorf("%d fetches at once; want 16", m)
		}
	})
}

func TestReadAheadKeepsUpAndDemandGoesFirst(t *testing.T) {
	s, x, _ := fake(t, 200)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Parallel: 5, Ahead: 8})
		defer b.Close()
		f := b.Open(x)
		p := make([]byte, 1<<16)
		start := time.Now()
		for i := range 100 {
			if _, err := f.ReadAt(t.Context(), p, int64(i)<<16); err != nil {
				t.Fatal(err)
			}
		}
		// Four at once, a place is kept for demands: 100 blocks take 25 rounds of
		// 50 ms, and a few to get going.
		if d := time.Since(start); d > 1500*time.Millisecond {
			t.Errorf("sequential read of 100 blocks took %v; want about 1.25s", d)
		}
		if n := b.Stats().AheadBlocks; n < 80 {
			t.Errorf("AheadBlocks = %d; want most of 100", n)
		}
		// Read-ahead has work queued now; a demand elsewhere waits for one
		// running fetch at most.
		start = time.Now()
		if _, err := f.ReadAt(t.Context(), p, 180<<16); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 100*time.Millisecond {
			t.Errorf("demand behind read-ahead took %v; want at most 100ms", d)
		}
		time.Sleep(time.Second)
		if n := s.calls.Load(); n > 100+8+1+8 {
			t.Errorf("%d fetches for 101 blocks; want at most 8 too many", n)
		}
	})
}

func TestRandomReadsFetchNothingElse(t *testing.T) {
	s, x, _ := fake(t, 200)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{})
		defer b.Close()
		f := b.Open(x)
		for _, i := range []int64{100, 3, 50, 170, 20, 130, 70} {
			if _, err := f.ReadAt(t.Context(), make([]byte, 10), i<<16); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Second)
		if n := s.calls.Load(); n != 7 {
			t.Errorf("7 random reads made %d fetches; want 7", n)
		}
	})
}

// logged returns a logger and what it has written.
func logged() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var b bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) { mu.Lock(); defer mu.Unlock(); return b.Write(p) })
	return slog.New(slog.NewTextHandler(w, nil)), func() string { mu.Lock(); defer mu.Unlock(); return b.String() }
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestOutage(t *testing.T) {
	s, x, data := fake(t, 64)
	synctest.Test(t, func(t *testing.T) {
		log, text := logged()
		b := read.New(s, read.Options{Patience: -1, Logger: log})
		defer b.Close()
		back := time.Now().Add(time.Hour)
		s.fail = func(index.Entry) error {
			if time.Now().Before(back) {
				return fmt.Errorf("%w: no route", read.ErrUnavailable)
			}
			return nil
		}
		f := b.Open(x)
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				p := make([]byte, 1<<16)
				if _, err := f.ReadAt(t.Context(), p, int64(i)<<16); err != nil || !bytes.Equal(p, data[i<<16:(i+1)<<16]) {
					t.Errorf("ReadAt during an outage = %v; want the data after it", err)
				}
			})
		}
		time.Sleep(30 * time.Minute)
		if st := b.Stats(); !st.Down || st.Waiting == 0 {
			t.Errorf("Stats during an outage = %+v; want Down and Waiting", st)
		}
		wg.Wait()
		if d := time.Since(back); d > 10*time.Second {
			t.Errorf("reads went on %v after the outage; want at most 10s", d)
		}
		if st := b.Stats(); st.Down || st.Waiting != 0 || st.Retries < 100 {
			t.Errorf("Stats after an outage = %+v; want neither Down nor Waiting, many Retries", st)
		}
		got := text()
		if strings.Count(got, "cannot be reached") != 1 || strings.Count(got, "store is back") != 1 || strings.Count(got, "\n") != 2 {
			t.Errorf("log of an outage:\n%swant one message when it begins and one when it ends", got)
		}
	})
}

// People hear of an outage when it has lasted two seconds, or when it is found
// out if that takes longer, and of nothing shorter.
func TestOutageIsTold(t *testing.T) {
	for name, tt := range map[string]struct {
		away, attempt time.Duration // how long the store is away, and a failed attempt takes
		least, most   time.Duration // when it is told; 0: never
	}{
		"a blip":    {time.Second, 0, 0, 0},
		"refuses":   {time.Minute, 0, 2 * time.Second, 8 * time.Second},
		"hangs":     {time.Minute, 15 * time.Second, 15 * time.Second, 16 * time.Second},
		"for hours": {6 * time.Hour, 15 * time.Second, 15 * time.Second, 16 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s, x, _ := fake(t, 1)
			synctest.Test(t, func(t *testing.T) {
				log, text := logged()
				b := read.New(s, read.Options{Patience: -1, Logger: log})
				defer b.Close()
				start := time.Now()
				s.fail = func(index.Entry) error {
					if time.Since(start) >= tt.away {
						return nil
					}
					time.Sleep(tt.attempt)
					return fmt.Errorf("%w: no route", read.ErrUnavailable)
				}
				go func() {
					if _, err := b.Open(x).ReadAt(t.Context(), make([]byte, 10), 0); err != nil {
						t.Errorf("ReadAt = %v; want the data", err)
					}
				}()
				var told time.Duration
				for time.Since(start) < tt.away+time.Minute {
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
					if told == 0 && strings.Contains(text(), "cannot be reached") {
						told = time.Since(start)
					}
				}
				if told < tt.least || told > tt.most {
					t.Errorf("told after %v; want %v to %v", told, tt.least, tt.most)
				}
				want := 0
				if tt.most > 0 {
					want = 2
				}
				if n := strings.Count(text(), "\n"); n != want {
					t.Errorf("%d lines; want %d:\n%s", n, want, text())
				}
			})
		})
	}
}

func TestPatience(t *testing.T) {
	s, x, _ := fake(t, 1)
	down := fmt.Errorf("%w: no route", read.ErrUnavailable)
	wrong := fmt.Errorf("it is bad: %w", digest.ErrMismatch)
	tests := []struct {
		name     string
		patience time.Duration
		err      error
		want     time.Duration // until the read fails; 0: not within a day
	}{
		{"down, default", 0, down, 30 * time.Second},
		{"down, short", time.Second, down, time.Second},
		{"down, for ever", -1, down, 0},
		{"wrong, default", 0, wrong, 50 * time.Millisecond},
		{"wrong, for ever", -1, wrong, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, text := logged()
				s.fail = func(index.Entry) error { return tt.err }
				b := read.New(s, read.Options{Patience: tt.patience, Logger: log})
				defer b.Close()
				ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
				defer cancel()
				start := time.Now()
				n, err := b.Open(x).ReadAt(ctx, make([]byte, 10), 0)
				d := time.Since(start)
				if tt.want == 0 {
					if d != 24*time.Hour || !errors.Is(err, context.DeadlineExceeded) || n != 0 {
						t.Errorf("ReadAt = %d, %v after %v; want it to wait for a day", n, err, d)
					}
					if strings.Count(text(), "\n") != 1 {
						t.Errorf("log:\n%swant one message", text())
					}
					return
				}
				if n != 0 || !errors.Is(err, tt.err) || d < tt.want || d > tt.want+500*time.Millisecond {
					t.Errorf("ReadAt = %d, %v after %v; want %v after %v", n, err, d, tt.err, tt.want)
				}
				// A failure is not remembered.
				s.fail = nil
				if _, err := b.Open(x).ReadAt(ctx, make([]byte, 10), 0); err != nil {
					t.Errorf("ReadAt after repair = %v; want nil", err)
				}
			})
		})
	}
}

func TestBadBlockDoesNotHoldUpOthers(t *testing.T) {
	s, x, _ := fake(t, 64)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Patience: -1, Parallel: 1, Ahead: -1})
		defer b.Close()
		bad := x.Entry(0).SHA256
		s.fail = func(e index.Entry) error {
			if e.SHA256 == bad {
				return fmt.Errorf("%w: bad", digest.ErrMismatch)
			}
			return nil
		}
		f := b.Open(x)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := f.ReadAt(ctx, make([]byte, 1), 0); done <- err }()
		time.Sleep(time.Minute)
		start := time.Now()
		for i := 1; i < 64; i++ {
			if _, err := f.ReadAt(t.Context(), make([]byte, 1), int64(i)<<16); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d > 63*50*time.Millisecond+2*time.Second {
			t.Errorf("63 good blocks took %v beside a bad one", d)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ReadAt of the bad block = %v; want context.Canceled", err)
		}
	})
}

func TestGrace(t *testing.T) {
	s, x, _ := fake(t, 2)
	synctest.Test(t, func(t *testing.T) {
		b := read.New(s, read.Options{Grace: 2 * time.Second})
		defer b.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Open(x).ReadAt(ctx, make([]byte, 1), 0); err != nil {
			t.Errorf("interrupted read of a block that comes soon = %v; want nil", err)
		}
		s.delay = time.Hour
		start := time.Now()
		if _, err := b.Open(x).ReadAt(ctx, make([]byte, 1), 1<<16); !errors.Is(err, context.Canceled) || time.Since(start) != 2*time.Second {
			t.Errorf("interrupted read of a block that does not come = %v after %v; want context.Canceled after 2s", err, time.Since(start))
		}
	})
}

func TestCloseEndsReads(t *testing.T) {
	s, x, _ := fake(t, 64)
	synctest.Test(t, func(t *testing.T) {
		s.delay = 1000 * time.Hour
		b := read.New(s, read.Options{Parallel: 2})
		var wg sync.WaitGroup
		for i := range 10 {
			wg.Go(func() {
				if _, err := b.Open(x).ReadAt(t.Context(), make([]byte, 1), int64(i)<<16); !errors.Is(err, read.ErrClosed) {
					t.Errorf("ReadAt during Close = %v; want ErrClosed", err)
				}
			})
		}
		time.Sleep(time.Minute)
		b.Close()
		wg.Wait()
		if _, err := b.Open(x).ReadAt(t.Context(), make([]byte, 1), 0); !errors.Is(err, read.ErrClosed) {
			t.Errorf("ReadAt after Close = %v; want ErrClosed", err)
		}
	})
}

func TestLyingSource(t *testing.T) {
	s, x, _ := fake(t, 1)
	s.blocks[x.Entry(0).SHA256] = []byte("short")
	b := read.New(s, read.Options{})
	defer b.Close()
	if n, err := b.Open(x).ReadAt(t.Context(), make([]byte, 10), 0); !errors.Is(err, digest.ErrMismatch) || n != 0 {
		t.Errorf("ReadAt from a source that returns too few bytes = %d, %v; want ErrMismatch", n, err)
	}
}

func TestServerStopsAndComesBack(t *testing.T) {
	dir := t.TempDir()
	data := readtest.Mixed(4<<20, 3)
	blob := readtest.Write(t, dir, data)
	var up atomic.Bool
	up.Store(true)
	files := http.FileServer(http.Dir(dir))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			panic(http.ErrAbortHandler)
		}
		files.ServeHTTP(w, r)
	}))
	defer srv.Close()
	c, err := mirror.New([]string{srv.URL}, mirror.Options{Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := read.Mirror(c)
	b := read.New(s, read.Options{Patience: -1})
	defer b.Close()
	f := openFile(t, s, b, blob)
	up.Store(false)
	time.AfterFunc(700*time.Millisecond, func() { up.Store(true) })
	got := make([]byte, len(data))
	if _, err := f.ReadAt(t.Context(), got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("ReadAt over an outage = %v; want the data", err)
	}
	if b.Stats().Retries == 0 {
		t.Error("no retry was counted; want some")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	dir := t.TempDir()
	data := readtest.Noise(64<<20, 5)
	blob := readtest.Write(t, dir, data)
	s := read.Dir(dir)
	const limit = 8 << 20
	b := read.New(s, read.Options{Memory: limit, Parallel: 8})
	defer b.Close()
	f := openFile(t, s, b, blob)
	var most atomic.Int64
	var wg sync.WaitGroup
	for i := range 4 {
		rnd := rand.New(rand.NewPCG(uint64(i), 7))
		wg.Go(func() {
			p := make([]byte, 128<<10)
			for range 200 {
				if _, err := f.ReadAt(t.Context(), p, rnd.Int64N(int64(len(data)-len(p)))); err != nil {
					t.Error(err)
				}
				if n := b.Stats().HeldBytes; n > most.Load() {
					most.Store(n)
				}
			}
		})
	}
	wg.Wait()
	// Four readers with two blocks each and eight fetches may be on top.
	if most.Load() > limit+16<<20 {
		t.Errorf("HeldBytes reached %d; want at most %d and what is in use", most.Load(), limit)
	}
}

// With Shared, two reads of what does not fit find a good part of it in memory,
// and what is read by several replaces what nobody reads any more. Memory is
// bounded as ever.
func TestShared(t *testing.T) {
	const n, limit = 160, 10 << 20
	s, x, _ := fake(t, 2*n)
	s.delay = 0
	// Blocks of 64 KiB lie in buffers that are 4 KiB larger: 150 fit.
	b := read.New(s, read.Options{Memory: limit, Ahead: -1, Shared: true})
	defer b.Close()
	f := b.Open(x)
	pass := func(from int) (hits int64) {
		before := b.Stats().Memory.Blocks
		p := make([]byte, 48<<10)
		for off := int64(from) << 16; off < int64(from+n)<<16; off += int64(len(p)) {
			if _, err := f.ReadAt(t.Context(), p[:min(int64(len(p)), int64(from+n)<<16-off)], off); err != nil {
				t.Fatal(err)
			}
			if held := b.Stats().HeldBytes; held > limit+8<<20+1<<20 { // free buffers; what is in use
				t.Fatalf("%d bytes are held", held)
			}
		}
		return b.Stats().Memory.Blocks - before
	}
	cold := pass(0)
	var again int64
	for range 4 {
		again += pass(0) - cold
	}
	if again < 4*n/4 {
		t.Errorf("%d of %d blocks were in memory when they were read again; want a quarter at least", again, 4*n)
	}
	for range 5 {
		pass(n)
	}
	if hits := pass(n) - cold; hits < n/2 {
		t.Errorf("%d of %d blocks of the newer file are in memory when it is read for the seventh time; want half of them at least", hits, n)
	}
}

// What is ready is in memory, all of it; zeros always are.
func TestReady(t *testing.T) {
	s := &fakeSource{blocks: map[digest.SHA256][]byte{}}
	var x index.Builder
	for i := range 3 {
		p := readtest.Noise(5000, uint64(i))
		s.blocks[digest.Of(p)] = p
		x.Add(len(p), len(p), digest.Of(p))
		x.AddZero(5000)
	}
	raw, err := x.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := index.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	b := read.New(s, read.Options{Ahead: -1})
	defer b.Close()
	f := b.Open(parsed)
	for _, off := range []int64{0, 10000} {
		if _, err := f.ReadAt(t.Context(), make([]byte, 1), off); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		off  int64
		n    int
		want bool
	}{
		{0, 1, true}, {4999, 10002, true}, {0, 20000, true}, {0, 20001, false}, {20000, 1, false}, {24999, 2, false}, {25000, 5000, true},
		{25000, 5001, false}, {-1, 1, false}, {0, 0, false}, {30000, 1, false}, {0, -1, false}, {1 << 62, 1, false},
	} {
		if got := f.Ready(tt.off, tt.n); got != tt.want {
			t.Errorf("Ready(%d, %d) = %t; want %t", tt.off, tt.n, got, tt.want)
		}
	}
}

func TestDirIsNotLedAstray(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blocks"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := read.Dir(dir).Block(t.Context(), index.Entry{PlainLen: 5, StoredLen: 5, SHA256: digest.Of([]byte("hello"))}, nil)
	if !errors.Is(err, read.ErrNotFound) || errors.Is(err, block.ErrFormat) {
		t.Errorf("Block = %v; want ErrNotFound", err)
	}
}

func BenchmarkSequential(b *testing.B) {
	dir := b.TempDir()
	data := readtest.Mixed(64<<20, 1)
	blob := readtest.Write(b, dir, data)
	for name, s := range map[string]read.Store{"http": openMirror(b, dir), "dir": read.Dir(dir)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				r := read.New(s, read.Options{})
				f := openFile(b, s, r, blob)
				if _, err := io.Copy(io.Discard, io.NewSectionReader(f.ReaderAt(b.Context()), 0, f.Size())); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
