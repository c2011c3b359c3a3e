// Package storetest makes stores with images in them, for tests.
package storetest

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/inetboot/inetboot/blockfs/block"
	"github.com/inetboot/inetboot/blockfs/index"
	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/catalog/tuf"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/store"
)

// Silent is a logger that says nothing.
func Silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// Publisher puts images into a store.
type Publisher struct {
	Dir *store.Dir

	repo    *catalogtest.Repo
	targets map[string][]byte
}

// New returns the publisher of the store in base/store.
func New(t testing.TB, base string) *Publisher {
	t.Helper()
	d, err := store.Open(filepath.Join(base, "store"), filepath.Join(base, "tmp"), store.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &Publisher{Dir: d, repo: catalogtest.New(t, catalogtest.Options{}), targets: make(map[string][]byte)}
}

// Image is an image in the store.
type Image struct {
	Name     string // of the manifest
	Manifest digest.SHA256
	Root     []*index.Index
}

// Blocks is how many blocks each of the two files of an Image's root has.
const Blocks = 40

// Add publishes an image, name 1 amd64, whose root has the files meta and data.
func (p *Publisher) Add(t testing.TB, name string) *Image {
	t.Helper()
	var files []cutFile
	for f, file := range []string{"meta", "data"} {
		c := cutFile{name: file}
		for i := range Blocks {
			plain := make([]byte, 2000+i)
			rand.NewChaCha8([32]byte{byte(i), byte(f), byte(len(name)), name[0], name[len(name)-1]}).Read(plain[:1000])
			c.blocks = append(c.blocks, plain)
		}
		files = append(files, c)
	}
	return p.add(t, name, "1", "erofs", time.Unix(1_800_000_000, 0), files)
}

// RootFile is a file of a root.
type RootFile struct {
	Name string
	Data []byte
}

// AddRoot publishes an image, for amd64, whose root has the given files. What
// is published later is newer.
func (p *Publisher) AddRoot(t testing.TB, name, version, kind string, files ...RootFile) *Image {
	t.Helper()
	var cut []cutFile
	for _, f := range files {
		cut = append(cut, cutFile{f.Name, slices.Collect(slices.Chunk(f.Data, 64<<10))})
	}
	return p.add(t, name, version, kind, time.Unix(1_800_000_000+int64(len(p.targets)), 0), cut)
}

// cutFile is a file of a root, in blocks.
type cutFile struct {
	name   string
	blocks [][]byte
}

// add publishes an image.
func (p *Publisher) add(t testing.TB, name, version, kind string, created time.Time, files []cutFile) *Image {
	t.Helper()
	enc, err := block.NewEncoder(block.DefaultLevel, 1)
	if err != nil {
		t.Fatal(err)
	}
	kernel := []byte("kernel of " + name)
	p.put(t, storepath.File(digest.Of(kernel)), kernel)
	img := &Image{Name: catalog.ManifestName(name, version, "amd64")}
	m := catalog.Manifest{
		Format: catalog.ManifestFormat, Name: name, Version: version, Arch: "amd64", Created: created.UTC(),
		Kernel: catalog.Kernel{Blob: digest.BlobOf(kernel), Release: "6"}, Initrd: digest.BlobOf(kernel), Root: catalog.Root{Type: kind},
	}
	for _, file := range files {
		var b index.Builder
		for _, plain := range file.blocks {
			if len(bytes.Trim(plain, "\x00")) == 0 {
				b.AddZero(int64(len(plain)))
				continue
			}
			stored := enc.Encode(nil, plain)
			b.Add(len(plain), len(stored), digest.Of(plain))
			p.put(t, storepath.Block(digest.Of(plain)), stored)
		}
		raw, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		p.put(t, storepath.Index(digest.Of(raw)), raw)
		x, err := index.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		img.Root = append(img.Root, x)
		m.Root.Files = append(m.Root.Files, catalog.RootFile{Name: file.name, Size: x.Size(), Stored: x.StoredSize(), Blocks: x.Blocks(), Index: digest.BlobOf(raw)})
	}
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	img.Manifest = digest.Of(data)
	p.put(t, storepath.Target(img.Name, img.Manifest), data)
	p.targets[img.Name] = data
	p.publish(t)
	return img
}

// Menu publishes a menu.
func (p *Publisher) Menu(t testing.TB, m *catalog.Menu) {
	t.Helper()
	data, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	p.put(t, storepath.Target(catalog.MenuName, digest.Of(data)), data)
	p.targets[catalog.MenuName] = data
	p.publish(t)
}

// Remove takes an image out of the catalog.
func (p *Publisher) Remove(t testing.TB, img *Image) {
	t.Helper()
	delete(p.targets, img.Name)
	p.publish(t)
}

func (p *Publisher) put(t testing.TB, path string, data []byte) {
	t.Helper()
	if _, err := p.Dir.Put(t.Context(), path, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
}

func (p *Publisher) publish(t testing.TB) {
	t.Helper()
	old, err := p.Dir.Read(storepath.Timestamp, tuf.MaxTimestamp)
	var tag digest.SHA256
	if err == nil {
		tag = digest.Of(old)
	}
	p.repo.Publish(t, p.targets)
	for _, f := range p.repo.Open(t).Trusted().Files() {
		if p.Dir.Has(f.Path) && f.Path != storepath.Timestamp {
			continue
		}
		var was digest.SHA256
		if f.Path == storepath.Timestamp {
			was = tag
		}
		if err := p.Dir.Publish(t.Context(), f.Path, was, digest.SHA256{}, f.Data, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
}

// Client returns the MAC address of the client with a number.
func Client(n int) string { return fmt.Sprintf("52:54:00:00:%02x:%02x", n/256, n%256) }
