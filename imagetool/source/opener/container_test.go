package opener_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// tarOf writes a tarball of entries; regular files have their own name as
// content.
func tarOf(t testing.TB, entries ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range entries {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = int64(len(h.Name))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := io.WriteString(w, h.Name); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// layers returns tarballs that, laid over each other, are the tree at dir:
// what the lowest has besides goes away.
func layers(t testing.TB, dir string) [][]byte {
	t.Helper()
	whole, err := os.ReadFile(makeTar(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	d := func(name string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o700, Uid: 5}
	}
	f := func(name string) tar.Header { return tar.Header{Name: name} }
	return [][]byte{
		tarOf(t, d("odd/"), f("odd/plain"), f("odd/gone"), d("odd/many/"), f("odd/many/other"), d("odd/many/sub/"), f("odd/many/sub/x"),
			d("odd/empty/"), f("odd/empty/x"), f("odd/acl dir"), d("odd/links/"), f("odd/links/old"), d("removed/"), d("removed/below/"), f("removed/below/x"),
			tar.Header{Name: "odd/hard0", Typeflag: tar.TypeLink, Linkname: "odd/plain"}),
		tarOf(t, f(".wh.removed"), f("odd/.wh.gone"), d("odd/links/"), f("odd/links/.wh..wh..opq"), f("odd/.wh.hard0"), f(".wh..wh.plnk"), f("odd/many/.wh.nothing")),
		whole,
		tarOf(t, f("odd/many/.wh.other"), f("odd/many/.wh.sub")),
		tarOf(t),
	}
}

func digestOf(data []byte) v1.Hash {
	sum := sha256.Sum256(data)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// blobs is an image in the making.
type blobs struct {
	t    testing.TB
	list map[v1.Hash][]byte
}

func (b *blobs) add(data []byte, media types.MediaType) v1.Descriptor {
	h := digestOf(data)
	b.list[h] = data
	return v1.Descriptor{MediaType: media, Size: int64(len(data)), Digest: h}
}

func (b *blobs) json(v any, media types.MediaType) v1.Descriptor {
	b.t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.add(data, media)
}

// image adds an image of layers, every other one compressed.
func (b *blobs) image(arch string, tarballs ...[]byte) v1.Descriptor {
	b.t.Helper()
	config := v1.ConfigFile{Architecture: arch, OS: "linux", RootFS: v1.RootFS{Type: "layers"}}
	m := v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1}
	for i, plain := range tarballs {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digestOf(plain))
		if i%2 == 1 {
			m.Layers = append(m.Layers, b.add(plain, types.OCIUncompressedLayer))
			continue
		}
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		if _, err := w.Write(plain); err != nil {
			b.t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.t.Fatal(err)
		}
		m.Layers = append(m.Layers, b.add(z.Bytes(), types.OCILayer))
	}
	m.Config = b.json(config, types.OCIConfigJSON)
	d := b.json(m, types.OCIManifestSchema1)
	d.Platform = &v1.Platform{OS: "linux", Architecture: arch}
	return d
}

// index adds an index of images of dir for amd64, of another one for arm64,
// and of something that BuildKit would attest.
func (b *blobs) index(dir string) v1.Descriptor {
	b.t.Helper()
	arm := b.image("arm64", tarOf(b.t, tar.Header{Name: "arm"}))
	amd := b.image("amd64", layers(b.t, dir)...)
	attest := b.image("unknown", tarOf(b.t, tar.Header{Name: "attestation"}))
	attest.Platform = &v1.Platform{OS: "unknown", Architecture: "unknown"}
	attest.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	return b.json(v1.IndexManifest{
		SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{attest, arm, amd},
	}, types.OCIImageIndex)
}

// layout writes a layout with the images that are described.
func (b *blobs) layout(images ...v1.Descriptor) string {
	b.t.Helper()
	dir := b.t.TempDir()
	write := func(name string, data []byte) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
	for h, data := range b.list {
		write("blobs/sha256/"+h.Hex, data)
	}
	data, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: images})
	if err != nil {
		b.t.Fatal(err)
	}
	write("index.json", data)
	write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	return dir
}

func newBlobs(t testing.TB) *blobs { return &blobs{t: t, list: make(map[v1.Hash][]byte)} }

// layoutDir writes an OCI layout with an index of the tree at dir.
func layoutDir(t testing.TB, dir string) string {
	t.Helper()
	b := newBlobs(t)
	d := b.index(dir)
	d.Annotations = map[string]string{"org.opencontainers.image.ref.name": "the-image"}
	return b.layout(d)
}

// dockerArchive writes what docker save wrote before version 25.
func dockerArchive(t testing.TB, dir string) string {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	write := func(h tar.Header, data []byte) {
		h.Mode, h.Size = 0o644, int64(len(data))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	config := v1.ConfigFile{Architecture: "amd64", OS: "linux", RootFS: v1.RootFS{Type: "layers"}}
	var names []string
	for i, l := range layers(t, dir) {
		h := digestOf(l)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, h)
		p := fmt.Sprintf("%d%s/layer.tar", i, h.Hex[1:])
		names = append(names, p)
		write(tar.Header{Name: h.Hex + ".data", Typeflag: tar.TypeReg}, l)
		// Old versions wrote a layer that two images share as a link.
		write(tar.Header{Name: p, Typeflag: tar.TypeSymlink, Linkname: "../" + h.Hex + ".data"}, nil)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	write(tar.Header{Name: "config.json", Typeflag: tar.TypeReg}, raw)
	list, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{"example.org/the/image:latest"}, "Layers": names}})
	if err != nil {
		t.Fatal(err)
	}
	write(tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg}, list)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "docker.tar")
	if err := os.WriteFile(file, buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// withPassword asks for a user and a password.
func withPassword(h http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"who are you?"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// registryImage pushes an index of the tree at dir to a registry that asks for
// a password, logs in, and returns the image's reference.
func registryImage(t *testing.T, dir string) string {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	srv := httptest.NewServer(withPassword(&cuttingHandler{h: handler}, "publisher", "pass word"))
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "http://")
	ref, err := name.ParseReference(host + "/some/image:12")
	if err != nil {
		t.Fatal(err)
	}
	b := newBlobs(t)
	d := b.index(dir)
	path, err := layout.FromPath(b.layout(d))
	if err != nil {
		t.Fatal(err)
	}
	root, err := path.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	index, err := root.ImageIndex(d.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index, remote.WithAuth(&authn.Basic{Username: "publisher", Password: "pass word"})); err != nil {
		t.Fatal(err)
	}
	logIn(t, host, "publisher", "pass word")
	return ref.String()
}

// logIn writes what docker login does.
func logIn(t *testing.T, host, user, password string) {
	t.Helper()
	conf := t.TempDir()
	data, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"username": user, "password": password}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(conf, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DOCKER_CONFIG", conf)
}

// cuttingHandler cuts the first answer with a large blob short.
type cuttingHandler struct {
	h   http.Handler
	cut atomic.Bool
}

func (c *cuttingHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/") || c.cut.Load() {
		c.h.ServeHTTP(w, r)
		return
	}
	rec := httptest.NewRecorder()
	c.h.ServeHTTP(rec, r)
	body := rec.Body.Bytes()
	if len(body) > 100_000 && c.cut.CompareAndSwap(false, true) {
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		panic(http.ErrAbortHandler)
	}
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(body)
}
