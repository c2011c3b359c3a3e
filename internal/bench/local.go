package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// session starts a peer below a new folder, does something with what it
// mounts, and stops it. The time ends with limit, when everything is aborted.
func (b *bench) session(ctx context.Context, p peer, url string, names []string, limit time.Duration, do func(context.Context, *mounted, string) error) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errLimit)
	defer cancel()
	dir, err := os.MkdirTemp(b.dir, "session-")
	if err != nil {
		return err
	}
	m, err := p.start(ctx, dir, url, names)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name(), why(ctx, err))
	}
	stop := func() error {
		if err := m.stop(); err != nil {
			return fmt.Errorf("%s: %w", p.name(), err)
		}
		return os.RemoveAll(dir)
	}
	if err := do(ctx, m, dir); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", p.name(), why(ctx, err)), stop())
	}
	return stop()
}

// errLimit is the cause of an error when a time limit was over.
var errLimit = errors.New("the time limit is over")

func why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return errors.Join(cause, err)
	}
	return err
}

// coldLimit is how long one cold read may take.
const coldLimit = 2 * time.Minute

// repeats of everything of which the median counts.
const repeats = 3

// coldLocal reads the file of contents from end to end, each time with a
// daemon just started. The rounds of all programs are interleaved.
func (b *bench) coldLocal(ctx context.Context) error {
	p, err := b.preparePlain(ctx)
	if err != nil {
		return err
	}
	all := append([]peer{&blockfs{b: b, image: p.image}}, b.peers()...)
	rates := make([][]float64, len(all))
	failed := make([]error, len(all))
	for round := range repeats {
		for i, pr := range all {
			if failed[i] != nil {
				continue
			}
			b.say("cold sequential read on loopback, round %d of %d: %s", round+1, repeats, pr.name())
			url := "http://" + p.addr
			if i == 0 {
				url = b.bed.URL
			}
			err := b.session(ctx, pr, url, []string{p.data}, coldLimit, func(_ context.Context, m *mounted, _ string) error {
				r, err := rate(m.files[0])
				rates[i] = append(rates[i], r)
				return err
			})
			if err != nil {
				if i == 0 || ctx.Err() != nil {
					return err
				}
				failed[i] = err
			}
		}
	}
	ours, best := median(rates[0]), 0
	for i := 1; i < len(all); i++ {
		if failed[i] == nil && (best == 0 || median(rates[i]) > median(rates[best])) {
			best = i
		}
	}
	for i := 1; i < len(all); i++ {
		if failed[i] != nil {
			if !errors.Is(failed[i], errLimit) {
				b.report(figure("cold sequential read, loopback", "MB/s", ours).noted("%v", failed[i]))
				continue
			}
			size := p.image.Root.Files[len(p.image.Root.Files)-1].Size
			r := speed("cold sequential read, loopback", "MB/s", ours, float64(size)/1e6/coldLimit.Seconds(), all[i].name()).noted("peer stopped after %v", coldLimit)
			r.AtLeast = true
			b.report(r)
			continue
		}
		r := speed("cold sequential read, loopback", "MB/s", ours, median(rates[i]), all[i].name())
		if i == best {
			r = r.wantRatio(1.6).noted("the best peer")
		}
		b.report(r)
	}
	return nil
}

// warmFigures are what is measured of one EROFS.
type warmFigures struct{ tree, random, dropped []float64 }

// randomCount is how many pages one round of random reading reads.
const randomCount = 300_000

// warm reads all files of the root's EROFS, on blockfs and on the local disk.
// In the second pass the contents come from the page cache of the EROFS, which
// is what warm means for a running system. For the last line that cache has
// been dropped, and what blockfs or the loop devices remember has to do.
func (b *bench) warm(ctx context.Context) error {
	p, err := b.preparePlain(ctx)
	if err != nil {
		return err
	}
	var ours, disk warmFigures
	var again float64 // bytes that the server sent while everything was warm
	args, memory := []string{}, "the daemon's memory only: the rest is fetched again"
	if b.canCache(ctx) {
		args, memory = []string{"--cache", filepath.Join(b.dir, "warm-cache")}, "the disk cache"
	}
	fs := &blockfs{b: b, image: p.image, args: args}
	err = b.session(ctx, fs, b.bed.URL, p.names, 15*time.Minute, func(ctx context.Context, m *mounted, dir string) (err error) {
		b.say("mounting EROFS on blockfs and on the local disk, and reading both once")
		a, err := b.mountEROFS(ctx, filepath.Join(dir, "root"), m.files, true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.close()) }()
		l, err := b.mountEROFS(ctx, filepath.Join(dir, "disk"), p.files, false)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.close()) }()
		files, err := regularFiles(l.dir)
		if err != nil {
			return err
		}
		both := []struct {
			m *erofsMount
			f *warmFigures
		}{{a, &ours}, {l, &disk}}
		for _, x := range both {
			if _, err := readTree(ctx, x.m.dir, files); err != nil {
				return err
			}
		}
		sent, err := b.sentBlocks(ctx)
		if err != nil {
			return err
		}
		for round := range repeats {
			b.say("warm reads, round %d of %d", round+1, repeats)
			for _, x := range both {
				r, err := readTree(ctx, x.m.dir, files)
				if err != nil {
					return err
				}
				x.f.tree = append(x.f.tree, r)
				if r, err = randomReads(ctx, x.m.dir, files, randomCount); err != nil {
					return err
				}
				x.f.random = append(x.f.random, r)
			}
		}
		now, err := b.sentBlocks(ctx)
		if err != nil {
			return err
		}
		again = now - sent
		for round := range repeats {
			b.say("reads without EROFS's page cache, round %d of %d", round+1, repeats)
			for _, x := range both {
				if err := x.m.forget(); err != nil {
					return err
				}
				r, err := readTree(ctx, x.m.dir, files)
				if err != nil {
					return err
				}
				x.f.dropped = append(x.f.dropped, r)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	const beside = "same EROFS, local disk"
	held := "EROFS's page cache"
	if again > 0 {
		// Some kernels take pages away that nobody has used for a while (DAMON).
		held += fmt.Sprintf(", which did not hold everything: %.1f MB were fetched again meanwhile", again/1e6)
	}
	b.report(speed("warm read of all files", "MB/s", median(ours.tree), median(disk.tree), beside).wantRatio(0.9).noted("second pass and later: %s", held))
	b.report(speed("warm random 4 KiB", "1/s", median(ours.random), median(disk.random), beside).wantRatio(0.9).noted("%s", held))
	b.report(speed("read of all files, page cache dropped", "MB/s", median(ours.dropped), median(disk.dropped), beside).noted("blockfs reads from %s; the disk's files are in memory", memory))
	return nil
}
