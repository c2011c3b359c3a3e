package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/keyfile"
	"github.com/inetboot/inetboot/internal/storepath"
	"github.com/inetboot/inetboot/server/setup"
)

// Two servers on one folder would remove each other's uploads.
func TestOneServerPerFolder(t *testing.T) {
	data := t.TempDir()
	_, _, stop := start(t, data)
	err := run(t.Context(), []string{"--data", data, "--listen", "127.0.0.1:0"}, io.Discard, io.Discard)
	if !errors.Is(err, setup.ErrInUse) {
		t.Errorf("second server = %v; want ErrInUse", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A start that cannot listen is not the first one: the next one still tells
// how to use the server.
func TestFailedFirstStart(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	data := filepath.Join(t.TempDir(), "data")
	if err := run(t.Context(), []string{"--data", data, "--listen", busy.Addr().String()}, io.Discard, io.Discard); err == nil {
		t.Fatal("a server on a busy port started")
	}
	_, printed, stop := start(t, data, "--url", "http://boot.example.org")
	if want := "imagetool init --to http://boot.example.org --token-file "; !strings.HasPrefix(printed, want) {
		t.Errorf("printed %q; want %q…", printed, want)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestTokenFromEnvironment(t *testing.T) {
	const token = "0123456789abcdef0"
	t.Setenv(tokenVariable, token)
	data := filepath.Join(t.TempDir(), "data")
	url, printed, stop := start(t, data)
	if want := "imagetool init --to " + url + "\n"; printed != want {
		t.Errorf("printed %q; want %q", printed, want)
	}
	req, err := http.NewRequest(http.MethodPut, url+"/"+storepath.File(digest.Of([]byte("x"))), strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("PUT with the token of the environment = %s; want 201", resp.Status)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := run(t.Context(), []string{"token", "--data", data}, io.Discard, io.Discard); err == nil {
		t.Error("the token command invented a token")
	}
}

// Transfers that take longer than the grace are cut off.
func TestGraceEnds(t *testing.T) {
	data := t.TempDir()
	content := make([]byte, 64<<20)
	path := storeFile(t, data, content)
	url, _, stop := start(t, data, "--grace", "200ms")
	resp, err := http.Get(url + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	before := time.Now()
	if err := stop(); err != nil {
		t.Errorf("stop = %v", err)
	}
	if took := time.Since(before); took > 9*time.Second { // it is 10 s by default
		t.Errorf("stopping took %v with a grace of 200 ms", took)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("the download of %d bytes was finished; want it cut off", n)
	}
}

func TestHTTPS(t *testing.T) {
	cert, key := certificate(t)
	url, _, stop := start(t, t.TempDir(), "--tls-cert", cert, "--tls-key", key)
	if !strings.HasPrefix(url, "https://127.0.0.1:") {
		t.Errorf("url = %q; want https", url)
	}
	pool := x509.NewCertPool()
	raw, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(raw) {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	resp, err := client.Get(url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Errorf("GET = %s over %s; want 200 over HTTP/2", resp.Status, resp.Proto)
	}
	client.CloseIdleConnections()
	if err := stop(); err != nil {
		t.Error(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := run(t.Context(), []string{"--data", data, "--listen", "127.0.0.1:0", "--tls-cert", key, "--tls-key", cert}, io.Discard, io.Discard); err == nil {
		t.Error("a server without a usable certificate started")
	}
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: kder}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// systemd hears of readiness and of the stop.
func TestNotify(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	_, _, stop := start(t, t.TempDir())
	if err := stop(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		buf := make([]byte, 100)
		l.SetReadDeadline(time.Now().Add(60 * time.Second))
		n, err := l.Read(buf)
		if err != nil || string(buf[:n]) != want {
			t.Errorf("notification %q, %v; want %q", buf[:n], err, want)
		}
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, &out, io.Discard); err != nil || !strings.HasPrefix(out.String(), "server ") {
		t.Errorf("version printed %q, %v", out.String(), err)
	}
}

// The key that signs snapshot and timestamp lies on the disk encrypted if a
// passphrase was given at the first start, and the server needs it again.
func TestEncryptedKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(file, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	key := func(args ...string) string {
		t.Helper()
		url, _, stop := start(t, data, args...)
		resp, err := http.Get(url + "/api/v1/online-key")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("online-key = %s, %v", resp.Status, err)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		return string(body)
	}
	first := key("--passphrase-file", file)
	if f, err := keyfile.Read(filepath.Join(data, "online.key")); err != nil || !f.Encrypted {
		t.Errorf("the key after the first start: %+v, %v; want it encrypted", f, err)
	}
	err := run(t.Context(), []string{"--data", data, "--listen", "127.0.0.1:0"}, io.Discard, io.Discard)
	if !errors.Is(err, keyfile.ErrEncrypted) {
		t.Errorf("a start without the passphrase = %v; want ErrEncrypted", err)
	}
	t.Setenv(setup.PassphraseVariable, "correct horse")
	if again := key(); again != first {
		t.Errorf("the second start has the key %s; want %s", again, first)
	}
}
