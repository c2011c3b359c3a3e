// Package push publishes images: from the tree of an operating system to
// files in a store and an entry in the signed catalog.
//
// The catalog is the last thing that is written, so readers see either all
// of an image or nothing of it, whenever a push ends.
package push

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/inetboot/inetboot/blockfs/cut"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/initramfs"
	"github.com/inetboot/inetboot/imagetool/installer"
	"github.com/inetboot/inetboot/imagetool/kernel"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/marks"
	"github.com/inetboot/inetboot/imagetool/root"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// ErrExists is wrapped when there is an image of the same name and version
// with other content.
var ErrExists = errors.New("there is another image of this name and version")

const (
	maxKernel    = 256 << 20
	maxOSRelease = 64 << 10
	maxKnown     = 2_000_000 // blocks of other images that are remembered
	maxIndexSize = 64 << 20  // of other images' indexes that are read

	collectionWait = 30 * time.Minute // for a collection of garbage to end
)

// Reporter is told how a push goes on.
type Reporter interface {
	Begin(what string, total int64) // total bytes, negative if not known; ends what was before
	Add(n int64)                    // safe for concurrent use
	End()
	Note(text string)
}

// Options says what to push.
type Options struct {
	Source        string         // see package opener
	Reading       opener.Options // how to read it; Push fills in TempDir, Arch and Progress
	Name, Version string
	Arch          string // as GOARCH; "": the kernel's
	Title         string // "": from os-release
	HelpText      string
	Cmdline       string
	KernelVersion string // "": the newest
	Program       string // blockfs; "": found
	Level         int    // of zstd
	KernelFile    string // without a source: the kernel of an image without a root
	InitrdFile    string // and its initrd, if there is one
	AsIs          bool   // push the filesystem of an image as it is
	Partition     int    // of a disk, with the root; 0: found
	Default       bool
	Replace       bool
	TempDir       string
	CacheDir      string // remembers trees that were pushed; "": none

	confirm  func(context.Context) error // before anything is published
	Lifetime time.Duration               // 0: as before
}

// Result is what a push did.
type Result struct {
	Name      string           `json:"name"`
	Version   string           `json:"version"`
	Entry     string           `json:"entry"`
	Catalog   uint64           `json:"catalog"` // version; 0 if nothing had to be changed
	Unchanged bool             `json:"unchanged"`
	Manifest  catalog.Manifest `json:"manifest"`
	Sent      int64            `json:"blocks_sent"`
	SentBytes int64            `json:"bytes_sent"`
	Plain     int64            `json:"bytes_plain"`
	Seconds   float64          `json:"seconds"`
}

// Push publishes an image.
func Push(ctx context.Context, st store.Store, k *keys.Folder, o Options, rep Reporter) (_ *Result, err error) {
	start := time.Now()
	if _, _, err := Load(ctx, st, k.Trust()); err != nil {
		return nil, err
	}
	// Better to hear about a wrong token now than after reading it all.
	if _, err := st.Missing(ctx, []string{storepath.Block(digest.Of(nil))}); err != nil {
		return nil, err
	}
	// From here on no collection removes blocks that this push finds.
	mark, _, err := marks.Enter(ctx, st, marks.Push, marks.GC, o.Name+" "+o.Version, collectionWait, func(others []marks.Other) {
		rep.Note("waiting for " + others[0].String())
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, mark.End(ctx)) }()
	o.confirm = func(ctx context.Context) error {
		if err := mark.Confirm(ctx); err != nil {
			return fmt.Errorf("%w: run the same command again, it sends what is missing", err)
		}
		return nil
	}
	old, _, err := Load(ctx, st, k.Trust())
	if err != nil {
		return nil, err
	}

	// The architecture is not known yet, and of no matter to publishers' rights.
	if err := ready(ctx, st, old, k, catalog.ManifestName(o.Name, o.Version, "any")); err != nil {
		return nil, err
	}
	if o.Source == "" {
		return pushFiles(ctx, st, k, o, rep)
	}
	program, programErr := initramfs.FindProgram(o.Program)
	ro := o.Reading
	ro.TempDir, ro.Arch, ro.Progress = o.TempDir, o.Arch, readProgress(o.Source, rep)
	ro.Partition = o.Partition
	restore := frugal()
	defer restore()
	t, err := opener.Open(ctx, o.Source, ro)
	rep.End()
	if err != nil {
		return nil, err
	}
	if len(t.Entries()) < manyNames {
		restore()
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	for _, n := range t.Notes {
		rep.Note(n)
	}
	if t.Origin.Kind != "" {
		rep.Note("read as: " + t.Origin.Kind)
	}
	if o.AsIs {
		if err := checkWhole(t, o); err != nil {
			return nil, err
		}
	}
	o.Cmdline = cmdline(t, o)
	kern, err := kernel.Find(t, o.KernelVersion, o.Arch)
	if i := installer.Find(t); errors.Is(err, kernel.ErrNoKernel) && i != nil && !o.AsIs {
		return pushInstaller(ctx, st, k, o, t, i, rep)
	}
	if err != nil {
		return nil, err
	}
	if programErr != nil {
		return nil, programErr
	}
	if o.Title == "" {
		o.Title = defaultTitle(t, o)
	}
	plan, err := root.NewPlan(t)
	if err != nil {
		return nil, err
	}

	up, err := newUploader(st, o.Level, rep.Add)
	if err != nil {
		return nil, err
	}
	if err := remember(ctx, st, old, o.Name, up); err != nil {
		return nil, err
	}
	b := &built{}
	g, gctx := errgroup.WithContext(ctx)
	b.rootType = rootType(t, o.AsIs)
	g.Go(func() error { return b.boot(gctx, t, kern, program) })
	g.Go(func() error {
		if o.AsIs {
			return b.whole(gctx, t.Origin.Whole, up, rep)
		}
		return b.root(gctx, plan, up, o, start, rep)
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	rep.End()
	for _, n := range b.initrd.Notes {
		rep.Note(n)
	}

	m := b.manifest(o, kern)
	if err := m.Check(); err != nil {
		return nil, err
	}
	res := &Result{
		Name: o.Name, Version: o.Version, Entry: EntryID(o.Name, o.Version), Manifest: m,
		Sent: up.sent.Load(), SentBytes: up.sentBytes.Load(),
	}
	for _, f := range m.Root.Files {
		res.Plain += f.Size
	}
	if err := b.upload(ctx, st); err != nil {
		return nil, err
	}
	if err := o.confirm(ctx); err != nil {
		return nil, err
	}
	res.Catalog, err = publishTarget(ctx, st, k, o.Lifetime, catalog.ManifestName(m.Name, m.Version, m.Arch), func(e *Edition) error { return addImage(ctx, e, &m, o, res) })
	if errors.Is(err, ErrUnchanged) {
		res.Unchanged, err = true, nil
	}
	res.Seconds = time.Since(start).Seconds()
	return res, err
}

// readProgress tells rep how far the source is read. Another total is another
// pass over it.
func readProgress(name string, rep Reporter) func(done, total int64) {
	reported, of := int64(0), int64(0)
	return func(done, total int64) {
		if total != of {
			rep.Begin("read "+name, total)
			reported, of = 0, total
		}
		rep.Add(done - reported)
		reported = done
	}
}

// built collects the parts of an image.
type built struct {
	kernel   []byte
	initrd   *initramfs.Result
	rootType string
	files    []*fileResult
}

// boot reads the kernel and builds the initramfs.
func (b *built) boot(ctx context.Context, t *source.Tree, k *kernel.Kernel, program string) (err error) {
	if b.kernel, err = t.ReadEntry(k.Image, maxKernel); err != nil {
		return err
	}
	data, err := initramfs.ReadProgram(program, k.Arch)
	if err != nil {
		return err
	}
	b.initrd, err = initramfs.Build(ctx, t, k, data, b.rootType)
	return err
}

// root writes the root's files as blocks. began is when reading the tree began.
func (b *built) root(ctx context.Context, plan *root.Plan, up *uploader, o Options, began time.Time, rep Reporter) error {
	f, err := source.TempFile(o.TempDir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := plan.Meta(f); err != nil {
		return source.RoomError(err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("measure the metadata: %w", err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the metadata: %w", err)
	}
	rep.Begin("push", size+plan.DataSize())
	meta, err := up.file(ctx, "meta", cut.Pages(f), index.CutPages)
	if err != nil {
		return err
	}
	b.files = append(b.files, meta)
	if plan.DataSize() == 0 {
		return fmt.Errorf("%w: no file has any content", source.ErrUnreadable)
	}
	remembered := known{o.CacheDir}
	fingerprint, settled := plan.Fingerprint(began)
	if settled {
		raw, x := remembered.load(fingerprint)
		data, err := up.reuse(ctx, "data", raw, x)
		if err != nil {
			return err
		}
		if data != nil {
			b.files = append(b.files, data)
			return nil
		}
	}
	r := plan.Data(ctx)
	defer r.Close()
	data, err := up.file(ctx, "data", cut.Pages(r), index.CutPages)
	if err != nil {
		return err
	}
	b.files = append(b.files, data)
	if settled {
		remembered.save(fingerprint, data.index)
	}
	return nil
}

// upload stores what the manifest names beside blocks.
func (b *built) upload(ctx context.Context, st store.Store) error {
	type whole struct {
		path string
		data []byte
	}
	var list []whole
	for _, f := range b.files {
		list = append(list, whole{storepath.Index(digest.Of(f.index)), f.index})
	}
	for _, d := range [][]byte{b.kernel, b.initrd.Data} {
		list = append(list, whole{storepath.File(digest.Of(d)), d})
	}
	paths := make([]string, len(list))
	for i, w := range list {
		paths[i] = w.path
	}
	missing, err := st.Missing(ctx, paths)
	if err != nil {
		return err
	}
	for _, w := range list {
		for _, p := range missing {
			if p != w.path {
				continue
			}
			if err := st.Put(ctx, w.path, bytes.NewReader(w.data), int64(len(w.data))); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

func (b *built) manifest(o Options, k *kernel.Kernel) catalog.Manifest {
	m := catalog.Manifest{
		Format: catalog.ManifestFormat, Name: o.Name, Version: o.Version, Arch: k.Arch,
		Created: time.Now().UTC().Truncate(time.Second),
		Kernel:  catalog.Kernel{Blob: digest.BlobOf(b.kernel), Release: k.Release},
		Initrd:  digest.BlobOf(b.initrd.Data),
		Cmdline: o.Cmdline,
		Root:    catalog.Root{Type: b.rootType},
		Needs:   catalog.Needs{Memory: Memory(int64(len(b.kernel)), int64(len(b.initrd.Data)), b.initrd.Unpacked)},

		MissingDrivers: b.initrd.Lacks,
	}
	for _, f := range b.files {
		m.Root.Files = append(m.Root.Files, catalog.RootFile{
			Name: f.name, Size: f.size, Stored: f.stored, Blocks: f.blocks, Index: digest.BlobOf(f.index),
		})
	}
	return m
}

// Memory estimates how many bytes of memory a machine needs to boot an image:
// the kernel, which is about four times as large when it runs; the initramfs
// twice, packed and unpacked, for both are there for a moment; and 192 MiB for
// the block cache, the overlay and an init system. The sum is rounded up to
// 16 MiB.
func Memory(kernel, initrd, unpacked int64) int64 {
	const run, step = 192 << 20, 16 << 20
	sum := 4*kernel + initrd + unpacked + run
	return (sum + step - 1) / step * step
}

// remember tells up of the blocks that other images of the store have, if
// the store still has them. So an update neither compresses nor sends what did
// not change, and blocks keep the stored length that they are listed with.
func remember(ctx context.Context, st store.Store, c *catalog.Catalog, name string, up *uploader) error {
	lengths := make(map[digest.SHA256]int)
	targets, err := imageTargets(ctx, c, name)
	if err != nil {
		return err
	}
	for _, target := range targets {
		img, err := c.Image(ctx, target)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue // an image that cannot be read is no reason not to publish another
		}
		for _, f := range img.Manifest().Root.Files {
			if f.Index.Size > maxIndexSize || len(lengths)+int(f.Index.Size/index.EntryLength) > maxKnown {
				continue
			}
			data, err := st.Read(ctx, storepath.Index(f.Index.SHA256), nil, f.Index.Size, func(b []byte) error { return f.Index.SHA256.Check("index", b) })
			if err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				continue
			}
			x, err := index.Parse(data)
			if err != nil {
				continue
			}
			for i := range x.Len() {
				if e := x.Entry(i); !e.Zero() {
					lengths[e.SHA256] = e.StoredLen
				}
			}
		}
	}
	paths := make([]string, 0, len(lengths))
	for sum := range lengths {
		paths = append(paths, storepath.Block(sum))
	}
	missing, err := st.Missing(ctx, paths)
	if err != nil {
		return err
	}
	for _, p := range missing {
		if _, sum, ok := storepath.Parse(p); ok {
			delete(lengths, sum)
		}
	}
	for sum, n := range lengths {
		up.known(sum, n)
	}
	return nil
}

// imageTargets lists the manifests of a catalog, those of name first.
func imageTargets(ctx context.Context, c *catalog.Catalog, name string) ([]string, error) {
	names, err := c.Names(ctx)
	if err != nil {
		return nil, err
	}
	var same, others []string
	for _, n := range names {
		switch {
		case strings.HasPrefix(n, "images/"+name+"/"):
			same = append(same, n)
		case strings.HasPrefix(n, "images/"):
			others = append(others, n)
		}
	}
	return append(same, others...), nil
}

// defaultTitle returns what the tree's os-release calls it (os-release(5)).
func defaultTitle(t *source.Tree, o Options) string {
	for _, p := range []string{"etc/os-release", "usr/lib/os-release"} {
		data, err := t.ReadFile(p, maxOSRelease)
		if err != nil {
			continue
		}
		if title := prettyName(data); title != "" {
			return title
		}
	}
	return o.Name + " " + o.Version
}

func prettyName(data []byte) string {
	s := bufio.NewScanner(bytes.NewReader(data))
	for s.Scan() {
		v, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), "PRETTY_NAME=")
		if !ok {
			continue
		}
		if len(v) > 1 && (v[0] == '"' || v[0] == '\'') && v[len(v)-1] == v[0] {
			v = v[1 : len(v)-1]
		}
		v = strings.NewReplacer(`\"`, `"`, `\$`, "$", "\\`", "`", `\\`, `\`).Replace(v)
		if len(v) > 200 || catalog.CheckText(v) != nil {
			return ""
		}
		return v
	}
	return ""
}
