package opener_test

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/container"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// A registry whose certificate an authority of one's own has signed is read
// once that is trusted, as one says or as docker and podman do.
func TestRegistryAuthority(t *testing.T) {
	dir := t.TempDir()
	testtree.Write(t, dir, "etc/hostname", []byte("in a registry"))
	srv := httptest.NewUnstartedServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "https://")
	ref, err := name.ParseReference(host + "/some/image:1")
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
	if err := remote.WriteIndex(ref, index, remote.WithTransport(srv.Client().Transport)); err != nil {
		t.Fatal(err)
	}
	folders := t.TempDir()
	ca := filepath.Join(folders, host, "ca.crt")
	if err := os.Mkdir(filepath.Dir(ca), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(folders, "empty")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}

	for authority, want := range map[string]string{"": "--registry-ca", empty: "no certificate", filepath.Join(folders, "none"): "none"} {
		_, err := opener.Open(context.Background(), "docker://"+ref.String(), opener.Options{RegistryCA: authority})
		if !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), want) {
			t.Errorf("with the authority %q Open = %v; want %q", authority, err, want)
		}
	}
	tree, err := opener.Open(context.Background(), "docker://"+ref.String(), opener.Options{Options: source.Options{TempDir: t.TempDir()}, RegistryCA: ca})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	if got, err := tree.ReadFile("etc/hostname", 100); err != nil || string(got) != "in a registry" {
		t.Errorf("/etc/hostname = %q, %v", got, err)
	}
	builder := source.NewBuilder(source.Limits{}, nil)
	defer builder.Close()
	if err := (container.Registry{Folders: []string{folders}}).Pull(context.Background(), builder, ref.String(), source.Options{TempDir: t.TempDir()}); err != nil {
		t.Errorf("with certificates in a folder of the registry: %v", err)
	}
}
