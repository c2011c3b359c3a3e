// Package testbed sets up a whole system for demonstrations, boot tests and
// benchmarks out of the programs in build/: a publisher's keys, a running
// server, a published Debian and a personal ISO. It runs the programs as a
// user would, so that what it shows is what users get.
package testbed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/storepath"
)

// GuestHost is how a virtual machine with user networking reaches the
// loopback interface of the machine that it runs on.
const GuestHost = "10.0.2.2"

// Options says where things are and what is wanted.
type Options struct {
	Build  string    // folder with imagetool, server, blockfs, inetboot.iso
	Dir    string    // folder for everything that is made; it must exist
	Source string    // tarball or folder to push as debian 12; "": push nothing
	Listen string    // address for the server; "": a free port on 127.0.0.1
	Log    io.Writer // what the programs print
}

// Bed is a running system. Close it.
type Bed struct {
	URL      string // of the server, for this machine
	GuestURL string // the same, for a virtual machine with user networking
	Data     string // the server's data folder; the store is below it
	Keys     string // the publisher's keys
	Token    string // file with the server's token
	ISO      string // a personal copy of inetboot.iso
	build    string
	dir      string
	log      io.Writer
	server   *exec.Cmd
	done     chan error
}

// Start sets the system up.
func Start(ctx context.Context, o Options) (_ *Bed, err error) {
	b := &Bed{
		Data: filepath.Join(o.Dir, "server"), Keys: filepath.Join(o.Dir, "keys"),
		ISO: filepath.Join(o.Dir, "inetboot-site.iso"), build: o.Build, dir: o.Dir, log: o.Log,
	}
	b.Token = filepath.Join(b.Data, "token")
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if err := b.startServer(ctx, o.Listen); err != nil {
		return nil, err
	}
	if err := b.Imagetool(ctx, "init", "--to", b.URL, "--token-file", b.Token, "--keys", b.Keys, "--no-passphrase"); err != nil {
		return nil, err
	}
	if o.Source != "" {
		if err := b.Imagetool(ctx, "push", o.Source, "--name", "debian", "--version", "12"); err != nil {
			return nil, err
		}
	}
	if err := b.Media(ctx, b.ISO, b.GuestURL); err != nil {
		return nil, err
	}
	return b, nil
}

// Media writes a personal ISO for the store at url. args are further options
// of `imagetool media`.
func (b *Bed) Media(ctx context.Context, out, url string, args ...string) error {
	return b.Imagetool(ctx, append([]string{"media", "--iso", filepath.Join(b.build, "inetboot.iso"), "--url", url, "-o", out}, args...)...)
}

// Store returns the folder that the server serves.
func (b *Bed) Store() string { return filepath.Join(b.Data, "store") }

// Imagetool runs imagetool with the system's own configuration file.
func (b *Bed) Imagetool(ctx context.Context, args ...string) error {
	return b.ImagetoolAs(ctx, filepath.Join(b.dir, "imagetool.json"), args...)
}

// ImagetoolAs runs imagetool with another configuration file: as another
// publisher.
func (b *Bed) ImagetoolAs(ctx context.Context, config string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(b.build, "imagetool"), append(args, "--config", config)...)
	var tail bytes.Buffer
	cmd.Stdout, cmd.Stderr = b.log, io.MultiWriter(b.log, &tail)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("imagetool %s: %w: %s", args[0], err, bytes.TrimSpace(tail.Bytes()))
	}
	return nil
}

func (b *Bed) startServer(ctx context.Context, listen string) error {
	// The server is told its end by Close, not by the context, so that it
	// outlives a cancelled boot for as long as the machine needs it.
	b.server = exec.Command(filepath.Join(b.build, "server"), "--data", b.Data, "--listen", listen, "--log-format", "json")
	b.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us to pass on
	b.server.Stdout = b.log
	stderr, err := b.server.StderrPipe()
	if err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	if err := b.server.Start(); err != nil {
		return fmt.Errorf("start the server (run `make build`?): %w", err)
	}
	b.done = make(chan error, 1)
	addr := make(chan string, 1)
	go func() {
		var lines []string
		sc := bufio.NewScanner(stderr)
		for sc.Scan() {
			var rec struct{ Addr string }
			if json.Unmarshal(sc.Bytes(), &rec) == nil && rec.Addr != "" {
				select {
				case addr <- rec.Addr:
				default:
				}
			}
			if len(lines) < 50 {
				lines = append(lines, sc.Text())
			}
		}
		err := b.server.Wait()
		b.done <- fmt.Errorf("the server ended: %w: %s", errors.Join(err, sc.Err()), strings.Join(lines, "\n"))
	}()
	select {
	case a := <-addr:
		b.URL = "http://" + a
		b.GuestURL = "http://" + strings.Replace(a, "127.0.0.1", GuestHost, 1)
		return nil
	case err := <-b.done:
		b.server = nil
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close stops the server.
func (b *Bed) Close() error {
	if b.server == nil {
		return nil
	}
	if err := b.server.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the server: %w", err)
	}
	select {
	case <-b.done:
	case <-time.After(20 * time.Second):
		if err := b.server.Process.Kill(); err != nil {
			return fmt.Errorf("stop the server: %w", err)
		}
		<-b.done
	}
	b.server = nil
	return nil
}

// Metric returns the sum of the server's Prometheus samples whose name is
// name and whose labels contain every one of labels, such as `kind="block"`.
func (b *Bed) Metric(ctx context.Context, name string, labels ...string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.URL+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read the server's metrics: %w", err)
	}
	defer resp.Body.Close()
	sum := 0.0
	sc := bufio.NewScanner(resp.Body)
lines:
	for sc.Scan() {
		rest, ok := strings.CutPrefix(sc.Text(), name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(rest, l) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %q: %w", sc.Text(), err)
		}
		sum += v
	}
	return sum, sc.Err()
}

// Image is what `imagetool ls` says about an image.
type Image struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Plain   int64  `json:"bytes_plain"`
	Stored  int64  `json:"bytes_stored"`
	Blocks  int    `json:"blocks"`
}

// Image returns what is published under name and version.
func (b *Bed) Image(ctx context.Context, name, version string) (*Image, error) {
	out, err := exec.CommandContext(ctx, filepath.Join(b.build, "imagetool"), "ls", "--json", "--config", filepath.Join(b.dir, "imagetool.json")).Output()
	if err != nil {
		return nil, fmt.Errorf("list the images: %w", err)
	}
	var list struct{ Images []Image }
	if err := json.Unmarshal(out, &list); err != nil {
		return nil, fmt.Errorf("list the images: %w", err)
	}
	for _, i := range list.Images {
		if i.Name == name && i.Version == version {
			return &i, nil
		}
	}
	return nil, fmt.Errorf("%s %s is not published", name, version)
}

// Catalog opens the catalog as it lies in the store's folder.
func (b *Bed) Catalog(ctx context.Context) (*catalog.Catalog, error) {
	return b.CatalogFrom(ctx, folder(b.Store()))
}

// CatalogFrom opens the catalog as src has it.
func (b *Bed) CatalogFrom(ctx context.Context, src catalog.Source) (*catalog.Catalog, error) {
	root, err := os.ReadFile(filepath.Join(b.Keys, "root.json"))
	if err != nil {
		return nil, fmt.Errorf("read the root: %w", err)
	}
	anchor, err := tuf.NewAnchor(root)
	if err != nil {
		return nil, err
	}
	return catalog.Open(ctx, src, anchor, catalog.Options{})
}

// Manifest returns the manifest of an image that is published for amd64, and
// its path in the store. It is read from the store's folder as it lies there.
func (b *Bed) Manifest(ctx context.Context, name, version string) (*catalog.Manifest, string, error) {
	c, err := b.Catalog(ctx)
	if err != nil {
		return nil, "", err
	}
	target := catalog.ManifestName(name, version, "amd64")
	img, err := c.Image(ctx, target)
	if err != nil {
		return nil, "", fmt.Errorf("read the manifest of %s %s: %w", name, version, err)
	}
	m := img.Manifest()
	return &m, storepath.Target(target, img.Digest()), nil
}

// folder reads files of a store in a folder.
type folder string

func (f folder) Read(_ context.Context, path string, _ []byte, limit int64, accept func([]byte) error) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(string(f), path))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has %d bytes", path, len(data))
	}
	if err == nil {
		err = accept(data)
	}
	return data, err
}
