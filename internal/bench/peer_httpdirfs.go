package main

import (
	"context"
	"path/filepath"
)

// httpdirfs shows a web server's folder; it keeps no cache unless asked.
type httpdirfs struct{ b *bench }

var _ peer = (*httpdirfs)(nil)

func (*httpdirfs) name() string { return "httpdirfs" }

func (h *httpdirfs) start(ctx context.Context, dir, url string, names []string) (*mounted, error) {
	m := &mounted{}
	mnt := filepath.Join(dir, "files")
	for _, name := range names {
		m.files = append(m.files, filepath.Join(mnt, name))
	}
	return started(ctx, m, h.b.launch(ctx, m, mnt, "httpdirfs", "-f", url+"/", mnt))
}
