package opener_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/inetboot/inetboot/imagetool/source"
	"github.com/inetboot/inetboot/imagetool/source/container"
	"github.com/inetboot/inetboot/imagetool/source/opener"
	"github.com/inetboot/inetboot/imagetool/testtree"
)

// tlsRegistry starts a registry with an image, set up by tune, and returns the
// image's name, a folder with the registry's certificate as docker and podman
// keep it, and the path of that.
func tlsRegistry(t *testing.T, tune func(*tls.Config), writer func(*http.Transport)) (ref, folders, ca string) {
	t.Helper()
	dir := t.TempDir()
	testtree.Write(t, dir, "etc/hostname", []byte("in a registry"))
	srv := httptest.NewUnstartedServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{}
	tune(srv.TLS)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "https://")
	at, err := name.ParseReference(host + "/some/image:1")
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
	transport := srv.Client().Transport.(*http.Transport)
	writer(transport)
	if err := remote.WriteIndex(at, index, remote.WithTransport(transport)); err != nil {
		t.Fatal(err)
	}
	folders = t.TempDir()
	ca = filepath.Join(folders, host, "ca.crt")
	testtree.Write(t, folders, filepath.Join(host, "ca.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	return at.String(), folders, ca
}

// readable reports unless the registry's image can be read.
func readable(t *testing.T, ref string, o opener.Options) {
	t.Helper()
	o.TempDir = t.TempDir()
	tree, err := opener.Open(t.Context(), "docker://"+ref, o)
	if err != nil {
		t.Error(err)
		return
	}
	defer tree.Close()
	if got, err := tree.ReadFile("etc/hostname", 100); err != nil || string(got) != "in a registry" {
		t.Errorf("/etc/hostname = %q, %v", got, err)
	}
}

// readableWith is the same with folders of one's own.
func readableWith(t *testing.T, ref, folders string) {
	t.Helper()
	builder := source.NewBuilder(source.Limits{}, nil)
	defer builder.Close()
	if err := (container.Registry{Folders: []string{folders}}).Pull(t.Context(), builder, ref, source.Options{TempDir: t.TempDir()}); err != nil {
		t.Errorf("with certificates in a folder of the registry: %v", err)
	}
}

// A registry whose certificate an authority of one's own has signed is read
// once that is trusted, as one says or as docker and podman do.
func TestRegistryAuthority(t *testing.T) {
	ref, folders, ca := tlsRegistry(t, func(*tls.Config) {}, func(*http.Transport) {})
	testtree.Write(t, folders, "empty", nil)
	empty := filepath.Join(folders, "empty")
	for authority, want := range map[string]string{"": "--registry-ca", empty: "no certificate", filepath.Join(folders, "none"): "none"} {
		_, err := opener.Open(t.Context(), "docker://"+ref, opener.Options{RegistryCA: authority})
		if !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), want) {
			t.Errorf("with the authority %q Open = %v; want %q", authority, err, want)
		}
	}
	readable(t, ref, opener.Options{RegistryCA: ca})
	readableWith(t, ref, folders)
}

// clientPair writes a certificate for clients and its key, and returns it.
func clientPair(t *testing.T, dir, name string) *x509.Certificate {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	testtree.Write(t, dir, name+".cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	testtree.Write(t, dir, name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A registry that asks for certificates is read with one that it trusts.
func TestRegistryAsksForACertificate(t *testing.T) {
	dir := t.TempDir()
	trusted := clientPair(t, dir, "client")
	clientPair(t, dir, "stranger")
	cert, key := filepath.Join(dir, "client.cert"), filepath.Join(dir, "client.key")
	var data [2][]byte
	for i, name := range []string{cert, key} {
		var err error
		if data[i], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	pair, err := tls.X509KeyPair(data[0], data[1])
	if err != nil {
		t.Fatal(err)
	}
	testtree.Write(t, dir, "both.pem", slices.Concat(data[1], data[0]))
	testtree.Write(t, dir, "locked.key", pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}))
	pool := x509.NewCertPool()
	pool.AddCert(trusted)
	ref, folders, ca := tlsRegistry(t, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool },
		func(tr *http.Transport) { tr.TLSClientConfig.Certificates = []tls.Certificate{pair} })

	for _, tt := range []struct{ cert, key, want string }{
		{"", "", "--registry-cert and --registry-key"},
		{"stranger.cert", "stranger.key", "--registry-cert and --registry-key"},
		{"client.cert", "stranger.key", "does not match"},
		{"client.cert", "", "client.cert"},
		{"", "client.key", "--registry-cert"},
		{"client.cert", "locked.key", "encrypted"},
		{"none", "client.key", "none"},
	} {
		o := opener.Options{RegistryCA: ca}
		if tt.cert != "" {
			o.RegistryCert = filepath.Join(dir, tt.cert)
		}
		if tt.key != "" {
			o.RegistryKey = filepath.Join(dir, tt.key)
		}
		_, err := opener.Open(t.Context(), "docker://"+ref, o)
		if !errors.Is(err, source.ErrUnreadable) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("with the certificate %q and the key %q Open = %v; want %q", tt.cert, tt.key, err, tt.want)
		}
	}
	readable(t, ref, opener.Options{RegistryCA: ca, RegistryCert: cert, RegistryKey: key})
	readable(t, ref, opener.Options{RegistryCA: ca, RegistryCert: filepath.Join(dir, "both.pem")})
	for i, name := range []string{"client.cert", "client.key"} {
		testtree.Write(t, filepath.Dir(ca), name, data[i])
	}
	readableWith(t, ref, folders)
}
