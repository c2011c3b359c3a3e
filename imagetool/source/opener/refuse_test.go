package opener_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/opener"
)

func TestContainerRefusals(t *testing.T) {
	one := tarOf(t, tar.Header{Name: "file"})
	single := func(t *testing.T, change func(b *blobs, d *v1.Descriptor)) string {
		b := newBlobs(t)
		d := b.image("amd64", one, one)
		change(b, &d)
		return b.layout(d)
	}
	// damage replaces the blobs that fit by others.
	damage := func(b *blobs, fits func(data []byte) bool, with func(data []byte) []byte) {
		for h, data := range b.list {
			if fits(data) {
				b.list[h] = with(bytes.Clone(data))
			}
		}
	}
	zeroed := func([]byte) []byte { return nil }
	tail := func(data []byte) []byte { data[len(data)-1]++; return data }
	for _, tc := range []struct {
		name   string
		source func(t *testing.T) string
		o      opener.Options
		want   string
	}{
		{"a manifest is another one", func(t *testing.T) string {
			return single(t, func(b *blobs, _ *v1.Descriptor) {
				damage(b, func(d []byte) bool { return bytes.Contains(d, []byte(`"config"`)) }, func(d []byte) []byte { return append(d, ' ') })
			})
		}, opener.Options{}, "digest"},
		{"a layer is another one", func(t *testing.T) string {
			return single(t, func(b *blobs, _ *v1.Descriptor) {
				damage(b, func(d []byte) bool { return bytes.HasPrefix(d, []byte("file\x00")) }, tail)
			})
		}, opener.Options{}, "digest"},
		{"a compressed layer is another one", func(t *testing.T) string {
			return single(t, func(b *blobs, _ *v1.Descriptor) {
				damage(b, func(d []byte) bool { return bytes.HasPrefix(d, []byte{0x1f, 0x8b}) }, tail)
			})
		}, opener.Options{}, "layer 1"},
		{"a layer is gone", func(t *testing.T) string {
			return single(t, func(b *blobs, _ *v1.Descriptor) {
				damage(b, func(d []byte) bool { return bytes.HasPrefix(d, []byte("file\x00")) }, zeroed)
			})
		}, opener.Options{}, "digest"},
		{"a layer holds another tarball than the configuration says", func(t *testing.T) string {
			b := newBlobs(t)
			m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Layers: []v1.Descriptor{b.add(one, types.OCILayer)}}
			m.Config = b.json(v1.ConfigFile{OS: "linux", RootFS: v1.RootFS{DiffIDs: []v1.Hash{digestOf([]byte("x"))}}}, types.OCIConfigJSON)
			return b.layout(b.json(m, types.OCIManifestSchema1))
		}, opener.Options{}, "decompressed"},
		{"a layer leads outside", func(t *testing.T) string {
			b := newBlobs(t)
			return b.layout(b.image("amd64", one, tarOf(t, tar.Header{Name: "../x"})))
		}, opener.Options{}, "layer 2 of 2: the source is refused"},
		{"a layer writes through a link of another", func(t *testing.T) string {
			b := newBlobs(t)
			return b.layout(b.image("amd64", tarOf(t, tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/etc"}), tarOf(t, tar.Header{Name: "x/passwd"})))
		}, opener.Options{}, "not a directory"},
		{"many layers", func(t *testing.T) string {
			b := newBlobs(t)
			return b.layout(b.image("amd64", one, one, one, one, one))
		}, opener.Options{Limits: source.Limits{Layers: 3}}, "--max-layers"},
		{"many files in all layers", func(t *testing.T) string {
			b := newBlobs(t)
			var layers [][]byte
			for i := range 20 {
				layers = append(layers, tarOf(t, tar.Header{Name: fmt.Sprintf("d%d/f", i)}))
			}
			return b.layout(b.image("amd64", layers...))
		}, opener.Options{Limits: source.Limits{Entries: 30}}, "--max-entries"},
		{"a layer that grows", func(t *testing.T) string {
			var buf bytes.Buffer
			z := gzip.NewWriter(&buf)
			w := tar.NewWriter(z)
			if err := w.WriteHeader(&tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: 50 << 20}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(w, zeros{}, 50<<20); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(w.Close(), z.Close()); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "bomb")
			if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			return file
		}, opener.Options{Limits: source.Limits{Size: 10 << 20}}, "--max-size"},
		{"indexes in each other", func(t *testing.T) string {
			b := newBlobs(t)
			d := b.image("amd64", one)
			for range 6 {
				d = b.json(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{d}}, types.OCIImageIndex)
			}
			return b.layout(d)
		}, opener.Options{}, "in each other"},
		{"another architecture", func(t *testing.T) string { return layoutDir(t, t.TempDir()) }, opener.Options{Options: source.Options{Arch: "riscv64"}}, "linux/arm64, linux/amd64"},
		{"several images", func(t *testing.T) string {
			b := newBlobs(t)
			x, y := b.image("amd64", one), b.image("amd64", one, one)
			x.Annotations = map[string]string{"org.opencontainers.image.ref.name": "x"}
			y.Annotations = map[string]string{"org.opencontainers.image.ref.name": "y"}
			return b.layout(x, y)
		}, opener.Options{}, "x, y"},
		{"no such image", func(t *testing.T) string { return "oci:" + layoutDir(t, t.TempDir()) + ":other" }, opener.Options{}, "the-image"},
		{"no such Docker image", func(t *testing.T) string { return "docker-archive:" + dockerArchive(t, t.TempDir()) + ":other" }, opener.Options{}, "example.org/the/image:latest"},
		{"no layout", func(t *testing.T) string { return "oci:" + t.TempDir() }, opener.Options{}, "neither"},
		{"no layers", func(t *testing.T) string {
			b := newBlobs(t)
			return b.layout(b.image("amd64"))
		}, opener.Options{}, "no layers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.o.TempDir = t.TempDir()
			if tc.o.Arch == "" {
				tc.o.Arch = "amd64"
			}
			tree, err := opener.Open(context.Background(), tc.source(t), tc.o)
			if err == nil {
				_ = tree.Close()
			}
			if !(errors.Is(err, source.ErrUnreadable) || errors.Is(err, source.ErrRefused)) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Open = %v; want %q", err, tc.want)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestArchitecture chooses among the images of an index.
func TestArchitecture(t *testing.T) {
	tree, err := opener.Open(context.Background(), layoutDir(t, t.TempDir()), opener.Options{Options: source.Options{Arch: "arm64", TempDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if tree.Lookup("arm") == nil || len(tree.Entries()) != 2 {
		t.Errorf("the image for arm64 has %d entries", len(tree.Entries()))
	}
}

func TestRegistryRefusals(t *testing.T) {
	srv := httptest.NewServer(withPassword(registry.New(registry.Logger(log.New(io.Discard, "", 0))), "publisher", "secret"))
	defer srv.Close()
	host := strings.TrimPrefix(srv.URL, "http://")
	open := func() error {
		tree, err := opener.Open(context.Background(), "docker://"+host+"/some/image:12", opener.Options{Options: source.Options{TempDir: t.TempDir()}})
		if err == nil {
			_ = tree.Close()
		}
		return err
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	if err := open(); !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), "docker login "+host) {
		t.Errorf("without a password: %v; want how to log in", err)
	}
	logIn(t, host, "publisher", "wrong")
	if err := open(); !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), "docker login "+host) {
		t.Errorf("with a wrong password: %v; want how to log in", err)
	}
	logIn(t, host, "publisher", "secret")
	if err := open(); !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), "does not have it") {
		t.Errorf("without an image: %v; want that", err)
	}
	if _, err := opener.Open(context.Background(), "docker://Not A Name", opener.Options{}); !errors.Is(err, source.ErrUnreadable) {
		t.Errorf("a name that is none: %v", err)
	}
	srv.Close()
	if err := open(); !errors.Is(err, source.ErrUnreadable) {
		t.Errorf("without a registry: %v", err)
	}
}
