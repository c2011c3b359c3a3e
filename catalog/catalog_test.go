package catalog_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/inetboot/inetboot/catalog"
	"github.com/inetboot/inetboot/catalog/catalogtest"
	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

var (
	now     = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	created = now.Add(-time.Hour)
	expires = now.Add(time.Hour)
)

func manifest() *catalog.Manifest {
	blob := digest.BlobOf([]byte("x"))
	return &catalog.Manifest{
		Format: catalog.ManifestFormat, Name: "debian", Version: "12", Arch: "amd64", Created: created,
		Kernel: catalog.Kernel{Blob: blob, Release: "6.1"}, Initrd: blob, Cmdline: "quiet",
		Root:  catalog.Root{Type: "erofs", Files: []catalog.RootFile{{Name: "meta", Size: 1, Index: blob}, {Name: "data", Size: 2, Stored: 1, Blocks: 1, Index: blob}}},
		Needs: catalog.Needs{Memory: 1 << 20},

		MissingDrivers: []string{"tg3", "ne2k-pci"},
	}
}

func TestOpen(t *testing.T) {
	ctx := t.Context()
	menu := catalog.NewMenu("Title")
	menu.Entries = []catalog.Entry{{ID: "debian-12", Title: "Debian", Image: "images/debian/12/amd64.json"}}
	menuData, err := menu.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	manifestData, err := manifest().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	name := catalog.ManifestName("debian", "12", "amd64")
	repo := catalogtest.New(t, catalogtest.Options{Now: now})
	repo.Publish(t, map[string][]byte{
		catalog.MenuName: menuData, name: manifestData,
		"images/other/1/amd64.json": manifestData, // it says that it is another one
	})
	src := catalogtest.Source(maps.Clone(repo.Files))
	anchor := repo.Anchor(t)
	c, err := catalog.Open(ctx, src, anchor, catalog.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	names, err := c.Names(ctx)
	if err != nil || c.Version() != 2 || !c.Expires().Equal(expires) || !cmp.Equal(names, []string{name, "images/other/1/amd64.json", catalog.MenuName}) {
		t.Errorf("catalog: version %d, expires %v, names %v, %v", c.Version(), c.Expires(), names, err)
	}
	got, err := c.Menu(ctx)
	if err != nil || !cmp.Equal(got, menu) {
		t.Errorf("Menu() = %+v, %v; want %+v", got, err, menu)
	}
	img, err := c.Image(ctx, name)
	if err != nil || !cmp.Equal(img.Manifest(), *manifest()) || img.Digest() != digest.Of(manifestData) {
		t.Errorf("Image() = %+v, %v; want the manifest", img, err)
	}
	if _, err := c.Image(ctx, "images/no/1/amd64.json"); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("Image(missing) = %v; want ErrNotFound", err)
	}
	if _, err := c.Image(ctx, "images/other/1/amd64.json"); !errors.Is(err, catalog.ErrFormat) {
		t.Errorf("Image() under a foreign name = %v; want ErrFormat", err)
	}
	if list, err := c.Mirrors(ctx); list != nil || err != nil {
		t.Errorf("Mirrors() of a catalog without = %v, %v; want nothing", list, err)
	}
	p := storepath.Target(name, digest.Of(manifestData))
	src[p] = bytes.Replace(manifestData, []byte("quiet"), []byte("evil!"), 1)
	if _, err := c.Image(ctx, name); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Image() of changed bytes = %v; want ErrMismatch", err)
	}
	src[p] = append(bytes.Clone(manifestData), ' ')
	if _, err := c.Image(ctx, name); err == nil {
		t.Error("Image() of a longer file succeeded")
	}
	// The same catalog with targets from elsewhere.
	if _, err := c.From(repo).Image(ctx, name); err != nil {
		t.Errorf("From().Image() = %v", err)
	}
	other := catalogtest.New(t, catalogtest.Options{Key: 9, Now: now})
	if _, err := catalog.Open(ctx, src, other.Anchor(t), catalog.Options{Now: now}); !errors.Is(err, catalog.ErrUnknownKey) {
		t.Errorf("Open() with another root = %v; want ErrUnknownKey", err)
	}
	if _, err := catalog.Open(ctx, src, anchor, catalog.Options{Now: expires}); !errors.Is(err, catalog.ErrExpired) {
		t.Errorf("Open() of an expired catalog = %v; want ErrExpired", err)
	}
	repo.Publish(t, nil)
	newer := repo.Open(t).Trusted()
	if _, err := catalog.Open(ctx, src, anchor, catalog.Options{Now: now, Floor: newer}); !errors.Is(err, catalog.ErrRollback) {
		t.Errorf("Open() below the floor = %v; want ErrRollback", err)
	}
}

// Each hash that is listed has to be right, and SHA-256 has to be one of them.
func TestHashes(t *testing.T) {
	content := []byte("content")
	sum256, sum512 := sha256.Sum256(content), sha512.Sum512(content)
	for _, tc := range []struct {
		name   string
		hashes metadata.Hashes
		want   error
	}{
		{"sha256", metadata.Hashes{"sha256": sum256[:]}, nil},
		{"both", metadata.Hashes{"sha256": sum256[:], "sha512": sum512[:]}, nil},
		{"sha512 wrong", metadata.Hashes{"sha256": sum256[:], "sha512": sum512[1:]}, catalog.ErrMismatch},
		{"one that is not known", metadata.Hashes{"sha256": sum256[:], "sha3": sum256[:]}, catalog.ErrMismatch},
		{"sha512 alone", metadata.Hashes{"sha512": sum512[:]}, catalog.ErrFormat},
	} {
		repo := catalogtest.New(t, catalogtest.Options{Now: now})
		repo.Publish(t, map[string][]byte{catalog.MenuName: content})
		repo.EditTargets(t, func(m *metadata.TargetsType) { m.Targets[catalog.MenuName].Hashes = tc.hashes })
		_, err := repo.Open(t).Menu(t.Context())
		if tc.want == nil {
			tc.want = catalog.ErrFormat // it is no menu, but it was read
			if err != nil && !strings.Contains(err.Error(), "the menu") {
				t.Errorf("%s: %v", tc.name, err)
			}
		}
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v; want %v", tc.name, err, tc.want)
		}
	}
}

// Names that have no place in a store are not read.
func TestOddTargets(t *testing.T) {
	repo := catalogtest.New(t, catalogtest.Options{Now: now})
	repo.Publish(t, map[string][]byte{"../menu.json": []byte("x"), "a b": []byte("x"), "empty": {}})
	c := repo.Open(t)
	for _, name := range []string{"../menu.json", "a b", "empty"} {
		if _, err := c.Image(t.Context(), name); !errors.Is(err, catalog.ErrFormat) {
			t.Errorf("Image(%q) = %v; want ErrFormat", name, err)
		}
	}
}

func TestMirrors(t *testing.T) {
	want := []catalog.Mirror{{URL: "http://m.example/store", Location: "Linz"}}
	data, err := (&catalog.MirrorList{Format: catalog.MirrorsFormat, Mirrors: want}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	repo := catalogtest.New(t, catalogtest.Options{Now: now})
	repo.Publish(t, map[string][]byte{catalog.MirrorsName: data})
	c := repo.Open(t)
	if got, err := c.Mirrors(t.Context()); err != nil || !cmp.Equal(got, want) {
		t.Errorf("Mirrors() = %v, %v; want %v", got, err, want)
	}
	repo.Files[storepath.Target(catalog.MirrorsName, digest.Of(data))] = bytes.Replace(data, []byte("m.example"), []byte("evil.test"), 1)
	if _, err := c.Mirrors(t.Context()); !errors.Is(err, digest.ErrMismatch) {
		t.Errorf("Mirrors() of changed bytes = %v; want ErrMismatch", err)
	}
}

func hash(s string) string { return digest.Of([]byte(s)).String() }
