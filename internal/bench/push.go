package main

import (
	"context"
	"os"
	"path/filepath"
	"time"
)

// push publishes the same tree with imagetool, with casync, and compresses it
// with zstd, all to the same disk. The first of two rounds warms the cache.
func (b *bench) push(ctx context.Context) error {
	tree := filepath.Join(b.dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	b.say("unpacking the tree")
	if err := b.command(ctx, "tar", "-xpf", b.tarball, "-C", tree); err != nil {
		return err
	}
	info, err := os.Stat(b.tarball)
	if err != nil {
		return err
	}
	mb := float64(info.Size()) / 1e6

	rounds := map[string]float64{} // best MB/s
	measure := func(name string, f func(dir string) error) error {
		for range 2 {
			dir, err := os.MkdirTemp(b.dir, name+"-")
			if err != nil {
				return err
			}
			b.say("%s", name)
			start := time.Now()
			if err := f(dir); err != nil {
				return err
			}
			rounds[name] = max(rounds[name], mb/time.Since(start).Seconds())
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
		}
		return nil
	}
	imagetool := filepath.Join(b.build, "imagetool")
	if err := measure("imagetool push", func(dir string) error {
		config := []string{"--config", filepath.Join(dir, "config")}
		if err := b.command(ctx, imagetool, append([]string{"init", "--to", filepath.Join(dir, "store"), "--keys", filepath.Join(dir, "keys"), "--no-passphrase"}, config...)...); err != nil {
			return err
		}
		return b.command(ctx, imagetool, append([]string{"push", tree, "--name", "debian", "--version", "12"}, config...)...)
	}); err != nil {
		return err
	}
	if err := measure("casync make", func(dir string) error {
		return b.command(ctx, "casync", "make", "--with=unix", "--store="+filepath.Join(dir, "store.castr"), filepath.Join(dir, "tree.caidx"), tree)
	}); err != nil {
		return err
	}
	if err := measure("tar | zstd -T2 -3", func(dir string) error {
		return b.command(ctx, "sh", "-c", `tar -cf - -C "$1" . | zstd -q -T2 -3 -o "$2"`, "sh", tree, filepath.Join(dir, "tree.tar.zst"))
	}); err != nil {
		return err
	}
	ours := rounds["imagetool push"]
	for _, peer := range []string{"casync make", "tar | zstd -T2 -3"} {
		b.report(speed("push of 1.1 GB to a folder", "MB/s", ours, rounds[peer], peer))
	}
	return nil
}
