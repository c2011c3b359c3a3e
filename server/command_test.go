package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/inetboot/inetboot/internal/digest"
	"github.com/inetboot/inetboot/internal/storepath"
)

// start runs the server until stop is called, which returns how it ended.
func start(t *testing.T, data string, args ...string) (url, printed string, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var stdout bytes.Buffer
	done := make(chan error, 1)
	go func() {
		err := run(ctx, append([]string{"--data", data, "--listen", "127.0.0.1:0", "--log-format", "json"}, args...), &stdout, w)
		w.Close()
		done <- err
	}()
	t.Cleanup(cancel)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var rec struct{ Msg, URL string }
		if err := json.Unmarshal(lines.Bytes(), &rec); err != nil {
			t.Errorf("log line %q: %v", lines.Bytes(), err)
		}
		if rec.Msg == "serving" {
			url = rec.URL
			break
		}
	}
	if url == "" {
		t.Fatalf("the server did not start: %v", <-done)
	}
	go io.Copy(io.Discard, r)
	return url, stdout.String(), func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(30 * time.Second):
			t.Error("the server does not stop")
			return nil
		}
	}
}

func TestFirstAndSecondStart(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	url, printed, stop := start(t, data)
	if want := "imagetool init --to " + url + " --token-file " + filepath.Join(data, "token") + "\n"; printed != want {
		t.Errorf("first start printed %q; want %q", printed, want)
	}
	info, err := os.Stat(filepath.Join(data, "token"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("token: %v, %v; want a file for its owner only", info, err)
	}
	if err := stop(); err != nil {
		t.Errorf("stop = %v", err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"token", "--data", data}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(data, "token"))
	if err != nil || out.String() != string(raw) || len(strings.TrimSpace(out.String())) != 64 {
		t.Errorf("token command printed %q, file has %q, %v", out.String(), raw, err)
	}
	_, printed, stop = start(t, data)
	if printed != "" {
		t.Errorf("second start printed %q; want nothing", printed)
	}
	if err := stop(); err != nil {
		t.Errorf("stop = %v", err)
	}
}

// storeFile puts a file into the store of a server that is not running yet,
// and returns its path there.
func storeFile(t *testing.T, data string, content []byte) string {
	t.Helper()
	path := storepath.File(digest.Of(content))
	p := filepath.Join(data, "store", path)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// A download that is under way when the server is told to stop is finished.
func TestGracefulStop(t *testing.T) {
	data := t.TempDir()
	content := bytes.Repeat([]byte("0123456789abcdef"), 4<<20) // more than sockets buffer
	path := storeFile(t, data, content)
	url, _, stop := start(t, data, "--grace", "20s")
	resp, err := http.Get(url + "/" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	head := make([]byte, 1000)
	if _, err := io.ReadFull(resp.Body, head); err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	rest, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(append(head, rest...), content) {
		t.Errorf("download during the stop: %d of %d bytes, %v", len(head)+len(rest), len(content), err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop = %v", err)
	}
}

func TestRunRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"--log-format", "xml"}, {"--tls-cert", "x"}, {"--listen", "nonsense"}, {"--no-such-flag"}, {"surplus"},
	} {
		if err := run(t.Context(), append(args, "--data", t.TempDir()), io.Discard, io.Discard); err == nil {
			t.Errorf("run(%q) succeeded", args)
		}
	}
}
