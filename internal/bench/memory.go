package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory loads a daemon with 16 readers for 20 s, reads how much memory it
// ever had, and what it does when nobody reads.
func (b *bench) memory(ctx context.Context) error {
	p, err := b.preparePlain(ctx)
	if err != nil {
		return err
	}
	var hwm, idle float64
	err = b.session(ctx, &blockfs{b: b, image: p.image}, b.bed.URL, []string{p.data}, 3*time.Minute, func(ctx context.Context, m *mounted, dir string) error {
		b.say("fio with 16 readers for 20 s: 6 random, 6 sequential, 4 random past the page cache")
		job := filepath.Join(dir, "readers.fio")
		text := fmt.Sprintf(`[global]
filename=%s
thread=1
ioengine=psync
time_based=1
runtime=20
fallocate=none
[random]
rw=randread
bsrange=4k-256k
numjobs=6
[sequential]
rw=read
bs=1m
numjobs=6
offset_increment=12%%
[direct]
rw=randread
bsrange=4k-1m
blockalign=4k
direct=1
numjobs=4
`, m.files[0])
		if err := os.WriteFile(job, []byte(text), 0o644); err != nil {
			return err
		}
		if err := b.command(ctx, "fio", "--readonly", "--output-format=terse", job); err != nil {
			return err
		}
		pid := m.processes[0].pid()
		var err error
		if hwm, err = peakMemory(pid); err != nil {
			return err
		}
		if err := wait(ctx, 10*time.Second); err != nil { // read-ahead that is still under way
			return err
		}
		b.say("an idle daemon for 20 s")
		before, err := cpuTime(pid)
		if err != nil {
			return err
		}
		if err := wait(ctx, 20*time.Second); err != nil {
			return err
		}
		after, err := cpuTime(pid)
		idle = (after - before).Seconds()
		return err
	})
	if err != nil {
		return err
	}
	b.report(figure("memory of the daemon, 16 readers", "MB", hwm).wantMost(96).noted("VmHWM, program included"))
	b.report(figure("processor time of an idle daemon in 20 s", "s", idle).wantMost(0.01).noted("one step of the clock, or none"))
	return nil
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// peakMemory returns a process's largest resident set in MB, see proc(5).
func peakMemory(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			return kib * 1024 / 1e6, err
		}
	}
	return 0, fmt.Errorf("process %d has no VmHWM", pid)
}

// cpuTime returns a process's time in user and system mode, see proc(5). A
// clock tick is 10 ms for all user programs on Linux.
func cpuTime(pid int) (time.Duration, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The program's name, in parentheses, may have spaces.
	f := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(f))
	}
	var ticks int64
	for _, s := range f[11:13] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}
