package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/slowline"
)

// The line that most is measured on.
const (
	lineRTT  = 50 * time.Millisecond
	lineRate = 100_000_000 / 8 // bytes per second: 100 Mbit/s of payload
)

// peerLimit is how long a peer may take for one thing.
const peerLimit = 150 * time.Second

// slow is a line to a server.
type slow struct {
	*slowline.Line
	addr string // where its near end listens
	end  func()
}

func slowTo(ctx context.Context, rtt time.Duration, rate int64, target string) (*slow, error) {
	l, err := slowline.New(slowline.Config{RTT: rtt, Rate: rate})
	if err != nil {
		return nil, err
	}
	addr, end, err := l.Listen(ctx, target)
	if err != nil {
		return nil, err
	}
	return &slow{l, addr, end}, nil
}

// line measures reading through 50 ms and 100 Mbit/s. Each run has a line and a
// daemon of its own, and what it takes counts from the daemon's start.
func (b *bench) line(ctx context.Context) error {
	p, err := b.preparePlain(ctx)
	if err != nil {
		return err
	}
	if err := b.prepareWhole(ctx, p); err != nil {
		return err
	}
	if err := b.lineSequential(ctx, p); err != nil {
		return err
	}
	local, err := b.mountEROFS(ctx, filepath.Join(b.dir, "local-root"), p.files, false)
	if err != nil {
		return err
	}
	files, err := regularFiles(local.dir)
	if err := errors.Join(err, local.close()); err != nil {
		return err
	}
	chosen := sample(files, 250)
	var list bytes.Buffer
	var plainBytes int64
	for _, f := range chosen {
		list.WriteString(f.name)
		list.WriteByte(0)
		plainBytes += f.size
	}
	names := filepath.Join(b.dir, "names")
	if err := os.WriteFile(names, list.Bytes(), 0o644); err != nil {
		return err
	}
	for _, job := range []struct {
		name  string
		want  float64
		shell string // run in the EROFS's root; $1 is the file of names
		note  string
	}{
		{"find / -xdev on a cold mount", 30, `find . -xdev`, fmt.Sprintf("%d regular files", len(files))},
		{"250 random files, cold", 4, `xargs -0 cat -- <"$1"`, fmt.Sprintf("%.1f MB, one after another", float64(plainBytes)/1e6)},
	} {
		if err := b.lineJob(ctx, p, job.name, job.want, job.shell, names, job.note); err != nil {
			return err
		}
	}
	return nil
}

// lineSequential reads the contents from end to end: the compressed bytes
// that this takes are compared with what the line could carry.
func (b *bench) lineSequential(ctx context.Context, p *plain) error {
	var shares []float64
	for round := range 2 {
		b.say("cold sequential read through %v, 100 Mbit/s, round %d of 2", lineRTT, round+1)
		s, err := slowTo(ctx, lineRTT, lineRate, strings.TrimPrefix(b.bed.URL, "http://"))
		if err != nil {
			return err
		}
		err = b.session(ctx, &blockfs{b: b, image: p.image}, "http://"+s.addr, []string{p.data}, 5*time.Minute, func(_ context.Context, m *mounted, _ string) error {
			start := time.Now()
			if _, err := readFile(m.files[0]); err != nil {
				return err
			}
			stored := p.image.Root.Files[len(p.image.Root.Files)-1].Stored
			shares = append(shares, float64(stored)/time.Since(start).Seconds()/lineRate)
			return nil
		})
		s.end()
		if err != nil {
			return err
		}
	}
	b.report(figure("cold sequential read, 50 ms 100 Mbit/s: share of the line", "", median(shares)).wantLeast(0.9).noted("compressed bytes ÷ what the line carries in that time"))
	return nil
}

// lineJob runs a shell command in the EROFS on a cold mount of each program.
func (b *bench) lineJob(ctx context.Context, p *plain, name string, want float64, shell, list, note string) error {
	run := func(pr peer, server string, names []string) (time.Duration, error) {
		b.say("%s, 50 ms 100 Mbit/s: %s, %s", name, pr.name(), strings.Join(names, " and "))
		s, err := slowTo(ctx, lineRTT, lineRate, server)
		if err != nil {
			return 0, err
		}
		defer s.end()
		start, took := time.Now(), time.Duration(0)
		err = b.session(ctx, pr, "http://"+s.addr, names, peerLimit, func(ctx context.Context, m *mounted, dir string) (err error) {
			e, err := b.mountEROFS(ctx, filepath.Join(dir, "root"), m.files, true)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, e.close()) }()
			cmd := exec.CommandContext(ctx, "sh", "-c", shell, "sh", list)
			cmd.Dir, cmd.Stderr = e.dir, b.log
			err = cmd.Run()
			took = time.Since(start)
			return err
		})
		b.say("%s: %.1f s, %.1f MB over the line", pr.name(), time.Since(start).Seconds(), float64(s.Down())/1e6)
		return took, err
	}
	ours, err := run(&blockfs{b: b, image: p.image}, strings.TrimPrefix(b.bed.URL, "http://"), p.names)
	if err != nil {
		return err
	}
	// First as people have it, an EROFS of one file, which the target is about;
	// then with our files, in which the metadata lie apart.
	if err := b.lineBeside(ctx, run, p.addr, name, note+"; peer: one file of mkfs.erofs", ours, []string{p.whole}, want); err != nil {
		return err
	}
	return b.lineBeside(ctx, run, p.addr, name, note+"; peer: our files meta and data", ours, p.names, 0)
}

// lineBeside runs the job with each peer. want is the ratio to reach with the
// best one, 0 if there is none.
func (b *bench) lineBeside(ctx context.Context, run func(peer, string, []string) (time.Duration, error), server, name, note string, ours time.Duration, names []string, want float64) error {
	var rs []result
	best := -1
	for _, pr := range b.peers() {
		took, err := run(pr, server, names)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		limited := errors.Is(err, errLimit)
		if limited {
			took = peerLimit
		} else if err != nil {
			b.report(figure(name, "s", ours.Seconds()).noted("%v", err))
			continue
		}
		r := duration(name+", 50 ms 100 Mbit/s", ours, took, pr.name()).noted("%s", note)
		r.AtLeast = limited
		if best < 0 || *r.Peer < *rs[best].Peer {
			best = len(rs)
		}
		rs = append(rs, r)
	}
	for i, r := range rs {
		if i == best && want > 0 {
			r = r.wantRatio(want)
			r.Note += "; the best peer"
		}
		b.report(r)
	}
	return nil
}
