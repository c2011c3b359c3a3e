package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/imagetool/installer"
	"github.com/inetboot/inetboot/imagetool/kernel"
	"github.com/inetboot/inetboot/imagetool/keys"
	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/store"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

const (
	maxInitrd = 2 << 30 // bytes of an initrd that comes with its kernel

	// kernelOnlyMemory is what a kernel with an initrd of its own needs to run,
	// and initrdFactor how much larger an initrd is when it is unpacked.
	kernelOnlyMemory = 64 << 20
	initrdFactor     = 4
)

// artefact is a file that is stored whole.
type artefact struct {
	digest.Blob
	io.ReaderAt
}

// openArtefact hashes a file.
func openArtefact(what, name string, limit int64) (*artefact, *os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", source.ErrUnreadable, what, err)
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, limit+1))
	if err == nil && (n == 0 || n > limit) {
		err = fmt.Errorf("%s has %d bytes or more, want 1 to %d", name, n, limit)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%w: %s: %w", source.ErrUnreadable, what, err), f.Close())
	}
	return &artefact{digest.Blob{SHA256: digest.SHA256(h.Sum(nil)), Size: n}, f}, f, nil
}

// pushFiles publishes a kernel file, and perhaps an initrd, without a root.
func pushFiles(ctx context.Context, st store.Store, k *keys.Folder, o Options, rep Reporter) (*Result, error) {
	kern, f, err := openArtefact("kernel", o.KernelFile, maxKernel)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var initrd *artefact
	if o.InitrdFile != "" {
		var f *os.File
		if initrd, f, err = openArtefact("initrd", o.InitrdFile, maxInitrd); err != nil {
			return nil, err
		}
		defer f.Close()
	}
	return pushKernel(ctx, st, k, o, kern, initrd, rep)
}

// pushInstaller publishes the installer in a tree.
func pushInstaller(ctx context.Context, st store.Store, k *keys.Folder, o Options, t *source.Tree, i *installer.Installer, rep Reporter) (*Result, error) {
	rep.Note("read as: installer, kernel /" + i.Kernel.Path)
	var both []*artefact
	for _, e := range []*source.Entry{i.Kernel, i.Initrd} {
		b, err := t.ReadEntry(e, maxKernel)
		if err != nil {
			return nil, err
		}
		both = append(both, &artefact{digest.BlobOf(b), bytes.NewReader(b)})
	}
	return pushKernel(ctx, st, k, o, both[0], both[1], rep)
}

// pushKernel publishes an image without a root; initrd may be nil.
func pushKernel(ctx context.Context, st store.Store, k *keys.Folder, o Options, kern, initrd *artefact, rep Reporter) (*Result, error) {
	start := time.Now()
	head := make([]byte, min(kern.Size, kernel.HeadLength))
	if _, err := kern.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: kernel: %w", source.ErrUnreadable, err)
	}
	facts, err := kernel.Inspect(head)
	switch {
	case err != nil:
		return nil, err
	case facts.Arch == "":
		return nil, fmt.Errorf("%w: the file is no kernel that is known", kernel.ErrNoKernel)
	case o.Arch != "" && o.Arch != facts.Arch:
		return nil, fmt.Errorf("%w: it is for %s, not for %s", kernel.ErrArch, facts.Arch, o.Arch)
	}
	m := catalog.Manifest{
		Format: catalog.ManifestFormat, Requires: []string{catalog.FeatureNoRoot}, Name: o.Name, Version: o.Version, Arch: facts.Arch,
		Created: time.Now().UTC().Truncate(time.Second),
		Kernel:  catalog.Kernel{Blob: kern.Blob, Release: facts.Release}, Cmdline: o.Cmdline,
		Needs: catalog.Needs{Memory: kernelOnlyMemory + 4*kern.Size},
	}
	if facts.Low {
		m.Requires = append(m.Requires, catalog.FeatureKexecLoad)
	}
	files := []*artefact{kern}
	if initrd != nil {
		m.Initrd = initrd.Blob
		m.Needs.Memory += (1 + initrdFactor) * initrd.Size
		files = append(files, initrd)
	}
	if err := m.Check(); err != nil {
		return nil, err
	}
	if o.Title == "" {
		o.Title = o.Name + " " + o.Version
	}
	rep.Begin("push", m.Kernel.Size+m.Initrd.Size)
	for _, f := range files {
		path := storepath.File(f.SHA256)
		missing, err := st.Missing(ctx, []string{path})
		if err != nil {
			return nil, err
		}
		if len(missing) > 0 {
			if err := st.Put(ctx, path, f, f.Size); err != nil {
				return nil, err
			}
		}
		rep.Add(f.Size)
	}
	rep.End()
	res := &Result{Name: o.Name, Version: o.Version, Entry: EntryID(o.Name, o.Version), Manifest: m}
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
