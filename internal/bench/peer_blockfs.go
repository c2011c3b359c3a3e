package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/inetboot/inetboot/catalog"
)

// blockfs is ours: the image's files out of a store. url is the store's.
type blockfs struct {
	b     *bench
	image *catalog.Manifest
	args  []string // further options of blockfs mount
}

var _ peer = (*blockfs)(nil)

func (*blockfs) name() string { return "blockfs mount" }

func (f *blockfs) start(ctx context.Context, dir, url string, names []string) (*mounted, error) {
	m := &mounted{}
	mnt := filepath.Join(dir, "files")
	args := append([]string{"mount", "--store", url}, f.args...)
	for _, name := range names {
		ref := ""
		for _, file := range f.image.Root.Files {
			if file.Name == name {
				ref = fmt.Sprintf("%s=%s:%d", name, file.Index.SHA256, file.Index.Size)
			}
		}
		if ref == "" {
			return nil, fmt.Errorf("the image has no file %s", name)
		}
		args = append(args, "--file", ref)
		m.files = append(m.files, filepath.Join(mnt, name))
	}
	return started(ctx, m, f.b.launch(ctx, m, mnt, filepath.Join(f.b.build, "blockfs"), append(args, mnt)...))
}

// canCache tells whether blockfs mount has a disk cache.
func (b *bench) canCache(ctx context.Context) bool {
	help, err := exec.CommandContext(ctx, filepath.Join(b.build, "blockfs"), "mount", "--help").Output()
	return err == nil && strings.Contains(string(help), "--cache ")
}
