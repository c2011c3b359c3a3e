package pack

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRecorder(3, 100)
		if !r.Last().IsZero() {
			t.Error("Last before any access is not zero")
		}
		r.Access(1, 64)
		time.Sleep(12 * time.Millisecond)
		r.Access(0, 2)
		r.Access(1, 64)
		at := time.Now()
		for _, bad := range [][2]int{{-1, 0}, {2, 0}, {0, -1}, {0, 3}, {1, 100}} {
			r.Access(bad[0], bad[1])
		}
		time.Sleep(time.Second)
		if got := r.Last(); !got.Equal(at) {
			t.Errorf("Last = %v; want %v", got, at)
		}
		want := Trace{{1, 64, 0}, {0, 2, 12}}
		if diff := cmp.Diff(want, r.Stop()); diff != "" {
			t.Errorf("Stop (-want +got):\n%s", diff)
		}
		r.Access(0, 1)
		if diff := cmp.Diff(want, r.Stop()); diff != "" {
			t.Errorf("Stop after an access that came too late (-want +got):\n%s", diff)
		}
	})
}

func TestRecorderAtOnce(t *testing.T) {
	const blocks = MaxTrace + 5000
	r := NewRecorder(blocks)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for b := range blocks {
				r.Access(0, (b+i*1000)%blocks)
			}
		})
	}
	wg.Wait()
	trace := r.Stop()
	if len(trace) != MaxTrace {
		t.Fatalf("the trace has %d accesses; want %d", len(trace), MaxTrace)
	}
	if err := report(trace...).Check(); err != nil {
		t.Errorf("a report with this trace: %v", err)
	}
}

func TestRecorderAllocatesNothing(t *testing.T) {
	r := NewRecorder(100)
	r.Access(0, 1)
	if n := testing.AllocsPerRun(100, func() { r.Access(0, 1) }); n != 0 {
		t.Errorf("a further access allocates %v times", n)
	}
}

func TestQuietLeft(t *testing.T) {
	at := func(s float64) time.Time { return time.Unix(1000, 0).Add(time.Duration(s * float64(time.Second))) }
	for _, tt := range []struct {
		name      string
		now, last float64
		want      float64 // 0: over
	}{
		{"nothing read since", 0, -5, 10},
		{"just now", 5, 4.5, 7.5},
		{"read early", 9, 1, 1},
		{"quiet, but too early", 9.5, 1.5, 0.5},
		{"over", 10, 2, 0},
		{"goes on", 100, 99, 7},
		{"over after long", 107, 99, 0},
		{"never quiet", 179, 178.9, 1},
		{"never quiet, and over", 180, 179.9, 0},
		{"late", 500, 499, 0},
	} {
		got := DefaultQuiet().Left(at(tt.now), at(0), at(tt.last))
		if max(got, 0).Seconds() != tt.want {
			t.Errorf("%s: Left = %v; want %v s", tt.name, got, tt.want)
		}
	}
	if got := DefaultQuiet().Left(at(0), at(0), time.Time{}); got != 10*time.Second {
		t.Errorf("Left without any access = %v; want 10 s", got)
	}
}

func TestQuietWait(t *testing.T) {
	for _, tt := range []struct {
		name  string
		every time.Duration // between accesses
		until time.Duration // of the accesses
		want  time.Duration
	}{
		{"nothing is read", time.Hour, 0, 10 * time.Second},
		{"ends early", 500 * time.Millisecond, time.Second, 10 * time.Second},
		{"ends later", 500 * time.Millisecond, 30 * time.Second, 38 * time.Second},
		{"pauses", 7 * time.Second, 35 * time.Second, 43 * time.Second},
		{"never ends", time.Second, time.Hour, 180 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := NewRecorder(MaxTrace)
				ctx, cancel := context.WithCancel(t.Context())
				start := time.Now()
				var wg sync.WaitGroup
				wg.Go(func() {
					for i := 0; ; i++ {
						select {
						case <-time.After(tt.every):
						case <-ctx.Done():
							return
						}
						if time.Since(start) > tt.until {
							return
						}
						r.Access(0, i)
						r.Access(0, 0) // again is not first
					}
				})
				if err := DefaultQuiet().Wait(ctx, r); err != nil {
					t.Error(err)
				}
				if got := time.Since(start); got != tt.want {
					t.Errorf("Wait took %v; want %v", got, tt.want)
				}
				cancel()
				wg.Wait()
			})
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := DefaultQuiet().Wait(ctx, NewRecorder(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait with a context that ends = %v", err)
		}
	})
}

func BenchmarkAccess(b *testing.B) {
	r := NewRecorder(1000)
	for i := range 1000 {
		r.Access(0, i)
	}
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			r.Access(0, i%1000)
		}
	})
}
