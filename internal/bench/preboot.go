package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/debianroot"
	"github.com/inetboot/inetboot/internal/mirror"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/preboot/download"
)

// downloadRounds is how often each program downloads.
const downloadRounds = 3

// downloader is a program that downloads. ready makes it ready to begin, which
// does not count.
type downloader struct {
	name  string
	ready func(ctx context.Context, url, dir string) (run func() error, err error)
}

// prebootDownload measures how preboot gets kernel, initrd and indexes through
// 50 ms and 100 Mbit/s into memory, verified, beside programs that get the
// same files into a folder. Each run has a line of its own. Preboot runs as
// on a machine, where the menu has come over the same connections, and with
// none, as the others begin.
func (b *bench) prebootDownload(ctx context.Context) error {
	c, err := b.bed.Catalog(ctx)
	if err != nil {
		return err
	}
	name := catalog.ManifestName("debian", debianroot.Version, "amd64")
	img, err := c.Image(ctx, name)
	if err != nil {
		return err
	}
	man := img.Manifest()
	paths := []string{storepath.File(man.Kernel.SHA256), storepath.File(man.Initrd.SHA256)}
	size := man.Kernel.Size + man.Initrd.Size
	for _, f := range man.Root.Files {
		paths = append(paths, storepath.Index(f.Index.SHA256))
		size += f.Index.Size
	}
	fetch := func(ctx context.Context, client *mirror.Client, img *catalog.Image) func() error {
		return func() error {
			defer client.Close()
			files, err := download.Fetch(ctx, client, img, nil, nil)
			if err != nil {
				return err
			}
			files.Close()
			return nil
		}
	}
	programs := []downloader{
		{"preboot", func(ctx context.Context, url, _ string) (func() error, error) {
			client, err := mirror.New([]string{url}, mirror.Options{})
			if err != nil {
				return nil, err
			}
			c, err := b.bed.CatalogFrom(ctx, client)
			if err != nil {
				return nil, err
			}
			img, err := c.Image(ctx, name)
			return fetch(ctx, client, img), err
		}},
		{"preboot without connections", func(ctx context.Context, url, _ string) (func() error, error) {
			client, err := mirror.New([]string{url}, mirror.Options{})
			return fetch(ctx, client, img), err
		}},
		{"curl", func(ctx context.Context, url, dir string) (func() error, error) {
			args := []string{"--silent", "--show-error", "--fail", "--parallel"}
			for _, p := range paths {
				args = append(args, "--output", filepath.Join(dir, filepath.Base(p)), url+"/"+p)
			}
			return func() error { return b.command(ctx, "curl", args...) }, nil
		}},
		{"wget", func(ctx context.Context, url, dir string) (func() error, error) {
			args := []string{"--quiet", "--directory-prefix", dir}
			for _, p := range paths {
				args = append(args, url+"/"+p)
			}
			return func() error { return b.command(ctx, "wget", args...) }, nil
		}},
		{"aria2", func(ctx context.Context, url, dir string) (func() error, error) {
			list := filepath.Join(dir, "list")
			var lines strings.Builder
			for _, p := range paths {
				fmt.Fprintf(&lines, "%s/%s\n", url, p)
			}
			if err := os.WriteFile(list, []byte(lines.String()), 0o644); err != nil {
				return nil, err
			}
			return func() error {
				return b.command(ctx, "aria2c", "--quiet", "--no-conf", "--max-connection-per-server=4", "--min-split-size=1M", "--dir", dir, "--input-file", list)
			}, nil
		}},
	}
	took := make([][]float64, len(programs))
	for round := range downloadRounds {
		for i, p := range programs {
			b.say("download of kernel and initrd through %v, 100 Mbit/s: %s, round %d of %d", lineRTT, p.name, round+1, downloadRounds)
			t, err := b.downloadOnce(ctx, size, p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			took[i] = append(took[i], t.Seconds())
		}
	}
	note := fmt.Sprintf("%.1f MB; preboot verifies, and asks for all files at once", float64(size)/1e6)
	share := func(i int) float64 { return float64(size) / median(took[i]) / lineRate }
	b.report(figure("download of kernel and initrd, 50 ms 100 Mbit/s: share of the line", "", share(0)).wantLeast(0.9).noted("%s; over the connections that the catalog has come over", note))
	b.report(figure("the same without connections to begin with: share of the line", "", share(1)).noted("%s", note))
	for i, p := range programs[2:] {
		b.report(duration("download of kernel and initrd, 50 ms 100 Mbit/s, without connections to begin with", seconds(median(took[1])), seconds(median(took[i+2])), p.name).noted("%s", note))
	}
	return nil
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// downloadOnce returns how long a program takes on a line of its own. A run that
// has brought less than size bytes is an error.
func (b *bench) downloadOnce(ctx context.Context, size int64, p downloader) (took time.Duration, err error) {
	dir, err := os.MkdirTemp(b.dir, "download-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	s, err := slowTo(ctx, lineRTT, lineRate, strings.TrimPrefix(b.bed.URL, "http://"))
	if err != nil {
		return 0, err
	}
	defer s.end()
	ctx, cancel := context.WithTimeout(ctx, peerLimit)
	defer cancel()
	run, err := p.ready(ctx, "http://"+s.addr, dir)
	if err != nil {
		return 0, err
	}
	before, start := s.Down(), time.Now()
	if err := run(); err != nil {
		return 0, err
	}
	took = time.Since(start)
	if n := s.Down() - before; n < size {
		return 0, fmt.Errorf("%d bytes came over the line, want at least %d: %w", n, size, io.ErrUnexpectedEOF)
	}
	return took, nil
}
