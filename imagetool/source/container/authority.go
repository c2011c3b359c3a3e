package container

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/inetboot/inetboot/imagetool/source"
)

// maxCertificates bounds a file with certificates, in bytes.
const maxCertificates = 1 << 20

// transport returns what a registry is asked with. Beside the public
// authorities, those in the file CA are trusted, and those that docker and
// podman trust for this registry.
func (r Registry) transport(host string) (http.RoundTripper, error) {
	files, err := r.authorities(host)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return encrypted{remote.DefaultTransport, r.PlainHTTP}, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	for _, name := range files {
		fi, err := os.Stat(name)
		if err == nil && fi.Size() > maxCertificates {
			err = fmt.Errorf("it has %d bytes", fi.Size())
		}
		var pem []byte
		if err == nil {
			pem, err = os.ReadFile(name)
		}
		if err == nil && !pool.AppendCertsFromPEM(pem) {
			err = errors.New("no certificate in PEM is in it")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: certificates in %s to trust for %s: %w", source.ErrUnreadable, name, host, err)
		}
	}
	t := remote.DefaultTransport.(*http.Transport).Clone()
	t.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	return encrypted{t, r.PlainHTTP}, nil
}

// encrypted refuses to ask other machines in the clear. The registry library
// does, after trying TLS, where addresses are private ones (RFC 1918): whoever is
// on the way could have it send passwords like that.
type encrypted struct {
	http.RoundTripper
	plain bool // it is asked for
}

// RoundTrip implements http.RoundTripper.
func (e encrypted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !e.plain && !loopback(r.URL.Hostname()) {
		return nil, fmt.Errorf("ask %s without encryption: that takes --plain-http", r.URL.Host)
	}
	return e.RoundTripper.RoundTrip(r)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// authorities returns the files with certificates: CA, and *.crt in the folders
// of the registry (containers-certs.d(5)).
func (r Registry) authorities(host string) ([]string, error) {
	var files []string
	if r.CA != "" {
		files = append(files, r.CA)
	}
	if strings.ContainsAny(host, `/\*?[`) {
		return files, nil // such a registry has no folder; "[" begins an IPv6 address
	}
	folders := r.Folders
	if folders == nil {
		folders = []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
		if dir, err := os.UserConfigDir(); err == nil {
			folders = append(folders, filepath.Join(dir, "containers", "certs.d"))
		}
	}
	for _, dir := range folders {
		found, err := filepath.Glob(filepath.Join(dir, host, "*.crt"))
		if err != nil {
			return nil, fmt.Errorf("%w: look for certificates for %s: %w", source.ErrUnreadable, host, err)
		}
		files = append(files, found...)
	}
	return files, nil
}

// untrusted tells whether err is about a certificate that nobody who is trusted
// has signed.
func untrusted(err error) bool {
	var unknown x509.UnknownAuthorityError
	return errors.As(err, &unknown)
}
