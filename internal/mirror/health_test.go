package mirror

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// world is a network of mirrors in a synctest bubble, where time costs nothing.
type world struct {
	mu    sync.Mutex
	hosts map[string]*host
}

// host is one mirror. Its members may be changed with set.
type host struct {
	delay  func() time.Duration // until an answer begins
	rate   int                  // bytes a second; 0: all at once
	down   bool                 // connections are refused
	silent bool
	data   []byte // of every file
	code   int    // 0: 200

	asked, probed int
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	h := w.hosts[r.URL.Host]
	if strings.HasSuffix(r.URL.Path, storepath.Timestamp) {
		h.probed++
	} else {
		h.asked++
	}
	now := *h
	w.mu.Unlock()
	wait := 10 * time.Millisecond
	if now.delay != nil {
		wait = now.delay()
	}
	if now.silent {
		wait = 15 * time.Second // as the transport's ResponseHeaderTimeout
	}
	select {
	case <-time.After(wait):
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	if now.down || now.silent {
		return nil, errors.New("connection refused")
	}
	if now.code == 0 {
		now.code = http.StatusOK
	}
	return &http.Response{
		StatusCode: now.code, Status: http.StatusText(now.code), Header: http.Header{}, ContentLength: int64(len(now.data)),
		Body: &pacedBody{r: bytes.NewReader(now.data), rate: now.rate, done: r.Context().Done()}, Request: r,
	}, nil
}

func (w *world) set(name string, f func(*host)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w.hosts[name])
}

func (w *world) counts(name string) (asked, probed int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts[name].asked, w.hosts[name].probed
}

type pacedBody struct {
	r    *bytes.Reader
	rate int
	done <-chan struct{}
}

func (b *pacedBody) Read(p []byte) (int, error) {
	if b.rate > 0 {
		p = p[:min(len(p), max(1, b.rate/10))]
	}
	n, err := b.r.Read(p)
	if b.rate > 0 {
		select {
		case <-time.After(time.Duration(n) * time.Second / time.Duration(b.rate)):
		case <-b.done:
			return 0, errors.New("the request was ended")
		}
	}
	return n, err
}

func (b *pacedBody) Close() error { return nil }

func ms(n int) func() time.Duration {
	return func() time.Duration { return time.Duration(n) * time.Millisecond }
}

// newWorld returns a client of the mirrors a, b, c in this order.
func newWorld(t *testing.T, o Options, hosts ...*host) (*world, *Client) {
	t.Helper()
	w := &world{hosts: map[string]*host{}}
	var urls []string
	for i, h := range hosts {
		name := string(rune('a' + i))
		if h.data == nil {
			h.data = []byte("data")
		}
		w.hosts[name] = h
		urls = append(urls, "http://"+name)
	}
	c, err := New(urls, o)
	if err != nil {
		t.Fatal(err)
	}
	c.http = &http.Client{Transport: w}
	t.Cleanup(c.Close)
	return w, c
}

func read(t *testing.T, c *Client) {
	t.Helper()
	if got, err := c.Read(t.Context(), "x", nil, 1<<20, nil); err != nil || len(got) == 0 {
		t.Errorf("Read = %q, %v; want data", got, err)
	}
}

func order(c *Client) string { return strings.ReplaceAll(strings.Join(c.URLs(), ""), "http://", "") }

// A mirror that fails rests, longer each time; one small request finds out
// whether it is back; being back does not make it the preferred one.
func TestRestAndTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWorld(t, Options{Attempts: 1}, &host{down: true}, &host{})
		read(t, c)
		if got := order(c); got != "ba" {
			t.Errorf("order after a failed = %s; want ba", got)
		}
		for range 3600 {
			time.Sleep(time.Second)
			read(t, c)
		}
		asked, probed := w.counts("a")
		if asked != 1 {
			t.Errorf("the absent mirror was asked for %d files in an hour; want the first only", asked)
		}
		if probed < 25 || probed > 50 {
			t.Errorf("the absent mirror was tried %d times in an hour; want some 35", probed)
		}
		w.set("a", func(h *host) { h.down = false })
		for range 200 {
			time.Sleep(time.Second)
			read(t, c)
		}
		if s := c.State(); order(c) != "ba" || s[1].Resting != 0 {
			t.Errorf("State() = %+v; want b preferred and a ready", s)
		}
		w.set("b", func(h *host) { h.down = true })
		start := time.Now()
		read(t, c)
		if d := time.Since(start); d > 50*time.Millisecond || order(c) != "ab" {
			t.Errorf("after b failed: %v, order %s; want a at once", d, order(c))
		}
	})
}

// When every mirror is away, one request at a time finds out, and all go on
// when one is back.
func TestAllAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWorld(t, Options{Attempts: -1}, &host{down: true}, &host{silent: true}, &host{down: true})
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { read(t, c) })
		}
		time.Sleep(10 * time.Minute)
		for _, n := range []string{"a", "b", "c"} {
			if asked, _ := w.counts(n); asked > 50+10*60*2 {
				t.Errorf("%s was asked %d times in ten minutes by 50 readers", n, asked)
			}
		}
		back := time.Now()
		w.set("c", func(h *host) { h.down = false })
		wg.Wait()
		if d := time.Since(back); d > 30*time.Second {
			t.Errorf("the readers went on %v after a mirror was back", d)
		}
		if s := c.State(); s[0].URL != "http://c" || !s[0].Preferred {
			t.Errorf("State() = %+v; want c preferred", s)
		}
	})
}

// A trial that gets a proper answer ends the rest, also if it is not the file.
func TestSingleMirrorLacksAFileAfterTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWorld(t, Options{Attempts: 1}, &host{code: 503})
		if _, err := c.Read(t.Context(), "x", nil, 100, nil); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Read = %v; want %v", err, ErrUnavailable)
		}
		w.set("a", func(h *host) { h.code = 404 })
		time.Sleep(time.Second)
		if _, err := c.Read(t.Context(), "x", nil, 100, nil); !errors.Is(err, ErrNotFound) {
			t.Errorf("Read = %v; want %v", err, ErrNotFound)
		}
		if s := c.State(); s[0].Resting != 0 {
			t.Errorf("State() = %+v; want a mirror that does not rest", s)
		}
	})
}

// Requests that wait for a silent mirror do not all wait for their time-out.
func TestSilentMirrorIsAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWorld(t, Options{Attempts: 1}, &host{silent: true}, &host{})
		start := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { read(t, c) })
		}
		wg.Wait()
		if d := time.Since(start); d > 2300*time.Millisecond {
			t.Errorf("100 reads took %v; want about two seconds", d)
		}
		if asked, _ := w.counts("a"); asked > 20 {
			t.Errorf("the silent mirror was asked %d times; want the 16 at once and those that came before anybody knew", asked)
		}
	})
}

func TestHedgesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		late := func() time.Duration { // every second answer
			if n++; n%2 == 0 {
				return 3 * time.Second
			}
			return 10 * time.Millisecond
		}
		w, c := newWorld(t, Options{Attempts: 1}, &host{delay: late}, &host{delay: ms(200)})
		for range 400 {
			read(t, c)
		}
		if order(c) != "ab" {
			t.Errorf("order = %s; want a mirror that is late at times to stay", order(c))
		}
		if asked, _ := w.counts("b"); asked < 20 || asked > 2+400/8 {
			t.Errorf("%d second requests for 400 reads, half of them late; want some, at most %d", asked, 2+400/8)
		}
	})
}

func TestMeasure(t *testing.T) {
	silent := &host{silent: true}
	tests := []struct {
		name       string
		remembered string
		hosts      []*host
		want       string
		most       time.Duration
	}{
		{"nearest first", "", []*host{{delay: ms(90)}, {delay: ms(30)}, {delay: ms(60)}}, "bca", 200 * time.Millisecond},
		{"one is silent", "", []*host{{silent: true}, {delay: ms(30)}}, "ba", 350 * time.Millisecond},
		{"far away and silent", "", []*host{{delay: ms(900)}, {silent: true}, {delay: ms(400)}}, "cab", 2 * time.Second},
		{"one is away", "", []*host{{down: true}, {delay: ms(30)}, {code: 404}}, "bac", 100 * time.Millisecond},
		{"all away", "", []*host{{down: true}, {down: true}}, "", 100 * time.Millisecond},
		{"remembered, others are a little nearer", "a", []*host{{delay: ms(100)}, {delay: ms(30)}}, "ab", 300 * time.Millisecond},
		{"remembered, others are a fifth nearer", "a", []*host{{delay: ms(500)}, {delay: ms(400)}}, "ab", 1100 * time.Millisecond},
		{"remembered, another is clearly nearer", "a", []*host{{delay: ms(140)}, {delay: ms(30)}}, "ba", 350 * time.Millisecond},
		{"remembered, away", "b", []*host{{delay: ms(140)}, {down: true}}, "ab", 350 * time.Millisecond},
		{"remembered, silent", "b", []*host{{delay: ms(140)}, silent}, "ab", 1 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, c := newWorld(t, Options{}, tt.hosts...)
				if tt.remembered != "" {
					c.SetOrder([]Measurement{{URL: "http://" + tt.remembered, RTT: time.Millisecond}})
				}
				start := time.Now()
				got := c.Measure(t.Context())
				if d := time.Since(start); d > tt.most {
					t.Errorf("Measure took %v; want at most %v", d, tt.most)
				}
				if tt.want != "" && order(c) != tt.want {
					t.Errorf("order = %s; want %s (%v)", order(c), tt.want, got)
				}
				for _, m := range got {
					h := w.hosts[strings.TrimPrefix(m.URL, "http://")]
					if h.delay != nil && m.RTT != h.delay() && tt.name != "far away and silent" {
						t.Errorf("RTT of %s = %v; want %v", m.URL, m.RTT, h.delay())
					}
				}
			})
		})
	}
}

// The choice survives: what one client measured, another one keeps.
func TestOrderIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newWorld(t, Options{}, &host{delay: ms(100)}, &host{delay: ms(50)}, &host{delay: ms(20)})
		c.Measure(t.Context())
		list := append([]Measurement{{URL: "http://gone", RTT: 1}}, c.Measurements()...)

		_, d := newWorld(t, Options{}, &host{delay: ms(20)}, &host{delay: ms(50)}, &host{delay: ms(90)})
		d.SetOrder(list)
		if order(d) != "cba" {
			t.Errorf("order = %s; want cba as remembered", order(d))
		}
		if diff := cmp.Diff(list[1:], d.Measurements()); diff != "" {
			t.Errorf("Measurements() (-want +got):\n%s", diff)
		}
		d.Measure(t.Context())
		if order(d) != "cab" {
			t.Errorf("order = %s; want c to stay, 70 ms is no clear gain", order(d))
		}
	})
}

// A day of measurements that differ by less than the margins changes nothing;
// a clear gain changes the choice once.
func TestNoFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		noise := func(base int) func() time.Duration {
			return func() time.Duration { return time.Duration(base+rand.IntN(40)) * time.Millisecond }
		}
		w, c := newWorld(t, Options{Remeasure: 10 * time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))},
			&host{delay: noise(60)}, &host{delay: noise(60)}, &host{delay: noise(300)})
		c.SetOrder([]Measurement{{URL: "http://a"}})
		day := func() {
			for range 24 * 60 {
				time.Sleep(time.Minute)
				read(t, c)
			}
			synctest.Wait()
		}
		day()
		if log.Len() != 0 {
			t.Errorf("a day without a clear gain: %s", &log)
		}
		if _, probed := w.counts("c"); probed < 200 || probed > 400 {
			t.Errorf("%d requests measured a mirror in a day; want two each ten minutes or so", probed)
		}
		w.set("a", func(h *host) { h.delay = noise(250) })
		day()
		if n := strings.Count(log.String(), "another mirror is used"); n != 1 || order(c)[0] != 'b' {
			t.Errorf("%d changes and order %s after a got slow; want one, to b:\n%s", n, order(c), &log)
		}
	})
}

func TestIdleClientIsIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, c := newWorld(t, Options{Remeasure: 10 * time.Minute}, &host{down: true}, &host{})
		read(t, c)
		time.Sleep(time.Second)
		_, before := w.counts("b")
		time.Sleep(24 * time.Hour)
		if _, after := w.counts("b"); after != before {
			t.Errorf("%d requests while nobody read", after-before)
		}
	})
}

// buffer is an io.WriterAt.
type buffer []byte

func (b buffer) WriteAt(p []byte, off int64) (int, error) { return copy(b[off:], p), nil }

func TestTooSlow(t *testing.T) {
	data := make([]byte, 1_000_000)
	for i := range data {
		data[i] = byte(i >> 3)
	}
	tests := []struct {
		name  string
		hosts []*host
		want  string        // order afterwards
		most  time.Duration // for the download
	}{
		{"a slow line", []*host{{rate: 5000, data: data}}, "a", 201 * time.Second},
		{"slow, the other one is away", []*host{{rate: 5000, data: data}, {down: true}}, "ab", 210 * time.Second},
		{"slow, the other one is not", []*host{{rate: 5000, data: data}, {rate: 1e6, data: data}}, "ba", 10 * time.Second},
		{"both are slow", []*host{{rate: 5000, data: data}, {rate: 5000, data: data}}, "", 220 * time.Second},
		{"good enough", []*host{{rate: 300_000, data: data}, {rate: 1e6, data: data}}, "ab", 8 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, c := newWorld(t, Options{}, tt.hosts...)
				c.Measure(t.Context()) // who is away rests
				out := make(buffer, len(data))
				start := time.Now()
				// The fakes know no ranges: what is in place comes again, at their rate.
				if err := c.Download(t.Context(), "x", digest.BlobOf(data), out, nil); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(start); d > tt.most {
					t.Errorf("took %v; want at most %v", d, tt.most)
				}
				if !bytes.Equal(out, data) {
					t.Error("other bytes arrived")
				}
				if tt.want != "" && order(c) != tt.want {
					t.Errorf("order = %s; want %s", order(c), tt.want)
				}
			})
		})
	}
}

// What is far slower than another mirror is known to be is too slow.
func TestMuchSlowerThanAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := make([]byte, 20_000_000)
		w, c := newWorld(t, Options{}, &host{rate: 10e6, data: data}, &host{rate: 10e6, data: data})
		download := func() time.Duration {
			start := time.Now()
			if err := c.Download(t.Context(), "x", digest.BlobOf(data), make(buffer, len(data)), nil); err != nil {
				t.Fatal(err)
			}
			return time.Since(start)
		}
		download()
		w.set("a", func(h *host) { h.down = true })
		download()
		w.set("a", func(h *host) { h.down = false })
		w.set("b", func(h *host) { h.rate = 200_000 })
		time.Sleep(10 * time.Second)
		read := func() { // makes a sound again
			c.SetOrder([]Measurement{{URL: "http://a"}, {URL: "http://b"}})
			c.Measure(t.Context())
		}
		read()
		download()
		c.SetOrder([]Measurement{{URL: "http://b"}, {URL: "http://a"}})
		if d := download(); d > 10*time.Second || order(c) != "ab" {
			t.Errorf("download took %v, order %s; want a to take over after 4 s", d, order(c))
		}
	})
}

// 16 blocks at once on a slow line are no reason to change the mirror.
func TestSharedSlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := make([]byte, 100_000)
		// 16 transfers at 5 kB/s are a line of 80 kB/s.
		w, c := newWorld(t, Options{Attempts: 1}, &host{rate: 5000, data: data}, &host{rate: 5000, data: data})
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { read(t, c) })
		}
		wg.Wait()
		asked, _ := w.counts("a")
		other, _ := w.counts("b")
		if asked != 16 || other > hedgeMost {
			t.Errorf("%d and %d requests; want 16 and the few second ones", asked, other)
		}
	})
}

func TestStream(t *testing.T) {
	data := random(t, 300_000)
	synctest.Test(t, func(t *testing.T) {
		w, c := newWorld(t, Options{Attempts: 1}, &host{code: 404}, &host{rate: 100_000, data: data})
		r, size, err := c.Stream(t.Context(), "packs/x", 1<<20)
		if err != nil || size != int64(len(data)) {
			t.Fatalf("Stream = %d, %v; want %d bytes", size, err, len(data))
		}
		got, err := io.ReadAll(r)
		if cerr := r.Close(); err != nil || cerr != nil || !bytes.Equal(got, data) {
			t.Errorf("stream has %d bytes, %v, %v; want the data", len(got), err, cerr)
		}
		if _, _, err := c.Stream(t.Context(), "packs/x", 1000); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Stream of more than the limit = %v; want %v", err, ErrTooLarge)
		}

		// A reader that takes its time is not the mirror's fault.
		w.set("b", func(h *host) { h.rate = 0 })
		r, _, err = c.Stream(t.Context(), "packs/x", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for buf := make([]byte, 10_000); err == nil; {
			time.Sleep(time.Minute)
			var k int
			k, err = r.Read(buf)
			n += k
		}
		r.Close()
		if err != io.EOF || n != len(data) {
			t.Errorf("a slow reader got %d bytes, %v; want all %d", n, err, len(data))
		}
	})
}

// A stream that stalls ends, and the next one comes from another mirror.
func TestStreamStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		data := make([]byte, 100_000)
		_, c := newWorld(t, Options{Attempts: 1}, &host{rate: 10, data: data}, &host{data: data})
		start := time.Now()
		r, _, err := c.Stream(t.Context(), "packs/x", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(r)
		r.Close()
		if !errors.Is(err, ErrUnavailable) || time.Since(start) > 5*time.Second {
			t.Errorf("reading a stream that trickles = %v after %v; want %v after 4 s", err, time.Since(start), ErrUnavailable)
		}
		r, _, err = c.Stream(t.Context(), "packs/x", 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || len(got) != len(data) {
			t.Errorf("the next stream has %d bytes, %v; want all", len(got), err)
		}
		r.Close()
	})
}

func TestAdd(t *testing.T) {
	_, c := newWorld(t, Options{}, &host{}, &host{})
	if err := c.Add([]string{"http://a/", "http://n/x/", "ftp://x", "http://n/x"}); err == nil || !strings.Contains(err.Error(), "ftp://x") {
		t.Errorf("Add = %v; want an error that names ftp://x", err)
	}
	if diff := cmp.Diff([]string{"http://a", "http://b", "http://n/x"}, c.URLs()); diff != "" {
		t.Errorf("URLs() after Add (-want +got):\n%s", diff)
	}
	var many []string
	for i := range 100 {
		many = append(many, "http://m/"+string(rune('0'+i/10))+string(rune('0'+i%10)))
	}
	if err := c.Add(many); err == nil || len(c.URLs()) != MaxMirrors {
		t.Errorf("Add of too many = %v, %d mirrors; want an error and %d", err, len(c.URLs()), MaxMirrors)
	}
}

// What all mirrors lack is no fault of theirs.
func TestMissingEverywhereIsNobodysFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := newWorld(t, Options{Attempts: 1}, &host{code: 404}, &host{code: 404})
		if _, _, err := c.Stream(t.Context(), "packs/x", 100); !errors.Is(err, ErrNotFound) {
			t.Errorf("Stream = %v; want %v", err, ErrNotFound)
		}
		for _, s := range c.State() {
			if s.Resting != 0 || s.Failures != 0 {
				t.Errorf("State of %s = %+v; want no blame", s.URL, s)
			}
		}
	})
}

// However long mirrors stay away, and however often they come and go, the log
// stays short.
func TestLogStaysShort(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(w *world, minute int)
		most   int // lines in the hour
	}{
		"one of two away": {func(w *world, m int) { w.set("a", func(h *host) { h.down = true }) }, 1},
		"all away": {func(w *world, m int) {
			w.set("a", func(h *host) { h.down = true })
			w.set("b", func(h *host) { h.silent = true })
		}, 1},
		"both come and go": {func(w *world, m int) {
			w.set("a", func(h *host) { h.down = m%4 < 2 })
			w.set("b", func(h *host) { h.down = m%4 >= 2 })
		}, 6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				w, c := newWorld(t, Options{Attempts: 1, Remeasure: 10 * time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil))}, &host{}, &host{})
				good := 0
				for m := range 60 {
					tt.change(w, m)
					for range 60 {
						if _, err := c.Read(t.Context(), "file", nil, 1<<20, nil); err == nil {
							good++
						}
						time.Sleep(time.Second)
					}
				}
				synctest.Wait()
				if n := bytes.Count(log.Bytes(), []byte("\n")); n > tt.most {
					t.Errorf("%d lines in an hour; want %d at most:\n%s", n, tt.most, &log)
				}
				if changes := c.State(); name == "both come and go" && (good < 3000 || changes[0].Failures+changes[1].Failures < 20) {
					t.Errorf("%d of 3600 reads were good; %+v", good, changes)
				}
			})
		})
	}
}
