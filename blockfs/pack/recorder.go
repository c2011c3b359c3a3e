package pack

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// MaxTrace is how many accesses a trace can have. Of a longer boot the
// beginning counts.
const MaxTrace = 16_384

// Access is the first use of a block.
type Access struct {
	File  int // of the root, in the order of the manifest
	Block int // in the file's index
	MS    int // milliseconds since recording began
}

// Recorder notes the first access to each block, in their order, for as long
// as a boot lasts. It is safe for concurrent use. An access that is not the
// first costs one atomic load.
type Recorder struct {
	start  time.Time
	blocks []int                             // of each file
	seen   atomic.Pointer[[][]atomic.Uint32] // one bit for each block; nil: stopped

	mu    sync.Mutex
	trace Trace
	last  time.Time
}

// NewRecorder begins recording for files that have so many blocks each, which
// is what index.Index.Len says. It needs a bit for each block and 24 bytes
// for each one that is accessed, up to MaxTrace.
func NewRecorder(blocks ...int) *Recorder {
	seen := make([][]atomic.Uint32, len(blocks))
	for i, n := range blocks {
		seen[i] = make([]atomic.Uint32, (n+31)/32)
	}
	r := &Recorder{start: time.Now(), blocks: slices.Clone(blocks)}
	r.seen.Store(&seen)
	return r
}

// Access notes that somebody reads a block. Blocks that cannot be are ignored.
func (r *Recorder) Access(file, block int) {
	seen := r.seen.Load()
	if seen == nil || file < 0 || file >= len(r.blocks) || block < 0 || block >= r.blocks[file] {
		return
	}
	word, bit := &(*seen)[file][block/32], uint32(1)<<(block%32)
	if word.Load()&bit != 0 || word.Or(bit)&bit != 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen.Load() == nil {
		return
	}
	r.last = time.Now()
	if len(r.trace) < MaxTrace {
		r.trace = append(r.trace, Access{File: file, Block: block, MS: int(r.last.Sub(r.start).Milliseconds())})
	}
}

// Last returns when a block was accessed for the first time most recently;
// zero if none was.
func (r *Recorder) Last() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Stop ends recording and returns what was recorded. Further calls return the
// same.
func (r *Recorder) Stop() Trace {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen.Store(nil)
	return r.trace
}

// Quiet says by which signs a boot is over: some time after the root was
// handed over to the machine's init nothing new is read any more. There is no
// sign that all systems give, and none is needed: a pack that has some blocks
// too many or too few does its work.
type Quiet struct {
	For   time.Duration // without a first access
	Least time.Duration // after the hand-over
	Most  time.Duration // after the hand-over, even if it never gets quiet
}

// DefaultQuiet returns 8 s without anything new, 10 s to 180 s after the
// hand-over.
func DefaultQuiet() Quiet {
	return Quiet{For: 8 * time.Second, Least: 10 * time.Second, Most: 180 * time.Second}
}

// Left returns how long after now the boot will be over if nothing new is
// read until then; 0 or less says that it is. last is the time of the last
// first access, zero for none.
func (q Quiet) Left(now, handover, last time.Time) time.Duration {
	end := handover.Add(q.Least)
	if t := last.Add(q.For); !last.IsZero() && t.After(end) {
		end = t
	}
	if t := handover.Add(q.Most); t.Before(end) {
		end = t
	}
	return end.Sub(now)
}

// Wait returns when the boot that r records is over, or with ctx's error. The
// hand-over is now.
func (q Quiet) Wait(ctx context.Context, r *Recorder) error {
	handover := time.Now()
	for {
		left := q.Left(time.Now(), handover, r.Last())
		if left <= 0 {
			return nil
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return context.Cause(ctx)
		}
	}
}
