package main

import (
	"context"
	"path/filepath"
)

// nbdfuse is nbdkit with its curl plug-in, and libnbd's nbdfuse to make a file
// of the export: one pair of programs for each file.
type nbdfuse struct{ b *bench }

var _ peer = (*nbdfuse)(nil)

func (*nbdfuse) name() string { return "nbdkit curl + nbdfuse" }

func (n *nbdfuse) start(ctx context.Context, dir, url string, names []string) (*mounted, error) {
	m := &mounted{}
	for _, name := range names {
		file, err := n.one(ctx, m, dir, url, name)
		if err != nil {
			return started(ctx, m, err)
		}
		m.files = append(m.files, file)
	}
	return started(ctx, m, nil)
}

func (n *nbdfuse) one(ctx context.Context, m *mounted, dir, url, name string) (string, error) {
	socket, mnt := filepath.Join(dir, name+".socket"), filepath.Join(dir, name)
	kit, err := n.b.background("nbdkit", "-f", "-r", "-U", socket, "curl", "url="+url+"/"+name)
	if err != nil {
		return "", err
	}
	m.processes = append(m.processes, kit)
	if err := waitFor(ctx, "nbdkit's socket", kit, func() bool { return exists(socket) }); err != nil {
		return "", err
	}
	file := filepath.Join(mnt, name)
	return file, n.b.launch(ctx, m, mnt, "nbdfuse", "-r", file, "--unix", socket)
}
