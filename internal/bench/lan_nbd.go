package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// rootRounds is how often each server is read from end to end, in turn.
const rootRounds = 4

const (
	nbdPort    = "10809"
	nbdkitPort = "10810"
	qemuPort   = "10811"
)

// lanNBD copies the published root to nowhere by nbdcopy, with the connections
// and requests that it comes with: from our server, from nbdkit, which has the
// same bytes in a plain file, and from qemu-nbd, which has them compressed as
// ours has, but compares no hashes. Everybody's files are in the page cache. In
// one measurement all of them have been started once, as they come, and are
// read in turn: ours has in its memory what was read before. In the other ours
// has just started each time and has nothing.
func (b *bench) lanNBD(ctx context.Context) (err error) {
	l, err := b.onLAN(ctx)
	if err != nil {
		return err
	}
	raw, err := l.rawRoot(ctx)
	if err != nil {
		return err
	}
	info, err := os.Stat(raw)
	if err != nil {
		return err
	}
	peer, err := l.start(l.server, "nbdkit", "-f", "-r", "-i", lanServer, "-p", nbdkitPort, "file", raw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, peer.stop()) }()
	if err := l.listening(ctx, peer, nbdkitPort); err != nil {
		return err
	}
	compressed := filepath.Join(b.dir, "root.qcow2")
	if !exists(compressed) {
		b.say("compressing that file (qcow2, zstd), for the other peer")
		if err := b.command(ctx, "qemu-img", "convert", "-m", "2", "-f", "raw", "-O", "qcow2", "-c", "-o", "compression_type=zstd,cluster_size=256k", raw, compressed); err != nil {
			return err
		}
	}
	qemu, err := l.start(l.server, "qemu-nbd", "--read-only", "--persistent", "--shared=8", "--bind="+lanServer, "--port="+qemuPort, "--format=qcow2", compressed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, qemu.stop()) }()
	if err := l.listening(ctx, qemu, qemuPort); err != nil {
		return err
	}
	copyOnce := func(ctx context.Context, uri string) (float64, error) {
		start := time.Now()
		err := b.command(ctx, "ip", "netns", "exec", l.client, "nbdcopy", uri, "null:")
		return float64(info.Size()) / 1e6 / time.Since(start).Seconds(), err
	}
	nbdkit := contender{"nbdkit", func(ctx context.Context) (float64, error) {
		return copyOnce(ctx, fmt.Sprintf("nbd://%s:%s", lanServer, nbdkitPort))
	}}
	qemuNBD := contender{"qemu-nbd, compressed", func(ctx context.Context) (float64, error) {
		return copyOnce(ctx, fmt.Sprintf("nbd://%s:%s", lanServer, qemuPort))
	}}
	export := fmt.Sprintf("nbd://%s:%s/debian", lanServer, nbdPort)
	what := "NBD, nbdcopy of the 1 GB root"
	if err := b.nbdWarm(ctx, l, what, func(ctx context.Context) (float64, error) { return copyOnce(ctx, export) }, nbdkit, qemuNBD); err != nil {
		return err
	}
	// Each run has a server that has just started.
	cold := contender{"ours, nothing in its memory", func(ctx context.Context) (rate float64, err error) {
		p, err := l.ours(ctx, "--dhcp", "off", "--nbd")
		if err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, p.stop()) }()
		if err := l.listening(ctx, p, nbdPort); err != nil {
			return 0, err
		}
		// What is read once for an export, however much of it is copied.
		if err := b.command(ctx, "ip", "netns", "exec", l.client, "nbdinfo", export); err != nil {
			return 0, err
		}
		return copyOnce(ctx, export)
	}}
	what += ", the first time"
	best, err := b.compete(ctx, what, rootRounds, cold, nbdkit, qemuNBD)
	if err != nil {
		return err
	}
	b.report(speed(what, "MB/s", best[0], best[1], "nbdkit, raw file").noted("ours has just started: it decompresses and verifies all"))
	b.report(speed(what, "MB/s", best[0], best[2], "qemu-nbd, qcow2 of zstd").noted("both decompress; ours verifies, too"))
	return nil
}

// nbdWarm has a server of ours, with its defaults, and the peers read in turn.
func (b *bench) nbdWarm(ctx context.Context, l *lanBed, what string, read func(context.Context) (float64, error), nbdkit, qemuNBD contender) (err error) {
	p, err := l.ours(ctx, "--dhcp", "off", "--nbd")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := l.listening(ctx, p, nbdPort); err != nil {
		return err
	}
	best, err := b.compete(ctx, what, rootRounds, contender{"ours", read}, nbdkit, qemuNBD)
	if err != nil {
		return err
	}
	b.report(speed(what, "MB/s", best[0], best[1], "nbdkit, raw file").wantRatio(0.8).noted("ours has in its memory what was read before"))
	b.report(speed(what, "MB/s", best[0], best[2], "qemu-nbd, qcow2 of zstd"))
	return nil
}

// rawRoot writes the published root as the one disk that our server exports,
// and returns its path.
func (l *lanBed) rawRoot(ctx context.Context) (name string, err error) {
	name = filepath.Join(l.b.dir, "root.raw")
	if exists(name) {
		return name, nil
	}
	p, err := l.ours(ctx, "--dhcp", "off", "--nbd")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	if err := l.listening(ctx, p, nbdPort); err != nil {
		return "", err
	}
	l.b.say("writing the root as one plain file, for the peer")
	return name, l.b.command(ctx, "ip", "netns", "exec", l.client, "nbdcopy", fmt.Sprintf("nbd://%s:%s/debian", lanServer, nbdPort), name)
}
