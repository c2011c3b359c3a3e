package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/inetboot/inetboot/internal/debianroot"
)

// updatePackages are installed for the second version of the image: usual
// programs that the first one has not.
func updatePackages() []string { return []string{"htop", "jq", "nano", "tcpdump", "tmux"} }

const updateVersion = debianroot.Version + ".1"

// update publishes a second version with five more packages: how many bytes
// are new, and how many of them a client with a warm cache fetches.
func (b *bench) update(ctx context.Context) error {
	p, err := b.preparePlain(ctx)
	if err != nil {
		return err
	}
	tree := filepath.Join(b.dir, "updated")
	b.say("a second version with %s", strings.Join(updatePackages(), ", "))
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	if err := b.command(ctx, "tar", "-xpf", b.tarball, "--numeric-owner", "-C", tree); err != nil {
		return err
	}
	debs, err := b.downloadPackages(ctx)
	if err != nil {
		return err
	}
	var added []string // files of the packages
	var debBytes int64
	for _, d := range debs {
		files, err := b.install(ctx, d, tree)
		if err != nil {
			return err
		}
		added = append(added, files...)
		info, err := os.Stat(d)
		if err != nil {
			return err
		}
		debBytes += info.Size()
	}
	before, err := storedBytes(b.bed.Store())
	if err != nil {
		return err
	}
	b.say("pushing it")
	if err := b.bed.Imagetool(ctx, "push", tree, "--name", "debian", "--version", updateVersion); err != nil {
		return err
	}
	after, err := storedBytes(b.bed.Store())
	if err != nil {
		return err
	}
	if err := os.RemoveAll(tree); err != nil {
		return err
	}
	fresh := float64(after - before)
	b.report(figure("update by five packages: new bytes", "%", 100*fresh/float64(before)).wantMost(7).
		noted("%.1f MB of %.1f MB; the packages have %.1f MB", fresh/1e6, float64(before)/1e6, float64(debBytes)/1e6))
	if !b.canCache(ctx) {
		b.say("blockfs mount has no disk cache: what a client fetches of an update is not measured")
		return nil
	}
	return b.updateClient(ctx, p, added, fresh)
}

// filled tells whether the daemon that serves socket has all in its cache.
func (b *bench) filled(ctx context.Context, socket string) bool {
	select {
	case <-time.After(250 * time.Millisecond): // to ask costs more than the fill
	case <-ctx.Done():
	}
	out, err := exec.CommandContext(ctx, filepath.Join(b.build, "blockfs"), "status", "--json", "--socket", socket).Output()
	var s struct {
		Fill struct{ State string }
	}
	return err == nil && json.Unmarshal(out, &s) == nil && s.Fill.State == "complete"
}

// updateClient fills a cache with the first version and reads the second one
// with it.
func (b *bench) updateClient(ctx context.Context, p *plain, added []string, fresh float64) error {
	cache := filepath.Join(b.dir, "update-cache")
	b.say("filling a cache with the first version")
	socket := filepath.Join(b.dir, "update.sock")
	old := &blockfs{b: b, image: p.image, args: []string{"--cache", cache, "--fill", "--status", socket}}
	if err := b.session(ctx, old, b.bed.URL, p.names, 5*time.Minute, func(ctx context.Context, _ *mounted, _ string) error {
		return waitWithin(ctx, 4*time.Minute, "the cache to be filled", nil, func() bool { return b.filled(ctx, socket) })
	}); err != nil {
		return err
	}
	man, _, err := b.bed.Manifest(ctx, "debian", updateVersion)
	if err != nil {
		return err
	}
	updated := &blockfs{b: b, image: man, args: []string{"--cache", cache}}
	var packages, all float64
	b.say("reading the second version with it")
	err = b.session(ctx, updated, b.bed.URL, p.names, 5*time.Minute, func(ctx context.Context, m *mounted, dir string) (err error) {
		start, err := b.sentBlocks(ctx)
		if err != nil {
			return err
		}
		e, err := b.mountEROFS(ctx, filepath.Join(dir, "root"), m.files, true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, e.close()) }()
		for _, f := range added {
			if _, err := readFile(filepath.Join(e.dir, f)); err != nil {
				return err
			}
		}
		n, err := b.sentBlocks(ctx)
		if err != nil {
			return err
		}
		packages = n - start
		for _, f := range m.files {
			if _, err := readFile(f); err != nil {
				return err
			}
		}
		n, err = b.sentBlocks(ctx)
		all = n - start
		return err
	})
	if err != nil {
		return err
	}
	b.report(figure("update: fetched with a warm cache to read the new packages", "MB", packages/1e6).wantMost(fresh/1e6).noted("%d files; at most what is new", len(added)))
	b.report(figure("update: fetched with a warm cache to read everything", "MB", all/1e6).wantMost(fresh / 1e6).noted("at most what is new"))
	return nil
}

// sentBlocks returns the bytes of blocks that the server has sent so far.
func (b *bench) sentBlocks(ctx context.Context) (float64, error) {
	return b.bed.Metric(ctx, "inetboot_http_sent_bytes_total", `kind="block"`)
}

// downloadPackages returns Debian packages for updatePackages, which are kept,
// so that later runs measure the same.
func (b *bench) downloadPackages(ctx context.Context) ([]string, error) {
	cache, err := debianroot.CacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "bench-packages")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	var debs []string
	for _, name := range updatePackages() {
		found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			cmd := exec.CommandContext(ctx, "apt-get", "-q", "download", name)
			cmd.Dir = dir
			cmd.Stdout, cmd.Stderr = b.log, b.log
			if err := cmd.Run(); err != nil {
				return nil, fmt.Errorf("download the package %s (`apt-get update` first?): %w", name, err)
			}
			if found, err = filepath.Glob(filepath.Join(dir, name+"_*.deb")); err != nil {
				return nil, err
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("apt-get left no package %s in %s", name, dir)
		}
		debs = append(debs, slices.Max(found))
	}
	return debs, nil
}

// install unpacks a package into a tree and notes it in dpkg's database. It
// returns the package's regular files.
func (b *bench) install(ctx context.Context, deb, tree string) ([]string, error) {
	if err := b.command(ctx, "dpkg-deb", "-x", deb, tree); err != nil {
		return nil, err
	}
	control, err := exec.CommandContext(ctx, "dpkg-deb", "-f", deb).Output()
	if err != nil {
		return nil, fmt.Errorf("read the control file of %s: %w", deb, err)
	}
	first, rest, _ := bytes.Cut(control, []byte("\n")) // Package: name
	name := string(bytes.TrimSpace(bytes.TrimPrefix(first, []byte("Package:"))))
	status, err := os.OpenFile(filepath.Join(tree, "var/lib/dpkg/status"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer status.Close()
	if _, err := fmt.Fprintf(status, "%s\nStatus: install ok installed\n%s\n", first, rest); err != nil {
		return nil, err
	}
	info := filepath.Join(tree, "var/lib/dpkg/info", name)
	sums, err := exec.CommandContext(ctx, "dpkg-deb", "-I", deb, "md5sums").Output()
	if err != nil {
		return nil, fmt.Errorf("read the sums of %s: %w", deb, err)
	}
	if err := os.WriteFile(info+".md5sums", sums, 0o644); err != nil {
		return nil, err
	}
	var files []string
	var list bytes.Buffer
	for line := range strings.Lines(string(sums)) {
		if _, f, ok := strings.Cut(strings.TrimSpace(line), "  "); ok {
			files = append(files, f)
			fmt.Fprintf(&list, "/%s\n", f)
		}
	}
	return files, os.WriteFile(info+".list", list.Bytes(), 0o644)
}

// storedBytes adds up the blocks and indexes of a store.
func storedBytes(store string) (sum int64, err error) {
	for _, dir := range []string{"blocks", "indexes"} {
		err = errors.Join(err, filepath.WalkDir(filepath.Join(store, dir), func(_ string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			info, err := d.Info()
			if err == nil {
				sum += info.Size()
			}
			return err
		}))
	}
	return sum, err
}
