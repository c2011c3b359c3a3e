package root

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/inetboot/inetboot/blockfs/pack"
	"github.com/inetboot/inetboot/blockfs/read"
	"github.com/inetboot/inetboot/internal/handoff"
)

// Stages of the boot that a Root notes itself.
const (
	StageFiles = "files" // the root's files can be read
	StageOver  = "over"  // the boot has read what it reads
)

// Mark notes that a stage of the boot is reached now.
func (r *Root) Mark(stage string) { r.MarkAt(stage, r.bootClock(time.Now())) }

// MarkAt notes when a stage was reached, in milliseconds since 1970.
func (r *Root) MarkAt(stage string, unix int64) {
	const most = 64
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.steps) < most {
		r.steps = append(r.steps, handoff.Stage{Name: stage, Unix: unix})
	}
}

// Timeline returns the stages so far, in the order of time.
func (r *Root) Timeline() []handoff.Stage {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.steps)
	slices.SortStableFunc(out, func(a, b handoff.Stage) int { return cmp.Compare(a.Unix, b.Unix) })
	return out
}

// Booted waits until the boot is over, ends recording, and returns the report.
// The caller has just handed the root over to the machine's init.
func (r *Root) Booted(ctx context.Context, q pack.Quiet, bootID, client string) (*pack.Report, error) {
	if err := q.Wait(ctx, r.rec); err != nil {
		return nil, err
	}
	return r.EndBoot(bootID, client), nil
}

// EndBoot ends recording and returns the report of what was read until now.
func (r *Root) EndBoot(bootID, client string) *pack.Report {
	r.booting.Store(false)
	trace := r.rec.Stop()
	over := r.rec.Last()
	for _, f := range r.files {
		f.File.OnAccess(nil)
	}
	r.ReleasePack()
	if !over.IsZero() {
		r.MarkAt(StageOver, r.bootClock(over))
	}
	r.mu.Lock()
	r.over = true
	r.mu.Unlock()
	rep := &pack.Report{BootID: bootID, Client: client, Image: r.o.Image, Stages: r.Timeline(), Trace: trace}
	for _, f := range r.files {
		rep.Files = append(rep.Files, f.Name)
	}
	by := r.blocks.Stats().By
	count := func(o read.Origin) pack.Count { return pack.Count{Blocks: by[o].Blocks, Bytes: by[o].Bytes} }
	rep.Origins = pack.Origins{
		Memory: count(read.FromMemory), Disk: count(read.FromDisk), Pack: count(read.FromPack),
		Demand: count(read.FromDemand), Ahead: count(read.FromAhead), Fill: count(read.FromFill),
	}
	return rep
}

// SendReport posts a report to the mirrors in turn until one takes it. Static
// mirrors never do, which is no error.
func (r *Root) SendReport(ctx context.Context, rep *pack.Report) {
	if r.o.Mirrors == nil {
		return
	}
	for _, u := range r.o.Mirrors.URLs() {
		one, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := pack.Post(one, r.o.Mirrors.HTTP(), u, rep)
		cancel()
		if err == nil {
			r.log.Debug("boot report sent", "to", u)
			return
		}
		r.log.Debug("boot report not taken", "by", u, "error", err)
		if ctx.Err() != nil {
			return
		}
	}
}
