package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/internal/debianroot"
)

// plain is the published root for the peers: the same files, byte for byte, on
// the local disk and on an ordinary web server.
type plain struct {
	image *catalog.Manifest
	names []string // of the root's files
	files []string // their paths on the local disk
	addr  string   // of the web server
	data  string   // the name of the file with the contents: the last one
	whole string   // the name of the same tree as one file, as mkfs.erofs makes it; "" until prepareWhole
}

// preparePlain writes the root's files once, and serves them for as long as
// the benchmark runs.
func (b *bench) preparePlain(ctx context.Context) (*plain, error) {
	if b.plain != nil {
		return b.plain, nil
	}
	man, _, err := b.bed.Manifest(ctx, "debian", debianroot.Version)
	if err != nil {
		return nil, err
	}
	p := &plain{image: man}
	dir := filepath.Join(b.dir, "plain")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	for _, f := range man.Root.Files {
		b.say("writing the root's file %s, %d MB, for the peers", f.Name, f.Size/1e6)
		name := filepath.Join(dir, f.Name)
		if err := b.cat(ctx, f.Index.SHA256.String(), name); err != nil {
			return nil, err
		}
		p.names, p.files, p.data = append(p.names, f.Name), append(p.files, name), f.Name
	}
	if err := b.command(ctx, "sync", "-f", dir); err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
	go srv.Serve(l)
	b.cleanup(srv.Close)
	p.addr = l.Addr().String()
	b.plain = p
	return p, nil
}

func (b *bench) cat(ctx context.Context, index, to string) error {
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, filepath.Join(b.build, "blockfs"), "cat", "--store", b.bed.Store(), index)
	cmd.Stdout, cmd.Stderr = f, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("blockfs cat: %w", err)
	}
	return f.Close()
}

// prepareWhole makes an EROFS of one file out of the published one, by
// mkfs.erofs with its defaults: what somebody has who does not use imagetool.
func (b *bench) prepareWhole(ctx context.Context, p *plain) error {
	if p.whole != "" {
		return nil
	}
	b.say("writing the same tree as one EROFS file with mkfs.erofs, for the peers")
	m, err := b.mountEROFS(ctx, filepath.Join(b.dir, "tree-for-mkfs"), p.files, false)
	if err != nil {
		return err
	}
	const name = "root.erofs"
	err = b.command(ctx, "mkfs.erofs", "--quiet", filepath.Join(filepath.Dir(p.files[0]), name), m.dir)
	if err := errors.Join(err, m.close()); err != nil {
		return err
	}
	p.whole = name
	return nil
}
