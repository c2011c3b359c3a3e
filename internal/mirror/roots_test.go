package mirror

import (
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// The roots are asked for by the first request by HTTPS, once, and not before;
// a redirection may lead there.
func TestLateRoots(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {}))
	defer secure.Close()
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, secure.URL, http.StatusFound)
		}
	}))
	defer plain.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	trusting := x509.NewCertPool()
	trusting.AddCert(secure.Certificate())

	for _, tt := range []struct {
		name string
		pool *x509.CertPool
		ca   string
		want bool // the server is trusted
	}{
		{"public root", trusting, "", true},
		{"the site's own", x509.NewCertPool(), ca, true},
		{"neither", x509.NewCertPool(), "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int32
			before := tt.pool.Clone()
			c, err := New([]string{plain.URL}, Options{CA: tt.ca, Roots: func() *x509.CertPool { calls.Add(1); return tt.pool }})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			get := func(url string, want bool) {
				t.Helper()
				resp, err := c.HTTP().Get(url)
				if err == nil {
					resp.Body.Close()
				}
				if (err == nil) != want {
					t.Errorf("GET %s: %v; want success: %v", url, err, want)
				}
			}
			get(plain.URL, true)
			if n := calls.Load(); n != 0 {
				t.Errorf("the roots were asked for %d times before any request by HTTPS", n)
			}
			get(plain.URL+"/away", tt.want)
			get(secure.URL, tt.want)
			if n := calls.Load(); n != 1 {
				t.Errorf("the roots were asked for %d times; want once", n)
			}
			if !tt.pool.Equal(before) {
				t.Error("the caller's pool was changed")
			}
		})
	}
	if _, err := New([]string{plain.URL}, Options{CA: "none", Roots: x509.NewCertPool}); err == nil {
		t.Error("New takes a CA without a certificate")
	}
}
