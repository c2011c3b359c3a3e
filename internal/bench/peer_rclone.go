package main

import (
	"context"
	"path/filepath"
)

// rclone is rclone mount with its http backend, which reads folders out of the
// web server's listings.
type rclone struct{ b *bench }

var _ peer = (*rclone)(nil)

func (*rclone) name() string { return "rclone mount" }

func (r *rclone) start(ctx context.Context, dir, url string, names []string) (*mounted, error) {
	m := &mounted{}
	mnt := filepath.Join(dir, "files")
	for _, name := range names {
		m.files = append(m.files, filepath.Join(mnt, name))
	}
	return started(ctx, m, r.b.launch(ctx, m, mnt, "rclone", "mount", ":http:", mnt, "--http-url", url+"/",
		"--read-only", "--config", filepath.Join(dir, "rclone.conf"), "--cache-dir", filepath.Join(dir, "cache")))
}
