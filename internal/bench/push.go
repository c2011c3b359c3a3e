package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/inetboot/inetboot/internal/debianroot"
)

// pushRounds is how often each program is run; the median counts.
const pushRounds = 3

// Limits of the targets.
const (
	pushMemory = 512 // MB
	sparseSize = 20 << 30
)

// push publishes the same tree with imagetool, with casync, and compresses it
// with zstd, all to the same disk, in turn; then what comes after a first
// push: the same again, an update, uploads to slow stores, and a source that is
// larger than memory.
func (b *bench) push(ctx context.Context) error {
	tree := filepath.Join(b.dir, "tree")
	if err := b.unpack(ctx, tree); err != nil {
		return err
	}
	info, err := os.Stat(b.tarball)
	if err != nil {
		return err
	}
	mb := float64(info.Size()) / 1e6
	p := &pusher{b: b, imagetool: filepath.Join(b.build, "imagetool")}
	times := map[string][]float64{}
	var memory float64
	var ours, casync usage
	for round := range pushRounds {
		for _, m := range []struct {
			name string
			run  func(dir string) error
		}{
			{"imagetool push", func(dir string) error {
				if err := p.init(ctx, dir); err != nil {
					return err
				}
				took, peak, err := p.push(ctx, dir, tree, "1")
				if err != nil {
					return err
				}
				times["imagetool push"] = append(times["imagetool push"], took)
				memory = max(memory, peak)
				if round > 0 {
					return nil
				}
				// Kernel and initramfs for the target are no part of the
				// tree, and casync has none.
				for _, d := range []string{"blocks", "indexes"} {
					u, err := diskUsage(filepath.Join(dir, "store", d))
					if err != nil {
						return err
					}
					ours.disk, ours.bytes = ours.disk+u.disk, ours.bytes+u.bytes
				}
				return nil
			}},
			{"casync make", func(dir string) error {
				if err := b.timed(ctx, times, "casync make", "casync", "make", "--with=unix", "--store="+filepath.Join(dir, "store.castr"), filepath.Join(dir, "tree.caidx"), tree); err != nil {
					return err
				}
				if round > 0 {
					return nil
				}
				var err error
				casync, err = diskUsage(dir)
				return err
			}},
			{"tar | zstd -T2 -3", func(dir string) error {
				return b.timed(ctx, times, "tar | zstd -T2 -3", "sh", "-c", `tar -cf - -C "$1" . | zstd -q -T2 -3 -o "$2"`, "sh", tree, filepath.Join(dir, "tree.tar.zst"))
			}},
		} {
			b.say("%s, round %d of %d", m.name, round+1, pushRounds)
			dir, err := os.MkdirTemp(b.dir, "push-")
			if err != nil {
				return err
			}
			if err := m.run(dir); err != nil {
				return err
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
	}
	rate := func(name string) float64 { return mb / median(times[name]) }
	for _, peer := range []struct {
		name  string
		least float64
	}{{"casync make", 2.5}, {"tar | zstd -T2 -3", 0.6}} {
		b.report(speed("push of 1.1 GB to a folder", "MB/s", rate("imagetool push"), rate(peer.name), peer.name).wantRatio(peer.least))
	}
	b.report(share("push: room that the tree takes in the store, on the disk", ours.disk, casync.disk).wantMost(0.9).noted("%.0f MB of %.0f MB", ours.disk/1e6, casync.disk/1e6))
	b.report(share("push: bytes of the files that have the tree in the store", ours.bytes, casync.bytes).noted("%.0f MB of %.0f MB", ours.bytes/1e6, casync.bytes/1e6))
	b.report(figure("push: peak memory", "MB", memory).wantMost(pushMemory))
	if err := p.again(ctx, tree); err != nil {
		return err
	}
	if err := b.updates(ctx, tree, p); err != nil {
		return err
	}
	if err := b.uploads(ctx, tree); err != nil {
		return err
	}
	return p.sparse(ctx, tree)
}

// share is a figure in relation to casync's.
func share(name string, ours, casync float64) result {
	r := figure(name, "× casync", ours/casync)
	return r
}

// unpack makes a tree of the Debian system.
func (b *bench) unpack(ctx context.Context, tree string) error {
	b.say("unpacking the tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := b.command(ctx, "tar", "-xpf", b.tarball, "--numeric-owner", "-C", tree); err != nil {
		return err
	}
	return b.command(ctx, "sync")
}

// timed runs a program and notes how long it takes.
func (b *bench) timed(ctx context.Context, times map[string][]float64, as, name string, args ...string) error {
	start := time.Now()
	if err := b.command(ctx, name, args...); err != nil {
		return err
	}
	times[as] = append(times[as], time.Since(start).Seconds())
	return nil
}

// pusher runs imagetool with settings of its own.
type pusher struct {
	b         *bench
	imagetool string
}

func (p *pusher) init(ctx context.Context, dir string) error {
	return p.b.command(ctx, p.imagetool, "init", "--no-passphrase", "--to", filepath.Join(dir, "store"), "--keys", filepath.Join(dir, "keys"), "--config", filepath.Join(dir, "config"))
}

// push publishes a tree and returns the seconds that it took and the MB of
// memory at the peak. What it remembers of trees is in dir as well.
func (p *pusher) push(ctx context.Context, dir, tree, version string) (seconds, peak float64, err error) {
	cmd := exec.CommandContext(ctx, p.imagetool, "push", tree, "--name", "debian", "--version", version, "--config", filepath.Join(dir, "config"))
	cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+filepath.Join(dir, "cache"))
	cmd.Stdout, cmd.Stderr = p.b.log, p.b.log
	cmd.WaitDelay = 5 * time.Second
	start := time.Now()
	if err := cmd.Run(); err != nil {
		return 0, 0, fmt.Errorf("imagetool push: %w", err)
	}
	seconds = time.Since(start).Seconds()
	if r, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		peak = float64(r.Maxrss) * 1024 / 1e6
	}
	return seconds, peak, nil
}

// again pushes a tree twice that has not changed.
func (p *pusher) again(ctx context.Context, tree string) error {
	var first, second []float64
	for range pushRounds {
		dir, err := os.MkdirTemp(p.b.dir, "again-")
		if err != nil {
			return err
		}
		if err := p.init(ctx, dir); err != nil {
			return err
		}
		p.b.say("push, and the same again")
		a, _, err := p.push(ctx, dir, tree, "1")
		if err != nil {
			return err
		}
		before, err := diskUsage(filepath.Join(dir, "store"))
		if err != nil {
			return err
		}
		s, _, err := p.push(ctx, dir, tree, "1")
		if err != nil {
			return err
		}
		after, err := diskUsage(filepath.Join(dir, "store"))
		if err != nil {
			return err
		}
		if before.bytes != after.bytes || before.files != after.files {
			return fmt.Errorf("the second push of an unchanged tree made %d files of %d, %.0f bytes of %.0f", after.files, before.files, after.bytes, before.bytes)
		}
		first, second = append(first, a), append(second, s)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	p.b.report(figure("push: the same again", "× the first's time", median(second)/median(first)).wantMost(0.25).noted("%.2f s, %.2f s", median(second), median(first)))
	return nil
}

// sparse pushes a tree with a file of 20 GB, most of which is a hole.
func (p *pusher) sparse(ctx context.Context, tree string) (err error) {
	name := filepath.Join(tree, "srv", "disk.img")
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(name)) }()
	for at := int64(0); at < sparseSize && err == nil; at += sparseSize / 64 {
		_, err = f.WriteAt([]byte(fmt.Sprintf("not a hole at %d", at)), at)
	}
	if err := errors.Join(err, f.Truncate(sparseSize), f.Close()); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(p.b.dir, "sparse-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := p.init(ctx, dir); err != nil {
		return err
	}
	p.b.say("push with a sparse file of 20 GB")
	took, peak, err := p.push(ctx, dir, tree, debianroot.Version)
	if err != nil {
		return err
	}
	p.b.report(figure("push with a sparse file of 20 GB: peak memory", "MB", peak).wantMost(pushMemory).noted("%.1f s", took))
	return nil
}

// usage is what files take.
type usage struct {
	files int
	bytes float64 // of contents
	disk  float64 // allocated, folders included
}

func diskUsage(dir string) (u usage, err error) {
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || strings.HasSuffix(name, "/.lock") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			u.disk += float64(st.Blocks) * 512
		}
		if d.Type().IsRegular() {
			u.files++
			u.bytes += float64(info.Size())
		}
		return nil
	})
	return u, err
}
