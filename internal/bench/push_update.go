package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/cut"
	"github.com/inetboot/inetboot/internal/digest"
)

// fixedBlock is the size of the peer's blocks, in bytes.
const fixedBlock = 256 << 10

// updates installs five packages in a copy of the tree and compares what
// is new then: with imagetool, casync, a squashfs cut by its content, and an
// image of mkfs.erofs in blocks of 256 KiB.
func (b *bench) updates(ctx context.Context, tree string, p *pusher) (err error) {
	updated := filepath.Join(b.dir, "tree-updated")
	if err := b.unpack(ctx, updated); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(updated)) }()
	debs, err := b.downloadPackages(ctx)
	if err != nil {
		return err
	}
	for _, d := range debs {
		if _, err := b.install(ctx, d, updated); err != nil {
			return err
		}
	}
	what := "update by " + strings.Join(updatePackages(), ", ") + ": new bytes, "
	for _, m := range []struct {
		name string
		most float64
		run  func(dir string) (first, fresh float64, err error)
	}{
		{"imagetool push", 7, func(dir string) (float64, float64, error) {
			if err := p.init(ctx, dir); err != nil {
				return 0, 0, err
			}
			return growth(filepath.Join(dir, "store"), []string{tree, updated}, func(n int, t string) error {
				_, _, err := p.push(ctx, dir, t, fmt.Sprint(n))
				return err
			})
		}},
		{"casync make", 0, func(dir string) (float64, float64, error) {
			return growth(dir, []string{tree, updated}, func(n int, t string) error {
				return b.command(ctx, "casync", "make", "--with=unix", "--store="+filepath.Join(dir, "store.castr"), filepath.Join(dir, fmt.Sprintf("%d.caidx", n)), t)
			})
		}},
		{"squashfs of zstd, cut by content", 0, func(dir string) (float64, float64, error) {
			return b.imageGrowth(ctx, dir, []string{tree, updated}, func(r io.Reader) next { return cutter(cut.Bytes(r)) },
				func(t, image string) error {
					return b.command(ctx, "mksquashfs", t, image, "-noappend", "-comp", "zstd", "-no-progress")
				})
		}},
		{"mkfs.erofs in blocks of 256 KiB", 0, func(dir string) (float64, float64, error) {
			return b.imageGrowth(ctx, dir, []string{tree, updated}, fixed, func(t, image string) error { return b.command(ctx, "mkfs.erofs", "--quiet", image, t) })
		}},
	} {
		b.say("update: %s", m.name)
		dir, err := os.MkdirTemp(b.dir, "update-")
		if err != nil {
			return err
		}
		first, fresh, err := m.run(dir)
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
		r := figure(what+m.name, "%", 100*fresh/first).noted("%.1f MB of %.1f MB", fresh/1e6, first/1e6)
		if m.most > 0 {
			r = r.wantMost(m.most)
		}
		b.report(r)
	}
	return nil
}

// growth does something with two trees, one after the other, and returns how
// many bytes the files of a folder have after the first, and how many more
// after the second.
func growth(dir string, trees []string, do func(n int, tree string) error) (first, fresh float64, err error) {
	var sizes [2]float64
	for n, t := range trees {
		if err := do(n+1, t); err != nil {
			return 0, 0, err
		}
		u, err := diskUsage(dir)
		if err != nil {
			return 0, 0, err
		}
		sizes[n] = u.bytes
	}
	return sizes[0], sizes[1] - sizes[0], nil
}

// next returns the next piece of a file, and io.EOF at its end. The piece
// counts until the next call.
type next func() ([]byte, error)

func cutter(c *cut.Cutter) next {
	buf := make([]byte, 0, cut.Max)
	return func() ([]byte, error) {
		for {
			chunk, err := c.Next(buf)
			if err != nil || chunk.Zero == 0 {
				return chunk.Data, err
			}
		}
	}
}

func fixed(r io.Reader) next {
	buf := make([]byte, fixedBlock)
	return func() ([]byte, error) {
		n, err := io.ReadFull(r, buf)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = nil
		}
		return buf[:n], err
	}
}

// imageGrowth makes an image of each tree and returns the bytes of the first
// one's different blocks, compressed as imagetool does, and of those that only
// the second one has.
func (b *bench) imageGrowth(ctx context.Context, dir string, trees []string, cutting func(io.Reader) next, build func(tree, image string) error) (first, fresh float64, err error) {
	enc, err := block.NewEncoder(block.DefaultLevel, 1)
	if err != nil {
		return 0, 0, err
	}
	seen := map[digest.SHA256]bool{}
	var sizes [2]float64
	var scratch []byte
	for n, t := range trees {
		image := filepath.Join(dir, "image")
		if err := build(t, image); err != nil {
			return 0, 0, err
		}
		f, err := os.Open(image)
		if err != nil {
			return 0, 0, err
		}
		pieces := cutting(f)
		for err = ctx.Err(); err == nil; {
			var data []byte
			if data, err = pieces(); err != nil {
				break
			}
			if sum := digest.Of(data); !seen[sum] {
				seen[sum] = true
				scratch = enc.Encode(scratch[:0], data)
				sizes[n] += float64(len(scratch))
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err := errors.Join(err, f.Close(), os.Remove(image)); err != nil {
			return 0, 0, err
		}
	}
	return sizes[0], sizes[1], nil
}
