package mirror

import (
	"bytes"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// proxy is a forward proxy that wants a user and a password. It counts the
// tunnels and the plain requests that it has let through.
type proxy struct{ tunnels, plain, refused atomic.Int32 }

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Header["Authorization"] = r.Header["Proxy-Authorization"]
	if user, password, _ := r.BasicAuth(); user != "user" || password != "pass word" {
		p.refused.Add(1)
		w.Header().Set("Proxy-Authenticate", "Basic")
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	if r.Method != http.MethodConnect {
		p.plain.Add(1)
		out := r.Clone(r.Context())
		out.RequestURI = ""
		out.Header.Del("Authorization")
		out.Header.Del("Proxy-Authorization")
		resp, err := http.DefaultTransport.RoundTrip(out)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		for k, v := range resp.Header {
			w.Header()[k] = v
		}
		w.WriteHeader(resp.StatusCode)
		_, _ = io.Copy(w, resp.Body)
		return
	}
	p.tunnels.Add(1)
	up, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	w.WriteHeader(http.StatusOK)
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(up, buf)
		up.Close()
	}()
	_, _ = io.Copy(conn, up)
}

// Stores over HTTP and HTTPS, through proxies over HTTP and HTTPS, with the
// right password and without one.
func TestProxies(t *testing.T) {
	data := random(t, 200_000)
	plain, secure := httptest.NewServer(good(data)), httptest.NewTLSServer(good(data))
	t.Cleanup(plain.Close)
	t.Cleanup(secure.Close)
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}))
	for _, overTLS := range []bool{false, true} {
		p := &proxy{}
		s := httptest.NewUnstartedServer(p)
		if overTLS {
			s.StartTLS()
		} else {
			s.Start()
		}
		t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
		for _, store := range []string{plain.URL, secure.URL} {
			withUser := strings.Replace(s.URL, "://", "://user:pass%20word@", 1)
			c := newClient(t, Options{Proxy: withUser, CA: ca, Attempts: 1}, store)
			got, err := c.Read(t.Context(), "x", nil, 1<<20, nil)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("Read of %s through %s = %d bytes, %v; want the data", store, withUser, len(got), err)
			}
			if _, err := newClient(t, Options{Proxy: s.URL, CA: ca, Attempts: 1}, store).Read(t.Context(), "x", nil, 1<<20, nil); err == nil || !strings.Contains(err.Error(), "roxy") {
				t.Errorf("Read of %s through %s without a password = %v; want an error about the proxy", store, s.URL, err)
			}
		}
		if p.plain.Load() != 1 || p.tunnels.Load() != 1 || p.refused.Load() != 2 {
			t.Errorf("TLS %v: %d plain requests, %d tunnels, %d refusals; want 1, 1, 2", overTLS, p.plain.Load(), p.tunnels.Load(), p.refused.Load())
		}
	}
}
