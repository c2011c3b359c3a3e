// Package container reads a tree from a container image: an OCI image layout,
// an OCI or Docker archive, or a registry. The layers are merged as the OCI
// image specification says ("Image Layer Filesystem Changeset").
//
// Everything is compared with the digests that the image's manifest and
// configuration give; which image a name stands for is the word of the layout,
// archive or registry.
package container

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/tarball"
)

const (
	maxManifest = 8 << 20  // bytes of an index, a manifest, or the list in a Docker archive
	maxConfig   = 16 << 20 // bytes of a configuration
	maxIndexes  = 4        // how deep an index may lie in an index
)

// layer is one layer of an image, as it is stored.
type layer struct {
	digest string // of the stored bytes, "sha256:…"; "": not known
	size   int64  // stored bytes; 0: not known
	diffID string // of the tarball in it
	// open returns the stored bytes. If it is an [io.ReaderAt] with a Size as
	// well, a layer that is not compressed is read where it lies.
	open func() (io.ReadCloser, error)
}

// sized is what bytes that lie somewhere can do.
type sized interface {
	io.ReaderAt
	Size() int64
}

// merge adds the layers, the lowest first.
func merge(ctx context.Context, b *source.Builder, layers []layer, o source.Options, p *progress) error {
	if len(layers) == 0 {
		return fmt.Errorf("%w: the image has no layers", source.ErrUnreadable)
	}
	spool := source.NewSpool(o.TempDir)
	b.OnClose(spool)
	for i, l := range layers {
		if i > 0 {
			if err := b.NextLayer(); err != nil {
				return err
			}
		}
		name := fmt.Sprintf("layer %d of %d", i+1, len(layers))
		if err := addLayer(ctx, b, l, spool, name, p); err != nil {
			return err
		}
	}
	return nil
}

// addLayer adds one layer and compares its digests.
func addLayer(ctx context.Context, b *source.Builder, l layer, spool *source.Spool, name string, p *progress) (err error) {
	in, err := l.open()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	keep := false
	defer func() {
		if keep {
			b.OnClose(in)
		} else {
			err = errors.Join(err, in.Close())
		}
	}()
	if at, ok := in.(sized); ok {
		magic := make([]byte, tarball.MagicLength)
		n, err := at.ReadAt(magic, 0)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
		}
		if tarball.Compression(magic[:n]) == "" {
			h := sha256.New()
			if _, err := io.Copy(h, &counter{ctx: ctx, r: io.NewSectionReader(at, 0, at.Size()), p: p}); err != nil {
				return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
			}
			if err := l.check(name, h, h); err != nil {
				return err
			}
			keep = true
			return tarball.Entries(ctx, b, &tarball.Input{At: at, Size: at.Size(), Spool: spool, Name: name, Whiteouts: true, Layer: true})
		}
	}
	stored, plain := sha256.New(), sha256.New()
	raw := io.TeeReader(&counter{ctx: ctx, r: in, p: p}, stored)
	z, err := tarball.Decompress(bufio.NewReaderSize(raw, 1<<20))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
	}
	defer z.Close()
	if err := tarball.Entries(ctx, b, &tarball.Input{Stream: io.TeeReader(z, plain), Spool: spool, Name: name, Whiteouts: true, Layer: true}); err != nil {
		return err
	}
	// What follows the compressed stream, such as padding, has to fit as well.
	if _, err := io.Copy(io.Discard, raw); err != nil {
		return fmt.Errorf("%w: %s: %w", source.ErrUnreadable, name, err)
	}
	return l.check(name, stored, plain)
}

// check compares the digests of what was read.
func (l *layer) check(name string, stored, plain hash.Hash) error {
	if err := checkDigest(name, l.digest, stored); err != nil {
		return err
	}
	return checkDigest(name+", decompressed", l.diffID, plain)
}

func checkDigest(name, want string, h hash.Hash) error {
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); want != "" && got != want {
		return fmt.Errorf("%w: %s has the digest %s, the image says %s", source.ErrUnreadable, name, got, want)
	}
	return nil
}

// checkHash refuses digests of other kinds than SHA-256.
func checkHash(h v1.Hash) error {
	if b, err := hex.DecodeString(h.Hex); h.Algorithm != "sha256" || err != nil || len(b) != sha256.Size {
		return fmt.Errorf("%w: the digest %q is not one of SHA-256", source.ErrUnreadable, h)
	}
	return nil
}

// layersOf puts a manifest's layers together with what the configuration says
// of them. open opens a blob.
func layersOf(m *v1.Manifest, config *v1.ConfigFile, open func(v1.Descriptor) (io.ReadCloser, error)) ([]layer, error) {
	if len(config.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: the manifest has %d layers, the configuration %d", source.ErrUnreadable, len(m.Layers), len(config.RootFS.DiffIDs))
	}
	var out []layer
	for i, d := range m.Layers {
		for _, h := range []v1.Hash{d.Digest, config.RootFS.DiffIDs[i]} {
			if err := checkHash(h); err != nil {
				return nil, err
			}
		}
		out = append(out, layer{
			digest: d.Digest.String(), size: d.Size, diffID: config.RootFS.DiffIDs[i].String(),
			open: func() (io.ReadCloser, error) { return open(d) },
		})
	}
	return out, nil
}

// parseConfig reads the configuration of an image.
func parseConfig(data []byte) (*v1.ConfigFile, error) {
	c, err := v1.ParseConfigFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: the image's configuration: %w", source.ErrUnreadable, err)
	}
	return c, nil
}

// arch returns the architecture that is wanted.
func arch(o source.Options) string {
	if o.Arch != "" {
		return o.Arch
	}
	return runtime.GOARCH
}

// progress adds up what is read of several layers.
type progress struct {
	done, total int64
	report      func(done, total int64)
}

func newProgress(layers []layer, o source.Options) *progress {
	p := &progress{report: o.Progress}
	for _, l := range layers {
		if l.size <= 0 {
			p.total = -1
			break
		}
		p.total += l.size
	}
	return p
}

func (p *progress) add(n int64) {
	p.done += n
	if p.report != nil && n > 0 {
		p.report(p.done, p.total)
	}
}

// counter counts what is read, and ends with its context.
type counter struct {
	ctx context.Context
	r   io.Reader
	p   *progress
}

func (c *counter) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(b)
	c.p.add(int64(n))
	return n, err
}
