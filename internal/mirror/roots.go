package mirror

import (
	"crypto/x509"
	"net/http"
	"sync"
)

// lateRoots is a transport that asks for the certificate authorities when the
// first request by HTTPS comes, be it by a redirection.
type lateRoots struct {
	plain *http.Transport
	roots func() *x509.CertPool

	mu     sync.Mutex
	secure *http.Transport // nil: nobody has wanted it yet
}

var _ http.RoundTripper = (*lateRoots)(nil)

func (l *lateRoots) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return l.plain.RoundTrip(r)
	}
	return l.forHTTPS().RoundTrip(r)
}

func (l *lateRoots) forHTTPS() *http.Transport {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secure == nil {
		l.secure = l.plain.Clone()
		l.secure.TLSClientConfig.RootCAs = l.roots()
	}
	return l.secure
}

// CloseIdleConnections is called by http.Client's method of that name.
func (l *lateRoots) CloseIdleConnections() {
	l.plain.CloseIdleConnections()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.secure != nil {
		l.secure.CloseIdleConnections()
	}
}
