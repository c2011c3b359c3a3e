package container

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
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
// podman trust for this registry; it is shown Certificate, or the certificates
// that docker and podman would show it. No other host is shown one: registries
// send on to the stores of their blobs.
func (r Registry) transport(host string) (http.RoundTripper, error) {
	files, err := r.authorities(host)
	if err != nil {
		return nil, err
	}
	mine, err := r.clientCertificates(host)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 && len(mine) == 0 {
		return encrypted{remote.DefaultTransport, r.PlainHTTP}, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool() // a system without any
	}
	for _, name := range files {
		pem, err := readCertificates(name)
		if err == nil && !pool.AppendCertsFromPEM(pem) {
			err = errors.New("no certificate in PEM is in it")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: certificates in %s to trust for %s: %w", source.ErrUnreadable, name, host, err)
		}
	}
	anonymous := remote.DefaultTransport.(*http.Transport).Clone()
	anonymous.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if len(mine) == 0 {
		return encrypted{anonymous, r.PlainHTTP}, nil
	}
	known := remote.DefaultTransport.(*http.Transport).Clone()
	known.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12, Certificates: mine}
	return encrypted{introduced{host, known, anonymous}, r.PlainHTTP}, nil
}

// introduced shows its certificate to one host, as HOST or HOST:PORT.
type introduced struct {
	host             string
	known, anonymous http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (i introduced) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.TrimSuffix(r.URL.Host, ":443") == strings.TrimSuffix(i.host, ":443") {
		return i.known.RoundTrip(r)
	}
	return i.anonymous.RoundTrip(r)
}

// readCertificates reads a file in PEM.
func readCertificates(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCertificates+1))
	if err == nil && len(data) > maxCertificates {
		err = fmt.Errorf("it has more than %d bytes", maxCertificates)
	}
	return data, err
}

// clientCertificates returns Certificate with Key; without one, NAME.cert with
// NAME.key in the folders of the registry (containers-certs.d(5)).
func (r Registry) clientCertificates(host string) ([]tls.Certificate, error) {
	names := []string{r.Certificate}
	if r.Certificate == "" {
		if r.Key != "" {
			return nil, fmt.Errorf("%w: a key without the certificate that it belongs to: name it with --registry-cert", source.ErrUnreadable)
		}
		var err error
		if names, err = r.inFolders(host, "*.cert"); err != nil {
			return nil, err
		}
	}
	var list []tls.Certificate
	for _, name := range names {
		key := r.Key
		switch {
		case r.Certificate == "":
			key = strings.TrimSuffix(name, ".cert") + ".key"
		case key == "":
			key = name // both in one file
		}
		c, err := loadPair(name, key)
		if err != nil {
			return nil, fmt.Errorf("%w: the certificate %s with the key %s, to show to %s: %w", source.ErrUnreadable, name, key, host, err)
		}
		list = append(list, c)
	}
	return list, nil
}

func loadPair(certificate, key string) (tls.Certificate, error) {
	public, err := readCertificates(certificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	private, err := readCertificates(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if encryptedKey(private) {
		return tls.Certificate{}, errors.New("the key is encrypted, and nobody can be asked for its passphrase: decrypt it (openssl pkey -in KEY -out PLAIN)")
	}
	return tls.X509KeyPair(public, private)
}

// encryptedKey tells whether PEM has an encrypted key: in PKCS #8 (RFC 5958) or
// in OpenSSL's older format (RFC 1421).
func encryptedKey(data []byte) bool {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
	return false
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
	found, err := r.inFolders(host, "*.crt")
	return append(files, found...), err
}

// inFolders returns the files of a pattern in the folders of the registry.
func (r Registry) inFolders(host, pattern string) ([]string, error) {
	if strings.ContainsAny(host, `/\*?[`) {
		return nil, nil // such a registry has no folder; "[" begins an IPv6 address
	}
	folders := r.Folders
	if folders == nil {
		folders = []string{"/etc/containers/certs.d", "/etc/docker/certs.d"}
		if dir, err := os.UserConfigDir(); err == nil {
			folders = append(folders, filepath.Join(dir, "containers", "certs.d"))
		}
	}
	var files []string
	for _, dir := range folders {
		found, err := filepath.Glob(filepath.Join(dir, host, pattern))
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

// refusedByAlert tells whether err is an alert of TLS (RFC 8446 section 6.2) that
// the server has sent: it does so, among few other reasons, to a client without
// a certificate, or with one that it does not trust.
func refusedByAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}
