package main

import (
	"context"
	"errors"
	"os"
)

// peer is a program that makes files of a web server readable as local files.
// Ours is one of them, so that all are measured by the same code.
type peer interface {
	name() string
	// start makes the files with these names, which lie at url, readable. It
	// mounts whatever it mounts below dir, an empty folder. Who starts stops
	// what came back.
	start(ctx context.Context, dir, url string, names []string) (*mounted, error)
}

// mounted is what a peer has made.
type mounted struct {
	files     []string     // a path for each name
	mounts    []*fuseMount // in the order of mounting
	processes []*process   // the first one is the filesystem's daemon
	unwatch   func() bool
}

// watch ends all waiting for the filesystems when ctx ends, so that nobody hangs.
func (m *mounted) watch(ctx context.Context) *mounted {
	m.unwatch = context.AfterFunc(ctx, m.abort)
	return m
}

func (m *mounted) abort() {
	for _, f := range m.mounts {
		f.end()
	}
}

// stop ends it. The connections are aborted first: a process that waits for a
// filesystem without a daemon can be ended by nothing else.
func (m *mounted) stop() error {
	if m.unwatch != nil {
		m.unwatch()
	}
	m.abort()
	var errs []error
	for i := len(m.mounts) - 1; i >= 0; i-- {
		errs = append(errs, m.mounts[i].unmount())
	}
	for i := len(m.processes) - 1; i >= 0; i-- {
		errs = append(errs, m.processes[i].stop())
	}
	return errors.Join(errs...)
}

// launch starts a program of a peer that mounts a FUSE filesystem at dir,
// which is made.
func (b *bench) launch(ctx context.Context, m *mounted, dir string, program string, args ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	p, err := b.background(program, args...)
	if err != nil {
		return err
	}
	m.processes = append(m.processes, p)
	f, err := b.fuse(ctx, dir, p)
	if err != nil {
		return err
	}
	m.mounts = append(m.mounts, f)
	return nil
}

// started returns m, or stops what has been started of it.
func started(ctx context.Context, m *mounted, err error) (*mounted, error) {
	if err != nil {
		return nil, errors.Join(err, m.stop())
	}
	return m.watch(ctx), nil
}

// peers returns the programs to compare with.
func (b *bench) peers() []peer {
	return []peer{&nbdfuse{b}, &rclone{b}, &httpdirfs{b}}
}
